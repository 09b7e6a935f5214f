"""Rings and slots in the shared block: one writer each, no lock, nothing waits.

A ring is (channel, n) with n a power of two; sample `position` lies at position % n. It is overwritten
freely: who reads checks afterwards that the writer has not come round. A slot holds the stems of one hop and
the position they belong to; a writer that dies half-way leaves a stamp that fits no position.
"""

from __future__ import annotations

import numpy as np

from ..models.jit import njit
from .atomics import fence, load, store
from .block import NO_STAMP, SUB_BLOCK_SAMPLES


@njit
def write_ring(ring: np.ndarray, position: int, x: np.ndarray, n: int) -> None:
    """Copy x[:, :n] to `position` and what follows; the caller then stores the new position."""
    mask = ring.shape[1] - 1
    for c in range(ring.shape[0]):
        for i in range(n):
            ring[c, (position + i) & mask] = x[c, i]


@njit
def read_ring(ring: np.ndarray, position: int, out: np.ndarray, n: int) -> None:
    """Copy the n samples from `position` to out[:, :n]."""
    mask = ring.shape[1] - 1
    for c in range(ring.shape[0]):
        for i in range(n):
            out[c, i] = ring[c, (position + i) & mask]


@njit
def take(words: np.ndarray, index: int, ring: np.ndarray, position: int, out: np.ndarray) -> bool:
    """Copy what begins at `position` to out; false if it is not all there or was overwritten meanwhile.

    words[index] is the writer's position. It may be writing up to a sub-block beyond that.
    """
    n = out.shape[1]
    if position < 0 or load(words, index) < position + n:
        return False
    read_ring(ring, position, out, n)
    fence()
    return load(words, index) + SUB_BLOCK_SAMPLES - ring.shape[1] <= position


@njit
def put_slot(stamps: np.ndarray, slots: np.ndarray, stamp: int, stems: np.ndarray) -> None:
    """Put the stems (stem, channel, hop) of the hop that begins at `stamp` where the callback looks for them.

    Thread: the worker.
    """
    hop = slots.shape[3]
    slot = (stamp // hop) % slots.shape[0]
    store(stamps, slot, NO_STAMP)
    fence()  # nobody may see new data under the old stamp
    for s in range(slots.shape[1]):
        for c in range(slots.shape[2]):
            for i in range(hop):
                slots[slot, s, c, i] = stems[s, c, i]
    store(stamps, slot, stamp)


@njit
def has_slot(stamps: np.ndarray, hop: int, position: int) -> bool:
    """Return whether the stems at a position are there."""
    first = position - position % hop
    return load(stamps, (first // hop) % stamps.shape[0]) == first


@njit
def read_slots(
    stamps: np.ndarray, slots: np.ndarray, origin: int, position: int, out: np.ndarray, n: int
) -> int:
    """Copy the stems of n samples from `position` to out[:, :, :n]; returns how many samples were not finite.

    Silence stands for what is before `origin`, not there or not finite.
    """
    hop = slots.shape[3]
    n_bad = 0
    i = 0
    while i < n:
        y = position + i
        if y < origin:
            m = min(n - i, origin - y)
            out[:, :, i : i + m] = 0.0
            i += m
            continue
        m = min(n - i, hop - y % hop)
        if not has_slot(stamps, hop, y):
            out[:, :, i : i + m] = 0.0
            i += m
            continue
        slot = (y // hop) % slots.shape[0]
        for s in range(out.shape[0]):
            for c in range(out.shape[1]):
                for j in range(m):
                    v = slots[slot, s, c, y % hop + j]
                    if not np.isfinite(v):
                        v = np.float32(0.0)
                        n_bad += 1
                    out[s, c, i + j] = v
        i += m
    return n_bad
