"""The causal U-Net: masks from band features, frame by frame, with no latency.

It halves the bands only, its convolutions and its attention look back only. Beside the published
layers it has what a band layout asks for: learned positions (bands differ, convolutions treat all
alike), a first convolution that may stride over the bands to be cheap, and a last one that sees the
features at full resolution.

Source: as models/unet.py; the causal form is ours.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from typing import cast

import torch
from torch import nn

from .errors import SpecError
from .network_configs import UnetConfig
from .stems import N_STEMS
from .unet import UnetLayers
from .unet_attention import WindowAttention, windows
from .unet_blocks import BIN_KERNEL, D3Block


def _d3(level: nn.Module) -> D3Block:
    """Return the block of a level."""
    return cast(D3Block, cast(nn.Sequential, level)[0])


class CausalUnet(UnetLayers):
    """Masks of the four stems from the band features of each frame.

    Shape: (batch, 1, feature * band, frame) -> (batch, stem, channel, band, frame).
    Streams frame by frame with no latency. Its state is a flat list of tensors of fixed shapes.
    """

    hop = 1
    latency_samples = 0
    ratio = Fraction(1)

    def __init__(self, config: UnetConfig) -> None:
        if not config.causal:
            raise SpecError("CausalUnet needs UnetConfig(causal=True): the published variant is Unet")
        c = config
        n_features = c.n_features + c.n_positions
        super().__init__(c, c.first_channels or n_features)
        self.input_means = nn.Parameter(torch.zeros(c.n_in_bins))
        self.input_scale = nn.Parameter(torch.ones(c.n_in_bins))
        self.positions = nn.Parameter(0.5 * torch.randn(c.n_positions, c.n_out_bins))
        s = c.first_stride
        self.first = nn.Sequential()
        if c.first_channels:
            conv = nn.Conv2d(n_features, c.first_channels, (1, 2 * s + 1), (1, s), (0, s), bias=False)
            self.first.extend([conv, nn.BatchNorm2d(c.first_channels), nn.ReLU()])
        # the kernel is one first stride wider than the stride: that covers what both floors cut off
        self.end = nn.Sequential(
            nn.ConvTranspose2d(self.n_end, self.end_channels, (1, 3 * s), (1, 2 * s), bias=False),
            nn.BatchNorm2d(self.end_channels),
            nn.ReLU(),
        )
        n_out = N_STEMS * c.n_out_channels
        self.last = nn.Conv2d(self.end_channels + n_features, n_out, (1, BIN_KERNEL), padding=(0, 1))

    def _attention(self, n_in: int) -> WindowAttention:
        c = self.config
        return WindowAttention(
            n_in,
            c.attention_channels,
            heads=c.heads,
            width=c.attention_width,
            n_frames=c.attention_frames,
            kernel=c.attention_kernel,
        )

    def _pool(self) -> nn.AvgPool2d:
        return nn.AvgPool2d((1, 2))

    def _deconv(self, n_in: int, n_out: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(n_in, n_out, (1, BIN_KERNEL), (1, 2), bias=False)

    def _fit(self, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return y[..., : skip.shape[3]]

    @property
    def bins(self) -> list[int]:
        """Bins of each level's input, shallowest first, then of the bottleneck."""
        s = self.config.first_stride
        counts = [(self.config.n_out_bins + s - 1) // s]
        for _ in self.config.layers:
            counts.append(counts[-1] // 2)
        return counts

    def standardise(self, means: torch.Tensor, deviations: torch.Tensor) -> None:
        """Set the input scaling from statistics (n_in_bins,) of the training stream."""
        with torch.no_grad():
            self.input_means.copy_(-means)
            self.input_scale.copy_(1.0 / deviations)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """Return scaled features and positions.  Shape: -> (batch, feature, frame, band)."""
        c = self.config
        x = (x[:, 0] + self.input_means[:, None]) * self.input_scale[:, None]
        x = x.unflatten(1, (c.n_features, c.n_out_bins)).transpose(2, 3)
        if not c.n_positions:
            return x
        positions = self.positions[None, :, None].expand(x.shape[0], -1, x.shape[2], -1)
        return torch.cat([x, positions], dim=1)

    def _masks(self, y: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return the head's masks.  Shape: -> (batch, stem, channel, band, frame)."""
        c = self.config
        y = self.end(y)[..., : c.n_out_bins]
        y = self.last(torch.cat([y, features], dim=1))
        y = y.unflatten(1, (N_STEMS, c.n_out_channels))
        return torch.softmax(y, dim=1).transpose(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the masks of a whole signal that starts from silence."""
        # training on a CPU is quicker so, most of all after network.to(memory_format=torch.channels_last)
        features = self._features(x).contiguous(memory_format=torch.channels_last)
        return self._masks(self._body(self.first(features)), features)

    def _stateful(self) -> list[tuple[D3Block | WindowAttention, int]]:
        """Return the modules with a past, in the order of the state, each with the bins it works on."""
        bins = self.bins
        down = [(_d3(level), n) for level, n in zip(self.down_convs, bins, strict=False)]
        middle = [(m, bins[-1]) for m in self.attn if isinstance(m, WindowAttention)]
        up = [(_d3(level), n) for level, n in zip(self.up_convs, bins[:1:-1], strict=True)]
        return [*down, *middle, *up]

    def init_state(self, batch: int) -> list[torch.Tensor]:
        """Return zeroed pasts: which frames were heard, then of encoder, attention and decoder."""
        heard = self.input_means.new_zeros(batch, self.config.attention_frames - 1)
        shapes = [shape for module, n_bins in self._stateful() for shape in module.state_shapes(n_bins)]
        return [heard, *(heard.new_zeros(batch, *shape) for shape in shapes)]

    def advance(self, x: torch.Tensor, state: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the masks of the next frames, and the new state; the given one is left as it is."""
        features = self._features(x)
        heard = torch.cat([state[0], state[0].new_ones(x.shape[0], x.shape[3])], dim=1)
        pasts, after = iter(state[1:]), [heard[:, x.shape[3] :]]
        heard = windows(heard, 1, self.config.attention_frames)

        def carry(module: D3Block | WindowAttention, y: torch.Tensor) -> torch.Tensor:
            mine = list(islice(pasts, len(module.state_shapes(1))))
            attends = isinstance(module, WindowAttention)
            y, new = module.advance(y, heard, mine) if attends else module.advance(y, mine)
            after.extend(new)
            return y

        y, skips = self.first(features), []
        for level in self.down_convs:
            d3, pool = cast(nn.Sequential, level)
            y = pool(carry(cast(D3Block, d3), y))
            skips.append(y)
        z = y
        for module in self.attn:
            z = carry(module, z) if isinstance(module, WindowAttention) else module(z)
        y = torch.cat([y, z], dim=1) if self.config.attention_layers else y
        for level, skip in zip(self.up_convs, skips[-2::-1], strict=True):
            y = cast(nn.Sequential, level)[1:](carry(_d3(level), y))
            y = torch.cat([self._fit(y, skip), skip], dim=1)
        return self._masks(y, features), after

    def step(self, x: torch.Tensor, state: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the masks of the next frames, and the state updated in place."""
        y, after = self.advance(x, state)
        for old, new in zip(state, after, strict=True):
            old.copy_(new)
        return y, state

    def flush(self, state: list[torch.Tensor]) -> torch.Tensor:
        """Return nothing: the network has no latency."""
        c = self.config
        return state[0].new_zeros(state[0].shape[0], N_STEMS, c.n_out_channels, c.n_out_bins, 0)
