"""A change of delay while the sound goes on: two paths for a moment, and a cross-fade from one to the other.

The node stores DELAY_BEGIN, then NEXT_DELAY. From that output position on, or at once if it is over, the
callback reads the stems and the mixture at both delays, each with its own plan of wet and dry, and fades
linearly over DELAY_FADE_SAMPLES; then the new delay is the delay. Kernels of the callback.
"""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from .atomics import load, store
from .block import (
    DELAY_BEGIN,
    DELAY_FADE_SAMPLES,
    DELAY_SAMPLES,
    FADE_BEGIN,
    FADE_DELAY,
    FADE_SAMPLES,
    HOP,
    NEXT_DELAY,
    NEXT_WET_BEGIN,
    NEXT_WET_STATE,
    NOWHERE,
    ORIGIN,
    TO_DRY,
    TO_WET,
    WET_BEGIN,
    WET_STATE,
)
from .fallback import stems_until


@njit
def is_changing(words: np.ndarray) -> bool:
    """Return whether two delays are heard.  Thread: audio."""
    return words[FADE_BEGIN] != NOWHERE


@njit
def next_piece(words: np.ndarray, stamps: np.ndarray, position: int, n: int) -> int:
    """Return how many of the next n samples lie on one side of the borders of a change of delay.

    Begins a change whose time has come.  Thread: audio.
    """
    if not is_changing(words):
        delay = load(words, NEXT_DELAY)  # before DELAY_BEGIN, which was stored before it
        if delay == words[DELAY_SAMPLES]:
            return n
        wait = load(words, DELAY_BEGIN) - position
        if wait > 0:
            return min(n, wait)
        words[FADE_BEGIN], words[FADE_DELAY] = position, delay
        # Nothing is heard of the new path yet: it begins all wet or all dry.
        start = position - delay
        stop = start + n + FADE_SAMPLES
        there = stems_until(stamps, words[HOP], words[ORIGIN], start, stop) == stop
        words[NEXT_WET_STATE] = TO_WET if there else TO_DRY
        words[NEXT_WET_BEGIN] = start - FADE_SAMPLES
    return min(n, words[FADE_BEGIN] + DELAY_FADE_SAMPLES - position)


@njit
def cross_fade(
    words: np.ndarray, position: int, n: int, stems: np.ndarray, wet: np.ndarray, buses: np.ndarray
) -> int:
    """Fade buses[0] and stems[0] towards the second ones; returns how many samples are not all wet.

    Shape: stems (2, stem, 2, n), wet (2, n), buses (2, N_BUSES, 2, n).  Thread: audio.
    """
    n_dry = 0
    for i in range(n):
        share = (position + i - words[FADE_BEGIN]) / DELAY_FADE_SAMPLES
        for c in range(2):
            for b in range(buses.shape[1]):
                v = np.float64(buses[0, b, c, i])
                buses[0, b, c, i] = v + share * (buses[1, b, c, i] - v)
            for s in range(stems.shape[1]):
                v = np.float64(stems[0, s, c, i])
                stems[0, s, c, i] = v + share * (stems[1, s, c, i] - v)
        if min(wet[0, i], wet[1, i]) < 1.0:
            n_dry += 1
    return n_dry


@njit
def end_change(words: np.ndarray, position: int) -> None:
    """Make the new delay the delay once its fade is over.  Thread: audio."""
    if position < words[FADE_BEGIN] + DELAY_FADE_SAMPLES:
        return
    words[WET_STATE], words[WET_BEGIN] = words[NEXT_WET_STATE], words[NEXT_WET_BEGIN]
    words[FADE_BEGIN] = NOWHERE
    store(words, DELAY_SAMPLES, words[FADE_DELAY])
