"""The published X-UMX as a stream of samples: what `SpectralTrack` makes of a track, hop by hop.

    x -> frames -> [network: look_ahead frames late] -> Wiener -> overlap-add -> stems

Frames are the centred ones of the published procedure, reflected at the track's ends. The Wiener sums
run over everything heard, look-ahead included, so that with enough of it they are those of the track.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from .chunked import push_units
from .chunked_xumx import LstmState, advance_stacks, hop_blocks, init_carried, recur_blocks
from .errors import SpecError, StreamingError
from .stems import MODEL_RATE_HZ, N_STEMS
from .whole_track import (
    HALF_SAMPLES,
    HOP_SAMPLES,
    PADDING_SAMPLES,
    WINDOW_SAMPLES,
    centred_istft,
    centred_stft,
    hann_frames,
    hann_overlap,
    mirrored,
)
from .wiener import _filter, _outer, _power
from .wiener_kernels import LOUDEST
from .xumx import Xumx

TAIL_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES
N_BINS = HALF_SAMPLES + 1
LATE_SAMPLES = TAIL_SAMPLES
"""A sample is done three hops after it was heard: its last frame starts there."""
EPS = torch.finfo(torch.float64).eps


@dataclass(slots=True)
class WienerSums:
    """Sums over the frames that left, and the loudest magnitude heard: N, d as in `wiener`, peak (B,)."""

    N: torch.Tensor
    d: torch.Tensor
    peak: torch.Tensor


@dataclass(slots=True)
class ChunkedSpectralState:
    """Samples and frames still needed, what the network and the filter carry, the overlap-add's tails.

    heard (1,) int64: hops of 1,024 samples so far, as far as that matters.
    """

    tail: torch.Tensor
    heard: torch.Tensor
    spectra: torch.Tensor
    cross: torch.Tensor
    carried: list[LstmState]
    wiener: WienerSums
    overlap: torch.Tensor
    weight: torch.Tensor


class ChunkedSpectral(nn.Module):
    """Stems of a stereo signal by a bidirectional X-UMX of magnitudes.

    Shape: (batch, 2, sample) -> (batch, stem, 2, sample).
    Args: hop_frames, look_ahead_frames: of 1,024 samples each.
        forget_s: time constant of the Wiener sums; None: they forget nothing, as over a whole track.
    Latency: look_ahead_frames * 1024 + 3072 samples.
    """

    ratio = Fraction(1)

    def __init__(
        self, network: Xumx, *, hop_frames: int, look_ahead_frames: int, forget_s: float | None = None
    ) -> None:
        super().__init__()
        c = network.config
        if c.directions != 2 or c.n_out_bins != N_BINS or c.n_in_channels != 2 or c.n_in_bins > N_BINS:
            raise SpecError(f"ChunkedSpectral takes a bidirectional X-UMX of stereo magnitudes, got {c}")
        if hop_frames < 1 or look_ahead_frames < 0 or (forget_s is not None and forget_s <= 0):
            raise SpecError(f"hop {hop_frames} must be 1 or more, look-ahead 0 or more, forget_s above 0")
        self.network = network.eval()
        self.hop_frames, self.look_ahead = hop_frames, look_ahead_frames
        self.hop = hop_frames * HOP_SAMPLES
        self.latency_samples = look_ahead_frames * HOP_SAMPLES + LATE_SAMPLES
        self.decay_per_frame = 1.0 if forget_s is None else math.exp(-HOP_SAMPLES / MODEL_RATE_HZ / forget_s)

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return cross_1 of spectra (batch, 2, bin, frame)."""
        return self.network.encode(X.abs()[:, :, : self.network.config.n_in_bins])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the time-aligned stems of a whole signal of whole hops."""
        self._whole_hops(x)
        X = centred_stft(functional.pad(x, (0, PADDING_SAMPLES)))
        cross = self.encode(X)
        n_frames = x.shape[-1] // HOP_SAMPLES
        blocks = hop_blocks(n_frames, self.hop_frames, self.look_ahead, late=1, extra=2)
        windows = [recur_blocks(stack, cross.transpose(1, 2), blocks) for stack in self.network.stacks]
        sums, Y = self._init_sums(x.shape[0]), []
        for i, (first, stop, known) in enumerate(blocks):
            recurrent = torch.stack([w[i] for w in windows]).mean(0).transpose(1, 2)
            masks = self.network.decode(cross[..., first:known], recurrent)
            Y.append(self._filtered(X[..., first:known], masks, stop - first, sums))
        return centred_istft(torch.cat(Y, dim=-1))[..., : x.shape[-1]]

    def init_state(self, batch: int) -> ChunkedSpectralState:
        """Return the state of streams that have not begun."""
        place = self.network.input_means
        n_frames = self.hop_frames + self.look_ahead
        return ChunkedSpectralState(
            tail=place.new_zeros(batch, 2, TAIL_SAMPLES),
            heard=torch.zeros(1, dtype=torch.int64),
            spectra=place.new_zeros(batch, 2, N_BINS, n_frames, dtype=torch.complex64),
            cross=place.new_zeros(batch, self.network.config.hidden, n_frames),
            carried=init_carried(self.network, batch),
            wiener=self._init_sums(batch),
            overlap=place.new_zeros(batch, N_STEMS, 2, TAIL_SAMPLES),
            weight=place.new_zeros(TAIL_SAMPLES),
        )

    def _init_sums(self, batch: int) -> WienerSums:
        place = self.network.input_means
        return WienerSums(
            N=place.new_zeros(batch, N_STEMS, 2, 2, N_BINS, 1, dtype=torch.complex128),
            d=place.new_zeros(batch, N_STEMS, N_BINS, 1, dtype=torch.float64),
            peak=place.new_zeros(batch, dtype=torch.float64),
        )

    def step(self, x: torch.Tensor, state: ChunkedSpectralState) -> tuple[torch.Tensor, ChunkedSpectralState]:
        """Return the stems of the next hops, delayed by the latency, and the state updated in place."""
        self._whole_hops(x)
        if x.shape[:-1] != state.tail.shape[:-1]:
            raise StreamingError(f"input {tuple(x.shape)} is not of the state's {tuple(state.tail.shape)}")
        return torch.cat([self._hop(piece, state) for piece in x.split(self.hop, dim=-1)], dim=-1), state

    def _hop(self, x: torch.Tensor, state: ChunkedSpectralState) -> torch.Tensor:
        H, L = self.hop_frames, self.look_ahead
        X = self._new_frames(x, int(state.heard), state.tail)
        push_units(state.tail, x)
        # From 2 H + L + 4 hops on nothing changes any more: there the count may stop.
        state.heard.add_(H).clamp_(max=3 * H + L + 4)
        push_units(state.spectra, X)
        push_units(state.cross, self.encode(X))
        left = int(state.heard) - 1 - L
        leaving = min(H, left)
        y = x.new_zeros(x.shape[0], N_STEMS, 2, self.hop)
        if leaving <= 0:
            return y
        n = leaving + L
        Y = self._separated(
            state.spectra[..., -n:], state.cross[..., -n:], leaving, state.carried, state.wiener
        )
        done, state.overlap[...], state.weight[...] = _overlap_added(Y, state.overlap, state.weight)
        # Frames 0 and 1 begin before the track does.
        done = done[..., max(0, 2 - (left - leaving)) * HOP_SAMPLES :]
        y[..., self.hop - done.shape[-1] :] = done
        return y

    def _new_frames(self, x: torch.Tensor, heard: int, tail: torch.Tensor) -> torch.Tensor:
        """Return the frames that x completes: one hop late, the first hop of a track one fewer."""
        if heard > 2:
            return hann_frames(torch.cat([tail, x], dim=-1))
        signal = torch.cat([tail[..., TAIL_SAMPLES - heard * HOP_SAMPLES :], x], dim=-1)
        if heard + self.hop_frames < 2:
            return x.new_zeros(*x.shape[:-1], N_BINS, 0, dtype=torch.complex64)
        padded = mirrored(signal, end=False)
        return hann_frames(padded[..., max(0, heard - 1) * HOP_SAMPLES :])

    def _separated(
        self,
        X: torch.Tensor,
        cross: torch.Tensor,
        n_leaving: int,
        carried: list[LstmState],
        sums: WienerSums,
    ) -> torch.Tensor:
        masks = self.network.decode(cross, advance_stacks(self.network, cross, n_leaving, carried))
        return self._filtered(X, masks, n_leaving, sums)

    def _filtered(
        self, X: torch.Tensor, masks: torch.Tensor, n_leaving: int, sums: WienerSums
    ) -> torch.Tensor:
        """Return the stems' spectra of the frames that leave a window; `sums` move on in place.

        Shape: X (B, 2, F, T), masks (B, J, 2, F, T) -> (B, J, 2, F, n_leaving).
        """
        sums.peak.copy_(torch.maximum(sums.peak, X.abs().flatten(1).amax(1).to(sums.peak.dtype)))
        scale = (sums.peak / LOUDEST).clamp(min=1.0).view(-1, 1, 1, 1)
        wide = X.to(torch.complex128)
        y = masks.to(torch.float64) * wide[:, None]
        v, outer = _power(y), _outer(y)
        decay = self.decay_per_frame**n_leaving
        sums.N.mul_(decay).add_(outer[..., :n_leaving].sum(-1, keepdim=True))
        sums.d.mul_(decay).add_(v[..., :n_leaving].sum(-1, keepdim=True))
        N = sums.N + outer[..., n_leaving:].sum(-1, keepdim=True)
        d = sums.d + v[..., n_leaving:].sum(-1, keepdim=True)
        # Sums are kept unscaled, because the scale grows with the loudest magnitude: N / s^2 and d / s^2.
        square = scale.square()
        R = (N / square[:, None, None]) / (EPS + d / square)[:, :, None, None]
        x, v = wide[..., :n_leaving] / scale, v[..., :n_leaving] / square
        return (_filter(x, v, R, math.sqrt(EPS), EPS) * scale[:, None]).to(X.dtype)

    def flush(self, state: ChunkedSpectralState) -> torch.Tensor:
        """Return the last `latency_samples` of output: the signal ends here."""
        batch, heard = state.tail.shape[0], int(state.heard)
        y = state.tail.new_zeros(batch, N_STEMS, 2, self.latency_samples)
        if not heard:
            return y
        first = heard <= 3
        signal = state.tail[..., -min(heard, 3) * HOP_SAMPLES :]
        padded = mirrored(functional.pad(signal, (0, PADDING_SAMPLES)), start=first)
        X = hann_frames(padded[..., (heard - 1) * HOP_SAMPLES if first else 0 :])
        kept = min(self.look_ahead, heard - 1)
        spectra = torch.cat([state.spectra[..., state.spectra.shape[-1] - kept :], X], dim=-1)
        cross = torch.cat([state.cross[..., state.cross.shape[-1] - kept :], self.encode(X)], dim=-1)
        carried = [(hidden.clone(), cell.clone()) for hidden, cell in state.carried]
        sums = WienerSums(N=state.wiener.N.clone(), d=state.wiener.d.clone(), peak=state.wiener.peak.clone())
        Y = self._separated(spectra, cross, spectra.shape[-1], carried, sums)
        done, _, _ = _overlap_added(Y, state.overlap, state.weight)
        left = max(0, heard - 1 - self.look_ahead)
        done = done[..., max(0, 2 - left) * HOP_SAMPLES :]
        y[..., self.latency_samples - done.shape[-1] :] = done
        return y

    def _whole_hops(self, x: torch.Tensor) -> None:
        if x.shape[-1] % self.hop or not x.shape[-1]:
            raise StreamingError(f"{x.shape[-1]} samples are not whole hops of {self.hop}: pad with zeros")


def _overlap_added(
    Y: torch.Tensor, overlap: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the samples that the frames Y finish, and the new tails of signal and squared windows."""
    total, under = hann_overlap(Y)
    total[..., :TAIL_SAMPLES] += overlap
    under[:TAIL_SAMPLES] += weight
    n_done = Y.shape[-1] * HOP_SAMPLES
    # Only before a track begins is there a sample under no window at all: the first of frame 0.
    done = total[..., :n_done] / under[:n_done].clamp(min=1e-11)
    return done, total[..., n_done:], under[n_done:]
