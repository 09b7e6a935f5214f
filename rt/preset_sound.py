"""A preset on the stems of a file: the chains and the faders of the live engine, without its clock.

The rack, the builder and the hop are those of the worker. A file begins with chains that have heard silence;
their latency is taken off, so that sample k of what comes out is sample k of what went in. What is still to
ring at the end of the file is cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.stems import N_STEMS, STEMS
from .chain_builder import ChainBuilder
from .chains import MAX_INSERTS, Chains, Insert, insert_number
from .effect_builtin import BUILT_IN
from .effect_table import EffectTable
from .effects import Rack, TellOf
from .errors import EffectError
from .units import gain_from_db

if TYPE_CHECKING:
    from .presets import Preset

HOP = 512
"""As the shipped profiles have it live."""
UNITY = ((1.0, 1.0),) * N_STEMS
NYQUIST_NAMES = ("cutoff_frequency_hz", "cutoff_hz", "centre_frequency_hz")
"""Parameters of built-in filters that run away above half the rate."""

OnInsert = Callable[[int], None]
"""Told which insert runs or is being loaded next, as `insert_number` says it; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetSound:
    """What a preset does to the stems.

    gains: linear, left and right of each stem, master and all.
    """

    name: str = ""
    gains: tuple[tuple[float, float], ...] = UNITY
    chains: Chains = Chains()  # noqa: RUF009  frozen
    table: EffectTable = BUILT_IN
    impulses: Mapping[str, Path] = field(default_factory=dict)

    @property
    def has_plugins(self) -> bool:
        """Whether third parties' code is at work, which may take its process down."""
        return any(self.table[i.effect].plugin and not i.bypass for _, chain in self.chains for i in chain)

    def insert_at(self, number: int) -> tuple[str, Insert] | None:
        """Return stem and insert of a number that `OnInsert` was told."""
        if not number:
            return None
        stem = STEMS[(number - 1) // MAX_INSERTS]
        return stem, self.chains[stem][(number - 1) % MAX_INSERTS]


def sound_of(preset: Preset, table: EffectTable, impulses: Mapping[str, Path]) -> PresetSound:
    """Return what a preset does; faders that it does not set stand at 0 dB."""
    from .params import MixerState  # compiled: not for those who render without a preset

    faders: dict[str, Any] = dict(preset.faders)
    state = MixerState(**faders, master_db=preset.master_db or 0.0)
    master = gain_from_db(state.master_db)
    gains = tuple((master * left, master * right) for left, right in state.gains.values())
    return PresetSound(name=preset.name, gains=gains, chains=preset.chains, table=table, impulses=impulses)


def rack_with(
    sound: PresetSound, rate_hz: int, hop: int, *, tell: TellOf, on_insert: OnInsert = lambda number: None
) -> Rack:
    """Return a rack whose chains are heard from the next sample on; `tell` hears of those that cannot be."""

    def loading(stem: str, name: str) -> None:
        places = [p for p, i in enumerate(sound.chains[stem]) if i.name == name] if stem else []
        on_insert(insert_number(STEMS.index(stem), places[0]) if places else 0)

    rack = Rack(hop, rate_hz)
    rack.tell = tell
    rack.enter = lambda stem, place: on_insert(insert_number(stem, place))
    builder = ChainBuilder(
        rack, sound.table, sound.impulses, loading=loading, slow_share=math.inf
    )  # whoever renders waits
    builder.begin(1, sound.chains)
    return rack


class StemSound:
    """The stems of one file on their way through a preset.

    In all exactly as many samples come out as went in.
    Shape: (stem, n_channels, sample) -> same, n_channels 1 or 2; what becomes of the two sides of one
    channel is their mean.
    Raises: EffectError if an insert cannot be made, is given up, or cannot work at this rate: a file without
    it would be another one than was asked for.
    Thread: one.
    """

    def __init__(
        self,
        sound: PresetSound,
        *,
        rate_hz: int,
        n_channels: int,
        on_insert: OnInsert = lambda number: None,
    ) -> None:
        self.resets: list[str] = []
        """What was reset as it gave samples that are not finite: one line each."""
        self._rate_hz, self._n_channels = rate_hz, n_channels
        gains = np.array(sound.gains, np.float64)[:, :, None]
        self._gains = None if (gains == 1.0).all() else gains
        self._given_up: list[str] = []
        self._waiting = np.empty((N_STEMS, 2, 0), np.float32)
        self._n_in = self._n_out = 0
        self._on_insert = on_insert
        self._rack: Rack | None = None
        if sound.chains:
            _check_rate(sound, rate_hz)
            rack = rack_with(sound, rate_hz, HOP, tell=self._tell, on_insert=on_insert)
            self._check()
            self._rack = rack

    def push(self, stems: np.ndarray) -> np.ndarray:
        """Return what is ready of the stems, (stem, n_channels, m); m may be 0."""
        self._n_in += stems.shape[2]
        return self._out(stems if self._rack is None else self._through(_stereo(stems)))

    def finish(self) -> np.ndarray:
        """Return the rest, as if silence followed; the effects are let go of."""
        rest = np.empty((N_STEMS, self._n_channels, 0), np.float32)
        if self._rack is not None:
            n_missing = self._n_in - self._n_out
            # a part of a hop waits before the rack, and one behind it
            silence = np.zeros((N_STEMS, 2, self._rack.latency_samples + 2 * HOP), np.float32)
            rest = self._out(self._through(silence)[:, :, :n_missing])
            assert self._n_out == self._n_in, (self._n_out, self._n_in)
            self._let_go()
        return rest

    def _tell(self, kind: str, stem: str, insert: str, why: str) -> None:
        said = f"{stem}/{insert}: {why}"
        if kind == "insert-reset":
            # one hop was silence, and the present one is counted already
            at = self._rack.position - 2 * HOP if self._rack else 0
            self.resets.append(f"{said} at {at / self._rate_hz:.3f} s: dry there")
        else:
            self._given_up.append(said)

    def _check(self) -> None:
        if self._given_up:
            raise EffectError(self._given_up[0])

    def _through(self, stems: np.ndarray) -> np.ndarray:
        """Return what comes out of the rack while stems (stem, 2, sample) go in."""
        assert self._rack is not None
        if self._waiting.shape[2]:
            stems = np.concatenate([self._waiting, stems], axis=2)
        whole = stems.shape[2] // HOP * HOP
        ready = [np.empty((N_STEMS, 2, 0), np.float32)]
        for start in range(0, whole, HOP):
            ready += self._rack.push(np.ascontiguousarray(stems[:, :, start : start + HOP]))
            self._check()
        self._waiting = stems[:, :, whole:]
        return np.concatenate(ready, axis=2)

    def _out(self, stems: np.ndarray) -> np.ndarray:
        """Return stems behind the faders, with the file's channels."""
        self._n_out += stems.shape[2]
        if self._gains is not None:
            stems = _stereo(stems) * self._gains
        if stems.shape[1] > self._n_channels:
            stems = stems.mean(axis=1, keepdims=True)
        return stems.astype(np.float32, copy=False)

    def _let_go(self) -> None:
        """End the effects: what crashes by it has a name still, and the files none."""
        rack, self._rack = self._rack, None
        assert rack is not None
        for chain in rack.chains:
            for place in chain.ending():
                self._on_insert(insert_number(chain.stem, place))
        self._on_insert(0)


def _stereo(stems: np.ndarray) -> np.ndarray:
    return np.repeat(stems, 2, axis=1) if stems.shape[1] == 1 else stems


def _check_rate(sound: PresetSound, rate_hz: int) -> None:
    """Raise EffectError for a filter that would run away at this rate."""
    for stem, chain in sound.chains:
        for insert in chain:
            if insert.bypass or sound.table[insert.effect].plugin:
                continue
            for name in NYQUIST_NAMES:
                value = insert.values.get(name, 0.0)
                if float(value) > rate_hz / 2:
                    said = f"{stem}/{insert.name}: {name} = {value:g} is above half the file's {rate_hz} Hz"
                    raise EffectError(f"{said}: convert the file to a higher rate, or lower it")
