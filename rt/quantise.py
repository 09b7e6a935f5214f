"""Stems as integers that still sum to the mixture, and the one gain that keeps them inside full scale."""

from __future__ import annotations

import numpy as np


def full_scale_gain(highest: float, lowest: float, bits: int) -> float:
    """Return the largest gain up to 1 with which samples from lowest to highest fit into `bits` bits.

    >>> full_scale_gain(0.5, -1.0, 16), full_scale_gain(2.0, -0.1, 16)
    (1.0, 0.499984741...)
    """
    top = 1.0 - 2.0 ** (1 - bits)
    return min(1.0, top / highest if highest > 0 else 1.0, -1.0 / lowest if lowest < 0 else 1.0)


def quantise_stems(stems: np.ndarray, gain: float, bits: int) -> tuple[np.ndarray, int]:
    """Return the stems as integers whose sum is the rounded sum, and the count of saturated samples.

    Every stem is rounded down, then the stems with the largest remainders are raised by one step until the
    sum is right: no stem is a whole step away from its value, and stems of a 16-bit mixture sum to it bit for
    bit in 16 bits (gain 1, nothing saturated).
    Shape: (stem, channel, sample) -> same; int16 for 16 bits, else int32 with the bits at the top.
    Units: full scale 1.0 in.  Source: largest-remainder apportionment (Hamilton's method).
    """
    scaled = stems.astype(np.float64) * (gain * 2.0 ** (bits - 1))
    steps = np.floor(scaled)
    remainders = scaled - steps
    missing = np.rint(scaled.sum(axis=0)) - steps.sum(axis=0)
    # rank 0 is the largest remainder; ties go to the first stem
    rank = np.argsort(np.argsort(-remainders, axis=0, kind="stable"), axis=0, kind="stable")
    steps += rank < missing
    top = 2 ** (bits - 1) - 1
    n_saturated = int(np.count_nonzero((steps > top) | (steps < -top - 1)))
    whole = np.clip(steps, -top - 1, top)
    if bits == 16:
        return whole.astype(np.int16), n_saturated
    return whole.astype(np.int32) << (32 - bits), n_saturated
