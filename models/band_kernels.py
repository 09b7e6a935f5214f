"""Bands on the CPU path: numba kernels over rows of bins, frames before bins as an FFT writes them."""

from __future__ import annotations

import numpy as np

from .bands import COMPRESSION, CORRELATION_FLOOR
from .jit import njit


@njit
def features_into(X: np.ndarray, starts: np.ndarray, gain: float, out: np.ndarray) -> None:
    """Write what the network hears of each frame; equal to `band_features.band_features`.

    Shape: X (2, k, F) complex64, starts (K + 1,) first bin of each band and F at the end,
    out (k, 3 K) float32: left levels, right levels, correlations.  gain maps |X| of a full-scale sine to 1.
    """
    n_bands = starts.shape[0] - 1
    power = gain * gain
    for t in range(X.shape[1]):
        for b in range(n_bands):
            left, right, cross = 0.0, 0.0, 0.0
            for f in range(starts[b], starts[b + 1]):
                l_re, l_im = np.float64(X[0, t, f].real), np.float64(X[0, t, f].imag)
                r_re, r_im = np.float64(X[1, t, f].real), np.float64(X[1, t, f].imag)
                left += l_re * l_re + l_im * l_im
                right += r_re * r_re + r_im * r_im
                cross += l_re * r_re + l_im * r_im
            left *= power
            right *= power
            width = starts[b + 1] - starts[b]
            out[t, b] = np.log1p(COMPRESSION * np.sqrt(left / width))
            out[t, n_bands + b] = np.log1p(COMPRESSION * np.sqrt(right / width))
            both = (left + CORRELATION_FLOOR) * (right + CORRELATION_FLOOR)
            out[t, 2 * n_bands + b] = cross * power / np.sqrt(both)


@njit
def spread_into(bands: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Write each band's value to each of its bins.

    Shape: bands (stem, 2, k, K) float32, starts (K + 1,), out (stem, 2, k, F) float32.
    """
    for j in range(bands.shape[0]):
        for c in range(bands.shape[1]):
            for t in range(bands.shape[2]):
                for b in range(bands.shape[3]):
                    value = bands[j, c, t, b]
                    for f in range(starts[b], starts[b + 1]):
                        out[j, c, t, f] = value
