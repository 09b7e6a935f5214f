"""What the commands are declared with; typer's one home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Context, Exit, Option, Typer

__all__ = [
    "Argument",
    "AsJson",
    "BadParameter",
    "ConfigFile",
    "Context",
    "Exit",
    "Input",
    "KeepAwake",
    "Option",
    "Output",
    "Profile",
    "RunnerName",
    "Typer",
    "Weights",
]

Profile = Annotated[
    str,
    Option(
        "-n",
        "--name",
        "--model",
        "--profile",
        help="Profile: live, club, acapella, studio, offline, bundle:NAME or a .toml file; "
        "live:xumx, live:xumx+demucs or live:fast for some of its networks.",
    ),
]
Weights = Annotated[
    Path | None,
    Option("--weights", help="Weights (.safetensors, or a folder of them) in place of the profile's own."),
]
RunnerName = Annotated[
    str,
    Option(
        "--runner",
        help="Engine of the networks: auto (CUDA where there is one), cpu (int8 for X-UMX, ONNX Runtime "
        "for the others), onnx-cpu, torch-cpu or cuda.",
    ),
]
ConfigFile = Annotated[
    Path | None, Option("-c", "--config", help="Settings: a stemrack.toml (see run --print-config).")
]
Input = Annotated[
    str | None, Option("-i", "--input", help="Device by name or number, or a sound file to loop.")
]
Output = Annotated[
    str | None,
    Option("-o", "--output", help="Device by name or number; none: no device; auto: what there is."),
]
KeepAwake = Annotated[
    bool | None,
    Option(
        "--keep-awake", help="Let no processor sleep, where waking one takes too long (Linux; see doctor)."
    ),
]
AsJson = Annotated[bool, Option("--json", help="JSON on stdout.")]
