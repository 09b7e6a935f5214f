"""A true-peak limiter with look-ahead: an option in place of the clip at the ceiling.

    r[t] = min(1, ceiling / true peak around t)        four-fold oversampled, 12 taps a phase
    m[t] = min of r over the look-ahead,  e[t] = m[t] if lower, else slowly back to it
    g[t] = mean of e over the look-ahead,  y[t] = g[t] x[t - delay]

The gain is down when the peak arrives, and moves without a step. While nothing is over the ceiling the output
is the delayed input, bit for bit.  Source of the peak: ITU-R BS.1770-4, Annex 2 (filter of our own).
"""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from .block import LIMITER_COLUMNS

N_TAPS = 12
OVERSAMPLING = 4
PEAK_DELAY = N_TAPS // 2
RELEASE_SAMPLES = 4096.0
"""Time constant of the way back: 93 ms at 44.1 kHz."""
LONGEST_LOOKAHEAD = 256
UNITY = 1.0 - 1e-6

LEFT, RIGHT, QUEUE, QUEUE_AT, WINDOW, SCALARS = range(6)
"""Rows of the state, float64 (LIMITER_ROWS, LIMITER_COLUMNS)."""
TIME, HEAD, SIZE, LAST, SUM, N_REDUCED = range(6)
"""Places in the row of scalars."""
MASK = LIMITER_COLUMNS - 1


def peak_taps() -> np.ndarray:
    """Return the interpolator between two samples, float64 (OVERSAMPLING - 1, N_TAPS)."""
    n = np.arange(N_TAPS) - (PEAK_DELAY - 1)
    rows = []
    for phase in range(1, OVERSAMPLING):
        t = n - phase / OVERSAMPLING
        taps = np.sinc(t) * np.cos(np.pi * t / (N_TAPS + 1)) ** 2
        rows.append(taps / taps.sum())
    return np.array(rows)


TAPS = peak_taps()


@njit
def limiter_latency(lookahead: int) -> int:
    """Return the delay in samples that the limiter adds.

    >>> limiter_latency(64)
    70
    """
    return lookahead + PEAK_DELAY if lookahead > 0 else 0


@njit
def _true_peak(state, t):
    """Largest level at and after sample t - PEAK_DELAY."""
    peak = 0.0
    for c in range(2):
        peak = max(peak, abs(state[c, (t - PEAK_DELAY) & MASK]))
        for phase in range(OVERSAMPLING - 1):
            v = 0.0
            for k in range(N_TAPS):
                v += TAPS[phase, k] * state[c, (t - N_TAPS + 1 + k) & MASK]
            peak = max(peak, abs(v))
    return peak


@njit
def _lowest(state, t, wanted, lookahead):
    """Smallest gain wanted in the look-ahead: a queue of rising values, each column used once."""
    s = state[SCALARS]
    head, size = np.int64(s[HEAD]), np.int64(s[SIZE])
    while size > 0 and state[QUEUE, (head + size - 1) & MASK] >= wanted:
        size -= 1
    state[QUEUE, (head + size) & MASK] = wanted
    state[QUEUE_AT, (head + size) & MASK] = t
    size += 1
    while state[QUEUE_AT, head & MASK] < t - lookahead:
        head += 1
        size -= 1
    s[HEAD], s[SIZE] = head, size
    return state[QUEUE, head & MASK]


@njit
def _gain(state, t, lowest, lookahead):
    """Gain now: the way back, then the mean; exactly 1 when every value of the mean is 1."""
    s = state[SCALARS]
    reduced = 1.0 - s[LAST]  # a fresh state holds zeros: LAST counts from 1 downwards
    reduced = lowest if lowest < reduced else reduced + (lowest - reduced) / RELEASE_SAMPLES
    if reduced > UNITY:
        reduced = 1.0
    s[LAST] = 1.0 - reduced
    at = t & MASK
    gone = state[WINDOW, (t - lookahead) & MASK]
    state[WINDOW, at] = 1.0 - reduced
    s[SUM] += state[WINDOW, at] - gone
    s[N_REDUCED] += (1.0 if reduced < 1.0 else 0.0) - (1.0 if gone > 0.0 else 0.0)
    if s[N_REDUCED] <= 0.0:
        s[SUM] = 0.0
        return 1.0
    return 1.0 - s[SUM] / lookahead


@njit
def limit_into(x: np.ndarray, n: int, state: np.ndarray, ceiling: float, lookahead: int) -> int:
    """Limit x[:, :n] in place, delayed by `limiter_latency`; returns how many samples were turned down.

    Shape: x float32 (2, sample), state float64 (LIMITER_ROWS, LIMITER_COLUMNS), zero at the beginning;
    lookahead: 1 to LONGEST_LOOKAHEAD samples.  Thread: audio.
    """
    s = state[SCALARS]
    n_reduced = 0
    for i in range(n):
        t = np.int64(s[TIME])
        state[LEFT, t & MASK], state[RIGHT, t & MASK] = x[0, i], x[1, i]
        peak = _true_peak(state, t)
        wanted = ceiling / peak if peak > ceiling else 1.0
        gain = _gain(state, t, _lowest(state, t, wanted, lookahead), lookahead)
        late = (t - limiter_latency(lookahead)) & MASK
        x[0, i], x[1, i] = state[LEFT, late], state[RIGHT, late]
        if gain < 1.0:
            x[0, i], x[1, i] = gain * state[LEFT, late], gain * state[RIGHT, late]
            n_reduced += 1
        s[TIME] = t + 1
    return n_reduced
