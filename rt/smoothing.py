"""Ramps as functions of the absolute position: how the audio was cut into blocks changes no bit."""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from .block import RAMPS, TARGETS

START, TARGET, BEGIN, LENGTH = 0, 1, 2, 3


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
def ramp_at(ramps: np.ndarray, k: int, position: int) -> float:
    """Return where the ramp of parameter k is at an absolute position.

    ramps: float64 (START, TARGET, BEGIN and LENGTH, parameter).
    """
    if position >= ramps[BEGIN, k] + ramps[LENGTH, k]:
        return ramps[TARGET, k]
    return between(ramps[START, k], ramps[TARGET, k], (position - ramps[BEGIN, k]) / ramps[LENGTH, k])


@njit
def retarget(ramps: np.ndarray, table: np.ndarray, position: int) -> None:
    """Begin the ramps to a new table at `position`, from where the present ones are.

    Only what has another target, or another time to get there, begins anew: a fade of one fader goes on while
    others are moved.  Shape: ramps as in `ramp_at`, table (TARGETS and RAMPS, parameter).
    """
    for k in range(ramps.shape[1]):
        if table[TARGETS, k] == ramps[TARGET, k] and table[RAMPS, k] == ramps[LENGTH, k]:
            continue
        ramps[START, k] = ramp_at(ramps, k, position)
        ramps[TARGET, k] = table[TARGETS, k]
        ramps[BEGIN, k] = position
        ramps[LENGTH, k] = table[RAMPS, k]
