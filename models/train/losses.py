"""Losses: an exact spectral error on bands, and Danna-Sep's combination loss.

Symbols: X mixture (B, 2, T, F), S parts (B, G, 2, T, F) complex, groups (B, G, J): which of the J stems
a part G sums; m masks (B, J, 2, K, T) over K bands.  Axes of spectra here: frame before bin, as the
FFT writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import combinations

import torch
from torch.nn import functional

from ..band_features import band_sum, features_from_sums
from ..bands import BandLayout
from ..stems import N_STEMS

ENERGY_FLOOR = 1e-3
"""Energy (per example, in units of the spectra) below which silence stops being weighted up."""


LOG_FLOOR = 0.01


@dataclass(frozen=True, slots=True)
class BandSums:
    """What the band loss needs to know of a batch; nothing here carries a gradient.

    features (B, T, 3K): the network's input. mixture (B, 2, T, K): energy of X. cross (B, G, 2, T, K):
    Re sum conj(X) S. parts (B, G): energy of S.
    """

    features: torch.Tensor
    mixture: torch.Tensor
    cross: torch.Tensor
    parts: torch.Tensor
    groups: torch.Tensor


def band_sums(S: torch.Tensor, groups: torch.Tensor, layout: BandLayout) -> BandSums:
    """Return the sums of a batch from the spectra of its parts (B, G, 2, T, F)."""
    X = S.sum(1)
    cross = band_sum((S * X.conj()[:, None]).real, layout)
    energy = cross.sum(1)  # the parts sum to X, so their products with X sum to |X|^2
    inter = band_sum((X[:, 0] * X[:, 1].conj()).real, layout)
    return BandSums(
        features=features_from_sums(energy.clamp_min(0.0), inter, layout),
        mixture=energy,
        cross=cross,
        parts=torch.linalg.vector_norm(torch.view_as_real(S).flatten(2), dim=2).square(),
        groups=groups,
    )


def spread_parts(sums: BandSums, groups: torch.Tensor, places: torch.Tensor) -> BandSums:
    """Return the sums of one example with all its parts, from those of the parts that sound.

    groups (G, J) of all parts; places: where the parts of `sums` stand among them. The others are silent.
    """
    n_parts = groups.shape[0]
    cross = sums.cross.new_zeros((1, n_parts, *sums.cross.shape[2:]))
    cross[:, places] = sums.cross
    parts = sums.parts.new_zeros((1, n_parts))
    parts[:, places] = sums.parts
    return replace(sums, cross=cross, parts=parts, groups=groups[None])


def stack_sums(rows: list[BandSums]) -> BandSums:
    """Return several batches' sums as one batch's."""
    return BandSums(*(torch.cat([getattr(row, f.name) for row in rows]) for f in fields(BandSums)))


def band_errors(masks: torch.Tensor, sums: BandSums) -> torch.Tensor:
    """Return the squared error of every part, exactly, without touching a bin.

    sum |m X - S|^2 = sum_bands m^2 sum|X|^2 - 2 m Re sum conj(X) S + sum|S|^2, m constant in a band.
    Shape: masks (B, J, 2, K, T) -> (B, G).
    """
    M = torch.einsum("bgj,bjckt->bgctk", sums.groups, masks)
    return (M * (M * sums.mixture[:, None] - 2.0 * sums.cross)).sum((2, 3, 4)) + sums.parts


def band_loss(masks: torch.Tensor, sums: BandSums, *, balance: float = 0.0) -> torch.Tensor:
    """Return the mean over the batch of sum_g (e_g + balance * log(e_g + 0.01)).

    e_g is the squared error of part g over the mixture's energy. The logarithm is what an SDR averaged
    over stems counts; it keeps quiet parts worth learning. Its floor of -20 dB keeps it from chasing
    parts that are nearly right or nearly silent.
    """
    known = sums.groups.amax(2)
    energy = sums.mixture.sum((1, 2, 3)) + ENERGY_FLOOR
    errors = band_errors(masks, sums).clamp_min(0.0) / energy[:, None]
    return ((errors + balance * torch.log(errors + LOG_FLOOR)) * known).sum(1).mean()


def stem_combinations(n_stems: int = N_STEMS) -> list[tuple[int, ...]]:
    """Return the 14 combinations of one, two and three stems.

    >>> len(stem_combinations())
    14
    """
    return [c for n in range(1, n_stems) for c in combinations(range(n_stems), n)]


def danna_loss(
    Y: torch.Tensor, S: torch.Tensor, y: torch.Tensor, s: torch.Tensor, *, time_weight: float = 10.0
) -> torch.Tensor:
    """Return Danna-Sep's loss: complex error plus weighted time loss over all 14 combinations.

    frequency: mean |Y_c - S_c|^2;  time: 1 - [a cos(y_c, s_c) + (1 - a) cos(x - y_c, x - s_c)],
    a = |s_c|^2 / (|s_c|^2 + |x - s_c|^2), c over the combinations, x the sum of all s.
    Shape: Y, S (B, J, 2, F, T) complex; y, s (B, J, 2, n).
    Source: yoyololicon et al. 2021, Danna-Sep (MDX workshop), training recipe.
    """
    x = s.sum(1).flatten(1)
    frequency = Y.real.new_zeros(())
    time = y.new_zeros(())
    chosen = stem_combinations(S.shape[1])
    for c in chosen:
        rows = list(c)
        error = Y[:, rows].sum(1) - S[:, rows].sum(1)
        frequency = frequency + (error.real.square() + error.imag.square()).mean()
        target, estimate = s[:, rows].sum(1).flatten(1), y[:, rows].sum(1).flatten(1)
        rest, rest_estimate = x - target, x - estimate
        own, other = target.square().sum(1), rest.square().sum(1)
        share = own / (own + other).clamp_min(1e-8)
        match = share * functional.cosine_similarity(estimate, target, dim=1)
        match = match + (1 - share) * functional.cosine_similarity(rest_estimate, rest, dim=1)
        time = time + (1.0 - match).mean()
    return (frequency + time_weight * time) / len(chosen)
