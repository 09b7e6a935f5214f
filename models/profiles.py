"""Profiles: which networks run, with which windows and widths; data in TOML, checked once on reading."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from .bands import BandLayout, proportional_bands
from .blend import NETWORKS, Table, blend_table, checked_table
from .errors import SpecError
from .network_configs import DemucsConfig, NetworkConfig, UnetConfig, XumxConfig
from .stems import MODEL_RATE_HZ
from .windows import WindowPair

FEATURES_PER_BAND = 3
"""Left level, right level, correlation: see `bands.band_features`."""


CHUNKED_NAMES = ("studio", "offline")
"""Profiles of published networks: see `chunked_profile`."""
SPECTRAL = ("xumx", "unet")
"""Networks that answer with masks for frames; the others answer with sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network of a profile."""

    kind: str
    """One of `blend.NETWORKS`."""
    weights: str
    """Name of a file in `models/weights`, without its ending."""
    config: NetworkConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One way to separate: windows, bands, networks and their blend, Wiener memory."""

    name: str
    windows: WindowPair
    bands: BandLayout
    phases: int
    """Frames are dealt to this many independent streams of a network (see `layers.Interleaved`)."""
    forget_s: float
    """Memory of the causal Wiener filter's spatial sums."""
    members: tuple[Member, ...]
    fast: tuple[str, ...] = ("unet", "demucs")
    """The two networks of the `fast` mode."""
    blends: Mapping[tuple[str, ...], Table] = field(default_factory=dict)
    """Fitted shares for some sets of networks; others come from the paper's (see `blend`)."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the networks, in order."""
        return tuple(member.kind for member in self.members)

    @property
    def blend(self) -> Table:
        """Shares [member][stem]."""
        return blend_table(self.kinds, self.blends)

    @property
    def hop(self) -> int:
        """Samples a step."""
        return self.windows.hop

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

    def member(self, kind: str) -> Member:
        """Return the network of a kind.  Raises: SpecError naming those that there are."""
        for member in self.members:
            if member.kind == kind:
                return member
        raise SpecError(f"profile '{self.name}' has no '{kind}': it has {', '.join(self.kinds)}")

    def only(self, kinds: tuple[str, ...]) -> Profile:
        """Return the profile with these networks alone, its blend made up for the others."""
        for kind in kinds:
            self.member(kind)
        kept = tuple(m for m in self.members if m.kind in kinds)
        return replace(self, members=kept, name=f"{self.name}:{'+'.join(m.kind for m in kept)}")


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
    unknown = set(data) - {"name", "fast", "windows", "bands", "wiener", "blend", *NETWORKS}
    if unknown or "name" not in data or not set(NETWORKS) & set(data):
        raise SpecError(
            f"{source}: keys are name, fast, [windows], [bands], [wiener], [blend] and one or more of "
            f"{', '.join(f'[{kind}]' for kind in NETWORKS)}; see {sorted(unknown)}"
        )
    sizes = _table(data, "windows", {"analysis_samples", "synthesis_samples", "hop", "phases"}, source)
    phases = int(sizes.get("phases", 1))
    if phases < 1:
        raise SpecError(f"{source}: [windows] phases must be 1 or more, got {phases}")
    windows = WindowPair(**{key: value for key, value in sizes.items() if key != "phases"})
    layout = proportional_bands(windows.n_bins, **_table(data, "bands", {"share", "top_bin"}, source))
    forget_s = float(_table(data, "wiener", {"forget_s"}, source).get("forget_s", 2.0))
    if forget_s <= 0:
        raise SpecError(f"{source}: [wiener] forget_s must be above 0 seconds, got {forget_s}")
    members = tuple(_member(data, kind, layout, source) for kind in NETWORKS if kind in data)
    for member in members:
        _check_samples(member, windows, source)
    fast = tuple(data.get("fast", ("unet", "demucs")))
    if not set(fast) <= set(NETWORKS):
        raise SpecError(f"{source}: fast = {list(fast)} names none but {', '.join(NETWORKS)}")
    return Profile(
        name=str(data["name"]),
        windows=windows,
        bands=layout,
        phases=phases,
        forget_s=forget_s,
        members=members,
        fast=fast,
        blends=_blends(data.get("blend", {}), source),
    )


def _member(data: Mapping[str, Any], kind: str, layout: BandLayout, source: str) -> Member:
    """Return a network of a profile; what windows and bands decide is no key of its table."""
    form = {"xumx": XumxConfig, "unet": UnetConfig, "demucs": DemucsConfig}[kind]
    fixed: dict[str, Any]
    if kind == "demucs":
        fixed = {"causal": True}
    else:
        fixed = {"n_in_bins": FEATURES_PER_BAND * layout.n_bands, "n_out_bins": layout.n_bands}
        if kind == "unet":
            fixed |= {"causal": True, "head": "softmax"}
        else:
            fixed |= {"n_in_channels": 1, "directions": 1, "head": "softmax"}
    free = {f.name for f in fields(form)} - set(fixed)
    sizes = dict(_table(data, kind, free | {"weights"}, source))
    weights = sizes.pop("weights", None)
    if not isinstance(weights, str):
        raise SpecError(f"{source}: [{kind}] weights must name a file, without its ending")
    sizes = {key: tuple(value) if isinstance(value, list) else value for key, value in sizes.items()}
    return Member(kind=kind, weights=weights, config=form(**sizes, **fixed))


def _check_samples(member: Member, windows: WindowPair, source: str) -> None:
    """Refuse a network of samples whose step or look-ahead the windows have no room for."""
    config = member.config
    if not isinstance(config, DemucsConfig):
        return
    if windows.hop % config.hop or config.look_ahead_samples > windows.latency_samples:
        raise SpecError(
            f"{source}: [demucs] steps by {config.hop} samples and looks {config.look_ahead_samples} ahead: "
            f"the step must divide the hop, {windows.hop}, the windows' latency is {windows.latency_samples}"
        )


def _blends(data: Any, source: str) -> dict[tuple[str, ...], Table]:
    """Return the tables of [blend."xumx+unet"] and the like."""
    tables = {}
    for names, rows in dict(data).items():
        members = tuple(names.split("+"))
        if list(members) != [kind for kind in NETWORKS if kind in members] or not isinstance(rows, dict):
            raise SpecError(
                f'{source}: [blend."{names}"] must name networks in the order {"+".join(NETWORKS)}'
            )
        tables[members] = checked_table(members, rows, source)
    return tables


def profile_names() -> list[str]:
    """Return the names of the shipped profiles of causal networks."""
    folder = resources.files("stemrack.models.weights")
    found = sorted(Path(str(f.name)).stem for f in folder.iterdir() if f.name.endswith(".toml"))
    return [name for name in found if name not in CHUNKED_NAMES]


def profile_text(name_or_path: str) -> str:
    """Return the TOML of a shipped profile by name, or of a .toml file; SpecError if there is none."""
    name_or_path = name_or_path.partition(":")[0]
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SpecError(f"profile file {path} does not exist")
        return path.read_text()
    names = [*profile_names(), *CHUNKED_NAMES]
    if name_or_path not in names:
        raise SpecError(f"no profile '{name_or_path}': there are {', '.join(names)}, or name a .toml file")
    return (resources.files("stemrack.models.weights") / f"{name_or_path}.toml").read_text()


def load_profile(name_or_path: str) -> Profile:
    """Return a shipped profile by name, or one from a .toml file, whole or with some of its networks.

    `live:xumx`, `live:xumx+demucs` and `live:fast` select networks.
    Raises: SpecError if there is no such profile, or if it has no such network.
    """
    base, _, selection = name_or_path.partition(":")
    source = base if base.endswith(".toml") else f"{base}.toml"
    profile = parse_profile(profile_text(base), source)
    if not selection:
        return profile
    return profile.only(profile.fast if selection == "fast" else tuple(selection.split("+")))
