"""Checkpoints that torch pickled: only tensors and plain values are read, code in them is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.torch_version import TorchVersion

from ..errors import WeightsError

SPARE_BYTES = 16 << 20


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive, as torch writes them since 1.6."""
    return zipfile.is_zipfile(path)


def check_archive(path: Path) -> bool:
    """Return whether an archive is TorchScript; refuse one that unpacks to much more than its size.

    torch stores tensors as they are, so a small file that unpacks to a large one is no checkpoint.
    Raises: WeightsError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            items = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"a damaged archive ({error})") from error
    unpacked, size = sum(item.file_size for item in items), path.stat().st_size
    if unpacked > 2 * size + SPARE_BYTES:
        raise WeightsError(f"unpacks from {size} to {unpacked} bytes: torch writes no such archives")
    return any(item.filename.endswith("/constants.pkl") for item in items)


def read_pickle(path: Path) -> Any:
    """Return what a file holds: tensors, and dicts, lists and plain values around them.

    Raises: WeightsError when it holds anything else; none of that is run.
    """
    try:
        with torch.serialization.safe_globals([TorchVersion]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"holds more than tensors, which is not read ({_cause(error)}): save its state_dict alone"
        ) from error
    except (OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        raise WeightsError(f"cannot be read as a checkpoint ({_cause(error)})") from error


def state_dict_of(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict.

    Raises: WeightsError when the content is something else.
    """
    if isinstance(content, dict) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
    ):
        return dict(content)
    found = type(content).__name__
    if isinstance(content, dict):
        found = f"a dict of {', '.join(map(str, list(content)[:6]))}"
    raise WeightsError(f"holds {found}, not a state dict")


def _cause(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "GLOBAL" in line or line.startswith("WeightsUnpickler error")]
    return (told or lines or [type(error).__name__])[0][:300]
