"""The mapping file: which MIDI control moves which parameter, in TOML; read at start, written by learning."""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from ..control.table import Table
from ..errors import ConfigError, OutputError
from .binding import Binding, Button, Encoding, Kind, check_binding

_HEAD = """\
# Which MIDI control moves which parameter. Learning writes this file anew; edit it while no node runs.
# A port is a pattern of names, as in a shell; channels count from 1.
"""
_WHOLE = ("channel", "number")
_TEXT = ("path", "port")
_CHOICES = {"kind": get_args(Kind), "encoding": get_args(Encoding), "button": get_args(Button)}
_NEEDED = ("path", "kind", "channel", "number")


def load_mapping(path: Path, table: Table) -> tuple[Binding, ...]:
    """Return the bindings in a file, none if there is no such file yet.  Raises: ConfigError."""
    try:
        return parse_mapping(path.read_text(encoding="utf-8"), str(path), table)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8: save it as that") from error


def parse_mapping(text: str, source: str, table: Table) -> tuple[Binding, ...]:
    """Return the bindings that a TOML text describes.  Raises: ConfigError with source, key, value, limit."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    for key in values:
        if key != "control":
            raise ConfigError(f"{source}: there is no table '{key}': it knows control")
    controls = values.get("control", [])
    if not isinstance(controls, list):
        raise ConfigError(f"{source}: control = {controls!r}: must be tables, each [[control]]")
    bindings: list[Binding] = []
    for index, control in enumerate(controls, 1):
        where = f"{source}: [[control]] {index}"
        binding = _binding(control, where, table)
        if binding in bindings:
            raise ConfigError(f"{where} is the same as {bindings.index(binding) + 1}: take one away")
        bindings.append(binding)
    return tuple(bindings)


def mapping_text(bindings: Iterable[Binding]) -> str:
    """Return the TOML of bindings; `parse_mapping` gives them back."""
    return _HEAD + "".join(_table(binding) for binding in bindings)


def save_mapping(path: Path, bindings: Iterable[Binding]) -> None:
    """Write bindings to a file; whenever it is looked at, it is the old one or the whole new one.

    Raises: OutputError.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(mapping_text(bindings).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        said = f"could not be written ({error.strerror}): choose another file as mapping in [midi]"
        raise OutputError(path, said) from error


def _binding(values: Any, where: str, table: Table) -> Binding:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} = {values!r}: must be a table")
    known = [f.name for f in fields(Binding)]
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: there is no key '{key}': it knows {', '.join(known)}")
        wanted = _wanted(key, value)
        if wanted:
            raise ConfigError(f"{where}: {key} = {value!r}: must be {wanted}")
    for key in _NEEDED:
        if key not in values:
            raise ConfigError(f"{where}: {key} is missing: it needs {', '.join(_NEEDED)}")
    try:
        binding = Binding(**values)
        check_binding(binding, table)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return binding


def _wanted(key: str, value: Any) -> str:
    """Return what a value must be, '' if it is that."""
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    if key in _TEXT:
        return "" if isinstance(value, str) else "text"
    if key in _WHOLE:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"


def _table(binding: Binding) -> str:
    held = ((f.name, getattr(binding, f.name), f.default) for f in fields(binding))
    rows = [f"{name} = {_toml(value)}" for name, value, default in held if value != default]
    return "\n".join(["", "[[control]]", *rows, ""])


def _toml(value: str | float) -> str:
    if not isinstance(value, str):
        return repr(value)
    # JSON's escapes are TOML's, but JSON lets DEL stand as it is
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
