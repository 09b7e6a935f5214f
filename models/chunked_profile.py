"""Profiles of published networks: over windows of context, hop and look-ahead, or over whole tracks.

Data in TOML beside the causal profiles; known to hosts that never import torch.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from .blend import NETWORKS, Table, blend_table
from .errors import SpecError
from .profiles import CHUNKED_NAMES, profile_text
from .stems import MODEL_RATE_HZ

KEYS = {"name", "hop_samples", "look_ahead_samples", "unet_grid_frames", "models", "fast"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedProfile:
    """Which published networks run, and over what: `hop_samples` 0 stands for the whole track."""

    name: str
    models: tuple[tuple[str, str], ...]
    """(kind of network, name of the installed model), in the blend's order."""
    hop_samples: int = 0
    look_ahead_samples: int = 0
    unet_grid_frames: int = 128
    fast: tuple[str, ...] = ("unet", "demucs")

    def __post_init__(self) -> None:
        if not self.models or min(self.hop_samples, self.look_ahead_samples) < 0:
            raise SpecError(f"profile '{self.name}' needs a network, and sizes of 0 or more")

    @property
    def is_whole(self) -> bool:
        """Whether it needs the end of the track before it says anything."""
        return self.hop_samples == 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the networks, in order."""
        return tuple(kind for kind, _ in self.models)

    @property
    def blend(self) -> Table:
        """Shares [network][stem]: the paper's."""
        return blend_table(self.kinds)

    @property
    def hop(self) -> int:
        """Samples a step."""
        return max(self.hop_samples, 1)

    @property
    def latency_samples(self) -> int:
        """Delay between the concatenated inputs and outputs of the separation."""
        return self.look_ahead_samples

    @property
    def window_latency_ms(self) -> float:
        """Hop and look-ahead: what a sample waits for at worst before the networks can answer."""
        return 1000.0 * (self.hop_samples + self.look_ahead_samples) / MODEL_RATE_HZ


def is_chunked(name: str) -> bool:
    """Return whether a profile's name is that of published networks.

    >>> is_chunked("studio:xumx"), is_chunked("live")
    (True, False)
    """
    return name.partition(":")[0] in CHUNKED_NAMES


def load_chunked_profile(name: str) -> ChunkedProfile:
    """Return `studio` or `offline`, whole or with some of its networks (`studio:xumx`, `studio:fast`).

    Raises: SpecError for a name or a file that is none.
    """
    base, _, selection = name.partition(":")
    try:
        data = tomllib.loads(profile_text(base))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{base}.toml is not TOML: {error}") from error
    unknown = set(data) - KEYS
    given = data.get("models", {})
    if unknown or not set(given) <= set(NETWORKS):
        raise SpecError(f"{base}.toml: keys are {', '.join(sorted(KEYS))}; see {sorted(unknown)}")
    fast = tuple(data.get("fast", ("unet", "demucs")))
    wanted = tuple(given) if not selection else fast if selection == "fast" else tuple(selection.split("+"))
    missing = [kind for kind in wanted if kind not in given]
    if missing:
        raise SpecError(f"profile '{base}' has no '{missing[0]}': it has {', '.join(given)}")
    return ChunkedProfile(
        name=name,
        models=tuple((kind, given[kind]) for kind in NETWORKS if kind in wanted),
        hop_samples=int(data.get("hop_samples", 0)),
        look_ahead_samples=int(data.get("look_ahead_samples", 0)),
        unet_grid_frames=int(data.get("unet_grid_frames", 128)),
        fast=fast,
    )
