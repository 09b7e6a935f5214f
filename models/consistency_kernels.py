"""Mixture consistency on the CPU path: a numba kernel, and the check of its shares."""

from __future__ import annotations

import numpy as np

from .errors import SpecError
from .jit import njit
from .stems import N_STEMS

WEIGHT_TOLERANCE = 1e-6


def checked_weights(weights: np.ndarray | None = None, n_stems: int = N_STEMS) -> np.ndarray:
    """Return the shares of the residual, float64 (n_stems,); equal shares by default.

    Raises: SpecError if they are not n_stems finite numbers that sum to 1 within 1e-6.
    """
    w = np.full(n_stems, 1.0 / n_stems) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n_stems,) or not abs(float(w.sum()) - 1.0) <= WEIGHT_TOLERANCE:
        raise SpecError(f"shares of the residual {w.tolist()}: give {n_stems} numbers that sum to 1")
    return w / w.sum()


@njit
def project_into(s: np.ndarray, x: np.ndarray, w: np.ndarray, out: np.ndarray) -> None:
    """Write `project` of s and x into out, which may be s itself.

    Shape: s, out (stem, channel, sample) float32, x (channel, sample) float32, w (stem,) float64
    from `checked_weights`.
    """
    for c in range(x.shape[0]):
        for n in range(x.shape[1]):
            total = 0.0
            for i in range(s.shape[0]):
                total += np.float64(s[i, c, n])
            residual = np.float64(x[c, n]) - total
            for i in range(s.shape[0]):
                out[i, c, n] = np.float32(np.float64(s[i, c, n]) + w[i] * residual)
