"""Open-Unmix: a network for each stem, each with its own encoder, recurrence and decoder.

X-UMX is this network with two averages over the stems added; because of them the weights of one do not
give the outputs of the other, so Open-Unmix has a class of its own, for whole signals only.

Source: Stöter, Uhlich, Liutkus, Mitsufuji 2019, Open-Unmix: a reference implementation for music source
separation (JOSS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import SpecError, WeightsError
from ..layers import Recurrent
from ..stems import STEMS


@dataclass(frozen=True, slots=True, kw_only=True)
class UmxConfig:
    """Sizes of Open-Unmix; the defaults are those of `umx` and `umxhq`."""

    n_channels: int = 2
    n_in_bins: int = 1487
    n_out_bins: int = 2049
    hidden: int = 512
    n_layers: int = 3
    directions: int = 2

    def __post_init__(self) -> None:
        if min(self.n_channels, self.n_in_bins, self.n_out_bins, self.n_layers, self.hidden) < 1:
            raise SpecError(f"Open-Unmix needs channels, bins, layers and hidden of 1 or more, got {self}")
        if self.n_in_bins > self.n_out_bins:
            raise SpecError(f"Open-Unmix needs {self.n_out_bins} bins in or fewer, got {self.n_in_bins}")
        if self.directions not in (1, 2) or self.hidden % self.directions:
            raise SpecError(f"Open-Unmix needs 1 or 2 directions that divide hidden, got {self.directions}")


class OneStem(nn.Module):
    """The mask of one stem from the magnitude of the mixture.

    Shape: (batch, channel, bin, frame) -> like it.  Parameter names are the published checkpoint's.
    """

    def __init__(self, config: UmxConfig) -> None:
        super().__init__()
        self.config = c = config
        self.input_mean = nn.Parameter(torch.zeros(c.n_in_bins))
        self.input_scale = nn.Parameter(torch.ones(c.n_in_bins))
        self.output_mean = nn.Parameter(torch.ones(c.n_out_bins))
        self.output_scale = nn.Parameter(torch.ones(c.n_out_bins))
        self.fc1 = nn.Linear(c.n_channels * c.n_in_bins, c.hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(c.hidden)
        self.lstm = Recurrent(
            c.hidden, c.hidden // c.directions, c.n_layers, directions=c.directions, dropout=0.4
        )
        self.fc2 = nn.Linear(2 * c.hidden, c.hidden, bias=False)
        self.bn2 = nn.BatchNorm1d(c.hidden)
        self.fc3 = nn.Linear(c.hidden, c.n_channels * c.n_out_bins, bias=False)
        self.bn3 = nn.BatchNorm1d(c.n_channels * c.n_out_bins)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mask of a whole signal."""
        c = self.config
        y = x[:, :, : c.n_in_bins].transpose(2, 3)
        y = ((y + self.input_mean) * self.input_scale).transpose(1, 2).flatten(2)
        y = torch.tanh(self.bn1(self.fc1(y).transpose(1, 2)))
        y = torch.cat([y, self.lstm(y)], dim=1).transpose(1, 2)
        y = torch.relu(self.bn2(self.fc2(y).transpose(1, 2))).transpose(1, 2)
        y = self.bn3(self.fc3(y).transpose(1, 2)).unflatten(1, (c.n_channels, c.n_out_bins))
        return torch.relu(y * self.output_scale[:, None] + self.output_mean[:, None])


class OpenUnmix(nn.Module):
    """Masks of the four stems from the magnitude of the mixture, each stem on its own.

    Shape: (batch, channel, bin, frame) -> (batch, stem, channel, bin, frame).
    """

    def __init__(self, config: UmxConfig | None = None) -> None:
        super().__init__()
        self.config = config or UmxConfig()
        for name in STEMS:
            self.add_module(name, OneStem(self.config))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the masks of a whole signal; bins above those the network looks at only get masks."""
        return torch.stack([self.get_submodule(name)(x) for name in STEMS], dim=1)


def joined(parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors of one OpenUnmix from those of its stems.

    Raises: WeightsError when a stem is missing.
    """
    if set(parts) != set(STEMS):
        raise WeightsError(f"Open-Unmix needs a file for each of {', '.join(STEMS)}; got {sorted(parts)}")
    return {f"{stem}.{name}": value for stem in STEMS for name, value in parts[stem].items()}
