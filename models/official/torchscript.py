"""TorchScript archives, as Danna-Sep publishes them: their state dict keeps the names of the classes."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from ..errors import WeightsError


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a scripted module.

    An archive may run TorchScript of its own while it loads: call this in a process that may be lost.
    Raises: WeightsError when it cannot be loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises against TorchScript; the files are what they are
            module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"cannot be loaded as TorchScript ({first[:300]})") from error
    return dict(module.state_dict())
