"""Sizes of the networks, as data: known to profiles and hosts that never import torch."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class XumxConfig:
    """Sizes of an X-UMX; the defaults are the published network's."""

    n_in_channels: int = 2
    n_in_bins: int = 1487
    """Values per input channel: bins of the magnitude, or features of a band layout."""
    n_out_channels: int = 2
    n_out_bins: int = 2049
    hidden: int = 512
    n_layers: int = 3
    directions: int = 2
    dropout: float = 0.4
    head: str = "relu"
    """`relu`: scaled, unbounded masks as published. `softmax`: masks that sum to one over the stems."""

    def __post_init__(self) -> None:
        if self.directions not in (1, 2) or self.hidden % self.directions:
            raise SpecError(f"X-UMX needs 1 or 2 directions that divide hidden, got {self.directions}")
        if self.head not in ("relu", "softmax"):
            raise SpecError(f"X-UMX head is 'relu' or 'softmax', got '{self.head}'")
