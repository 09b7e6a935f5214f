"""Analysis and synthesis: asymmetric windows, and the STFT and its inverse as Streaming modules.

Frame t covers samples [(t + 1) hop - analysis, (t + 1) hop): it is known as soon as its last hop is.
Its inverse is kept for the last `synthesis_samples` only, so that is all the windows cost in latency.
Spectra are plain sums (no scaling): a full-scale sine on a bin has |X| = `WindowPair.sine_magnitude`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .errors import SpecError, StreamingError

OVERLAP_ADD_TOLERANCE = 1e-12


@lru_cache(maxsize=32)
def _design(analysis_samples: int, synthesis_samples: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two windows, float64 and read-only; see `WindowPair`."""
    fall = synthesis_samples // 2
    rise = analysis_samples - fall
    analysis = np.concatenate(
        [np.sin(np.pi * np.arange(rise) / (2 * rise)), np.cos(np.pi * np.arange(fall) / (2 * fall))]
    )
    target = np.sin(np.pi * np.arange(synthesis_samples) / synthesis_samples) ** 2
    target *= 2.0 * hop / synthesis_samples
    end = analysis[-synthesis_samples:]
    synthesis = np.divide(target, end, out=np.zeros_like(target), where=end > 0)
    for window in (analysis, synthesis):
        window.setflags(write=False)
    return analysis, synthesis


@dataclass(frozen=True, kw_only=True)
class WindowPair:
    """A long analysis window and a short synthesis window whose product overlap-adds to one.

    analysis: a rising sine half over analysis - synthesis/2 samples, a falling one over synthesis/2.
    synthesis: Hann(synthesis) * 2 hop / synthesis, divided by the end of the analysis window.
    Equal lengths give the usual pair of square-root Hann windows.
    Raises: SpecError for lengths that cannot overlap-add to one.
    Source: Mauler & Martin 2007, A low delay, variable resolution, perfect reconstruction spectral
    analysis-synthesis system for speech enhancement, EUSIPCO; Wang et al. 2021, STFT-domain neural
    speech enhancement with very low algorithmic latency.

    >>> WindowPair().latency_samples, WindowPair().n_bins
    (512, 2049)
    """

    analysis_samples: int = 4096
    synthesis_samples: int = 1024
    hop: int = 512

    def __post_init__(self) -> None:
        sizes = f"analysis {self.analysis_samples}, synthesis {self.synthesis_samples}, hop {self.hop}"
        if self.hop < 1 or self.synthesis_samples % 2 or self.synthesis_samples < 2 * self.hop:
            raise SpecError(f"windows ({sizes}): synthesis must be even and at least two hops of 1 or more")
        if self.analysis_samples < self.synthesis_samples:
            raise SpecError(f"windows ({sizes}): analysis must be at least as long as synthesis")
        if self.analysis_samples % self.hop or self.synthesis_samples % self.hop:
            raise SpecError(f"windows ({sizes}): hop must divide both window lengths")
        product = self.analysis[-self.synthesis_samples :] * self.synthesis
        total = product.reshape(-1, self.hop).sum(axis=0)
        worst = float(np.max(np.abs(total - 1.0)))
        if min(self.analysis.min(), self.synthesis.min()) < 0.0 or not worst <= OVERLAP_ADD_TOLERANCE:
            raise SpecError(f"windows ({sizes}): the product overlap-adds to one only within {worst:.1e}")

    @property
    def analysis(self) -> np.ndarray:
        """Analysis window, float64 (analysis_samples,), read-only."""
        return _design(self.analysis_samples, self.synthesis_samples, self.hop)[0]

    @property
    def synthesis(self) -> np.ndarray:
        """Window for the last synthesis_samples of an inverse frame, float64, read-only."""
        return _design(self.analysis_samples, self.synthesis_samples, self.hop)[1]

    @property
    def n_bins(self) -> int:
        """Number of frequency bins, 0 Hz to half the rate."""
        return self.analysis_samples // 2 + 1

    @property
    def latency_samples(self) -> int:
        """Delay of analysis and synthesis together."""
        return self.synthesis_samples - self.hop

    @property
    def sine_magnitude(self) -> float:
        """|X| of a full-scale sine on a bin: half the sum of the analysis window."""
        return float(self.analysis.sum()) / 2.0


def _whole_hops(x: torch.Tensor, hop: int) -> int:
    n_hops, rest = divmod(x.shape[-1], hop)
    if rest or not n_hops:
        raise StreamingError(f"{x.shape[-1]} samples are not whole hops of {hop}: pad with zeros")
    return n_hops


def _same_stream(x: torch.Tensor, lead: int, state: torch.Tensor) -> None:
    if x.shape[:lead] != state.shape[:-1]:
        raise StreamingError(
            f"input has leading axes {tuple(x.shape[:lead])}, the state {tuple(state.shape[:-1])}: "
            "make the state with init_state for this batch and the module for these channels"
        )


class Stft(nn.Module):
    """Frames of a signal.  Shape: (..., sample) -> (..., bin, frame) complex; no latency.

    `channels` are the axes between batch and time of what `step` gets: (2,) for stereo.
    """

    latency_samples = 0

    def __init__(
        self, pair: WindowPair, *, channels: tuple[int, ...] = (2,), dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.pair = pair
        self.channels = channels
        self.hop = pair.hop
        self.ratio = Fraction(1, pair.hop)
        self.window: torch.Tensor
        self.register_buffer("window", torch.tensor(pair.analysis, dtype=dtype), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return all frames of a signal that starts from silence; StreamingError for broken hops."""
        _whole_hops(x, self.hop)
        padded = functional.pad(x, (self.pair.analysis_samples - self.hop, 0))
        frames = padded.unfold(-1, self.pair.analysis_samples, self.hop)
        return torch.fft.rfft(frames * self.window).transpose(-1, -2)

    def init_state(self, batch: int) -> torch.Tensor:
        """Return the last analysis - hop samples heard: zeros."""
        return self.window.new_zeros(batch, *self.channels, self.pair.analysis_samples - self.hop)

    def step(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next frames, one per hop, and the state updated in place."""
        n_hops = _whole_hops(x, self.hop)
        _same_stream(x, x.ndim - 1, state)
        heard = torch.cat([state, x], dim=-1)
        n = self.pair.analysis_samples
        starts = range(0, n_hops * self.hop, self.hop)
        frames = [torch.fft.rfft(heard[..., a : a + n] * self.window) for a in starts]
        state.copy_(heard[..., n_hops * self.hop :])
        return torch.stack(frames, dim=-1), state

    def flush(self, state: torch.Tensor) -> torch.Tensor:
        """Return no frames: analysis has no latency."""
        dtype = torch.promote_types(state.dtype, torch.complex64)
        return state.new_zeros(*state.shape[:-1], self.pair.n_bins, 0, dtype=dtype)


class Istft(nn.Module):
    """The signal of frames.  Shape: (..., bin, frame) complex -> (..., frame * hop).

    Latency: synthesis - hop samples.  `forward` is aligned in time with the frames; its last
    `latency_samples` sound as if silent frames followed.
    """

    hop = 1

    def __init__(
        self, pair: WindowPair, *, channels: tuple[int, ...] = (2,), dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.pair = pair
        self.channels = channels
        self.latency_samples = pair.latency_samples
        self.ratio = Fraction(pair.hop)
        self.window: torch.Tensor
        self.register_buffer("window", torch.tensor(pair.synthesis, dtype=dtype), persistent=False)

    def _pieces(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the windowed ends of the inverse frames.  Shape: -> (..., frame, synthesis)."""
        if frames.shape[-2] != self.pair.n_bins:
            raise StreamingError(f"frames have {frames.shape[-2]} bins, the windows {self.pair.n_bins}")
        y = torch.fft.irfft(frames.transpose(-1, -2), n=self.pair.analysis_samples)
        return y[..., -self.pair.synthesis_samples :] * self.window

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the whole signal: frame t adds to samples [(t + 1) hop - synthesis, (t + 1) hop)."""
        parts = self._pieces(frames).unflatten(-1, (-1, self.pair.hop))
        n_overlap = parts.shape[-2]
        total = parts[..., n_overlap - 1 :, 0, :]
        total = functional.pad(total, (0, 0, 0, min(n_overlap - 1, parts.shape[-3])))
        for i in range(1, n_overlap):
            part = parts[..., n_overlap - 1 - i :, i, :]
            total = total + functional.pad(part, (0, 0, 0, total.shape[-2] - part.shape[-2]))
        return total.flatten(-2)

    def init_state(self, batch: int) -> torch.Tensor:
        """Return what earlier frames add to the samples to come: zeros."""
        return self.window.new_zeros(batch, *self.channels, self.latency_samples)

    def step(self, frames: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next hop * frames samples, and the state updated in place."""
        _same_stream(frames, frames.ndim - 2, state)
        hop, latency = self.pair.hop, self.latency_samples
        out = []
        for piece in self._pieces(frames).unbind(-2):
            begun = piece[..., :latency] + state
            out.append(begun[..., :hop])
            state.copy_(torch.cat([begun[..., hop:], piece[..., latency:]], dim=-1))
        return torch.cat(out, dim=-1), state

    def flush(self, state: torch.Tensor) -> torch.Tensor:
        """Return the last latency_samples of output, as if silent frames followed."""
        return state.clone()
