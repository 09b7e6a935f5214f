"""What is learnt by a network of samples: four stems that sum to the mixture, by their squared error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..profiles import Profile
from .losses import ENERGY_FLOOR, LOG_FLOOR
from .mixing import Batch, eq_curves


@dataclass(frozen=True, slots=True)
class Waves:
    """A batch as sound: parts (B, G, 2, n), and which stems each part holds (B, G, J)."""

    parts: torch.Tensor
    groups: torch.Tensor


class WaveformTask:
    """From batches of audio to loss and score, on the device of the network."""

    def __init__(self, profile: Profile, device: torch.device, *, balance: float) -> None:
        self._device, self._balance = device, balance
        self._scale = 2.0 / profile.windows.analysis_samples

    @torch.no_grad()
    def prepared(self, batch: Batch) -> Waves:
        """Return the parts of a batch, each coloured by its curve."""
        n = batch.audio.shape[-1]
        rows = []
        for audio, eq_db in zip(batch.audio, batch.eq_db, strict=True):
            curves = torch.from_numpy(eq_curves(eq_db, n // 2 + 1)).to(self._device)
            S = torch.fft.rfft(torch.from_numpy(audio).to(self._device))
            rows.append(torch.fft.irfft(S * curves[:, None], n=n))
        return Waves(torch.stack(rows), torch.from_numpy(batch.groups).to(self._device))

    def set_statistics(self, network: nn.Module, batches: list[Waves]) -> None:
        """Do nothing: the network normalises its input itself."""

    def _errors(self, network: nn.Module, waves: Waves) -> torch.Tensor:
        mixture = waves.parts.sum(1)
        stems = network(mixture)
        stems = stems + ((mixture - stems.sum(1)) / stems.shape[1])[:, None]  # as the host's consistency does
        estimates = torch.einsum("bgj,bjcn->bgcn", waves.groups, stems)
        return (estimates - waves.parts).square().sum((2, 3))

    def loss(self, called: nn.Module, waves: Waves) -> torch.Tensor:
        """Return the loss of a batch: that of `losses.band_loss`, on samples."""
        known = waves.groups.amax(2)
        energy = waves.parts.sum(1).square().sum((1, 2)) + ENERGY_FLOOR / self._scale
        errors = self._errors(called, waves) / energy[:, None]
        return ((errors + self._balance * torch.log(errors + LOG_FLOOR)) * known).sum(1).mean()

    def squared_errors(self, network: nn.Module, waves: Waves) -> torch.Tensor:
        """Return the squared error of every part.  Shape: -> (batch, slot)."""
        return self._errors(network, waves)

    def energies(self, waves: Waves) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the energy of every part, that of the mixtures, and which stems the parts hold."""
        energy = waves.parts.square().sum((2, 3))
        return energy, waves.parts.sum(1).square().sum((1, 2)), waves.groups
