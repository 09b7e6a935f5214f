"""The step of a spectrogram network as one function of arrays: what a runner runs.

    (features (k, n_in), hidden, cell) -> (masks (stem, channel, k, band), next hidden, next cell)

Features and masks keep frames before bands, as the FFT writes them; the states of the four stacks are
stacked, (stem, layer, 1, width).
"""

from __future__ import annotations

import torch
from torch import nn

from ..xumx import Xumx


class XumxStep(nn.Module):
    """The streaming step of a forward-only `Xumx`, with its state as plain inputs and outputs."""

    def __init__(self, network: Xumx) -> None:
        super().__init__()
        self.network = network.eval()

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """Shape of hidden and of cell state."""
        c = self.network.config
        return (len(self.network.stacks), c.n_layers, 1, c.hidden)

    def forward(
        self, features: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return masks and next states; the states passed in stay as they are."""
        cross = self.network.encode(features.transpose(0, 1)[None, None])
        outputs, next_hidden, next_cell = [], [], []
        for i, stack in enumerate(self.network.stacks):
            y, (h, c) = nn.LSTM.forward(stack, cross.transpose(1, 2), (hidden[i], cell[i]))
            outputs.append(y.transpose(1, 2))
            next_hidden.append(h)
            next_cell.append(c)
        masks = self.network.decode(cross, torch.stack(outputs).mean(0))[0]
        return masks.transpose(-1, -2), torch.stack(next_hidden), torch.stack(next_cell)
