"""What the faders say, the table the callback reads, and the writer that carries the one to the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ..models.stems import STEMS
from .atomics import load, store
from .block import (
    ACK_REVISION,
    CEILING,
    CUE_GAIN,
    GAIN_LEFT,
    GAIN_RIGHT,
    MASTER,
    N_ACKS,
    N_PARAMETERS,
    RAMPS,
    REVISION,
    TARGETS,
    Block,
)
from .errors import ConfigError
from .units import gain_from_db

GAIN_LIMIT_DB = 12.0
RAMP_LIMITS_MS = (0.0, 60_000.0)
RAMP_MS = 10.0


def _check(name: str, value: float, lowest: float, highest: float, unit: str) -> None:
    if not lowest <= value <= highest:
        raise ConfigError(f"{name} = {value}: must be {lowest:g} to {highest:g} {unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fader:
    """One stem's place in the mix. pan: -1 left, 0 both as they are, 1 right; ramp_ms: of its next move."""

    gain_db: float = 0.0
    mute: bool = False
    solo: bool = False
    pan: float = 0.0
    ramp_ms: float = RAMP_MS

    def __post_init__(self) -> None:
        _check("gain_db", self.gain_db, -math.inf, GAIN_LIMIT_DB, "dB")
        _check("pan", self.pan, -1.0, 1.0, "(left to right)")
        _check("ramp_ms", self.ramp_ms, *RAMP_LIMITS_MS, "ms")

    def gains(self, *, heard: bool) -> tuple[float, float]:
        """Return the linear gains left and right.

        >>> Fader(gain_db=0.0, pan=0.25).gains(heard=True)
        (0.75, 1.0)
        """
        gain = gain_from_db(self.gain_db) if heard else 0.0
        return gain * min(1.0, 1.0 - self.pan), gain * min(1.0, 1.0 + self.pan)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerState:
    """All faders at one moment. A soloed stem silences those that are not; mute wins over solo."""

    drums: Fader = Fader()
    bass: Fader = Fader()
    other: Fader = Fader()
    vocals: Fader = Fader()
    master_db: float = 0.0
    cue_db: float = 0.0
    ceiling_db: float = 0.0
    master_ramp_ms: float = RAMP_MS
    cue_ramp_ms: float = RAMP_MS

    def __post_init__(self) -> None:
        for name in ("master_db", "cue_db"):
            _check(name, getattr(self, name), -math.inf, GAIN_LIMIT_DB, "dB")
        _check("ceiling_db", self.ceiling_db, -60.0, 0.0, "dB of full scale")
        for name in ("master_ramp_ms", "cue_ramp_ms"):
            _check(name, getattr(self, name), *RAMP_LIMITS_MS, "ms")

    @property
    def faders(self) -> tuple[Fader, ...]:
        """The faders in the order of the stems."""
        return tuple(getattr(self, stem) for stem in STEMS)

    @property
    def gains(self) -> dict[str, tuple[float, float]]:
        """Linear gains left and right of each stem, with mute, solo and pan."""
        any_solo = any(f.solo for f in self.faders)
        heard = {s: not f.mute and (f.solo or not any_solo) for s, f in zip(STEMS, self.faders, strict=True)}
        return {s: f.gains(heard=heard[s]) for s, f in zip(STEMS, self.faders, strict=True)}

    def with_ramp_where_moved(self, previous: MixerState, ramp_ms: float, stems: Iterable[str]) -> MixerState:
        """Return the state with this ramp for those of some stems whose gains differ from before."""
        before, now = previous.gains, self.gains
        moved = [s for s in stems if before[s] != now[s]]
        faders: dict[str, Any] = {s: replace(getattr(self, s), ramp_ms=ramp_ms) for s in moved}
        return replace(self, **faders)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, -inf as text (JSON has none)."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return "-inf" if value == -math.inf else value


def mixer_state(values: dict[str, Any]) -> MixerState:
    """Return the state of plain values, as `MixerState.as_dict` gives them.  Raises: ConfigError."""
    names = {f.name for f in fields(MixerState)}
    if unknown := sorted(set(values) - names):
        raise ConfigError(f"a mixer has {', '.join(sorted(names))}, not {', '.join(unknown)}")
    known: dict[str, Any] = {}
    for name, value in values.items():
        if name in STEMS:
            if unknown := sorted(set(value) - {f.name for f in fields(Fader)}):
                raise ConfigError(f"a fader has no {', '.join(unknown)}")
            plain: dict[str, Any] = {k: -math.inf if v == "-inf" else v for k, v in value.items()}
            known[name] = Fader(**plain)
        else:
            known[name] = float(value)
    return MixerState(**known)


def table_of(state: MixerState, rate_hz: int) -> np.ndarray:
    """Return the table of the callback, with pan, mute and solo in the gains.

    Shape: float64 (TARGETS and RAMPS, N_PARAMETERS), linear gains and samples; the ceiling holds at once.
    """
    table = np.zeros((2, N_PARAMETERS))
    targets, ramps = table[TARGETS], table[RAMPS]
    for index, ((left, right), fader) in enumerate(zip(state.gains.values(), state.faders, strict=True)):
        targets[GAIN_LEFT + index], targets[GAIN_RIGHT + index] = left, right
        ramps[GAIN_LEFT + index] = ramps[GAIN_RIGHT + index] = round(fader.ramp_ms * rate_hz / 1000.0)
    targets[MASTER] = gain_from_db(state.master_db)
    ramps[MASTER] = round(state.master_ramp_ms * rate_hz / 1000.0)
    targets[CUE_GAIN] = gain_from_db(state.cue_db)
    ramps[CUE_GAIN] = round(state.cue_ramp_ms * rate_hz / 1000.0)
    targets[CEILING] = gain_from_db(state.ceiling_db)
    return table


Taken = Callable[[int, int, MixerState], None]
"""Told what the callback took: revision, output position, state."""


class ParameterWriter:
    """Carries states to the callback and hears which it took, and where.

    Two tables take turns. A new one is written while at most one is on its way, so that never the one is
    written that the callback copies; what comes faster than blocks is merged, the newest wins.
    Thread: one (control).  Latency: the callback takes a table at the beginning of its next block.
    """

    def __init__(self, block: Block, rate_hz: int, on_taken: Taken | None = None) -> None:
        self._block, self._rate_hz, self._on_taken = block, rate_hz, on_taken
        self._sent: dict[int, MixerState] = {}
        self._pending: MixerState | None = None
        self.state = MixerState()

    def set_target(self, state: MixerState) -> None:
        """Make `state` the one to be heard; call `poll` from time to time after it."""
        self.state = self._pending = state
        self.poll()

    def poll(self) -> None:
        """Report what was taken since, then send what waits, if the callback has room for it."""
        taken = load(self._block.words, ACK_REVISION)
        for revision in sorted(r for r in self._sent if r <= taken):
            state = self._sent.pop(revision)
            row = self._block.acks[revision % N_ACKS]
            if row[0] == revision and self._on_taken:  # else: overtaken before the callback saw it
                self._on_taken(revision, int(row[1]), state)
        newest = int(self._block.words[REVISION])
        if self._pending is None or taken < newest - 1:
            return
        revision = newest + 1
        self._block.tables[revision % 2] = table_of(self._pending, self._rate_hz)
        self._sent[revision] = self._pending
        self._pending = None
        store(self._block.words, REVISION, revision)

    @property
    def is_settled(self) -> bool:
        """Whether the callback has taken the newest state."""
        return self._pending is None and not self._sent
