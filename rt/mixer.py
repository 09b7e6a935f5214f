"""From stems and dry mixture to buses: gains, sum, cross-fade, ceiling, meters; kernels of the callback.

Buses are main, one per stem, and a dry cue (`block.BUSES`), each stereo. Sums are taken in float64.
"""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from ..models.stems import N_STEMS
from .atomics import load, store
from .block import (
    BUS_CHANNELS,
    CEILING,
    CUE,
    CUE_GAIN,
    FADED,
    FIRST_STEM_BUS,
    GAIN_LEFT,
    GAIN_RIGHT,
    MAIN,
    MASTER,
    METER_PUBLISHED,
    METER_REQUEST,
    METER_RUNNING,
    METER_SERVED,
    N_BUSES,
    N_CLIPPED,
    N_METERS,
    ORIGIN,
    START_RAMP_SAMPLES,
    STOP_BEGIN,
    STOPPED_NOWHERE,
    STOPPING,
)
from .smoothing import TARGET, ramp_at, share

OTHER = 2
"""Index of the stem that stands for the whole mixture where there are no stems."""


@njit
def loudest_gain(ramps: np.ndarray, channel: int, position: int) -> float:
    """Return the largest gain of any stem on a side: the dry mixture's, so that silence stays silence."""
    first = GAIN_LEFT if channel == 0 else GAIN_RIGHT
    loudest = 0.0
    for s in range(N_STEMS):
        loudest = max(loudest, ramp_at(ramps, first + s, position))
    return loudest


@njit
def _edge_gain(words: np.ndarray, input_position: int, output_position: int) -> float:
    """Gain of the ramps at the beginning of a stream and at its end."""
    length = words[START_RAMP_SAMPLES]
    gain = share(input_position, words[ORIGIN] - 1, length + 1) if length > 0 else 1.0
    if words[STOP_BEGIN] != STOPPED_NOWHERE:
        gain *= 1.0 - share(output_position, words[STOP_BEGIN], max(length, 1))
    return gain


@njit
def mix_into(
    words: np.ndarray,
    ramps: np.ndarray,
    position: int,
    input_position: int,
    n: int,
    dry: np.ndarray,
    stems: np.ndarray,
    wet: np.ndarray,
    buses: np.ndarray,
) -> None:
    """Fill buses[:, :, :n]; leaves in `stems` what is recorded: the stems, or all in `other` where it is dry.

    Shape: dry (2, n), stems (stem, 2, n), wet (n,), buses (N_BUSES, 2, n); position: output, input_position:
    input.  Thread: audio.
    """
    if load(words, STOPPING) == 1 and words[STOP_BEGIN] == STOPPED_NOWHERE:
        words[STOP_BEGIN] = position
    dry_bus = MAIN if words[BUS_CHANNELS] >= 0 else FIRST_STEM_BUS + OTHER
    for i in range(n):
        edge = _edge_gain(words, input_position + i, position + i)
        master = edge * ramp_at(ramps, MASTER, position + i)
        cue = edge * ramp_at(ramps, CUE_GAIN, position + i)
        w = np.float64(wet[i])
        for c in range(2):
            first = GAIN_LEFT if c == 0 else GAIN_RIGHT
            total = 0.0
            for s in range(N_STEMS):
                v = w * stems[s, c, i]
                heard = v * ramp_at(ramps, first + s, position + i)
                total += heard
                buses[FIRST_STEM_BUS + s, c, i] = master * heard
                stems[s, c, i] = v
            buses[MAIN, c, i] = master * total
            if w < 1.0:
                rest = (1.0 - w) * dry[c, i]
                buses[dry_bus, c, i] += master * rest * loudest_gain(ramps, c, position + i)
                stems[OTHER, c, i] += rest
                if dry_bus != MAIN:
                    buses[MAIN, c, i] += master * rest * loudest_gain(ramps, c, position + i)
            buses[CUE, c, i] = cue * dry[c, i]
    if words[STOP_BEGIN] != STOPPED_NOWHERE and position + n >= words[STOP_BEGIN] + words[START_RAMP_SAMPLES]:
        store(words, FADED, 1)


@njit
def hold_ceiling(words: np.ndarray, ramps: np.ndarray, buses: np.ndarray, n: int) -> None:
    """Clip the buses at the ceiling: identity at or below it, silence for what is not a number.

    Counted is what can be heard: main, and the buses that are mapped to channels.
    """
    ceiling = np.float32(ramps[TARGET, CEILING])
    n_clipped = 0
    for b in range(N_BUSES):
        counts = 1 if b == MAIN or words[BUS_CHANNELS + 2 * b] >= 0 else 0
        for c in range(2):
            for i in range(n):
                v = buses[b, c, i]
                if abs(v) <= ceiling:
                    continue
                n_clipped += counts
                buses[b, c, i] = ceiling if v > 0 else -ceiling if v < 0 else np.float32(0.0)
    words[N_CLIPPED] += n_clipped


@njit
def send_out(words: np.ndarray, buses: np.ndarray, n: int, out: np.ndarray, at: int) -> None:
    """Add the buses to out[at : at + n] (sample, channel), which holds silence, on their channels.

    A bus with one channel for both sides gets half of their sum.
    """
    for b in range(N_BUSES):
        left, right = words[BUS_CHANNELS + 2 * b], words[BUS_CHANNELS + 2 * b + 1]
        if left < 0 or right < 0:
            continue
        if left == right:
            for i in range(n):
                out[at + i, left] += np.float32(0.5) * (buses[b, 0, i] + buses[b, 1, i])
            continue
        for i in range(n):
            out[at + i, left] += buses[b, 0, i]
            out[at + i, right] += buses[b, 1, i]


@njit
def meter_one(sums: np.ndarray, x: np.ndarray, n: int) -> None:
    """Add x (2, n) to sums: peak left and right, sum of squares left and right."""
    for c in range(2):
        peak, energy = np.float32(0.0), 0.0
        for i in range(n):
            v = x[c, i]
            peak = max(peak, abs(v))
            energy += np.float64(v) * v
        sums[c] = max(sums[c], np.float64(peak))
        sums[2 + c] += energy


@njit
def serve_meters(words: np.ndarray, meter_sums: np.ndarray) -> None:
    """Publish the running sums and begin new ones if someone asked.  Thread: audio."""
    asked = load(words, METER_REQUEST)
    if asked == words[METER_SERVED]:
        return
    for k in range(N_METERS):
        for j in range(4):
            meter_sums[1, k, j] = meter_sums[0, k, j]
            meter_sums[0, k, j] = 0.0
    words[METER_PUBLISHED] = words[METER_RUNNING]
    words[METER_RUNNING] = 0
    store(words, METER_SERVED, asked)
