"""Mixture consistency: whatever the stems are, they are made to sum to the mixture."""

from __future__ import annotations

import torch

from .consistency_kernels import checked_weights
from .errors import SpecError


def project(s: torch.Tensor, x: torch.Tensor, w: torch.Tensor | None = None) -> torch.Tensor:
    """Distribute the residual so that the stems sum to the mixture.

    y_i <- s_i + w_i (x - sum_j s_j),   sum_i w_i = 1
    Shape: s (..., stem, channel, sample), x (..., channel, sample), w (stem,) -> like s
    Units: full scale.  Raises: SpecError if w does not sum to 1 within 1e-6.
    The sum runs in float64, so a float32 result is the exact one, rounded once; differentiable.
    Source: Wisdom et al. 2019, Differentiable consistency constraints, ICASSP.
    """
    if s.ndim < 3 or x.shape != s.shape[:-3] + s.shape[-2:]:
        raise SpecError(f"stems {tuple(s.shape)} and mixture {tuple(x.shape)} do not fit together")
    given = None if w is None else w.detach().cpu().numpy()
    shares = torch.as_tensor(checked_weights(given, s.shape[-3]), device=s.device)
    residual = x.to(torch.float64) - s.to(torch.float64).sum(dim=-3)
    return (s.to(torch.float64) + shares[:, None, None] * residual.unsqueeze(-3)).to(s.dtype)
