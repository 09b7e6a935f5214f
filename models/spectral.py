"""A spectrogram separator in torch, whole: the reference of the CPU path, and what CUDA and training run.

x -> STFT -> band features -> network -> masks -> Wiener -> inverse STFT -> stems

The network is trained so that mask * X is nearest to the stem: its mask is a Wiener gain, a share of
power. The filter wants magnitude estimates, so it is given sqrt(mask) |X|: where the channels are alike
it then returns mask * X itself, and elsewhere it adds what the channels tell. Measured on 18 held-out
mixtures of 8 s, mean SDR: masks alone 2.28 dB, filter over sqrt(mask) 2.32, over the mask itself 2.00.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from .band_features import band_features, band_spread
from .layers import Interleaved, InterleavedState
from .profiles import Profile
from .stems import N_STEMS
from .stft import Istft, Stft
from .wiener import Wiener
from .xumx import Xumx


@dataclass(slots=True)
class SpectralState:
    """States of analysis, network, Wiener filter and synthesis."""

    analysis: Any
    network: InterleavedState
    wiener: Any
    synthesis: Any


class SpectralSeparator(nn.Module):
    """Four stems of a stereo mixture at the model's rate.

    Shape: (batch, 2, sample) -> (batch, stem, 2, sample).  Latency: synthesis window - hop.
    """

    ratio = Fraction(1)

    def __init__(self, profile: Profile, network: Xumx) -> None:
        super().__init__()
        w = profile.windows
        self.hop, self.latency_samples = w.hop, w.latency_samples
        self.layout, self.gain = profile.bands, 1.0 / w.sine_magnitude
        self.analysis = Stft(w)
        self.network = Interleaved(network.eval(), profile.phases)
        self.wiener = Wiener(w, forget_s=profile.forget_s)
        self.synthesis = Istft(w, channels=(N_STEMS, 2))

    def _features(self, X: torch.Tensor) -> torch.Tensor:
        """Return the network's input (batch, 1, 3 band, frame) of spectra (batch, 2, bin, frame)."""
        features = band_features(X.transpose(-1, -2) * self.gain, self.layout)
        return features.transpose(-1, -2)[:, None]

    def _masks(self, bands: torch.Tensor) -> torch.Tensor:
        """Return shares of magnitude for every bin of shares of power for every band."""
        return band_spread(bands.sqrt().transpose(-1, -2), self.layout).transpose(-1, -2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the time-aligned stems of a whole signal of whole hops."""
        X = self.analysis(x)
        masks = self._masks(self.network(self._features(X)))
        return self.synthesis(self.wiener((X, masks)))

    def init_state(self, batch: int) -> SpectralState:
        """Return the state of streams that have heard silence."""
        return SpectralState(
            analysis=self.analysis.init_state(batch),
            network=self.network.init_state(batch),
            wiener=self.wiener.init_state(batch),
            synthesis=self.synthesis.init_state(batch),
        )

    def step(self, x: torch.Tensor, state: SpectralState) -> tuple[torch.Tensor, SpectralState]:
        """Return the stems of the next hops, delayed by the latency, and the state updated in place."""
        X, _ = self.analysis.step(x, state.analysis)
        bands, _ = self.network.step(self._features(X), state.network)
        Y, _ = self.wiener.step((X, self._masks(bands)), state.wiener)
        y, _ = self.synthesis.step(Y, state.synthesis)
        return y, state

    def flush(self, state: SpectralState) -> torch.Tensor:
        """Return the last `latency_samples`, as if silent frames followed."""
        return self.synthesis.flush(state.synthesis)
