"""Which share of each sample is wet: the plan that keeps the sound going when stems are late.

The callback wants the stems of its block and of FADE_SAMPLES more. While they are there it is wet. If they
end early it fades to the dry mixture inside what is there; it fades back at a hop border once the stems from
there on are there again. So no fade ever needs a stem that has not come.
"""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from .block import (
    FADE_SAMPLES,
    HOP,
    LAST_LATE,
    N_FALLBACKS,
    N_LATE_HOPS,
    ORIGIN,
    TO_DRY,
    TO_WET,
)
from .ring import has_slot


@njit
def wet_share(state: int, begin: int, position: int) -> float:
    """Return the share of wet at a position of a fade in direction `state` that began at `begin`."""
    done = position - begin
    done = 0 if done < 0 else FADE_SAMPLES if done > FADE_SAMPLES else done
    steps = FADE_SAMPLES - done if state == TO_DRY else done
    return steps / FADE_SAMPLES


@njit
def stems_until(stamps: np.ndarray, hop: int, origin: int, start: int, stop: int) -> int:
    """Return the position up to which the stems from `start` are there, at most `stop`.

    Before `origin` there is silence, which is always there.
    """
    y = max(start, origin)
    while y < stop:
        if not has_slot(stamps, hop, y):
            return y
        y += hop - y % hop
    return stop


@njit
def count_late(words: np.ndarray, stamps: np.ndarray, start: int, stop: int) -> None:
    """Count the hops between two input positions whose stems are not there, each once.  Thread: audio."""
    hop = words[HOP]
    y = max(start, words[ORIGIN])
    y -= y % hop
    while y < stop:
        if y > words[LAST_LATE] and not has_slot(stamps, hop, y):
            words[N_LATE_HOPS] += 1
            words[LAST_LATE] = y
        y += hop


@njit
def plan_wet(words: np.ndarray, stamps: np.ndarray, at: int, start: int, n: int, wet: np.ndarray) -> int:
    """Fill wet[:n] with the share of wet of the n samples from input position `start`.

    Returns how many of them are not all wet. at: WET_STATE or NEXT_WET_STATE, the path that is planned; where
    its fade began stands behind it.  Thread: audio.
    """
    hop, origin = words[HOP], words[ORIGIN]
    stop = start + n + FADE_SAMPLES
    state, begin = words[at], words[at + 1]
    turn = start + n  # where the state changes in this block
    next_state, next_begin = state, begin
    if state == TO_WET:
        reach = stems_until(stamps, hop, origin, start, stop)
        if reach < stop:
            count_late(words, stamps, start, stop)
            turn = max(start, reach - FADE_SAMPLES)
            undone = FADE_SAMPLES - round(wet_share(state, begin, turn) * FADE_SAMPLES)
            next_state, next_begin = TO_DRY, turn - undone
            words[N_FALLBACKS] += 1
    else:
        count_late(words, stamps, start, stop)
        border = max(start, begin + FADE_SAMPLES)
        border += (hop - border % hop) % hop
        while border < start + n:
            if stems_until(stamps, hop, origin, border, stop) == stop:
                turn, next_state, next_begin = border, TO_WET, border
                break
            border += hop
    n_dry = 0
    for i in range(n):
        y = start + i
        if y >= turn:
            state, begin = next_state, next_begin
        wet[i] = wet_share(state, begin, y)
        if wet[i] < 1.0:
            n_dry += 1
    words[at], words[at + 1] = next_state, next_begin
    return n_dry
