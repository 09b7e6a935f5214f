"""TDC: a small published vocals network that sees each STFT frame alone.

It is a U-Net of dense blocks whose convolutions run along frequency only, so nothing mixes frames: it
streams exactly, with the latency of its STFT. stemrack uses its official weights as a teacher and as a
peer to be measured against; they are not shipped.

Source: Choi, Kim, Chung, Lee, Jung 2020, Investigating U-Nets with various intermediate blocks for
spectrogram-based singing voice separation, ISMIR, section 3 (time-distributed convolutions).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from .errors import SpecError, WeightsError

WINDOW_SAMPLES, HOP_SAMPLES = 2048, 1024
N_BINS = WINDOW_SAMPLES // 2 + 1
N_PARTS = 4
"""Input and output channels: left real, left imaginary, right real, right imaginary."""
N_LEVELS = 8
WIDTH = 24
FRAMES_AT_ONCE = 64
"""A frame holds about 2 MB of activations: whole songs go through in pieces of this many."""


class DenseBlock(nn.Module):
    """Five convolutions along frequency; each sees the newest output before everything older.

    Shape: (frame, n_in, bin) -> (frame, WIDTH, bin).
    """

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.H = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(n_in + i * WIDTH, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True)
            )
            for i in range(5)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last convolution's output."""
        for layer in self.H[:-1]:
            x = torch.cat([layer(x), x], dim=1)
        return self.H[-1](x)


class Rescale(nn.Module):
    """A convolution that halves or doubles the number of bins, and its normalisation."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm1d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (frame, WIDTH, bin / 2) or (frame, WIDTH, bin * 2)."""
        return self.bn(self.conv(x))


class TdcVocals(nn.Module):
    """The complex spectrum of the vocals from that of the mixture, frame by frame.

    Shape: (batch, N_PARTS, N_BINS, frame) -> like it.  Streams frame by frame with no latency.
    Parameter names are the published checkpoint's.
    """

    hop = 1
    latency_samples = 0
    ratio = Fraction(1)

    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv2d(N_PARTS, WIDTH, (2, 1)), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.encoders = nn.ModuleList(DenseBlock(WIDTH) for _ in range(N_LEVELS))
        self.downsampling = nn.ModuleList(Rescale(nn.Conv1d(WIDTH, WIDTH, 2, 2)) for _ in range(N_LEVELS))
        self.mid_block = DenseBlock(WIDTH)
        self.upsampling = nn.ModuleList(
            Rescale(nn.ConvTranspose1d(WIDTH, WIDTH, 2, 2)) for _ in range(N_LEVELS)
        )
        self.decoders = nn.ModuleList(DenseBlock(2 * WIDTH) for _ in range(N_LEVELS))
        self.final_conv = nn.Sequential(nn.Conv2d(WIDTH, N_PARTS, (2, 1), padding=(1, 0)))

    def frames(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's answer to frames that are all in memory at once."""
        batch, n_frames = x.shape[0], x.shape[-1]
        y = self.first_conv(x).permute(0, 3, 1, 2).flatten(0, 1)
        skips = []
        for encoder, down in zip(self.encoders, self.downsampling, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.mid_block(y)
        for decoder, up in zip(self.decoders, self.upsampling, strict=True):
            y = decoder(torch.cat([up(y), skips.pop()], dim=1))
        y = y.unflatten(0, (batch, n_frames)).permute(0, 2, 3, 1)
        return self.final_conv(y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of a whole signal, in pieces that fit in memory."""
        if x.shape[1:3] != (N_PARTS, N_BINS):
            raise SpecError(f"TDC takes (batch, {N_PARTS}, {N_BINS}, frame), got {tuple(x.shape)}")
        if x.shape[-1] == 0:
            return x.clone()
        return torch.cat([self.frames(piece) for piece in x.split(FRAMES_AT_ONCE, dim=-1)], dim=-1)

    def init_state(self, batch: int) -> torch.Tensor:
        """Return a state that holds nothing (batch, 0): a frame depends on nothing before it."""
        return next(self.parameters()).new_zeros(batch, 0)

    def step(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the spectrum of the next frames."""
        return self.frames(x), state

    def flush(self, state: torch.Tensor) -> torch.Tensor:
        """Return nothing: the network has no latency."""
        return state.new_zeros(state.shape[0], N_PARTS, N_BINS, 0)

    @torch.no_grad()
    def separate(self, mixture: torch.Tensor) -> torch.Tensor:
        """Return the vocals of whole signals.

        Centred Hann STFT, zeros beyond both ends.  Shape: (batch, 2, sample) at 44.1 kHz -> like it.
        """
        batch, n_channels, n_samples = mixture.shape
        if n_channels != 2:
            raise SpecError(f"TDC takes stereo, got {n_channels} channels")
        window = torch.hann_window(WINDOW_SAMPLES, device=mixture.device)
        flat = nn.functional.pad(
            mixture.flatten(0, 1), (0, HOP_SAMPLES)
        )  # istft needs full overlap at the end
        spectrum = torch.stft(
            flat, WINDOW_SAMPLES, HOP_SAMPLES, window=window, pad_mode="constant", return_complex=True
        )
        parts = torch.view_as_real(spectrum).unflatten(0, (batch, 2)).permute(0, 1, 4, 2, 3).flatten(1, 2)
        parts = self(parts).unflatten(1, (2, 2)).permute(0, 1, 3, 4, 2).flatten(0, 1)
        vocals = torch.istft(
            torch.view_as_complex(parts.contiguous()),
            WINDOW_SAMPLES,
            HOP_SAMPLES,
            window=window,
            length=n_samples,
        )
        return vocals.unflatten(0, (batch, 2))


def load_tdc(path: Path) -> TdcVocals:
    """Return the network with the published weights of `path`, ready to separate.

    Raises: WeightsError if the file is missing, damaged or of another network.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        network = TdcVocals()
        network.load_state_dict(tensors)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file: give a cac_tdc_17_vocals checkpoint") from error
    except (OSError, EOFError, ValueError, TypeError, AttributeError, RuntimeError, UnpicklingError) as error:
        raise WeightsError(
            f"{path}: not the weights of the TDC vocals network ({_first_line(error)})"
        ) from error
    return network.eval()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
