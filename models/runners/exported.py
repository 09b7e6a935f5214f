"""Networks in the form that a runner loads, made once for each content (weights, sizes, exporter) and kept.

They are made by a program in a process of its own, so that a host never imports torch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..profiles import load_profile


@dataclass(frozen=True, slots=True)
class Form:
    """A form: the module that makes it, its suffix; version: raised when the same weights give another."""

    module: str
    suffix: str
    version: str


ONNX = Form("onnx_export", "onnx", "3")
INT8 = Form("int8_export", "npz", "int8-1")


def cache_folder() -> Path:
    """Return the folder of exported networks (below XDG_CACHE_HOME or ~/.cache)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "stemrack" / "onnx"


def exported(profile: str, kind: str, weights: Path, form: Form = ONNX, length: int = 0) -> Path:
    """Return the path of a profile's network with a file's weights, exported if it is not in the cache.

    length: frames or samples that the form takes at a time; 0: any number.

    Raises: ModelError with what the exporting process said when it fails.
    """
    network = f"{load_profile(profile).member(kind)} {length} {form.version}"
    return made_once(form, weights, network, profile, kind, str(weights), str(length))


def made_once(form: Form, weights: Path, described: str, *arguments: str) -> Path:
    """Return the path of what a form's program makes of a file's weights; it runs if the cache has none.

    described: what else decides the content. arguments: the program's, before the path it writes to.
    Raises: ModelError with what the program said when it fails; OSError for weights that cannot be read.
    """
    key = hashlib.sha256(weights.read_bytes() + described.encode()).hexdigest()[:24]
    path = cache_folder() / f"{key}.{form.suffix}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{key}.{os.getpid()}.unfinished")
        command = [sys.executable, "-m", f"{__package__}.{form.module}", *arguments, str(unfinished)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not unfinished.is_file():
            said = done.stderr.strip().splitlines() or ["nothing"]
            raise ModelError(f"the export of {weights.name} ({form.suffix}) failed, saying: {said[-1]}")
        os.replace(unfinished, path)
    return path
