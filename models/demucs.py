"""Demucs with four grouped decoders: one encoder, one recurrence, a decoder path for each stem.

`DemucsLayers` holds what the published network and the causal one share: the layers and their names.
`Demucs` is the published one (Danna-Sep's layout, so its checkpoints load key for key): it takes whole
excerpts, because its recurrence runs in both directions and its normalisation is that of the excerpt.

Shapes: B batch, C width of a level, T frames of a level. A decoder path is C / 2 wide: four are 2 C.

Source: Défossez, Usunier, Bottou, Bach 2019, Music source separation in the waveform domain.
Layout: Danna-Sep's DemucsSplit (Yu, Cheuk 2021).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .errors import SpecError
from .fraction_resampler import FractionResampler
from .network_configs import DemucsConfig
from .stems import N_STEMS

REFERENCE_DEVIATION = 0.1
"""Deviation that the initial weights of every convolution are drawn towards (Défossez et al. 2019)."""


@torch.no_grad()
def _rescale(module: nn.Module) -> None:
    """Draw the deviation of every convolution's weights towards REFERENCE_DEVIATION."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            scale = (layer.weight.std() / REFERENCE_DEVIATION).sqrt()
            layer.weight.div_(scale)
            if layer.bias is not None:
                layer.bias.div_(scale)


class DemucsLayers(nn.Module):
    """The layers of either variant; levels of the decoder are numbered from the deepest."""

    def __init__(self, config: DemucsConfig) -> None:
        super().__init__()
        self.config = c = config
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.convs_1x1, self.dec_pre_convs = nn.ModuleList(), nn.ModuleList()
        n_in = c.n_channels
        for width in c.widths:
            first = nn.Conv1d(n_in, width, c.kernel, c.stride)
            self.encoder.append(
                nn.Sequential(first, nn.ReLU(), nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=1))
            )
            n_in = width
        for level in reversed(range(c.depth)):
            width = c.widths[level]
            n_out = 2 * c.widths[level - 1] if level else N_STEMS * c.n_channels
            # Centred as published; the causal variant pads for itself, at the left.
            own_pad, skip_pad = (0, 0) if c.causal else (c.context // 2, c.skip_context // 2)
            self.convs_1x1.append(nn.Conv1d(width, 4 * width, c.skip_context, padding=skip_pad, bias=False))
            self.dec_pre_convs.append(
                nn.Conv1d(2 * width, 4 * width, c.context, padding=own_pad, groups=N_STEMS)
            )
            up = nn.ConvTranspose1d(2 * width, n_out, c.kernel, c.stride, groups=N_STEMS)
            self.decoder.append(nn.Sequential(up, nn.ReLU()) if level else nn.Sequential(up))
        directions = 1 if c.causal else 2
        self.lstm = nn.LSTM(
            c.widths[-1], c.hidden, c.n_lstm_layers, batch_first=True, bidirectional=not c.causal
        )
        self.lstm_linear = nn.Linear(directions * c.hidden, 2 * c.widths[-1])
        if self.lstm_linear.weight.device.type != "meta":
            _rescale(self)

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        """Return each stem's half gated by its other half.  Shape: (B, 4 C, T) -> (B, 2 C, T)."""
        return functional.glu(y.unflatten(1, (N_STEMS, -1)), dim=2).flatten(1, 2)


class Demucs(DemucsLayers):
    """The published network: stems of a whole excerpt, a little shorter than it (`valid_length`).

    Shape: (batch, channel, sample) -> (batch, stem, channel, sample).
    Raises: SpecError for a causal configuration or an excerpt under `minimum_samples`.
    """

    def __init__(self, config: DemucsConfig | None = None) -> None:
        config = config or DemucsConfig()
        if config.causal:
            raise SpecError("Demucs is the published variant: build CausalDemucs for causal=True")
        super().__init__(config)
        self.up_sample, self.down_sample = FractionResampler(1, 2), FractionResampler(2, 1)

    def n_frames(self, n_samples: int) -> int:
        """Return the frames of the deepest level for an input length; 0 or less: too short."""
        n = 2 * n_samples
        for _ in range(self.config.depth):
            n = (n - self.config.kernel) // self.config.stride + 1
        return n

    def valid_length(self, n_samples: int) -> int:
        """Return the samples of output, aligned at the left, for an input length.

        Raises: SpecError if the input is too short for one frame of the deepest level.
        """
        n = self.n_frames(n_samples)
        if n < 1:
            raise SpecError(f"{n_samples} samples are too short: give at least {self.minimum_samples}")
        for _ in range(self.config.depth):
            n = (n - 1) * self.config.stride + self.config.kernel
        return n // 2

    @property
    def minimum_samples(self) -> int:
        """The shortest input, in samples."""
        n = 1
        for _ in range(self.config.depth):
            n = (n - 1) * self.config.stride + self.config.kernel
        return -(-n // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stems of an excerpt, cut at the right to `valid_length`."""
        self.valid_length(x.shape[-1])  # refuses what is too short
        mono = x.mean(dim=1, keepdim=True)
        mean, deviation = mono.mean(-1, keepdim=True), mono.std(-1, keepdim=True) + 1e-5
        y = self.decode(*self.encode(self.up_sample((x - mean) / deviation)))
        y = self.down_sample(y) * deviation + mean
        return y.unflatten(1, (N_STEMS, self.config.n_channels))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the recurrence's output (B, 2 C, T) and the skips, outermost first."""
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        y, _ = self.lstm(x.transpose(1, 2))
        return self.lstm_linear(y).transpose(1, 2), skips

    def decode(self, y: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Return the stems' channels at the network's rate.  Shape: -> (B, 4 * channel, sample)."""
        levels = zip(self.dec_pre_convs, self.convs_1x1, self.decoder, reversed(skips), strict=True)
        for own, shared, up, skip in levels:
            y = up(self.gate(own(y) + shared(skip[..., : y.shape[-1]])))
        return y
