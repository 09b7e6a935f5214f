"""One insert at work: an effect with a constant delay, its dry path, and everything that must not be heard.

An effect gives back what it likes when it likes. An insert gives a hop for every hop, `latency_samples` late:
what comes early waits, and the dry path waits as long, so that dry/wet and bypass mix the same sample with
itself. Moves of parameters are ramped or cross-faded; what is not finite is replaced and the effect reset; an
effect that is too slow is told of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .chains import Insert
from .effect_host import Latency, Processor
from .effect_table import Change, Effect

try:
    import resource

    RUSAGE_THREAD: int = getattr(resource, "RUSAGE_THREAD", 0)
except ImportError:  # Windows
    RUSAGE_THREAD = 0

SUB_BLOCK = 32
"""Samples between the small steps of a ramped parameter."""
RAMP_S = 0.05
"""How long a ramped parameter takes to a new value."""
SETTLE_HOPS = 5
"""Hops that a twin runs with new values before it is heard: its filters swing for as long."""
HEAL_SAMPLES = 128
"""Over which the step of a replaced block is led away."""
MAX_RESETS = 3
"""After so many resets in RESET_SPAN_S of sound an insert is given up."""
RESET_SPAN_S = 10.0
SLOW_SHARE = 0.5
"""Share of a hop's time that one insert may take live, on the average over SLOW_S."""
SLOW_S = 2.0

Tell = Callable[[str, str], None]
"""Told kind and reason of what happened: insert-reset, insert-bypassed."""


@dataclass(slots=True)
class _Ramp:
    start: float
    target: float
    n_done: int
    n_steps: int
    is_log: bool

    def next(self) -> float:
        """Return the value of the next step; exactly the target at the end."""
        self.n_done += 1
        if self.n_done >= self.n_steps:
            return self.target
        share = self.n_done / self.n_steps
        if self.is_log:
            return self.start * (self.target / self.start) ** share
        return self.start + share * (self.target - self.start)


class InsertRun:
    """An insert's sound.

    processor: None for one that is bypassed from the beginning: it then is a wire without latency.  twin: a
    second one that hears the same; parameters that are blended move in it first, then it is faded to.
    slow_share: share of a hop's time that it may take on the average.
    Thread: one (the hop loop's), but for `move_to`.
    """

    def __init__(
        self,
        insert: Insert,
        effect: Effect,
        processor: Processor | None,
        latency: Latency,
        *,
        rate_hz: int,
        hop: int,
        twin: Processor | None = None,
        slow_share: float = SLOW_SHARE,
    ) -> None:
        self.insert, self.effect, self._slow_share = insert, effect, slow_share
        self._processor, self._twin = processor, twin
        self._latency = latency if processor else Latency()
        self.latency_samples = self._latency.samples
        self._hop, self._hop_s, self._rate_hz = hop, hop / rate_hz, rate_hz
        self._dry = np.zeros((2, self.latency_samples), np.float32)
        self._wet = np.zeros((2, self._latency.held), np.float32)
        self._share = self._target = 0.0 if processor is None else insert.dry_wet
        self._values: dict[str, Any] = {}
        self._ramps: dict[str, _Ramp] = {}
        self._wanted: dict[str, Any] = {}
        """Blended values that wait for the twin."""
        self._moving: dict[str, Any] = {}
        """Those that the twin has."""
        self._settling = 0
        """Hops until the twin is heard."""
        self._last = np.zeros((2, 1), np.float32)
        self._quiet = 0
        self._position = 0
        """Samples of sound that came: its clock, the same however fast they are rendered."""
        self._resets: list[int] = []
        """Positions of the hops that made the effect be reset."""
        self.is_given_up = processor is None
        self.mean_us = self.worst_us = 0.0
        if processor:
            for name, value in insert.values.items():
                parameter = effect[name]
                if parameter.kind == "number" and parameter.change == "ramp":
                    self._values[name] = processor.inner(parameter, value)

    # -- orders ---------------------------------------------------------------------------------------------

    def move_to(self, before: Insert, insert: Insert) -> Callable[[], None]:
        """Return what brings this from the values of one to those of another, to be called by the hop loop.

        Thread: any: what is slow about it is done here.
        """
        moves: list[tuple[str, Change, Any, bool]] = []
        if self._processor:
            for name, value in insert.values.items():
                if before.values.get(name) != value:
                    parameter = self.effect[name]
                    inner = self._processor.inner(parameter, value)
                    change = parameter.change if parameter.kind == "number" else "set"
                    moves.append((name, change, inner, parameter.is_log))

        def carry_out() -> None:
            self.insert = insert
            self._target = 0.0 if insert.bypass else insert.dry_wet
            for name, change, inner, is_log in moves:
                self._move(name, change, inner, is_log=is_log)

        return carry_out

    def _move(self, name: str, change: Change, inner: Any, *, is_log: bool) -> None:
        assert self._processor
        if change == "ramp":
            now = self._values[name]
            n_steps = max(1, round(RAMP_S * self._rate_hz / SUB_BLOCK))
            self._ramps[name] = _Ramp(now, inner, 0, n_steps, is_log and min(now, inner) > 0)
        elif change == "blend" and self._twin:
            self._wanted[name] = inner
        else:
            self._set(name, inner)

    def _set(self, name: str, inner: Any) -> None:
        for processor in filter(None, (self._processor, self._twin)):
            processor.set(name, inner)

    def give_up(self) -> None:
        """Fade to dry, and call the effect no more."""
        self._target = 0.0
        self.is_given_up = True

    # -- sound ----------------------------------------------------------------------------------------------

    def process(self, x: np.ndarray, tell: Tell) -> np.ndarray:
        """Return the hop that was given `latency_samples` ago, with the effect.  Shape: (2, hop)."""
        dry = self._delayed(x)
        self._position += self._hop
        if self._processor is None or (self._share == 0.0 and (self.is_given_up or self.insert.bypass)):
            return dry  # a bypassed effect has stood still: to be heard again it is made anew
        watch = _Watch()
        made = self._make(x)
        self._clock(watch, tell)
        if not np.isfinite(made).all():
            return self._heal(dry, tell)
        wet = self._aligned(made)
        if self._quiet > 0:
            self._quiet -= self._hop
            return self._mixed(dry, wet, 0.0)
        return self._mixed(dry, wet, self._target)

    def _delayed(self, x: np.ndarray) -> np.ndarray:
        n = self._dry.shape[1]
        if not n:
            return x
        both = np.concatenate([self._dry, x], axis=1)
        self._dry = both[:, -n:]
        return both[:, : x.shape[1]]

    def _make(self, x: np.ndarray) -> np.ndarray:
        """Return what the effect gives for a hop, with its parameters moving."""
        assert self._processor
        if self._wanted and not self._settling:
            assert self._twin
            self._moving, self._wanted = self._wanted, {}
            for name, inner in self._moving.items():
                self._twin.set(name, inner)
            self._settling = SETTLE_HOPS + 1
        heard, hidden = self._played(x)
        if not self._settling:
            return heard
        self._settling -= 1
        if self._settling:
            return heard
        assert self._twin
        for name, inner in self._moving.items():
            self._processor.set(name, inner)
        self._processor, self._twin = self._twin, self._processor
        n = min(heard.shape[1], hidden.shape[1])
        return heard[:, :n] + rise(n) * (hidden[:, :n] - heard[:, :n])

    def _played(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the effect and its twin give for a hop: in pieces, while parameters are ramped."""
        assert self._processor
        if not self._ramps:
            heard = self._processor.process(x)
            return heard, self._twin.process(x) if self._twin else heard
        pieces = []
        for start in range(0, x.shape[1], SUB_BLOCK):
            for name, ramp in list(self._ramps.items()):
                self._values[name] = ramp.next()
                self._set(name, self._values[name])
                if ramp.n_done >= ramp.n_steps:
                    del self._ramps[name]
            piece = np.ascontiguousarray(x[:, start : start + SUB_BLOCK])
            heard = self._processor.process(piece)
            pieces.append((heard, self._twin.process(piece) if self._twin else heard))
        heard, hidden = (np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True))
        return heard, hidden

    def _aligned(self, made: np.ndarray) -> np.ndarray:
        """Return a hop of what the effect made, with the delay that is always the same."""
        both = np.concatenate([self._wet, made], axis=1) if self._wet.shape[1] else made
        if both.shape[1] < self._hop:  # it holds back more than it was measured to
            both = np.concatenate([np.zeros((2, self._hop - both.shape[1]), np.float32), both], axis=1)
        self._wet = both[:, self._hop :]
        return both[:, : self._hop]

    def _mixed(self, dry: np.ndarray, wet: np.ndarray, target: float) -> np.ndarray:
        share, self._share = self._share, target
        if share == target:
            out = wet if share == 1.0 else dry + np.float32(share) * (wet - dry)
        else:
            out = dry + (np.float32(share) + np.float32(target - share) * rise(dry.shape[1])) * (wet - dry)
        self._last = out[:, -1:] - dry[:, -1:]
        return out

    def _heal(self, dry: np.ndarray, tell: Tell) -> np.ndarray:
        """Return dry in place of a hop that is not finite, led on from the last one; the effect is reset."""
        if self.effect.can_reset:
            for processor in filter(None, (self._processor, self._twin)):
                processor.reset()
        self._wet = np.zeros((2, self._latency.held), np.float32)
        self._share, self._quiet = 0.0, self.latency_samples
        out = dry.copy()
        n = min(HEAL_SAMPLES, out.shape[1])
        out[:, :n] += self._last * (1.0 - rise(n))
        self._last = np.zeros((2, 1), np.float32)
        oldest = self._position - round(RESET_SPAN_S * self._rate_hz)
        self._resets = [at for at in self._resets if at > oldest] + [self._position]
        if len(self._resets) > MAX_RESETS or not self.effect.can_reset:
            self.give_up()
            said = f"gave samples that are not finite, {len(self._resets)} times in {RESET_SPAN_S:g} s"
            tell("insert-bypassed", said)
        else:
            tell("insert-reset", "gave samples that are not finite")
        return out

    def _clock(self, watch: _Watch, tell: Tell) -> None:
        """Count the time of a hop; give up an effect that takes too much of it on the average."""
        took_us = watch.took_s * 1e6
        self.worst_us = max(self.worst_us, took_us)
        self.mean_us += (took_us - self.mean_us) * min(1.0, self._hop_s / SLOW_S)
        limit_us = self._slow_share * self._hop_s * 1e6
        if self.mean_us > limit_us and not self.is_given_up:
            self.give_up()
            said = f"took {self.mean_us / 1e3:.1f} ms a hop on the average, {limit_us / 1e3:.1f} may be"
            tell("insert-bypassed", said)


class _Watch:
    """Times a call: also what it sleeps, but not what others do who took the processor away meanwhile."""

    def __init__(self) -> None:
        self._taken = _times_taken_away()
        self._cpu_s, self._started_s = time.thread_time(), time.perf_counter()

    @property
    def took_s(self) -> float:
        """Seconds since it was made."""
        if _times_taken_away() != self._taken:
            return time.thread_time() - self._cpu_s
        return time.perf_counter() - self._started_s


def _times_taken_away() -> int:
    """Return how often this thread was made to wait for others; always 0 where the system does not say."""
    return resource.getrusage(RUSAGE_THREAD).ru_nivcsw if RUSAGE_THREAD else 0


@lru_cache(maxsize=16)
def rise(n: int) -> np.ndarray:
    """Return a ramp of n samples that ends at 1, with level ends: half a raised cosine."""
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(1, n + 1) / n)).astype(np.float32)


def needs_rebuild(before: Insert, after: Insert, effect: Effect) -> bool:
    """Return whether an insert must be made anew to become another: no ramp leads there.

    Also where one that was bypassed is heard again: its effect stood still, or was never loaded.
    """
    if (before.name, before.effect, before.state) != (after.name, after.effect, after.state):
        return True
    if before.bypass and not after.bypass:
        return True
    return any(
        p.change == "rebuild" and before.values.get(p.name) != after.values.get(p.name)
        for p in effect.parameters
    )
