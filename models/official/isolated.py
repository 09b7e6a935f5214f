"""Conversion in a process of its own, with limits: nothing of a foreign file is unpacked in the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .catalogue import Kind

PASSED_ON = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""All of the environment that the child sees: no tokens, no proxies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a conversion may take."""

    time_s: float = 900.0
    cpu_s: int = 600
    memory_bytes: int = 4 << 30
    """For torch itself; six times the size of the files comes on top."""
    file_bytes: int = 64 << 20
    """For all but tensors; twice the size of the files comes on top."""


def convert(kind: Kind, files: Mapping[str, Path], out: Path, bounds: Bounds | None = None) -> dict[str, Any]:
    """Write `files`, by stem or under "", to `out` as safetensors, and return what they hold.

    The dict has `form`, `architecture`, `tensors` (a count) and `left_out` (names).
    Raises: WeightsError when the files are refused, or the process was lost or took too long.
    """
    bounds = bounds or Bounds()
    names = ", ".join(path.name for path in files.values())
    try:
        size = sum(path.stat().st_size for path in files.values())
    except OSError as error:
        raise WeightsError(f"{error.filename}: {error.strerror}") from error
    out = out.absolute()
    with tempfile.TemporaryDirectory(prefix="stemrack-convert-", ignore_cleanup_errors=True) as folder:
        answer = Path(folder, "answer.json")
        order = {
            "kind": kind.value,
            "files": {part: str(path.absolute()) for part, path in files.items()},
            "out": str(out),
            "answer": str(answer),
            "memory_bytes": bounds.memory_bytes + 6 * size,
            "cpu_s": bounds.cpu_s,
            "file_bytes": bounds.file_bytes + 2 * size,
        }
        said = Path(folder, "said.txt")
        try:
            code = _run(order, folder, said, bounds.time_s)
        except subprocess.TimeoutExpired as error:
            raise WeightsError(f"{names}: not converted within {bounds.time_s:g} s: given up") from error
        result = _answer(answer)
        if code or result is None:
            raise WeightsError(f"{names}: the conversion was lost ({_words(code, said)}); nothing was kept")
    if "error" in result:
        raise WeightsError(_printable(str(result["error"])))
    if not out.is_file():
        raise WeightsError(f"{names}: the conversion wrote nothing")
    return result


def _run(order: dict[str, Any], folder: str, said: Path, time_s: float) -> int:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with said.open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-I", "-m", f"{__package__}.convert"],
            input=json.dumps(order).encode(),
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
            timeout=time_s,
            check=False,
        )
    return done.returncode


def _answer(path: Path) -> dict[str, Any] | None:
    """Return what the child wrote, if it has the form of an answer: it may have been taken over."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or "error" in answer:
        return answer if isinstance(answer, dict) else None
    types = {"form": str, "architecture": dict, "tensors": int, "left_out": list}
    return answer if all(isinstance(answer.get(k), t) for k, t in types.items()) else None


def _words(code: int, said: Path) -> str:
    with said.open("rb") as file:
        file.seek(max(0, said.stat().st_size - 4000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    last = _printable(lines[-1]) if lines else "it said nothing"
    return f"exit code {code}: {last}"


def _printable(text: str) -> str:
    """Return one line without control characters: a terminal might obey them."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
