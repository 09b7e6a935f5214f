"""Conversions between units: the only place where dB and linear gain meet."""

from __future__ import annotations

import math


def db_from_gain(gain: float) -> float:
    """Return the level in dB of a linear gain or amplitude; -inf for 0.

    Raises: ValueError for a negative gain.

    >>> round(db_from_gain(0.5), 2)
    -6.02
    """
    if gain < 0:
        raise ValueError(f"a gain of {gain} is negative: take its absolute value first")
    return 20.0 * math.log10(gain) if gain > 0 else -math.inf


def gain_from_db(gain_db: float) -> float:
    """Return the linear gain of a level in dB.

    >>> gain_from_db(-20.0)
    0.1
    """
    return 10.0 ** (gain_db / 20.0)
