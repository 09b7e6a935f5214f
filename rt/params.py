"""What the faders say, the table the callback reads, and the writer that carries the one to the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
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
    RAMP,
    REVISION,
    Block,
)
from .errors import ConfigError
from .units import gain_from_db

GAIN_LIMIT_DB = 12.0
RAMP_LIMITS_MS = (0.0, 2_000.0)


def _check(name: str, value: float, lowest: float, highest: float, unit: str) -> None:
    if not lowest <= value <= highest:
        raise ConfigError(f"{name} = {value}: must be {lowest:g} to {highest:g} {unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fader:
    """One stem's place in the mix. pan: -1 left, 0 both as they are, 1 right."""

    gain_db: float = 0.0
    mute: bool = False
    solo: bool = False
    pan: float = 0.0

    def __post_init__(self) -> None:
        _check("gain_db", self.gain_db, -math.inf, GAIN_LIMIT_DB, "dB")
        _check("pan", self.pan, -1.0, 1.0, "(left to right)")

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
    ramp_ms: float = 10.0

    def __post_init__(self) -> None:
        for name in ("master_db", "cue_db"):
            _check(name, getattr(self, name), -math.inf, GAIN_LIMIT_DB, "dB")
        _check("ceiling_db", self.ceiling_db, -60.0, 0.0, "dB of full scale")
        _check("ramp_ms", self.ramp_ms, *RAMP_LIMITS_MS, "ms")

    @property
    def faders(self) -> tuple[Fader, ...]:
        """The faders in the order of the stems."""
        return tuple(getattr(self, stem) for stem in STEMS)

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
    """Return the table of the callback, float64 (N_PARAMETERS,), with pan, mute and solo in the gains."""
    table = np.zeros(N_PARAMETERS)
    any_solo = any(f.solo for f in state.faders)
    for index, fader in enumerate(state.faders):
        heard = not fader.mute and (fader.solo or not any_solo)
        table[GAIN_LEFT + index], table[GAIN_RIGHT + index] = fader.gains(heard=heard)
    table[MASTER] = gain_from_db(state.master_db)
    table[CUE_GAIN] = gain_from_db(state.cue_db)
    table[CEILING] = gain_from_db(state.ceiling_db)
    table[RAMP] = round(state.ramp_ms * rate_hz / 1000.0)
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
