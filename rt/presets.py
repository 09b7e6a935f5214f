"""Presets: faders and effect chains in a TOML file that people read, write and share.

format = "stemrack preset 1"
title = "Karaoke"

[mixer.vocals]
gain_db = -24.0

[[chain.other]]
effect = "peak_filter"
gain_db = -4.0
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..models.stems import STEMS
from .chains import Chains, chains_of
from .effect_table import EffectTable
from .errors import ConfigError
from .params import GAIN_LIMIT_DB, Fader

FORMAT = "stemrack preset 1"
SHIPPED = Path(__file__).parent / "preset_files"
LONGEST_NAME = 64
SILENT_DB = -120.0
"""A gain at or below it is silence, as in the protocol."""
MOST_LEVELS = 32
"""Of tables and lists in one another."""
TOO_LARGE = "an integer has more than 64 bits"
TOO_DEEP = "tables or lists are nested too deep"
_KEYS = ("format", "title", "doc", "mixer", "chain")
_FADER_KEYS = {"gain_db": float, "mute": bool, "solo": bool, "pan": float}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A sound under a name, that of its file.

    faders: those that it sets, by stem; the others stay as they are.  master_db: None stays as it is.
    chains: of all stems; a stem that the file does not name has no effects.
    """

    name: str
    title: str
    doc: str = ""
    faders: Mapping[str, Fader] = field(default_factory=dict)
    master_db: float | None = None
    chains: Chains = field(default_factory=Chains)


def load_preset(path: Path, table: EffectTable) -> Preset:
    """Return the preset in a file.  Raises: ConfigError with file, table and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): check the name") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8: save it as that") from error
    return parse_preset(text, path.stem, str(path), table)


def shipped_presets(table: EffectTable) -> dict[str, Preset]:
    """Return the presets that come with stemrack, by name."""
    return {path.stem: load_preset(path, table) for path in sorted(SHIPPED.glob("*.toml"))}


def presets_in(folder: Path, table: EffectTable) -> tuple[dict[str, Preset], tuple[str, ...]]:
    """Return the presets of a folder by name, and what is wrong with each file that gives none.

    Raises: ConfigError if there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder of presets: make it, or name another")
    presets, wrong = {}, []
    for path in sorted(folder.glob("*.toml")):
        try:
            presets[path.stem] = load_preset(path, table)
        except ConfigError as error:
            wrong.append(str(error))
    return presets, tuple(wrong)


def parse_preset(text: str, name: str, source: str, table: EffectTable) -> Preset:
    """Return the preset that a TOML text describes.  Raises: ConfigError with source, table and key."""
    if not 0 < len(name) <= LONGEST_NAME or "\n" in name:
        said = f"{source}: a preset's name has 1 to {LONGEST_NAME} characters in one line: rename it"
        raise ConfigError(said)
    try:
        values = toml_values(text)
    except ValueError as error:
        raise ConfigError(f"{source}: is not TOML: {error}") from error
    if values.get("format") != FORMAT:
        said = f"{source}: format = {values.get('format')!r:.64}: must be '{FORMAT}'"
        raise ConfigError(f"{said}; a newer one needs a newer stemrack")
    _refuse_unknown(values, _KEYS, source)
    faders, master_db = _mixer(_table_of(values, "mixer", source), f"{source}: [mixer]")
    return Preset(
        name=name,
        title=_text(values, "title", source, name),
        doc=_text(values, "doc", source, ""),
        faders=faders,
        master_db=master_db,
        chains=_chains(_table_of(values, "chain", source), source, table),
    )


# -- TOML ----------------------------------------------------------------------------------------------------


def toml_values(text: str) -> dict[str, Any]:
    """Return what a TOML text says.

    Raises: ValueError for what is none, for integers of more than 64 bits, which Python may not turn into
    text or a float and TOML does not promise, and for what is nested deeper than anything that we write.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python's limit for turning text into integers
        raise ValueError(TOO_LARGE) from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    for key, value in values.items():
        _refuse_odd(key, value, MOST_LEVELS)
    return values


def _refuse_odd(key: str, value: object, levels: int) -> None:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{key:.64}: {TOO_LARGE}")
    if not levels:
        raise ValueError(TOO_DEEP)
    if isinstance(value, list):
        for inner in value:
            _refuse_odd(key, inner, levels - 1)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _refuse_odd(name, inner, levels - 1)


def toml_text(values: Mapping[str, str | bool | float]) -> str:
    """Return the lines of a TOML table.

    >>> print(toml_text({"effect": "reverb", "room_size": 0.5, "freeze_mode": True}), end="")
    effect = "reverb"
    room_size = 0.5
    freeze_mode = true
    """
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in values.items())


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
    return key if bare else _value(key)


def _value(value: str | bool | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's but for halves of characters, and JSON lets DEL stand as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


# -- a preset's tables ---------------------------------------------------------------------------------------


def _refuse_unknown(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: there is no key '{key[:64]}': it knows {', '.join(known)}")


def _table_of(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key} = {found!r:.64}: must be a table")
    return found


def _text(values: Mapping[str, Any], key: str, where: str, default: str) -> str:
    found = values.get(key, default)
    if not isinstance(found, str):
        raise ConfigError(f"{where}: {key} = {found!r:.64}: must be text")
    return found


def _mixer(values: Mapping[str, Any], where: str) -> tuple[dict[str, Fader], float | None]:
    _refuse_unknown(values, (*STEMS, "master_db"), where)
    faders = {}
    for stem in STEMS:
        if stem in values:
            faders[stem] = _fader(_table_of(values, stem, where), f"{where.removesuffix(']')}.{stem}]")
    if "master_db" not in values:
        return faders, None
    master_db = _level(_checked(values, "master_db", float, where))
    if not master_db <= GAIN_LIMIT_DB:  # nor is NaN
        raise ConfigError(f"{where}: master_db = {master_db:g}: must be at most {GAIN_LIMIT_DB:g} dB")
    return faders, master_db


def _fader(values: Mapping[str, Any], where: str) -> Fader:
    _refuse_unknown(values, tuple(_FADER_KEYS), where)
    found = {key: _checked(values, key, _FADER_KEYS[key], where) for key in values}
    if "gain_db" in found:
        found["gain_db"] = _level(found["gain_db"])
    try:
        return Fader(**found)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _checked(values: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = values[key]
    if kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: {key} = {value!r:.64}: must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: {key} = {value!r:.64}: must be a number")
    return float(value)


def _level(gain_db: float) -> float:
    return -math.inf if gain_db <= SILENT_DB else gain_db


def _chains(values: Mapping[str, Any], source: str, table: EffectTable) -> Chains:
    _refuse_unknown(values, STEMS, f"{source}: [chain]")
    try:
        return chains_of(table, values, "[[chain.{}]]")
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
