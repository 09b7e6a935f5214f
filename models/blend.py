"""The blend: how much of each stem comes from which network, and how such shares are found.

Source of the paper's shares: yoyololicon et al. 2021, Danna-Sep (MDX workshop), table of the blend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from .errors import SpecError
from .stems import N_STEMS, STEMS

NETWORKS = ("xumx", "unet", "demucs")
"""Kinds of networks, in the order in which they stand in a profile and in every table."""

Table = tuple[tuple[float, ...], ...]
"""Shares [network][stem]; every stem's shares sum to one."""

PAPER: Mapping[tuple[str, ...], Table] = {
    ("xumx", "unet", "demucs"): ((0.2, 0.1, 0.0, 0.2), (0.2, 0.17, 0.5, 0.4), (0.6, 0.73, 0.5, 0.4)),
    ("unet", "demucs"): ((0.4, 0.27, 0.5, 0.6), (0.6, 0.73, 0.5, 0.4)),
}
"""Stems in our order: drums, bass, other, vocals."""


def blend_table(members: Sequence[str], tables: Mapping[tuple[str, ...], Table] = PAPER) -> Table:
    """Return the shares of some networks: their own table, or the smallest table that holds them, cut down.

    What is left of a table is scaled so that each stem's shares sum to one again; a stem of which
    nothing is left is shared evenly.

    >>> [round(share, 3) for share in blend_table(["xumx", "demucs"])[1]]
    [0.75, 0.88, 1.0, 0.667]
    >>> blend_table(["unet"])
    ((1.0, 1.0, 1.0, 1.0),)
    """
    wanted = tuple(members)
    holding = [names for names in (*tables, *PAPER) if set(wanted) <= set(names)]
    if not wanted or not holding:
        return ((1.0 / max(len(wanted), 1),) * N_STEMS,) * len(wanted)
    names = min(holding, key=len)
    table = tables[names] if names in tables else PAPER[names]
    kept = np.array([table[names.index(name)] for name in wanted])
    total = kept.sum(axis=0)
    shares = np.where(total > 0, kept / np.where(total > 0, total, 1.0), 1.0 / len(wanted))
    return tuple(tuple(float(v) for v in row) for row in shares)


def checked_table(members: Sequence[str], rows: Mapping[str, Sequence[float]], source: str) -> Table:
    """Return the table that a profile writes down: for each stem, the shares of the members in order.

    Raises: SpecError naming the source unless every stem has as many shares as there are members, none
    below zero, summing to one.
    """
    if set(rows) != set(STEMS):
        raise SpecError(f"{source}: a blend needs a row for each of {', '.join(STEMS)}, got {sorted(rows)}")
    for stem, shares in rows.items():
        if len(shares) != len(members) or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-3:
            raise SpecError(
                f"{source}: {stem} = {list(shares)} must be {len(members)} shares ({', '.join(members)}), "
                "none below 0, that sum to 1"
            )
    total = {stem: sum(shares) for stem, shares in rows.items()}
    return tuple(tuple(float(rows[stem][m]) / total[stem] for stem in STEMS) for m in range(len(members)))


def best_shares(products: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the shares w >= 0, sum w = 1, with the least w'Pw - 2 t'w: exactly, for a few networks.

    With estimates y_m of a stem s, P = <y_m, y_n> and t = <y_m, s>, this is the least squared error of
    sum w_m y_m. Every set of networks that may have a share is tried: its optimum is a linear system
    (the condition of Karush, Kuhn and Tucker with the sum's multiplier).
    Shape: products (m, m), target (m,) -> (m,).

    >>> best_shares(np.eye(2), np.array([0.5, 0.5])).round(6).tolist()
    [0.5, 0.5]
    >>> best_shares(np.eye(2), np.array([3.0, 0.0])).round(6).tolist()
    [1.0, 0.0]
    """
    n = len(target)
    best, least = np.full(n, 1.0 / n), np.inf
    scale = max(float(np.abs(products).max()), 1e-30)
    for size in range(1, n + 1):
        for chosen in combinations(range(n), size):
            rows = list(chosen)
            system = np.ones((size + 1, size + 1))
            system[:size, :size] = products[np.ix_(rows, rows)] / scale
            system[size, size] = 0.0
            right = np.append(target[rows] / scale, 1.0)
            found = np.linalg.lstsq(system, right, rcond=None)[0][:size]
            if found.min() < -1e-9 or abs(found.sum() - 1.0) > 1e-6:
                continue
            shares = np.zeros(n)
            shares[rows] = np.maximum(found, 0.0)
            error = float(shares @ products @ shares - 2.0 * target @ shares)
            if error < least - 1e-12 * scale:
                best, least = shares / shares.sum(), error
    return best
