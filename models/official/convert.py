"""The conversion itself: a program that is run alone, because a foreign file may do anything to it.

`isolated.convert` starts it as `python -I -m stemrack.models.official.convert`, gives the order as JSON on
its standard input and reads the answer from a file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .catalogue import Kind


def limit_resources(order: dict[str, Any]) -> None:
    """Take memory, processor time and file size away from this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: only the time limit of `isolated` holds there
        return
    # of RLIMIT_AS the libraries of a GPU build of torch alone take many GiB
    memory = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    for which, amount in (
        (memory, order["memory_bytes"]),
        (resource.RLIMIT_CPU, order["cpu_s"]),
        (resource.RLIMIT_FSIZE, order["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            amount = min(amount, hard)
        resource.setrlimit(which, (amount, amount))


def read_checkpoint(kind: Kind, path: Path) -> tuple[dict[str, Any], str]:
    """Return the tensors of a file in our layout, and the form that the file has.

    Raises: WeightsError when the file is none of the known forms.
    """
    from .asteroid_xumx import from_asteroid, is_asteroid
    from .pickles import check_archive, is_archive, read_pickle, state_dict_of
    from .torchscript import read_torchscript

    with path.open("rb") as file:
        start = file.read(512)
    archive = is_archive(path)
    if archive and check_archive(path):
        return read_torchscript(path), "TorchScript"
    if archive or start.startswith(b"\x80"):
        content = read_pickle(path)
        if kind is Kind.xumx and is_asteroid(content):
            return from_asteroid(content), "asteroid pickle"
        return state_dict_of(content), "state dict"
    if start.lstrip()[:20].lower().startswith((b"<!doctype", b"<html")):
        raise WeightsError("is a web page: its server sent that in place of the file")
    if kind is Kind.xumx and start[:1] == b"\x08":  # the first field of an ONNX model, its version
        from .onnx_xumx import read_onnx

        return read_onnx(path), "ONNX"
    raise WeightsError("is no checkpoint: neither an archive or pickle of torch, nor (X-UMX) an ONNX model")


def convert(order: dict[str, Any]) -> dict[str, Any]:
    """Write an order's files as one safetensors file, and return what it holds.

    Raises: WeightsError, beginning with the file's name.
    """
    from .layouts import architecture_of, checked
    from .open_unmix import joined
    from .tensor_files import write_tensors

    kind = Kind(order["kind"])
    parts, form, name = {}, "", ""
    try:
        for part, said in order["files"].items():
            name = Path(said).name
            parts[part], form = read_checkpoint(kind, Path(said))
        if len(parts) > 1:
            name = f"{len(parts)} files"
        tensors = joined(parts) if kind is Kind.umx else next(iter(parts.values()))
        architecture = architecture_of(kind, tensors)
        tensors, left_out = checked(kind, tensors, architecture)
    except (WeightsError, OSError) as error:
        raise WeightsError(f"{name} {error}" if isinstance(error, WeightsError) else str(error)) from error
    write_tensors(Path(order["out"]), tensors)
    return {
        "form": form,
        "architecture": architecture,
        "tensors": len(tensors),
        "left_out": left_out,
    }


def main() -> int:
    """Carry out the order on standard input; write the answer, or the error, to its `answer`."""
    order = json.load(sys.stdin)
    limit_resources(order)
    try:
        answer = convert(order)
    except WeightsError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"needs more than {order['memory_bytes'] >> 20} MiB of memory"}
    Path(order["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
