"""Safetensors files: tensors by name, nothing that could run."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..errors import WeightsError

if TYPE_CHECKING:  # torch takes seconds to import, and sizes are told without it
    import torch


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file.

    Raises: WeightsError when it is missing or damaged.
    """
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}): import it anew") from error


def tensor_sizes(path: Path) -> dict[str, int]:
    """Return how many values each tensor of a file has.

    Raises: WeightsError when it is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}): import it anew") from error


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to a file.

    Raises: WeightsError when it cannot be written.
    """
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
