"""Levels and counters as the callback left them, copied out for whoever shows them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

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
    N_SKIPPED_HOPS,
    N_XRUNS,
    POSITION,
    TO_DRY,
    WET_STATE,
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
    "hops": N_HOPS,
    "skipped_hops": N_SKIPPED_HOPS,
    "bad_hops": N_BAD_HOPS,
}
"""Everything that is lost, repeated or replaced, by the name a person sees."""


def counters(block: Block) -> dict[str, int]:
    """Return all counters, and whether the output is dry now (`is_dry`, 0 or 1)."""
    counted = {name: load(block.words, index) for name, index in COUNTERS.items()}
    return counted | {"is_dry": int(block.words[WET_STATE] == TO_DRY)}


class MeterReader:
    """Asks the callback for levels and takes them when they are there.  Thread: one."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._asked = int(block.words[METER_REQUEST])

    def ask(self) -> None:
        """Have the callback publish its sums at the end of its next block."""
        self._asked += 1
        store(self._block.words, METER_REQUEST, self._asked)

    def answer(self) -> dict[str, Level] | None:
        """Return the levels of `input` and of the buses since the last answer; None: not there yet."""
        if load(self._block.words, METER_SERVED) != self._asked:
            return None
        n = int(self._block.words[METER_PUBLISHED])
        if not n:
            return {name: SILENT for name in ("input", *BUSES)}
        levels = {}
        for name, row in zip(("input", *BUSES), self._block.meter_sums[1], strict=True):
            peaks, energies = row[:2].tolist(), row[2:].tolist()
            levels[name] = Level(
                (db_from_gain(peaks[0]), db_from_gain(peaks[1])),
                (db_from_gain(math.sqrt(energies[0] / n)), db_from_gain(math.sqrt(energies[1] / n))),
            )
        return levels

    def read(self, timeout_s: float = 0.25) -> dict[str, Level] | None:
        """Return the levels since the last reading; None if no block came in time."""
        self.ask()
        stop = time.monotonic() + timeout_s
        while (levels := self.answer()) is None and time.monotonic() < stop:
            time.sleep(0.002)
        return levels
