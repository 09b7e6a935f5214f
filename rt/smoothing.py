"""Ramps as functions of the absolute position: how the audio was cut into blocks changes no bit."""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from .block import N_RAMPED, RAMP, RAMP_BEGIN, RAMP_LENGTH


@njit
def share(position: int, begin: int, length: int) -> float:
    """Return how much of a ramp is done: 0 before `begin`, 1 from begin + length on.

    >>> share(150, 100, 200), share(99, 100, 0), share(100, 100, 0)
    (0.25, 0.0, 1.0)
    """
    if position < begin:
        return 0.0
    if position >= begin + length:
        return 1.0
    return (position - begin) / length


@njit
def between(start: float, target: float, done: float) -> float:
    """Return the value a ramp has reached; exactly the target once it is done."""
    if done >= 1.0:
        return target
    return start + (target - start) * done


@njit
def retarget(words: np.ndarray, ramps: np.ndarray, table: np.ndarray, position: int) -> None:
    """Begin the ramps to a new table at `position`, from where the present ones are.

    ramps: float64 (start and target, parameter).
    """
    done = share(position, words[RAMP_BEGIN], words[RAMP_LENGTH])
    for k in range(ramps.shape[1]):
        ramps[0, k] = between(ramps[0, k], ramps[1, k], done) if k < N_RAMPED else table[k]
        ramps[1, k] = table[k]
    words[RAMP_BEGIN] = position
    words[RAMP_LENGTH] = np.int64(table[RAMP])
