"""Weights on disk: found by profile, checked against their manifest, loaded into a network, written."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from .errors import WeightsError
from .profiles import Profile

if TYPE_CHECKING:  # torch takes seconds to import, and a cached graph needs none of it
    from torch import nn

    from .xumx import Xumx


def find_weights(profile: Profile, path: Path | None = None) -> Path:
    """Return the weights file of a profile: the one given, or the one that stemrack ships.

    Raises: WeightsError when there is none, or when its content is not what its manifest says.
    """
    if path is None:
        folder = Path(str(resources.files("stemrack.models.weights")))
        path = folder / f"{profile.weights}.safetensors"
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: name a .safetensors file with --weights, or train some")
    manifest = read_manifest(path)
    if manifest and manifest["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
        raise WeightsError(f"{path} is not the file its manifest describes: fetch or train it anew")
    return path


def weights_sha256(profile: Profile, path: Path | None = None) -> str:
    """Return the sha256 of the weights file that `find_weights` finds."""
    return hashlib.sha256(find_weights(profile, path).read_bytes()).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest beside a weights file; empty when there is none."""
    manifest = path.with_suffix(".json")
    return json.loads(manifest.read_text()) if manifest.is_file() else {}


def load_xumx(profile: Profile, path: Path) -> Xumx:
    """Return the profile's network with the weights of a file, in float32 and ready to run.

    Raises: WeightsError when the file is damaged or holds another network.
    """
    from safetensors.torch import load_file

    from .xumx import Xumx

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    network = Xumx(profile.xumx)
    own = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    differing = sorted(
        name
        for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if differing:
        raise WeightsError(
            f"{path} holds another network than profile '{profile.name}': {len(differing)} tensors differ, "
            f"the first is {differing[0]}"
        )
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    return network.eval()


def write_weights(path: Path, network: nn.Module, manifest: dict[str, Any]) -> None:
    """Write a network as float16 safetensors with its manifest (JSON) beside it.

    Raises: WeightsError for a value that float16 cannot hold.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        small = value.detach().cpu().to(torch.float16)
        if not torch.isfinite(small).all():
            raise WeightsError(f"{name} has values beyond float16 (largest {value.abs().max():.3g})")
        tensors[name] = small.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished)
    manifest = {**manifest, "sha256": hashlib.sha256(unfinished.read_bytes()).hexdigest()}
    os.replace(unfinished, path)
    path.with_suffix(".json").write_text(json.dumps(manifest, indent=1) + "\n")
