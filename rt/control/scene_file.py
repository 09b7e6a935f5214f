"""The file of scenes: JSON that is written whole or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...models.stems import STEMS
from ..errors import ConfigError
from .codec import ProtocolError
from .faders import SCENE_PATHS
from .messages import Value
from .scenes import Scene
from .table import Table, mixer_parameters

FORMAT = "stemrack scenes 2"
"""The first one had no name of its own: an object of faders by path for each scene."""


def load_scenes(path: Path) -> dict[str, Scene]:
    """Return the scenes in a file, none if there is no file.  Raises: ConfigError for other contents."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: holds no scenes ({error}): mend or delete it") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: holds no scenes: mend or delete it")
    said = found.get("format")
    if isinstance(said, str) and said != FORMAT:
        said = f"{path}: format = {said!r:.64}: must be '{FORMAT}'; a newer one needs a newer stemrack"
        raise ConfigError(said)
    scenes = found.get("scenes") if said == FORMAT else {n: {"values": v} for n, v in found.items()}
    if not isinstance(scenes, dict):
        raise ConfigError(f"{path}: holds no scenes: mend or delete it")
    table = Table(mixer_parameters(STEMS))
    return {name: _scene(scene, f"{path}: scene '{name}'", table) for name, scene in scenes.items()}


def save_scenes(path: Path, scenes: Mapping[str, Scene]) -> None:
    """Write the scenes to a file, whole or not at all.  Raises: OSError."""
    held = {name: {"values": s.values, "chains": s.chains} for name, s in scenes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{threading.get_ident()}.tmp")
    text = json.dumps({"format": FORMAT, "scenes": held}, indent=1, ensure_ascii=False)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _scene(found: Any, where: str, table: Table) -> Scene:
    """Return a scene; its chains are looked at when it is recalled."""
    values = found.get("values", {}) if isinstance(found, dict) else None
    chains = found.get("chains", {}) if isinstance(found, dict) else None
    if not isinstance(values, dict) or not isinstance(chains, dict):
        raise ConfigError(f"{where}: holds no scenes: mend or delete the file")
    held: dict[str, Value] = {}
    for path, value in values.items():
        if path in SCENE_PATHS:
            try:
                held[path] = table[path].checked(value)
            except ProtocolError as problem:
                raise ConfigError(f"{where}: {path} = {problem.message}") from problem
    for stem, inserts in chains.items():
        is_chain = isinstance(inserts, list) and all(isinstance(i, dict) for i in inserts)
        if stem not in STEMS or not is_chain:
            raise ConfigError(f"{where}: the chain of {stem[:32]} is none: mend or delete the file")
    return Scene(values=held, chains=chains)
