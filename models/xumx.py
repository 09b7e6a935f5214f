"""X-UMX: four encoders, four recurrent stacks, four decoders, crossed by two averages.

One class serves the causal network that stemrack trains and the published one (Danna-Sep's layout of
its tensors, so its checkpoints load key for key). They differ in data only: what enters, how wide the
layers are, in which directions the recurrence runs, and which function ends the network.

Source: Sawata, Uhlich, Takahashi, Mitsufuji 2021, All for one and one for all: improving music
separation by bridging networks (ICASSP). Layout: Danna-Sep's X_UMX.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from .layers import Recurrent
from .network_configs import XumxConfig
from .stems import N_STEMS, STEMS

XumxState = list[tuple[torch.Tensor, torch.Tensor]]


class Xumx(nn.Module):
    """Masks of the four stems from the input of each frame.

    Shape: (batch, channel, bin, frame) -> (batch, stem, channel, bin, frame).
    Streams frame by frame with no latency when it has one direction.
    """

    hop = 1
    latency_samples = 0
    ratio = Fraction(1)

    def __init__(self, config: XumxConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or XumxConfig()
        n_in, n_out = c.n_in_channels * c.n_in_bins, c.n_out_channels * c.n_out_bins
        wide = N_STEMS * c.hidden
        self.input_means = nn.Parameter(torch.zeros(N_STEMS * c.n_in_bins))
        self.input_scale = nn.Parameter(torch.ones(N_STEMS * c.n_in_bins))
        self.output_means = nn.Parameter(torch.ones(N_STEMS * c.n_out_bins))
        self.output_scale = nn.Parameter(torch.ones(N_STEMS * c.n_out_bins))
        self.affine1 = nn.Sequential(
            nn.Conv1d(N_STEMS * n_in, wide, 1, groups=N_STEMS, bias=False), nn.BatchNorm1d(wide), nn.Tanh()
        )
        for name in STEMS:
            stack = Recurrent(
                c.hidden, c.hidden // c.directions, c.n_layers, directions=c.directions, dropout=c.dropout
            )
            self.add_module(f"{name}_lstm", stack)
        self.affine2 = nn.Sequential(
            nn.Conv1d(2 * c.hidden, wide, 1, bias=False),
            nn.BatchNorm1d(wide),
            nn.ReLU(),
            nn.Conv1d(wide, N_STEMS * n_out, 1, groups=N_STEMS, bias=False),
            nn.BatchNorm1d(N_STEMS * n_out),
        )

    @property
    def stacks(self) -> list[Recurrent]:
        """The four recurrent stacks in stem order."""
        return [self.get_submodule(f"{name}_lstm") for name in STEMS]  # pyright: ignore[reportReturnType]

    def standardise(self, means: torch.Tensor, deviations: torch.Tensor) -> None:
        """Set the input scaling from statistics (n_in_bins,) of the training stream, alike for all stems."""
        with torch.no_grad():
            self.input_means.copy_((-means).repeat(N_STEMS))
            self.input_scale.copy_((1.0 / deviations).repeat(N_STEMS))

    def encoder_weight(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return affine1's weight (4 hidden, channel * bin) and bias with the input scaling folded in.

        W ((x + means) * scale) = (W * scale) x + (W * scale) means: the network never has to hold
        four scaled copies of its input.
        """
        c = self.config
        weight = self.get_parameter("affine1.0.weight").view(N_STEMS, c.hidden, c.n_in_channels, c.n_in_bins)
        weight = weight * self.input_scale.view(N_STEMS, 1, 1, c.n_in_bins)
        bias = (weight * self.input_means.view(N_STEMS, 1, 1, c.n_in_bins)).sum((2, 3))
        return weight.reshape(N_STEMS * c.hidden, -1), bias.reshape(-1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return cross_1, the mean of the four encoders.  Shape: -> (batch, hidden, frame)."""
        weight, bias = self.encoder_weight()
        y = functional.linear(x.flatten(1, 2).transpose(1, 2), weight, bias).transpose(1, 2)
        y = self.affine1[2](self.affine1[1](y))
        return y.unflatten(1, (N_STEMS, self.config.hidden)).mean(1)

    def decode(self, cross: torch.Tensor, recurrent: torch.Tensor) -> torch.Tensor:
        """Return the masks from cross_1 and the mean of the four stacks' outputs."""
        c = self.config
        y = self.affine2(torch.cat([cross, recurrent], dim=1))
        y = y.unflatten(1, (N_STEMS, c.n_out_channels, c.n_out_bins))
        shape = (1, N_STEMS, 1, c.n_out_bins, 1)
        y = y * self.output_scale.view(shape) + self.output_means.view(shape)
        return torch.softmax(y, dim=1) if c.head == "softmax" else torch.relu(y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the masks of a whole signal that starts from silence."""
        cross = self.encode(x)
        recurrent = torch.stack([stack(cross) for stack in self.stacks]).mean(0)
        return self.decode(cross, recurrent)

    def init_state(self, batch: int) -> XumxState:
        """Return zeroed (hidden, cell) of each stack, in stem order."""
        return [stack.init_state(batch) for stack in self.stacks]

    def step(self, x: torch.Tensor, state: XumxState) -> tuple[torch.Tensor, XumxState]:
        """Return the masks of the next frames, and the state updated in place."""
        cross = self.encode(x)
        outputs = [stack.step(cross, s)[0] for stack, s in zip(self.stacks, state, strict=True)]
        return self.decode(cross, torch.stack(outputs).mean(0)), state

    def flush(self, state: XumxState) -> torch.Tensor:
        """Return nothing: the network has no latency."""
        c = self.config
        batch = state[0][0].shape[1]
        return state[0][0].new_zeros(batch, N_STEMS, c.n_out_channels, c.n_out_bins, 0)
