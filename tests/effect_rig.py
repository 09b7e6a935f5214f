"""Chains of effects without a node: signals, fakes in place of pedalboard's effects, how steep a sound is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stemrack.rt.chain_builder import ChainBuilder
from stemrack.rt.chains import Chains, Insert
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.effect_host import Latency
from stemrack.rt.effect_table import Effect, EffectParameter, EffectTable
from stemrack.rt.effects import Rack
from stemrack.rt.inserts import InsertRun

RATE_HZ = 44100
HOP = 512
Edits = Mapping[int, Callable[[], object]]


class Fake:
    """An effect in place of `effect_host.Processor`: holds samples back, then gives them all, times `gain`.

    held: samples kept back at first, and after each reset.  answers: what each call gives in place of its own
    sound, by number of the call since it was made.
    """

    def __init__(
        self, effect: Effect, values: Mapping[str, object] | None = None, *, held: int = 0, **_: object
    ) -> None:
        self.effect, self.held, self.gain = effect, held, 1.0
        self.answers: Callable[[int, np.ndarray], np.ndarray] = lambda call, y: y
        self.n_calls = self.n_resets = 0
        self.sets: list[tuple[str, object]] = []
        self._kept = np.zeros((2, 0), np.float32)
        for name, value in (values or {}).items():
            self.set(name, value)

    @property
    def survey_samples(self) -> int:
        return self.held + 256

    def inner(self, parameter: EffectParameter, value: object) -> object:
        return value

    def set(self, name: str, inner: object) -> None:
        self.sets.append((name, inner))
        if name in ("gain", "ramped", "blended"):
            assert isinstance(inner, float)
            self.gain = inner

    def reset(self) -> None:
        self.n_resets += 1
        self._kept = self._kept[:, :0]

    def process(self, x: np.ndarray) -> np.ndarray:
        self._kept = np.concatenate([self._kept, x], axis=1)
        n_out = min(x.shape[1], max(0, self._kept.shape[1] - self.held))
        y, self._kept = self._kept[:, :n_out], self._kept[:, n_out:]
        self.n_calls += 1
        return self.answers(self.n_calls, y * np.float32(self.gain))


def fake_effect(key: str = "fake", *, can_reset: bool = True, plugin: str = "") -> Effect:
    """Return an effect with a parameter for each way of moving."""
    gain = {"lowest": 0.0, "highest": 4.0, "default": 1.0, "doc": "Level."}
    parameters = (
        EffectParameter(name="ramped", change="ramp", **gain),
        EffectParameter(name="blended", change="blend", **gain),
        EffectParameter(name="gain", change="set", **gain),
        EffectParameter(name="built", change="rebuild", **gain),
    )
    return Effect(
        key=key, title=key, doc="A fake.", parameters=parameters, can_reset=can_reset, plugin=plugin
    )


def holding(*held: int) -> EffectTable:
    """Return a table of fakes that hold back so many samples, by the name 'hold<samples>'."""
    return EffectTable(
        Effect(key=f"hold{n}", title="Hold", doc="A fake.", has_neutral=True, parameters=MOVES) for n in held
    )


MOVES = (
    EffectParameter(name="level", doc="Heard by nobody.", lowest=0.0, highest=1.0, change="ramp"),
    EffectParameter(name="colour", doc="Heard by nobody.", lowest=0.0, highest=1.0, change="blend"),
)


def hold(effect: Effect, values: Mapping[str, object], **rest: object) -> Fake:
    """Stand in for `Processor` where the table is `holding`'s."""
    return Fake(effect, values, held=int(effect.key.removeprefix("hold")))


def insert_run(
    effect: Effect, processor: Fake | None, twin: Fake | None = None, **values: object
) -> InsertRun:
    """Return an insert at work that plays a fake."""
    own = {k: values.pop(k) for k in ("dry_wet", "bypass") if k in values}
    insert = Insert(name=effect.key, effect=effect.key, values=effect.defaults | values, **own)
    held = Latency(held=processor.held if processor else 0)
    return InsertRun(insert, effect, processor, held, rate_hz=RATE_HZ, hop=HOP, twin=twin)


def neutral(key: str, table: EffectTable = BUILT_IN, name: str = "") -> Insert:
    """Return an insert that changes nothing: at its neutral values, or dry where it has none."""
    effect = table[key]
    dry_wet = 1.0 if effect.has_neutral else 0.0
    return Insert(name=name or key, effect=key, values=effect.neutral, dry_wet=dry_wet)


def rack_and_builder(
    table: EffectTable = BUILT_IN, hop: int = HOP, rate_hz: int = RATE_HZ, **words: object
) -> tuple[Rack, ChainBuilder]:
    """Return a rack and what builds its chains."""
    rack = Rack(hop, rate_hz)
    return rack, ChainBuilder(rack, table, {}, **words)


def stems_of(n_hops: int, hop: int = HOP, seed: int = 1) -> np.ndarray:
    """Return noise, (stem, 2, sample), at most -12 dBFS."""
    return np.random.default_rng(seed).uniform(-0.25, 0.25, (4, 2, n_hops * hop)).astype(np.float32)


def noise(n_hops: int, seed: int = 1) -> np.ndarray:
    """Return (2, sample) of noise, at most -12 dBFS."""
    return np.random.default_rng(seed).uniform(-0.25, 0.25, (2, n_hops * HOP)).astype(np.float32)


def sine(n_samples: int, rate_hz: int = RATE_HZ, hz: float = 110.0) -> np.ndarray:
    """Return (2, sample) of a sine at -12 dBFS."""
    one = 0.25 * np.sin(2.0 * np.pi * hz / rate_hz * np.arange(n_samples))
    return np.tile(one, (2, 1)).astype(np.float32)


def pushed(rack: Rack, x: np.ndarray, edits: Edits | None = None) -> np.ndarray:
    """Return what a rack gives for stems (stem, 2, sample); edits: called before the hop of that number."""
    hops = []
    for i in range(x.shape[2] // rack.hop):
        if edits and i in edits:
            edits[i]()
        hops += list(rack.push(x[:, :, i * rack.hop : (i + 1) * rack.hop]))
    return np.concatenate(hops, axis=2) if hops else np.zeros((4, 2, 0), np.float32)


def played(run: InsertRun, x: np.ndarray, edits: Edits | None = None) -> tuple[np.ndarray, list[str]]:
    """Return what an insert gives for (2, sample), and what it told of."""
    told: list[str] = []
    hops = []
    for i in range(x.shape[1] // HOP):
        if edits and i in edits:
            edits[i]()
        hops.append(run.process(x[:, i * HOP : (i + 1) * HOP], lambda kind, why: told.append(kind)))
    return np.concatenate(hops, axis=1), told


def in_hops(samples: int, hop: int) -> int:
    """Return samples in whole hops."""
    return -(-samples // hop) * hop


def steepness(y: np.ndarray) -> float:
    """Return the largest second difference: what a click has much of, and a low sine little."""
    return float(np.abs(np.diff(y.astype(np.float64), 2, axis=-1)).max())


def all_stems(insert: Insert) -> Chains:
    """Return chains with this insert alone on every stem."""
    return Chains(drums=(insert,), bass=(insert,), other=(insert,), vocals=(insert,))
