"""What a comparison of separators measures besides `evaluation`: quality since a reset, and leakage.

A stream that starts anew has to find its feet: its networks have heard nothing and the Wiener filter knows
no directions. So a song is separated again from some places on, each time from a fresh state, and the SDR
is taken in stretches of time since then. Music differs from one stretch to the next; what the reset costs
shows in the difference to the stream that never stopped, over the same samples.

Symbols as in `evaluation`: references are stem name -> (channel, sample), estimates (stem, channel, sample).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ..stems import STEMS
from .evaluation import global_sdr_db, mixture_of

AGES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0)
"""Edges of the stretches, seconds since a reset; nothing is separated beyond the last."""

RESTARTS = (0.2, 0.4, 0.6)
"""Where in a song a stream starts anew; not at 0, where it would not differ from the one that never stops."""

AUDIBLE = 0.01
"""Share of a stretch's energy from which a stem counts there, as in `spectral_task.mean_sdr_db`."""

SILENT_DBFS = -200.0


def restart_slices(n_samples: int, rate_hz: int) -> list[slice]:
    """Return the parts of a song that are separated from a fresh state, in samples.

    >>> [(s.start, s.stop) for s in restart_slices(1000, 10)]
    [(200, 440), (400, 640), (600, 840)]
    """
    starts = [int(part * n_samples) for part in RESTARTS]
    return [slice(start, min(n_samples, start + int(AGES_S[-1] * rate_hz))) for start in starts]


def sdr_by_age_db(
    references: Mapping[str, np.ndarray], estimates: np.ndarray, mixture: np.ndarray, rate_hz: int
) -> np.ndarray:
    """Return the global SDR in each stretch of time since the start, in dB.

    Shape: -> (age, stem); NaN where a stem cannot be heard, and where less than half a stretch is left.
    """
    found = np.full((len(AGES_S) - 1, len(STEMS)), np.nan)
    for age, (begin_s, end_s) in enumerate(pairwise(AGES_S)):
        part = slice(int(begin_s * rate_hz), int(end_s * rate_hz))
        if mixture[:, part].shape[-1] < 0.5 * (end_s - begin_s) * rate_hz:
            break
        least = AUDIBLE * _energy(mixture[:, part])
        for j, stem in enumerate(STEMS):
            if stem in references and _energy(references[stem][:, part]) > least:
                found[age, j] = global_sdr_db(references[stem][:, part], estimates[j][:, part])
    return found


def mean_present(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the means over arrays of one shape, element by element, leaving NaN out; NaN where all are.

    >>> mean_present([np.array([1.0, np.nan]), np.array([3.0, np.nan])]).tolist()
    [2.0, nan]
    """
    stacked = np.stack(rows)
    present = ~np.isnan(stacked)
    total = np.where(present, stacked, 0.0).sum(axis=0)
    n_present = present.sum(axis=0)
    return np.where(n_present > 0, total / np.maximum(n_present, 1), np.nan)


def level_dbfs(x: np.ndarray) -> float:
    """Return the RMS level over all channels and samples, 0 dB for an RMS of 1, floored at -200.

    >>> round(level_dbfs(0.1 * np.ones((2, 100))), 3)
    -20.0
    """
    power = _energy(x) / max(x.size, 1)
    return float(10 * np.log10(max(power, 10 ** (SILENT_DBFS / 10))))


def leakage_inputs(
    references: Mapping[str, np.ndarray],
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """Return mixtures that lack stems, each with the stems that should then be silent.

    `instrumental`: all stems but the vocals; `vocals`: those alone. Empty for a song without either.
    """
    voices = references.get("vocals")
    others = {stem: x for stem, x in references.items() if stem != "vocals"}
    if voices is None or not np.any(voices) or not any(np.any(x) for x in others.values()):
        return {}
    return {
        "instrumental": (mixture_of(others), ("vocals",)),
        "vocals": (voices, tuple(stem for stem in STEMS if stem != "vocals")),
    }


def _energy(x: np.ndarray) -> float:
    x = x.astype(np.float64)
    return float(np.vdot(x, x))
