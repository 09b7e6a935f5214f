"""Analysis and synthesis: the STFT and its inverse as Streaming modules.

Frame t covers samples [(t + 1) hop - analysis, (t + 1) hop): it is known as soon as its last hop is.
Its inverse is kept for the last `synthesis_samples` only, so that is all the windows cost in latency.
Spectra are plain sums (no scaling): a full-scale sine on a bin has |X| = `WindowPair.sine_magnitude`.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from .errors import StreamingError
from .windows import WindowPair


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
