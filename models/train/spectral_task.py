"""What is learnt by a network of frames: masks on bands, by the exact spectral error."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ..profiles import Profile
from ..stems import STEMS
from .losses import BandSums, band_errors, band_loss, band_sums, spread_parts, stack_sums
from .mixing import Batch, eq_curves


class SpectralTask:
    """From batches of audio to loss and score, on the device of the network."""

    def __init__(self, profile: Profile, device: torch.device, *, balance: float) -> None:
        self._windows, self._layout, self._device = profile.windows, profile.bands, device
        self._step, self._balance = profile.frame_step_samples, balance
        window = torch.tensor(profile.windows.analysis, dtype=torch.float32)
        # |X| = 1 for a full-scale sine: the scale that band_features is defined in
        self._window = (window * (2.0 / window.sum())).to(device)

    def _spectra(self, audio: torch.Tensor) -> torch.Tensor:
        """Return spectra (..., frame, bin) of audio (..., sample)."""
        w = self._windows
        padded = torch.nn.functional.pad(audio, (w.analysis_samples - self._step, 0))
        return torch.fft.rfft(padded.unfold(-1, w.analysis_samples, self._step) * self._window)

    @torch.no_grad()
    def prepared(self, batch: Batch) -> BandSums:
        """Return the band sums of a batch; one example at a time, its silent parts left out."""
        rows = []
        for audio, groups, eq_db in zip(batch.audio, batch.groups, batch.eq_db, strict=True):
            sounding = np.flatnonzero(audio.any((1, 2)))
            heard = sounding if len(sounding) else np.arange(1)
            curves = torch.from_numpy(eq_curves(eq_db[heard], self._windows.n_bins)).to(self._device)
            S = self._spectra(torch.from_numpy(audio[heard]).to(self._device))
            S.mul_(curves[:, None, None, :])
            places = torch.from_numpy(heard).to(self._device)
            known = torch.from_numpy(groups).to(self._device)
            rows.append(spread_parts(band_sums(S[None], known[None, places], self._layout), known, places))
        return stack_sums(rows)

    def set_statistics(self, network: nn.Module, batches: list[BandSums]) -> None:
        """Set the network's input scaling from batches of the training stream."""
        stacked = torch.cat([sums.features.flatten(0, 1)[::4] for sums in batches])
        network.standardise(stacked.mean(0), stacked.std(0).clamp_min(0.05))  # pyright: ignore[reportCallIssue]

    def loss(self, called: nn.Module, sums: BandSums) -> torch.Tensor:
        """Return the loss of a batch."""
        return band_loss(called(network_input(sums)), sums, balance=self._balance)

    def squared_errors(self, network: nn.Module, sums: BandSums) -> torch.Tensor:
        """Return the squared error of every part.  Shape: -> (batch, slot)."""
        return band_errors(network(network_input(sums)), sums)

    def energies(self, sums: BandSums) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the energy of every part, that of the mixtures, and which stems the parts hold."""
        return sums.parts, sums.mixture.sum((1, 2, 3)), sums.groups


def network_input(sums: BandSums) -> torch.Tensor:
    """Return the network's input (B, 1, 3K, T) of a batch."""
    return sums.features.transpose(1, 2)[:, None]


def mean_sdr_db(
    rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]],
) -> dict[str, float]:
    """Return the mean SDR in dB per stem, and the mean of the stems, over (errors, parts, mixture, groups).

    Counted where a stem is known alone and holds at least a hundredth of the mixture's energy.
    """
    found: dict[str, list[float]] = {name: [] for name in STEMS}
    for errors, parts, mixture, groups in rows:
        audible = parts > 0.01 * mixture[:, None]
        alone = (groups.sum(2) == 1) & audible
        for b, g in alone.nonzero().tolist():
            stem = STEMS[int(groups[b, g].argmax())]
            found[stem].append(10 * math.log10(float(parts[b, g]) / max(float(errors[b, g]), 1e-9)))
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}
    return {**means, "mean": float(np.mean(list(means.values())))}
