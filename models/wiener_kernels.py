"""The causal Wiener filter on the CPU path: numba kernels, their state and their constants.

Symbols and equations: `wiener`. Frames come before bins in memory here, as in `overlap_add`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import SpecError
from .jit import njit
from .stems import MODEL_RATE_HZ, N_STEMS
from .windows import WindowPair

LOUDEST = 10.0
"""What the loudest |X| is scaled to before the sums (norbert)."""

EPS = float(np.finfo(np.float64).eps)
REGULARISATION = math.sqrt(EPS)
"""r for mixtures up to full scale."""

FULL_SCALE_TRACE = 2.0 * LOUDEST**2
"""Trace of sum_j v_j R_j when one stem holds a full-scale sine in both channels: above it r grows."""

FLOOR = 1e-20
"""State and outputs below this are set to zero: decaying into denormals made a hop seven times dearer.
Four decades under eps, so the filter does not see it."""


def stream_scale(windows: WindowPair) -> float:
    """Return the constant s of the causal filter: a full-scale sine's |X| / s is 10.

    norbert divides by max(1, max |X| / 10) of the whole track, which no stream can know. s enters only
    through the regularisation r, relative to the power of the mixture; so the constant gives the r of
    a track that peaks at full scale, and quieter tracks are regularised as much as its quiet passages
    are. Above full scale `Cxx` takes r in proportion to its trace, as the global maximum would.
    """
    return windows.sine_magnitude / LOUDEST


def forgetting_factor(forget_s: float, hop_samples: int, rate_hz: float = MODEL_RATE_HZ) -> float:
    """Return lambda = exp(-hop / (rate * forget)); 1 for an infinite memory."""
    if not forget_s > 0.0 or hop_samples < 1 or not rate_hz > 0.0:
        raise SpecError(f"forgetting needs forget_s, hop, rate > 0, got {forget_s}, {hop_samples}, {rate_hz}")
    return math.exp(-hop_samples / (rate_hz * forget_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class WienerState:
    """The forgetting sums of one stereo stream, updated in place by `wiener_frames`."""

    N: np.ndarray
    """float64 (stem, 4, bin): |left|^2, |right|^2, real and imaginary part of left * conj(right)."""
    d: np.ndarray
    """float64 (stem, bin)."""

    @classmethod
    def fresh(cls, *, n_bins: int, n_stems: int = N_STEMS) -> WienerState:
        """Return the sums of a stream that has heard silence."""
        return cls(N=np.zeros((n_stems, 4, n_bins)), d=np.zeros((n_stems, n_bins)))

    def reset(self) -> None:
        """Forget everything heard."""
        self.N.fill(0.0)
        self.d.fill(0.0)


TILE = 128
"""Bins worked on at once: the planes of one tile (37 rows of float64) stay in the first-level cache."""


# The loops below run over short rows of few arrays each, so that LLVM can prove them apart and
# vectorises them: 0.11 ms a hop instead of 0.33 ms for one loop over the bins, with the same bits.
# Rows of S: 0-3 X then z (left re, im, right re, im); 4-7 its powers; 8-11 Cxx; 12-15 y y^H; 16 v.
# Rows of K, one set a stem: 0-3 v_j R_j (as N: left, right, cross re, im); 4 d_j.


@njit
def _floored(x: float) -> float:
    return 0.0 if abs(x) < FLOOR else x


@njit
def _open_tile(left: np.ndarray, right: np.ndarray, power: float, S: np.ndarray) -> None:
    n = left.shape[0]
    for i in range(n):
        S[0, i], S[1, i] = left[i].real, left[i].imag
    for i in range(n):
        S[2, i], S[3, i] = right[i].real, right[i].imag
    for i in range(n):
        S[4, i] = (S[0, i] * S[0, i] + S[1, i] * S[1, i]) * power
        S[5, i] = (S[2, i] * S[2, i] + S[3, i] * S[3, i]) * power
        S[6, i] = (S[0, i] * S[2, i] + S[1, i] * S[3, i]) * power
        S[7, i] = (S[1, i] * S[2, i] - S[0, i] * S[3, i]) * power
        S[8, i], S[9, i], S[10, i], S[11, i] = 0.0, 0.0, 0.0, 0.0


@njit
def _estimate(mask_left: np.ndarray, mask_right: np.ndarray, S: np.ndarray) -> None:
    for i in range(mask_left.shape[0]):
        left, right = np.float64(mask_left[i]), np.float64(mask_right[i])
        S[12, i] = left * left * S[4, i]
        S[13, i] = right * right * S[5, i]
        S[14, i] = left * right * S[6, i]
        S[15, i] = left * right * S[7, i]
        S[16, i] = 0.5 * (S[12, i] + S[13, i])


@njit
def _forget(row: np.ndarray, new: np.ndarray, decay: float, copy: np.ndarray) -> None:
    for i in range(row.shape[0]):
        total = _floored(decay * row[i] + new[i])
        row[i] = total
        copy[i] = total


@njit
def _add_model(S: np.ndarray, K: np.ndarray, n: int) -> None:
    for i in range(n):
        g = S[16, i] / (EPS + K[4, i])
        left, right, real, imag = g * K[0, i], g * K[1, i], g * K[2, i], g * K[3, i]
        K[0, i], K[1, i], K[2, i], K[3, i] = left, right, real, imag
        S[8, i] += left
        S[9, i] += right
        S[10, i] += real
        S[11, i] += imag


@njit
def _solve(S: np.ndarray, n: int) -> None:
    """Replace X by z = Cxx^-1 X, the 2x2 inverse in closed form."""
    for i in range(n):
        a, c, real, imag = S[8, i], S[9, i], S[10, i], S[11, i]
        l_re, l_im, r_re, r_im = S[0, i], S[1, i], S[2, i], S[3, i]
        r = REGULARISATION * max(1.0, (a + c) * (1.0 / FULL_SCALE_TRACE))
        a += r
        c += r
        inverse = 1.0 / (a * c - (real * real + imag * imag))
        S[0, i] = (c * l_re - (real * r_re - imag * r_im)) * inverse
        S[1, i] = (c * l_im - (real * r_im + imag * r_re)) * inverse
        S[2, i] = (a * r_re - (real * l_re + imag * l_im)) * inverse
        S[3, i] = (a * r_im - (real * l_im - imag * l_re)) * inverse


@njit
def _answer(S: np.ndarray, K: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    for i in range(left.shape[0]):
        re = _floored(K[0, i] * S[0, i] + K[2, i] * S[2, i] - K[3, i] * S[3, i])
        im = _floored(K[0, i] * S[1, i] + K[2, i] * S[3, i] + K[3, i] * S[2, i])
        left[i] = complex(np.float32(re), np.float32(im))
    for i in range(right.shape[0]):
        re = _floored(K[1, i] * S[2, i] + K[2, i] * S[0, i] + K[3, i] * S[1, i])
        im = _floored(K[1, i] * S[3, i] + K[2, i] * S[1, i] - K[3, i] * S[0, i])
        right[i] = complex(np.float32(re), np.float32(im))


@njit
def wiener_frames(
    X: np.ndarray,
    mask: np.ndarray,
    N: np.ndarray,
    d: np.ndarray,
    decay: float,
    scale: float,
    out: np.ndarray,
) -> None:
    """Write the stems' spectra of the next frames, and update the sums N and d in place.

    Shape: X (2, k, F) complex64, mask (J, 2, k, F) float32, N and d as in `WienerState`,
    out (J, 2, k, F) complex64: frames before bins, as `overlap_add` has it.
    decay from `forgetting_factor`, scale from `stream_scale`.  Equal to `Wiener.step`.
    Allocates one tile of scratch per call (37 kB for four stems): for the worker, not the callback.
    """
    n_stems, n_bins = mask.shape[0], X.shape[2]
    power = 1.0 / (scale * scale)
    S = np.empty((17, TILE))
    K = np.empty((n_stems, 5, TILE))
    for t in range(X.shape[1]):
        for start in range(0, n_bins, TILE):
            stop = min(start + TILE, n_bins)
            _open_tile(X[0, t, start:stop], X[1, t, start:stop], power, S)
            for j in range(n_stems):
                _estimate(mask[j, 0, t, start:stop], mask[j, 1, t, start:stop], S)
                for q in range(4):
                    _forget(N[j, q, start:stop], S[12 + q], decay, K[j, q])
                _forget(d[j, start:stop], S[16], decay, K[j, 4])
                _add_model(S, K[j], stop - start)
            _solve(S, stop - start)
            for j in range(n_stems):
                _answer(S, K[j], out[j, 0, t, start:stop], out[j, 1, t, start:stop])
