"""What the host must know of a profile before any engine is loaded, whatever kind of profile it is.

Causal networks of ours (`live`, `club`, a .toml file), published ones over windows or whole tracks (`studio`,
`offline`), the TDC network (`acapella`), third-party streaming bundles (`bundle:NAME`, a .bundle.toml file).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..models.bundles import find_weights
from ..models.chunked_profile import ChunkedProfile, is_chunked, load_chunked_profile
from ..models.errors import WeightsError
from ..models.official.installed import installed_model, installed_names
from ..models.profiles import CHUNKED_NAMES, load_profile, profile_names
from ..models.streaming_bundle import PREFIX, find_bundle, is_bundle, read_manifest
from .state_folder import bundles_home, models_home

ACAPELLA = "acapella"
TDC_MODEL = "tdc-vocals"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFacts:
    """Name and time of a profile; samples at the model's rate."""

    name: str
    hop: int
    latency_samples: int
    window_latency_ms: float
    is_whole: bool = False
    """It needs the whole track: it renders, and cannot play."""
    may_use_cuda: bool = False


def profile_facts(name: str) -> ProfileFacts:
    """Return the facts of a profile.  Raises: SpecError for one that there is not."""
    if name == ACAPELLA:
        from .separate_tdc import TdcProfile

        tdc = TdcProfile()
        return ProfileFacts(
            name=name,
            hop=tdc.hop,
            latency_samples=tdc.latency_samples,
            window_latency_ms=tdc.window_latency_ms,
        )
    if is_bundle(name):
        manifest = read_manifest(find_bundle(name, bundles_home()))
        return ProfileFacts(
            name=name,
            hop=manifest.hop,
            latency_samples=manifest.latency_samples,
            window_latency_ms=manifest.window_latency_ms,
        )
    found = load_chunked_profile(name) if is_chunked(name) else load_profile(name)
    return ProfileFacts(
        name=name,
        hop=found.hop,
        latency_samples=found.latency_samples,
        window_latency_ms=found.window_latency_ms,
        is_whole=isinstance(found, ChunkedProfile) and found.is_whole,
        may_use_cuda=True,
    )


def parts_of(name: str) -> list[str]:
    """Return the selections of a profile of several networks: the fast pair, and each network alone."""
    if name == ACAPELLA or is_bundle(name):
        return []
    found = load_chunked_profile(name) if is_chunked(name) else load_profile(name)
    fast = [f"{name}:fast"] if set(found.fast) < set(found.kinds) else []
    return [*fast, *(f"{name}:{kind}" for kind in found.kinds)] if len(found.kinds) > 1 else []


def find_files(name: str, weights: Path | None) -> dict[str, Path]:
    """Return the files that a profile's networks come from, by kind.

    Raises: SpecError, WeightsError with what to do for a file that is not there.
    """
    if is_bundle(name):
        manifest = read_manifest(find_bundle(name, bundles_home()))
        return {"bundle": manifest.path}
    if name == ACAPELLA:
        return {"tdc": tdc_weights(weights)}
    if is_chunked(name):
        home = models_home()
        return {kind: installed_model(home, model).path for kind, model in load_chunked_profile(name).models}
    return find_weights(load_profile(name), weights)


def files_sha256(name: str, weights: Path | None) -> dict[str, str]:
    """Return the sha256 of the files that `find_files` finds."""
    found = find_files(name, weights)
    return {kind: hashlib.sha256(path.read_bytes()).hexdigest() for kind, path in found.items()}


def tdc_weights(weights: Path | None) -> Path:
    """Return the TDC network's weights: the file given, or what `stemrack models pull` installed."""
    if weights is not None:
        if not weights.is_file():
            raise WeightsError(f"no weights at {weights}: name a file with --weights")
        return weights
    if TDC_MODEL not in installed_names(models_home()):
        raise WeightsError(
            f"profile '{ACAPELLA}' needs the TDC network: `stemrack models pull {TDC_MODEL}` fetches it"
        )
    return installed_model(models_home(), TDC_MODEL).path


def all_profile_names() -> list[str]:
    """Return the names of the profiles that can be asked for here, bundles included."""
    bundles = sorted(path.name for path in bundles_home().glob("*") if path.is_dir())
    return [*profile_names(), *CHUNKED_NAMES, ACAPELLA, *(f"{PREFIX}{name}" for name in bundles)]
