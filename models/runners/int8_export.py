"""Packing of a network's step for `int8_cpu`: run as a program, so that a host never imports torch.

`python -m stemrack.models.runners.int8_export PROFILE KIND WEIGHTS LENGTH OUT`
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from ..bundles import load_network
from ..errors import ModelError
from ..profiles import load_profile
from .int8_cpu import PackedStep, quantised
from .step_graph import XumxStep


def packed(step: XumxStep) -> PackedStep:
    """Return the step's arrays, its weights rounded to 8 bits."""
    c = step.network.config
    encode, encode_scale = quantised(_array(step.encode_weight))
    cross, cross_scale = quantised(_array(step.cross_weight))
    head, head_scale = quantised(_array(step.head_weight))
    inward, inward_scale = quantised(_by_layer(step, "weight_ih").swapaxes(-1, -2))
    again, again_scale = quantised(_by_layer(step, "weight_hh").swapaxes(-1, -2))
    return PackedStep(
        encode=encode,
        encode_scale=encode_scale,
        encode_bias=_array(step.encode_bias),
        cross=cross,
        cross_scale=cross_scale,
        cross_bias=_array(step.cross_bias),
        inward=np.ascontiguousarray(inward),
        inward_scale=inward_scale,
        again=np.ascontiguousarray(again),
        again_scale=again_scale,
        gate_bias=_by_layer(step, "bias_ih") + _by_layer(step, "bias_hh"),
        head=head,
        head_scale=head_scale,
        head_bias=_array(step.head_bias)[:, 0],
        is_softmax=np.array([c.head == "softmax"]),
        n_channels=np.array([c.n_out_channels]),
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())


def _by_layer(step: XumxStep, name: str) -> np.ndarray:
    """Return a parameter of the recurrences, (stem, layer, ...)."""
    layers = range(step.network.config.n_layers)
    stacks = step.network.stacks
    return np.stack([[_array(s.get_parameter(f"{name}_l{n}")) for n in layers] for s in stacks])


def main(profile: str, kind: str, weights: str, _length: str, out: str) -> None:
    """Pack the X-UMX of a profile with the weights of a file; it takes any number of frames."""
    step = packed(XumxStep(load_network(load_profile(profile).member(kind), Path(weights))))
    arrays = {name: getattr(step, name) for name in PackedStep.__dataclass_fields__}
    with Path(out).open("wb") as file:
        np.savez(file, **arrays)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ModelError as error:
        sys.exit(str(error))
