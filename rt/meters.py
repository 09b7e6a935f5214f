"""Levels and counters as the callback left them, copied out for whoever shows them."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np

from .atomics import load, store
from .block import (
    BUSES,
    METER_PUBLISHED,
    METER_REQUEST,
    METER_SERVED,
    N_BAD_HOPS,
    N_BAD_INPUTS,
    N_BAD_STEMS,
    N_CALLBACKS,
    N_CAPTURE_XRUNS,
    N_CLIPPED,
    N_DRY_SAMPLES,
    N_FALLBACKS,
    N_HOPS,
    N_INPUT_DROPPED,
    N_INPUT_MISSING,
    N_LATE_HOPS,
    N_METERS,
    N_SKIPPED_HOPS,
    N_XRUNS,
    POSITION,
    TO_DRY,
    WET_STATE,
    WORKER_SHIFT,
    Block,
)
from .units import db_from_gain


@dataclass(frozen=True, slots=True)
class Level:
    """Of one bus since the last reading: sample peak and RMS, left and right, in dB of full scale."""

    peak_db: tuple[float, float]
    rms_db: tuple[float, float]


SILENT = Level((-math.inf, -math.inf), (-math.inf, -math.inf))

COUNTERS = {
    "position": POSITION,
    "callbacks": N_CALLBACKS,
    "xruns": N_XRUNS,
    "capture_xruns": N_CAPTURE_XRUNS,
    "late_hops": N_LATE_HOPS,
    "fallbacks": N_FALLBACKS,
    "dry_samples": N_DRY_SAMPLES,
    "input_missing": N_INPUT_MISSING,
    "input_dropped": N_INPUT_DROPPED,
    "bad_input_samples": N_BAD_INPUTS,
    "bad_stem_samples": N_BAD_STEMS,
    "clipped_samples": N_CLIPPED,
}
"""Everything that is lost, repeated or replaced, by the name a person sees."""
OF_WORKERS = {"hops": N_HOPS, "skipped_hops": N_SKIPPED_HOPS, "bad_hops": N_BAD_HOPS}
"""What both workers count, the one that only listens too while the profile changes."""


def counters(block: Block) -> dict[str, int]:
    """Return all counters, and whether the output is dry now (`is_dry`, 0 or 1)."""
    counted = {name: load(block.words, index) for name, index in COUNTERS.items()}
    for name, index in OF_WORKERS.items():
        counted[name] = load(block.words, index) + load(block.words, index + WORKER_SHIFT)
    return counted | {"is_dry": int(block.words[WET_STATE] == TO_DRY)}


class MeterTap:
    """Levels since its own last reading: no reader takes another's peaks away.  Thread: any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums = np.zeros((N_METERS, 4))
        self._n = 0

    def add(self, sums: np.ndarray, n: int) -> None:
        """Take in what n more samples gave: peak left and right, sum of squares left and right, by row."""
        with self._lock:
            np.maximum(self._sums[:, :2], sums[:, :2], out=self._sums[:, :2])
            self._sums[:, 2:] += sums[:, 2:]
            self._n += n

    def read(self) -> dict[str, Level] | None:
        """Return the levels of `input` and of the buses since the last reading; None if no sound was made."""
        with self._lock:
            rows, n = self._sums.tolist(), self._n
            self._sums[:] = 0.0
            self._n = 0
        if not n:
            return None
        return {
            name: Level(
                (db_from_gain(left), db_from_gain(right)),
                (db_from_gain(math.sqrt(energy_left / n)), db_from_gain(math.sqrt(energy_right / n))),
            )
            for name, (left, right, energy_left, energy_right) in zip(("input", *BUSES), rows, strict=True)
        }


class MeterReader:
    """Has the callback publish its sums again and again, and hands them to all taps.  Thread: `poll`: one."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._asked = int(block.words[METER_REQUEST])
        self._taps: tuple[MeterTap, ...] = ()

    def tap(self) -> MeterTap:
        """Return a tap; it is filled until `drop`."""
        tap = MeterTap()
        self._taps = (*self._taps, tap)
        return tap

    def drop(self, tap: MeterTap) -> None:
        """Fill a tap no longer."""
        self._taps = tuple(t for t in self._taps if t is not tap)

    def poll(self) -> None:
        """Take what was published since, and ask for more: it comes with the callback's next block."""
        if load(self._block.words, METER_SERVED) != self._asked:
            return
        n = int(self._block.words[METER_PUBLISHED])
        if n:
            for tap in self._taps:
                tap.add(self._block.meter_sums[1], n)
        self._asked += 1
        store(self._block.words, METER_REQUEST, self._asked)
