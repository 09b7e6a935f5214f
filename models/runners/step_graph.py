"""The step of a spectrogram network as one function of arrays: what a runner runs.

    (features (k, n_in), hidden, cell) -> (masks (stem, channel, k, band), next hidden, next cell)

Features and masks keep frames before bands, as the FFT writes them; the states of the four stacks are
stacked, (stem, layer, 1, width).
"""

from __future__ import annotations

import torch
from torch import nn

from ..stems import N_STEMS
from ..xumx import Xumx


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

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """Shape of hidden and of cell state."""
        c = self.network.config
        return (N_STEMS, c.n_layers, 1, c.hidden)

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


def _normalisation(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gain and offset of a batch normalisation with its running statistics."""
    assert isinstance(layer, nn.BatchNorm1d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    gain = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    return gain, layer.bias - layer.running_mean * gain
