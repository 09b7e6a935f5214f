"""The step of a network as one function of arrays: what a runner runs.

    (x, state_0, state_1, ...) -> (y, next_state_0, next_state_1, ...)

Networks of frames: features (k, n_in) -> masks (stem, channel, k, band); frames before bands, as the FFT
writes them. Networks of samples: (channel, sample) -> (stem, channel, sample).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..stems import N_STEMS
from ..xumx import Xumx


def step_of(network: Any) -> StepModule:
    """Return the step of a network; it starts from `initial()`."""
    return XumxStep(network) if isinstance(network, Xumx) else AdvanceStep(network)


class XumxStep(nn.Module):
    """The streaming step of a forward-only `Xumx`, with its state as plain inputs and outputs.

    Everything but the recurrence is one matrix product a layer here: input scaling, normalisation and
    output scaling are folded into the weights, which are stored as the products want them.
    """

    def __init__(self, network: Xumx) -> None:
        super().__init__()
        self.network = network.eval()
        c = network.config
        with torch.no_grad():
            weight, bias = network.encoder_weight()
            gain, offset = _normalisation(network.get_submodule("affine1.1"))
            self.encode_weight = nn.Parameter((weight * gain[:, None]).T.contiguous(), requires_grad=False)
            self.encode_bias = nn.Parameter(bias * gain + offset, requires_grad=False)
            gain, offset = _normalisation(network.get_submodule("affine2.1"))
            weight = network.get_parameter("affine2.0.weight")[:, :, 0]
            self.cross_weight = nn.Parameter((weight * gain[:, None]).T.contiguous(), requires_grad=False)
            self.cross_bias = nn.Parameter(offset, requires_grad=False)
            gain, offset = _normalisation(network.get_submodule("affine2.4"))
            scale = network.output_scale.view(N_STEMS, 1, -1).expand(-1, c.n_out_channels, -1).reshape(-1)
            means = network.output_means.view(N_STEMS, 1, -1).expand(-1, c.n_out_channels, -1).reshape(-1)
            weight = network.get_parameter("affine2.3.weight")[:, :, 0] * (gain * scale)[:, None]
            by_stem = weight.view(N_STEMS, -1, c.hidden).transpose(1, 2).contiguous()
            self.head_weight = nn.Parameter(by_stem, requires_grad=False)
            self.head_bias = nn.Parameter((offset * scale + means).view(N_STEMS, 1, -1), requires_grad=False)

    def initial(self) -> list[torch.Tensor]:
        """Return hidden and cell states of silence, those of the four stacks stacked."""
        c = self.network.config
        shape = (N_STEMS, c.n_layers, 1, c.hidden)
        return [torch.zeros(shape), torch.zeros(shape)]

    def example(self, length: int) -> torch.Tensor:
        """Return an input of some frames."""
        c = self.network.config
        return torch.zeros(length, c.n_in_channels * c.n_in_bins)

    def forward(
        self, features: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return masks and next states; the states passed in stay as they are."""
        c = self.network.config
        encoded = torch.tanh(features @ self.encode_weight + self.encode_bias)
        cross = encoded.unflatten(1, (N_STEMS, c.hidden)).mean(1)
        outputs, next_hidden, next_cell = [], [], []
        for i, stack in enumerate(self.network.stacks):
            y, (h, s) = nn.LSTM.forward(stack, cross[None], (hidden[i], cell[i]))
            outputs.append(y[0])
            next_hidden.append(h)
            next_cell.append(s)
        both = torch.cat([cross, torch.stack(outputs).mean(0)], dim=1)
        crossed = torch.relu(both @ self.cross_weight + self.cross_bias)
        by_stem = crossed.unflatten(1, (N_STEMS, c.hidden)).transpose(0, 1)
        y = by_stem @ self.head_weight + self.head_bias
        masks = torch.softmax(y, dim=0) if c.head == "softmax" else torch.relu(y)
        shaped = masks.unflatten(2, (c.n_out_channels, c.n_out_bins)).transpose(1, 2)
        return shaped, torch.stack(next_hidden), torch.stack(next_cell)


class AdvanceStep(nn.Module):
    """The streaming step of a network that has an `advance` (U-Net, Demucs)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.eval()
        self.of_frames = hasattr(network.config, "n_in_bins")

    def initial(self) -> list[torch.Tensor]:
        """Return the states of silence."""
        return list(self.network.init_state(1))

    def example(self, length: int) -> torch.Tensor:
        """Return an input of some frames, or of some samples."""
        if self.of_frames:
            return torch.zeros(length, self.network.config.n_in_bins)
        return torch.zeros(self.network.config.n_channels, length)

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the answer and the next states; the states passed in stay as they are."""
        if not self.of_frames:
            y, following = self.network.advance(x[None], list(state))
            return y[0], *following
        masks, following = self.network.advance(x.T[None, None], list(state))
        return masks[0].transpose(2, 3), *following


StepModule = XumxStep | AdvanceStep


def _normalisation(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gain and offset of a batch normalisation with its running statistics."""
    assert isinstance(layer, nn.BatchNorm1d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    gain = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    return gain, layer.bias - layer.running_mean * gain
