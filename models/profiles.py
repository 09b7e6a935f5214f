"""Profiles: what runs, with which windows and widths; data in TOML, checked once on reading."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .bands import BandLayout, proportional_bands
from .errors import SpecError
from .network_configs import XumxConfig
from .stems import MODEL_RATE_HZ
from .windows import WindowPair

FEATURES_PER_BAND = 3
"""Left level, right level, correlation: see `bands.band_features`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One way to separate: windows, bands, network sizes, Wiener memory, name of the weights."""

    name: str
    weights: str
    """Name of a file in `models/weights`, without its ending."""
    windows: WindowPair
    bands: BandLayout
    xumx: XumxConfig
    phases: int
    """Frames are dealt to this many independent streams of the network (see `layers.Interleaved`)."""
    forget_s: float
    """Memory of the causal Wiener filter's spatial sums."""

    @property
    def latency_samples(self) -> int:
        """Delay between the concatenated inputs and outputs of the separation."""
        return self.windows.latency_samples

    @property
    def frame_step_samples(self) -> int:
        """Distance of the frames that one stream of the network hears."""
        return self.windows.hop * self.phases

    @property
    def window_latency_ms(self) -> float:
        """Length of the synthesis window: the papers' figure."""
        return 1000.0 * self.windows.synthesis_samples / MODEL_RATE_HZ


def _table(data: Mapping[str, Any], key: str, allowed: set[str], source: str) -> dict[str, Any]:
    table = data.get(key)
    if not isinstance(table, dict):
        raise SpecError(f"{source}: table [{key}] is missing")
    unknown = set(table) - allowed
    if unknown:
        raise SpecError(f"{source}: [{key}] knows {sorted(allowed)}, not {sorted(unknown)}")
    return table


def parse_profile(text: str, source: str) -> Profile:
    """Return the profile that a TOML text describes; SpecError names the source and the key."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{source} is not TOML: {error}") from error
    unknown = set(data) - {"name", "weights", "windows", "bands", "xumx", "wiener"}
    if unknown or not {"name", "weights"} <= set(data):
        raise SpecError(
            f"{source}: keys are name, weights, [windows], [bands], [xumx], [wiener]; see {unknown}"
        )
    windows = WindowPair(**_table(data, "windows", {"analysis_samples", "synthesis_samples", "hop"}, source))
    layout = proportional_bands(windows.n_bins, **_table(data, "bands", {"share", "top_bin"}, source))
    sizes = dict(_table(data, "xumx", {"hidden", "n_layers", "dropout", "phases"}, source))
    phases = int(sizes.pop("phases", 1))
    if phases < 1:
        raise SpecError(f"{source}: [xumx] phases must be 1 or more, got {phases}")
    forget_s = float(_table(data, "wiener", {"forget_s"}, source).get("forget_s", 2.0))
    if forget_s <= 0:
        raise SpecError(f"{source}: [wiener] forget_s must be above 0 seconds, got {forget_s}")
    network = XumxConfig(
        n_in_channels=1,
        n_in_bins=FEATURES_PER_BAND * layout.n_bands,
        n_out_bins=layout.n_bands,
        directions=1,
        head="softmax",
        **sizes,
    )
    return Profile(
        name=str(data["name"]),
        weights=str(data["weights"]),
        windows=windows,
        bands=layout,
        xumx=network,
        phases=phases,
        forget_s=forget_s,
    )


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    folder = resources.files("stemrack.models.weights")
    return sorted(Path(str(f.name)).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def profile_text(name_or_path: str) -> str:
    """Return the TOML of a shipped profile by name, or of a .toml file; SpecError if there is none."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SpecError(f"profile file {path} does not exist")
        return path.read_text()
    if name_or_path not in profile_names():
        raise SpecError(
            f"no profile '{name_or_path}': there are {', '.join(profile_names())}, or name a .toml file"
        )
    return (resources.files("stemrack.models.weights") / f"{name_or_path}.toml").read_text()


def load_profile(name_or_path: str) -> Profile:
    """Return a shipped profile by name, or one from a .toml file; SpecError if there is none."""
    source = name_or_path if name_or_path.endswith(".toml") else f"{name_or_path}.toml"
    return parse_profile(profile_text(name_or_path), source)
