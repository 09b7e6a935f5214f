"""The blend on the CPU path: numba kernels that add one network's estimates with its shares."""

from __future__ import annotations

import numpy as np

from .jit import njit


@njit
def add_shares(Y: np.ndarray, shares: np.ndarray, is_first: bool, total: np.ndarray) -> None:
    """Add shares[stem] * Y to total, or set it for the first network.

    Shape: Y, total (stem, channel, frame, bin) complex64, shares (stem,) float32.
    """
    for s in range(Y.shape[0]):
        share = shares[s]
        for c in range(Y.shape[1]):
            for t in range(Y.shape[2]):
                for f in range(Y.shape[3]):
                    if is_first:
                        total[s, c, t, f] = share * Y[s, c, t, f]
                    else:
                        total[s, c, t, f] += share * Y[s, c, t, f]


@njit
def add_delayed(y: np.ndarray, shares: np.ndarray, waiting: np.ndarray, out: np.ndarray) -> None:
    """Add shares[stem] * (what waits, then y) to out; the rest of y waits.

    Shape: y, out (stem, channel, sample) float32, waiting (stem, channel, delay) float32, updated.
    """
    n, delay = y.shape[2], waiting.shape[2]
    for s in range(y.shape[0]):
        share = shares[s]
        for c in range(y.shape[1]):
            for i in range(n):
                value = waiting[s, c, i] if i < delay else y[s, c, i - delay]
                out[s, c, i] += share * value
            for i in range(delay):
                j = i + n
                waiting[s, c, i] = waiting[s, c, j] if j < delay else y[s, c, j - delay]
