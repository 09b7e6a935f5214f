"""Which tensors a checkpoint must hold: told by our own classes, at sizes read off the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from ..errors import SpecError, WeightsError
from ..network_configs import DemucsConfig, UnetConfig, XumxConfig
from ..stems import N_STEMS, STEMS
from .catalogue import Kind
from .open_unmix import OpenUnmix, UmxConfig

Tensors = Mapping[str, torch.Tensor]

MOST_LAYERS = 16
"""Of one stack: a file that claims more is none of these networks."""
NEEDLESS = {Kind.demucs: ("up_sample.kernel", "down_sample.kernel")}
"""Names of published tensors that are computed where our class does not have them."""


def network_of(kind: Kind, architecture: Mapping[str, Any]) -> nn.Module:
    """Return our network of a kind at sizes as `architecture_of` gives them, with weights as they come.

    Raises: WeightsError for sizes that no such network has.
    """
    try:
        if kind is Kind.xumx:
            from ..xumx import Xumx

            return Xumx(XumxConfig(**architecture))
        if kind is Kind.unet:
            from ..unet import Unet

            return Unet(UnetConfig(**architecture))
        if kind is Kind.demucs:
            from ..demucs import Demucs

            return Demucs(DemucsConfig(**architecture))
        if kind is Kind.umx:
            return OpenUnmix(UmxConfig(**architecture))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"no {kind} network has such sizes ({error}): import the file anew") from error
    from ..tdc import TdcVocals

    return TdcVocals()


def architecture_of(kind: Kind, tensors: Tensors) -> dict[str, Any]:
    """Return the sizes of the network that tensors belong to; those of a U-Net and TDC are fixed.

    Raises: WeightsError when the tensors that tell them are missing.
    """
    try:
        if kind is Kind.xumx:
            return asdict(_xumx_config(tensors))
        if kind is Kind.umx:
            return asdict(_umx_config(tensors))
        if kind is Kind.demucs:
            return asdict(_demucs_config(tensors))
    except (KeyError, IndexError, SpecError, ZeroDivisionError) as error:
        raise WeightsError(f"holds no {kind} network: {error} is missing or misshapen") from error
    return asdict(UnetConfig()) if kind is Kind.unet else {}


def checked(
    kind: Kind, tensors: Tensors, architecture: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return a network's tensors in float32, and the names of others that were left out.

    Raises: WeightsError when names or shapes are not those of our class, or values are not finite.
    """
    with torch.device("meta"):
        own = network_of(kind, architecture).state_dict()
    wanted = {name: value for name, value in own.items() if value.is_floating_point()}
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise WeightsError(f"holds no {kind} network: {len(missing)} tensors missing, first {missing[0]}")
    others = sorted(name for name in tensors.keys() - wanted.keys() if not _counts(name))
    strange = [name for name in others if name not in NEEDLESS.get(kind, ()) and kind is not Kind.umx]
    if strange:
        raise WeightsError(f"holds more than a {kind} network: {len(strange)} tensors, first {strange[0]}")
    result = {}
    for name, like in wanted.items():
        value = tensors[name]
        if value.shape != like.shape or not value.is_floating_point():
            raise WeightsError(
                f"{name} is {tuple(value.shape)} {value.dtype}, a {kind} network has {tuple(like.shape)}"
            )
        value = value.detach().to(device="cpu", dtype=torch.float32).contiguous().clone()
        if not torch.isfinite(value).all():
            raise WeightsError(f"{name} holds values that are not finite")
        result[name] = value
    return result, others


def fill(network: nn.Module, tensors: Tensors) -> nn.Module:
    """Return the network with a checked set of tensors, ready to run.

    Raises: WeightsError when they are not the network's.
    """
    own = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    wrong = sorted(
        name
        for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if wrong:
        raise WeightsError(f"{len(wrong)} tensors are another network's, first {wrong[0]}: import it anew")
    network.load_state_dict(dict(tensors), strict=False)
    return network.eval()


def _counts(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _stack(tensors: Tensors, prefix: str) -> tuple[int, int]:
    """Return layers and directions of an LSTM."""
    n_layers = sum(f"{prefix}weight_ih_l{i}" in tensors for i in range(MOST_LAYERS))
    if not n_layers:
        raise KeyError(f"{prefix}weight_ih_l0")
    return n_layers, 2 if f"{prefix}weight_ih_l0_reverse" in tensors else 1


def _xumx_config(tensors: Tensors) -> XumxConfig:
    n_in_bins = tensors["input_means"].shape[0] // N_STEMS
    n_out_bins = tensors["output_means"].shape[0] // N_STEMS
    wide, n_in = tensors["affine1.0.weight"].shape[:2]
    n_layers, directions = _stack(tensors, f"{STEMS[0]}_lstm.")
    return XumxConfig(
        n_in_channels=n_in // n_in_bins,
        n_in_bins=n_in_bins,
        n_out_channels=tensors["affine2.3.weight"].shape[0] // (N_STEMS * n_out_bins),
        n_out_bins=n_out_bins,
        hidden=wide // N_STEMS,
        n_layers=n_layers,
        directions=directions,
    )


def _umx_config(tensors: Tensors) -> UmxConfig:
    own = {name.removeprefix(f"{STEMS[0]}."): value for name, value in tensors.items()}
    n_in_bins, n_out_bins = own["input_mean"].shape[0], own["output_mean"].shape[0]
    hidden, n_in = own["fc1.weight"].shape
    n_layers, directions = _stack(own, "lstm.")
    return UmxConfig(
        n_channels=n_in // n_in_bins,
        n_in_bins=n_in_bins,
        n_out_bins=n_out_bins,
        hidden=hidden,
        n_layers=n_layers,
        directions=directions,
    )


def _demucs_config(tensors: Tensors) -> DemucsConfig:
    channels, n_channels, _ = tensors["encoder.0.0.weight"].shape
    depth = sum(f"encoder.{i}.0.weight" in tensors for i in range(MOST_LAYERS))
    n_layers, _ = _stack(tensors, "lstm.")
    return DemucsConfig(n_channels=n_channels, channels=channels, depth=depth, n_lstm_layers=n_layers)
