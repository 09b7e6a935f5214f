"""Whole-track separation with published networks: what `offline` plays and what `studio` tends to.

The procedure is Danna-Sep's. Spectrogram networks: 1,024 zeros after the track, centred STFT 4096 / 1024
with reflected ends, mask times magnitude, one iteration of the Wiener EM over everything, inverse STFT.
Waveform network: half a second of zeros before the track, 1,024 after it, result limited to 0.99.
Both are functions of a whole signal as long as their input, so `Chunked` runs them over windows too.

Source: Yu, Cheuk 2021, Danna-Sep: unite to separate them all (MDX Workshop), and its inference code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from .chunked import level, mono_sums
from .demucs import Demucs
from .wiener import wiener_whole
from .wiener_kernels import LOUDEST

WINDOW_SAMPLES = 4096
HOP_SAMPLES = 1024
HALF_SAMPLES = WINDOW_SAMPLES // 2
PADDING_SAMPLES = 1024
"""Zeros that the published procedure puts after a track, so that its end has whole frames."""
LEAD_SAMPLES = 22_050
"""Zeros that the published procedure puts before a track for Demucs."""
LIMIT = 0.99
BINS_AT_ONCE = 64
TOUCHED_SAMPLES = 3 * HOP_SAMPLES
"""Last samples of a window under frames that reach past its end, or that a U-Net has no answer for."""


def mirrored(x: torch.Tensor, *, start: bool = True, end: bool = True) -> torch.Tensor:
    """Return x with half a window reflected at its ends; what is too short to reflect is zeros.

    Shape: (..., sample) -> (..., sample + 2048 at each end that is asked for).
    """
    left = x[..., 1 : HALF_SAMPLES + 1].flip(-1) if start else x[..., :0]
    right = x[..., -HALF_SAMPLES - 1 : -1].flip(-1) if end else x[..., :0]
    lacking = [HALF_SAMPLES - left.shape[-1] if start else 0, HALF_SAMPLES - right.shape[-1] if end else 0]
    return functional.pad(torch.cat([left, x, right], dim=-1), lacking)


def hann_frames(x: torch.Tensor) -> torch.Tensor:
    """Return the spectra of all whole frames of x, from its first sample on.

    Shape: (..., sample) -> (..., bin, frame) complex.
    """
    window = torch.hann_window(WINDOW_SAMPLES, dtype=x.dtype, device=x.device)
    frames = x.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES) * window
    return torch.fft.rfft(frames).transpose(-1, -2)


def centred_stft(x: torch.Tensor) -> torch.Tensor:
    """Return frames whose middles are at every 1,024th sample, ends reflected: torch.stft's, any length."""
    return hann_frames(mirrored(x))


def hann_overlap(Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the overlap-added windowed inverse frames, and the sum of squared windows beneath them.

    Shape: (..., bin, frame) -> (..., sample), (sample,), with sample = 1024 (frame - 1) + 4096.
    """
    window = torch.hann_window(WINDOW_SAMPLES, dtype=Y.real.dtype, device=Y.device)
    pieces = torch.fft.irfft(Y.transpose(-1, -2), n=WINDOW_SAMPLES) * window
    return _added(pieces), _added(window.square().expand(Y.shape[-1], -1))


def _added(pieces: torch.Tensor) -> torch.Tensor:
    """Return the sum of pieces (..., frame, 4096), each 1,024 samples after the one before."""
    parts = pieces.unflatten(-1, (-1, HOP_SAMPLES))
    n_parts = parts.shape[-2]
    total = parts.new_zeros(*parts.shape[:-3], parts.shape[-3] + n_parts - 1, HOP_SAMPLES)
    for i in range(n_parts):
        total[..., i : i + parts.shape[-3], :] += parts[..., i, :]
    return total.flatten(-2)


def centred_istft(Y: torch.Tensor) -> torch.Tensor:
    """Return the signal of `centred_stft`'s frames.  Shape: (..., bin, frame) -> 1024 (frame - 1)."""
    total, weight = (v[..., HALF_SAMPLES:-HALF_SAMPLES] for v in hann_overlap(Y))
    return total / weight


def wiener_by_bins(X: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """Return `wiener_whole` in double precision, some bins at a time: at once a song needs gigabytes.

    Shape: X (B, C, F, T) complex, V (B, J, C, F, T) -> (B, J, C, F, T) like X.
    """
    loudest = X.abs().flatten(1).amax(dim=1).to(torch.float64)
    scale = (loudest / LOUDEST).clamp(min=1.0).view(-1, 1, 1, 1)
    Y = X.new_empty(V.shape)
    for first in range(0, X.shape[2], BINS_AT_ONCE):
        bins = slice(first, first + BINS_AT_ONCE)
        x, v = X[:, :, bins].to(torch.complex128) / scale, V[:, :, :, bins].to(torch.float64) / scale[:, None]
        Y[:, :, :, bins] = (wiener_whole(x, v) * scale[:, None]).to(X.dtype)
    return Y


class SpectralTrack(nn.Module):
    """Stems of a whole track by a network of magnitudes and one iteration of the Wiener EM.

    Shape: (batch, 2, sample) -> (batch, stem, 2, sample).
    Args: network: magnitude (batch, 2, n_in_bins, frame) -> mask (batch, stem, 2, 2049, frame).
        n_in_bins: the network sees so many of the 2,049 bins; None: all.
        frames_at_once: the network gets pieces of so many frames, as Danna-Sep's U-Net (2,584); None: all.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor], torch.Tensor],
        *,
        n_in_bins: int | None = None,
        frames_at_once: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(network, nn.Module):
            network.eval()
        self.network, self.n_in_bins, self.frames_at_once = network, n_in_bins, frames_at_once

    def masks(self, X: torch.Tensor) -> torch.Tensor:
        """Return the network's masks of spectra (batch, 2, bin, frame)."""
        magnitude = X.abs()[:, :, : self.n_in_bins]
        pieces = magnitude.split(self.frames_at_once or magnitude.shape[-1], dim=-1)
        return torch.cat([self.network(piece) for piece in pieces], dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stems, as long as the track."""
        X = centred_stft(functional.pad(x, (0, PADDING_SAMPLES)))
        V = self.masks(X) * X.abs()[:, None]
        return centred_istft(wiener_by_bins(X, V))[..., : x.shape[-1]]


class DemucsTrack(nn.Module):
    """Stems of a whole track by the published Demucs; what it cannot answer at the end is zeros.

    Shape: (batch, 2, sample) -> (batch, stem, 2, sample).
    Args: lead_samples: zeros before the track. For `Chunked` they are its `lead`, and this is 0.
        padding_samples: zeros after the track.
    """

    def __init__(
        self, network: Demucs, *, lead_samples: int = LEAD_SAMPLES, padding_samples: int = PADDING_SAMPLES
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.lead_samples, self.padding_samples = lead_samples, padding_samples
        self.silence: torch.Tensor
        added = torch.tensor([lead_samples + padding_samples, 0.0, 0.0], dtype=torch.float64)
        self.register_buffer("silence", added, persistent=False)

    @property
    def trim_end(self) -> int:
        """Samples at a window's end that may be without an answer: one stride of the deepest level."""
        return self.grid - 1

    @property
    def grid(self) -> int:
        """Samples by which a window may be moved without a change of the strides' places."""
        up_samples = self.network.config.hop
        return up_samples if up_samples % 2 else up_samples // 2

    def forward(self, x: torch.Tensor, sums: torch.Tensor | None = None) -> torch.Tensor:
        """Return the stems; `sums` (batch, 3) are those of a longer signal, to be levelled by."""
        n_samples, net = x.shape[-1], self.network
        x = functional.pad(x, (self.lead_samples, self.padding_samples))
        sums = mono_sums(x).sum(-1) if sums is None else sums + self.silence
        x = functional.pad(x, (0, max(0, net.minimum_samples - x.shape[-1])))
        mean, deviation = (v.to(x.dtype)[:, None, None] for v in level(sums))
        deviation = deviation + 1e-5
        y = net.down_sample(net.decode(*net.encode(net.up_sample((x - mean) / deviation))))
        y = y[..., : net.valid_length(x.shape[-1])] * deviation + mean
        y = y.clamp(-LIMIT, LIMIT)[..., self.lead_samples :][..., :n_samples]
        y = functional.pad(y, (0, n_samples - y.shape[-1]))
        return y.unflatten(1, (-1, net.config.n_channels))
