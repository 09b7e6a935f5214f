"""What a network hears of a spectrum, and sums over bands: in torch, for training and reference."""

from __future__ import annotations

import torch

from .bands import COMPRESSION, CORRELATION_FLOOR, BandLayout
from .errors import SpecError


def band_sum(x: torch.Tensor, layout: BandLayout) -> torch.Tensor:
    """Return the sum over each band.  Shape: (..., n_bins) -> (..., n_bands)."""
    if x.shape[-1] != layout.n_bins:
        raise SpecError(f"the layout covers {layout.n_bins} bins, the spectrum has {x.shape[-1]}")
    parts, start = [], 0
    for count, width in layout.runs:
        part = x[..., start : start + count * width]
        parts.append(part if width == 1 else part.unflatten(-1, (count, width)).sum(-1))
        start += count * width
    return torch.cat(parts, dim=-1)


def band_spread(x: torch.Tensor, layout: BandLayout) -> torch.Tensor:
    """Return each band's value at each of its bins.  Shape: (..., n_bands) -> (..., n_bins)."""
    parts, start = [], 0
    for count, width in layout.runs:
        parts.append(x[..., start : start + count].repeat_interleave(width, dim=-1))
        start += count
    return torch.cat(parts, dim=-1)


def band_features(X: torch.Tensor, layout: BandLayout) -> torch.Tensor:
    """Return what the network hears of a stereo spectrum: two log levels and one correlation a band.

    level_c = log(1 + 1000 sqrt(mean |X_c|^2)),  corr = Re sum X_L conj X_R / sqrt(E_L E_R)
    Shape: X (..., 2, frame, bin) complex -> (..., frame, 3 * n_bands), order left, right, correlation.
    Units: |X| = 1 for a full-scale sine.
    """
    energy = band_sum(X.real.square() + X.imag.square(), layout)
    left, right = X[..., 0, :, :], X[..., 1, :, :]
    cross = band_sum(left.real * right.real + left.imag * right.imag, layout)
    return features_from_sums(energy, cross, layout)


def features_from_sums(energy: torch.Tensor, cross: torch.Tensor, layout: BandLayout) -> torch.Tensor:
    """Return `band_features` from band sums: energy (..., 2, frame, band), cross (..., frame, band)."""
    widths = torch.as_tensor(layout.widths, dtype=energy.dtype, device=energy.device)
    level = torch.log1p(COMPRESSION * torch.sqrt(energy / widths))
    both = (energy[..., 0, :, :] + CORRELATION_FLOOR) * (energy[..., 1, :, :] + CORRELATION_FLOOR)
    return torch.cat([level[..., 0, :, :], level[..., 1, :, :], cross * torch.rsqrt(both)], dim=-1)
