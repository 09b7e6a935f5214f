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
from .profiles import Member, Profile

if TYPE_CHECKING:  # torch takes seconds to import, and a cached graph needs none of it
    from torch import nn


def find_weights(profile: Profile, path: Path | None = None) -> dict[str, Path]:
    """Return the weights file of each of a profile's networks, by kind.

    path: a folder that holds a file for every network, or one file for the network that its manifest
    names (X-UMX where it names none); the others' are those that stemrack ships.
    Raises: WeightsError when one is missing, or when its content is not what its manifest says.
    """
    folder, own = Path(str(resources.files("stemrack.models.weights"))), ""
    if path is not None and path.is_dir():
        folder = path
    elif path is not None:
        own = str(read_manifest(path).get("network", "xumx"))
        if own not in profile.kinds:
            raise WeightsError(
                f"{path} is of a network '{own}', profile '{profile.name}' runs {', '.join(profile.kinds)}"
            )
    found = {}
    for member in profile.members:
        given = path if own == member.kind else None
        found[member.kind] = _checked(given or folder / f"{member.weights}.safetensors")
    return found


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: name a .safetensors file with --weights, or train some")
    manifest = read_manifest(path)
    if manifest and manifest["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
        raise WeightsError(f"{path} is not the file its manifest describes: fetch or train it anew")
    return path


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest beside a weights file; empty when there is none."""
    manifest = path.with_suffix(".json")
    return json.loads(manifest.read_text()) if manifest.is_file() else {}


def new_network(member: Member) -> Any:
    """Return a member's network with the weights it is born with."""
    if member.kind == "xumx":
        from .xumx import Xumx

        return Xumx(member.config)  # pyright: ignore[reportArgumentType]
    if member.kind == "unet":
        from .unet_causal import CausalUnet

        return CausalUnet(member.config)  # pyright: ignore[reportArgumentType]
    from .demucs_causal import CausalDemucs

    return CausalDemucs(member.config)  # pyright: ignore[reportArgumentType]


def load_network(member: Member, path: Path) -> Any:
    """Return a member's network with the weights of a file, in float32 and ready to run.

    Raises: WeightsError when the file is damaged or holds another network.
    """
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    network = new_network(member)
    own = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    differing = sorted(
        name
        for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if differing:
        raise WeightsError(
            f"{path} holds another network than this profile's '{member.kind}': {len(differing)} tensors "
            f"differ, the first is {differing[0]}"
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
