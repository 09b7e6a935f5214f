"""U-Net of D3 blocks with attention at its bottleneck: the published network, and what both share.

`UnetLayers` holds what the published and the causal network (unet_causal.py) share: the layers, their
names and the way through them. `Unet` is the published one: it halves bins and frames at each level
and looks both ways in time; Danna-Sep's checkpoints (UNetAttn) load key for key.

Source: Yu, Cheuk 2021, Danna-Sep: unite to separate them all (MDX Workshop). Layout: its UNetAttn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional

from .errors import SpecError
from .network_configs import UnetConfig
from .stems import N_STEMS
from .unet_attention import BlockAttention
from .unet_blocks import BIN_KERNEL, D3Block

N_DROPPED_LEVELS = 3
"""Decoder levels, from the deepest, that drop channels in training."""

EDGE_MASK = 0.25
"""Mask where the published network has none: above its highest bin and in the last frames."""


class UnetLayers(nn.Module, ABC):
    """Encoder, attention and decoder; a variant says how it pools, attends and widens again."""

    def __init__(self, config: UnetConfig, n_in: int) -> None:
        super().__init__()
        self.config = c = config
        time_kernel = c.time_kernel if c.causal else None

        def block(n: int, level: int) -> D3Block:
            return D3Block(n, c.growths[level], c.layers[level], c.n_blocks, time_kernel=time_kernel)

        self.down_convs = nn.ModuleList()
        widths, n = [], n_in
        for level in range(len(c.layers)):
            d3 = block(n, level)
            self.down_convs.append(nn.Sequential(d3, self._pool()))
            n = d3.n_out
            widths.append(n)
        self.attn = nn.Sequential()
        for i in range(c.attention_layers):
            attention = self._attention(c.attention_channels if i else n)
            self.attn.extend([attention, nn.BatchNorm2d(c.attention_channels), nn.ReLU()])
        n += c.attention_channels if c.attention_layers else 0
        self.up_convs = nn.ModuleList()
        for j, n_up in enumerate(c.up_channels or widths[-2::-1]):
            level = len(c.layers) - 2 - j
            d3 = block(n, level)
            parts = [d3, self._deconv(d3.n_out, n_up), nn.BatchNorm2d(n_up), nn.ReLU()]
            dropout = [nn.Dropout2d(c.dropout)] if j < N_DROPPED_LEVELS else []
            self.up_convs.append(nn.Sequential(*parts, *dropout))
            n = n_up + widths[level]
        self.n_end, self.end_channels = n, c.end_channels or widths[0]

    @abstractmethod
    def _attention(self, n_in: int) -> nn.Module:
        """Return an attention layer of the bottleneck."""

    @abstractmethod
    def _pool(self) -> nn.Module:
        """Return what halves a level."""

    @abstractmethod
    def _deconv(self, n_in: int, n_out: int) -> nn.Module:
        """Return what doubles a level."""

    @abstractmethod
    def _fit(self, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return y at the size of a skip, along the axes that were halved."""

    def _body(self, y: torch.Tensor) -> torch.Tensor:
        """Return what enters the head, from what enters the first level."""
        skips = []
        for level in self.down_convs:
            y = level(y)
            skips.append(y)
        y = torch.cat([y, self.attn(y)], dim=1) if self.config.attention_layers else y
        for level, skip in zip(self.up_convs, skips[-2::-1], strict=True):
            y = torch.cat([self._fit(level(y), skip), skip], dim=1)
        return y


class Unet(UnetLayers):
    """The published network: masks of the four stems from the magnitude of a whole excerpt.

    Shape: (batch, channel, bin, frame) -> (batch, stem, channel, bin, frame), each mask within 0 to 1.
    Masks are 0.25 above the bins it looks at and in the last frame (last two of an odd number).
    An excerpt too short to be halved at every level is taken as if silence followed.
    """

    def __init__(self, config: UnetConfig | None = None) -> None:
        c = config or UnetConfig()
        if c.causal:
            raise SpecError("Unet is the published variant: build CausalUnet for causal=True")
        super().__init__(c, c.n_in_channels)
        n = self.end_channels
        self.end = nn.Sequential(
            nn.ConvTranspose2d(self.n_end, n, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(n),
            nn.ReLU(),
            nn.Conv2d(n, N_STEMS * c.n_out_channels, BIN_KERNEL, padding=2, dilation=2),
        )

    def _attention(self, n_in: int) -> BlockAttention:
        c = self.config
        return BlockAttention(
            n_in, c.attention_channels, heads=c.heads, width=c.attention_width, kernel=c.attention_kernel
        )

    def _pool(self) -> nn.AvgPool2d:
        return nn.AvgPool2d(2)

    def _deconv(self, n_in: int, n_out: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(n_in, n_out, BIN_KERNEL, stride=2, padding=1, bias=False)

    def _fit(self, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return functional.pad(y, (0, skip.shape[3] - y.shape[3], 0, skip.shape[2] - y.shape[2]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the masks of a whole excerpt.

        Raises: SpecError for a magnitude of other channels or bins.
        """
        c = self.config
        if x.ndim != 4 or x.shape[1:3] != (c.n_in_channels, c.n_out_bins):
            wanted = f"(batch, {c.n_in_channels}, {c.n_out_bins}, frame)"
            raise SpecError(f"the U-Net takes a magnitude of shape {wanted}, got {tuple(x.shape)}")
        n_frames = x.shape[3]
        lacking = max(0, 2 ** len(c.layers) - n_frames)
        y = functional.pad(x[:, :, : c.n_in_bins], (0, lacking))
        y = torch.sigmoid(self.end(self._body(y)))
        edges = (0, n_frames + lacking - y.shape[3], 0, c.n_out_bins - y.shape[2])
        y = functional.pad(y, edges, value=EDGE_MASK)
        return y[..., :n_frames].unflatten(1, (N_STEMS, c.n_out_channels))
