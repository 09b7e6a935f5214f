"""asteroid's X-UMX: per stem what our layout keeps in one tensor for all four.

Slice i of affine1, affine2 and the four scalings is the stem i of ours (drums, bass, other, vocals);
asteroid lists bass, drums, vocals, other, but names every tensor by its stem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import WeightsError
from ..stems import STEMS
from .pickles import state_dict_of

WINDOWS = ("encoder.0.window", "decoder.window")
SCALINGS = {
    "input_means": "input_mean",
    "input_scale": "input_scale",
    "output_means": "output_mean",
    "output_scale": "output_scale",
}
LAYERS = {"affine1.0": "enc.0", "affine1.1": "enc.1"} | {f"affine2.{i}": f"dec.{i}" for i in (0, 1, 3, 4)}
NORMALISATION = ("weight", "bias", "running_mean", "running_var")


def is_asteroid(content: Any) -> bool:
    """Return whether a checkpoint is one that asteroid wrote."""
    return isinstance(content, dict) and {"model_name", "model_args", "state_dict"} <= content.keys()


def from_asteroid(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors in our layout.

    Raises: WeightsError when the checkpoint is not an X-UMX of our four stems.
    """
    told = content["model_args"]
    sources = told.get("sources") if isinstance(told, dict) else None
    if not isinstance(sources, list | tuple) or sorted(map(str, sources)) != sorted(STEMS):
        raise WeightsError(f"its sources are {sources}, an X-UMX here has {', '.join(STEMS)}")
    tensors = state_dict_of(content["state_dict"])
    if told.get("spec_power", 1) != 1:
        raise WeightsError(f"takes a spectrogram to the power {told['spec_power']}; ours takes magnitudes")
    used: set[str] = set(WINDOWS)

    def of_all_stems(pattern: str) -> torch.Tensor:
        names = [pattern.format(stem) for stem in STEMS]
        used.update(names)
        missing = [name for name in names if name not in tensors]
        if missing:
            raise WeightsError(f"{missing[0]} is missing")
        try:
            return torch.cat([tensors[name] for name in names])
        except RuntimeError as error:
            raise WeightsError(f"{names[0]} and those of the other stems differ in shape") from error

    result = {ours: of_all_stems(f"mean_scale.{theirs}_{{}}") for ours, theirs in SCALINGS.items()}
    for ours, theirs in LAYERS.items():
        block = f"layer_{theirs[:3]}"
        for part in NORMALISATION if theirs in ("enc.1", "dec.1", "dec.4") else ("weight",):
            value = of_all_stems(f"{block}.{{}}.{theirs}.{part}")
            result[f"{ours}.{part}"] = value if part != "weight" or value.ndim == 1 else value[..., None]
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        stem, _, part = rest.partition(".")
        if kind == "layer_lstm" and stem in STEMS:
            used.add(name)
            result[f"{stem}_lstm.{part}"] = value
    left = sorted(name for name in tensors.keys() - used if not name.endswith(".num_batches_tracked"))
    if left:
        raise WeightsError(f"holds more than an X-UMX: {len(left)} tensors, first {left[0]}")
    return result
