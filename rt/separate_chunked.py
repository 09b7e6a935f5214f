"""Published networks as separators: `studio` over windows, `offline` over whole tracks; in torch."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.chunked_branches import demucs_branch, unet_branch, xumx_branch
from ..models.chunked_profile import ChunkedProfile, load_chunked_profile
from ..models.official.installed import installed_model, load_official
from ..models.stems import N_STEMS
from ..models.whole_track import DemucsTrack, SpectralTrack
from .errors import ConfigError

XUMX_BINS = 1487
UNET_FRAMES = 2584
"""The published procedure runs the U-Net over 60 s at a time."""


def load_networks(profile: ChunkedProfile, home: Path) -> dict[str, Any]:
    """Return a profile's networks, which `stemrack models pull` has installed below `home`.

    Raises: ModelError naming the model that is missing or of another kind.
    """
    networks = {}
    for kind, name in profile.models:
        model = installed_model(home, name)
        if model.kind != kind:
            raise ConfigError(f"model '{name}' is a {model.kind}, and '{profile.name}' wants a {kind}")
        networks[kind] = load_official(model)
    return networks


def load_chunked_separator(name: str, home: Path, device: str = "cpu") -> ChunkedSeparator | WholeSeparator:
    """Return the separator of `studio` or `offline`.

    Raises: ModelError for a profile there is not, and for models that are not installed.
    """
    profile = load_chunked_profile(name)
    networks = load_networks(profile, home)
    form = WholeSeparator if profile.is_whole else ChunkedSeparator
    return form(profile, networks, device)


def _branch(profile: ChunkedProfile, kind: str, network: Any) -> Any:
    sizes = {"hop_samples": profile.hop_samples, "look_ahead_samples": profile.look_ahead_samples}
    if kind == "xumx":
        return xumx_branch(network, **sizes)
    if kind == "unet":
        return unet_branch(network, **sizes, grid_frames=profile.unet_grid_frames)
    return demucs_branch(network, **sizes)


def _track(kind: str, network: Any) -> Any:
    if kind == "xumx":
        return SpectralTrack(network, n_in_bins=XUMX_BINS)
    return SpectralTrack(network, frames_at_once=UNET_FRAMES) if kind == "unet" else DemucsTrack(network)


class ChunkedSeparator:
    """Four stems from a stereo mixture at the model's rate, by networks that look ahead.

    Implements what `pipeline.Pipeline` wants.  Latency: the look-ahead.  Thread: one at a time.
    """

    ratio = Fraction(1)
    takes_all = False

    def __init__(self, profile: ChunkedProfile, networks: dict[str, Any], device: str = "cpu") -> None:
        self.profile, self.hop, self.latency_samples = profile, profile.hop, profile.latency_samples
        self._device = torch.device(device)
        self._branches = [_branch(profile, kind, networks[kind].to(device)) for kind in profile.kinds]
        self._shares = torch.tensor(profile.blend, device=self._device).view(-1, 1, N_STEMS, 1, 1)
        self.on_stage: Callable[[str], None] | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """What a hop goes through."""
        return self.profile.kinds

    def init_state(self, batch: int = 1) -> list[Any]:
        """Return the state of a stream that has heard nothing."""
        return [branch.init_state(batch) for branch in self._branches]

    def step(self, x: np.ndarray, state: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Return the stems of the next hops, delayed by `latency_samples`, and the state updated in place."""
        ended = self.on_stage or _nobody
        heard = torch.from_numpy(np.ascontiguousarray(x))[None].to(self._device)
        total = torch.zeros(1, N_STEMS, *x.shape, device=self._device)
        with torch.inference_mode():
            for m, branch in enumerate(self._branches):
                total += branch.step(heard, state[m])[0] * self._shares[m]
                ended(self.profile.kinds[m])
        return total[0].cpu().numpy(), state

    def run(self, x: np.ndarray, state: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Return what `step` returns."""
        return self.step(x, state)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops."""
        heard = torch.from_numpy(np.ascontiguousarray(x))[None].to(self._device)
        with torch.inference_mode():
            parts = [b(heard) * share for b, share in zip(self._branches, self._shares, strict=True)]
        return torch.stack(parts).sum(0)[0].cpu().numpy()

    def flush(self, state: list[Any]) -> np.ndarray:
        """Return the last `latency_samples` of the stems: windows end with the signal."""
        with torch.inference_mode():
            parts = [
                b.flush(s) * share for b, s, share in zip(self._branches, state, self._shares, strict=True)
            ]
        return torch.stack(parts).sum(0)[0].cpu().numpy()


class WholeSeparator:
    """Four stems of a whole track at once, as the networks' authors made them.

    Implements what `pipeline.Pipeline` wants of an engine that takes everything at once; it cannot play live.
    """

    ratio = Fraction(1)
    takes_all = True
    hop = 1
    latency_samples = 0

    def __init__(self, profile: ChunkedProfile, networks: dict[str, Any], device: str = "cpu") -> None:
        self.profile, self._device = profile, torch.device(device)
        self._tracks = [_track(kind, networks[kind].to(device)) for kind in profile.kinds]
        self._shares = torch.tensor(profile.blend, device=self._device).view(-1, 1, N_STEMS, 1, 1)

    def init_state(self) -> None:
        """Return nothing: there is nothing to remember."""

    def step(self, x: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        """Raise: a hop says too little."""
        raise ConfigError(
            f"'{self.profile.name}' needs the whole track: live, play 'live', 'club' or 'studio'"
        )

    def run(self, x: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        """Return the stems of the whole track."""
        heard = torch.from_numpy(np.ascontiguousarray(x))[None].to(self._device)
        with torch.inference_mode():
            parts = [t(heard) * share for t, share in zip(self._tracks, self._shares, strict=True)]
        return torch.stack(parts).sum(0)[0].cpu().numpy(), None


def _nobody(stage: str) -> None:
    """Hear of a stage while nobody measures."""
