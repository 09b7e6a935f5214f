"""Third parties' plugins that were scanned: what each is called, has and costs, or why it is refused.

The registry is a file that `plugin_scan` writes. Reading it opens no plugin: the control path, the page and
MIDI take their parameters from here, and only what stands here, unchanged, can be put into a chain.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .effect_builtin import BUILT_IN
from .effect_table import COPY, Effect, EffectParameter, Value
from .errors import ConfigError
from .state_folder import state_folder

VERSION = 1
KEY = re.compile(r"[A-Za-z0-9_-]{1,48}")
PARAMETER_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "doc": str,
    "kind": str,
    "unit": str,
    "lowest": (int, float),
    "highest": (int, float),
    "step": (int, float),
    "default": (bool, int, float, str),
    "choices": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What tells whether a plugin's file is the one scanned: its newest change, the size of all parts."""

    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a plugin did at one rate, in blocks of 512 samples.

    reported_samples: the latency that it states.  latency_samples: where an impulse came out.
    """

    rate_hz: int
    reported_samples: int
    latency_samples: int
    block_us: float
    worst_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One plugin of a file. key: its name in chains; inner_name: in the file; refused: why it cannot be used.

    resets_anywhere: whether its memory can be cleared on any thread; False: only by loading it anew.
    """

    key: str
    name: str
    path: str
    stamp: Stamp
    inner_name: str = ""
    maker: str = ""
    version: str = ""
    refused: str = ""
    load_ms: float = 0.0
    resets_anywhere: bool = True
    measured: tuple[Measured, ...] = ()
    parameters: tuple[EffectParameter, ...] = ()

    @property
    def latency_samples(self) -> int:
        """The largest that was measured."""
        return max((m.latency_samples for m in self.measured), default=0)

    @property
    def block_us(self) -> float:
        """The time of a block of 512 samples, at the rate where it takes longest."""
        return max((m.block_us for m in self.measured), default=0.0)

    @property
    def is_unchanged(self) -> bool:
        """Whether its file is there still, as it was scanned."""
        return stamp_of(Path(self.path)) == self.stamp

    @property
    def effect(self) -> Effect:
        """What the table of effects holds of it."""
        doc = " ".join(word for word in (self.maker, self.version) if word)
        return Effect(
            key=self.key,
            title=self.name,
            doc=doc,
            parameters=self.parameters,
            plugin=self.path,
            plugin_name=self.inner_name,
            can_reset=self.resets_anywhere,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All plugins that were scanned, accepted and refused."""

    plugins: tuple[Plugin, ...] = field(default_factory=tuple)

    def plugin(self, key: str) -> Plugin:
        """Return a plugin that can be used.  Raises: ConfigError if it is unknown, refused or changed."""
        for plugin in self.plugins:
            if plugin.key == key:
                if plugin.refused:
                    raise ConfigError(f"plugin '{key}' was refused: {plugin.refused}")
                if not plugin.is_unchanged:
                    raise ConfigError(f"plugin '{key}' has changed: run `stemrack plugins scan`")
                return plugin
        said = f"there is no plugin '{key[:64]}': `stemrack plugins list` shows those there are"
        raise ConfigError(said)

    def usable(self, folders: Sequence[Path] | None = None) -> list[Plugin]:
        """Return the plugins that can be used; of some folders only, if they are given."""
        homes = None if folders is None else [folder.expanduser().resolve() for folder in folders]
        return [
            plugin
            for plugin in self.plugins
            if not plugin.refused
            and plugin.is_unchanged
            and (homes is None or any(Path(plugin.path).is_relative_to(home) for home in homes))
        ]


def registry_file() -> Path:
    """Return where the registry is kept."""
    return state_folder() / "plugins.json"


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a plugin's file or bundle; None if it is not there."""
    try:
        parts = [path, *path.rglob("*")] if path.is_dir() else [path]
        found = [part.stat() for part in parts]
    except OSError:
        return None
    size = sum(s.st_size for part, s in zip(parts, found, strict=True) if part.is_file())
    return Stamp(mtime_ns=max(s.st_mtime_ns for s in found), size=size)


def free_key(name: str, taken: Iterable[str]) -> str:
    """Return a short name for a plugin that no other has, nor an effect that comes with pedalboard.

    >>> free_key("Ping Pong Pan", []), free_key("Reverb", []), free_key("Comp-2", ["comp_2"])
    ('PingPongPan', 'Reverb_2', 'Comp_2_2')
    """
    used = {key.lower() for key in (*taken, *(effect.key for effect in BUILT_IN))}
    plain = re.sub(r"[^A-Za-z0-9_-]", "", name)[:40].strip("-_") or "plugin"
    if COPY.match(plain):  # as a chain names a second insert
        plain = "_".join(plain.rsplit("-", 1))
    key, number = plain, 2
    while key.lower() in used:
        key, number = f"{plain}_{number}", number + 1
    return key


def save_registry(path: Path, registry: Registry) -> None:
    """Write the registry to a file, whole or not at all.  Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{threading.get_ident()}.tmp")
    values = {"version": VERSION, "plugins": [plugin_values(p) for p in registry.plugins]}
    draft.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    draft.replace(path)


def plugin_values(plugin: Plugin) -> dict[str, Any]:
    """Return the plain values of a plugin, for files; `plugin_of` gives it back."""
    plain = {f.name: getattr(plugin, f.name) for f in fields(plugin)}
    return plain | {
        "stamp": asdict(plugin.stamp),
        "measured": [asdict(m) for m in plugin.measured],
        "parameters": [_parameter_values(p) for p in plugin.parameters],
    }


def _parameter_values(parameter: EffectParameter) -> dict[str, Any]:
    values: dict[str, Any] = {"name": parameter.name, "doc": parameter.doc, "kind": parameter.kind}
    if parameter.kind == "number":
        values |= {"unit": parameter.unit, "lowest": parameter.lowest, "highest": parameter.highest}
        if parameter.step is not None:
            values["step"] = parameter.step
    if parameter.kind == "choice":
        values["choices"] = list(parameter.choices)
    return values | {"default": parameter.default}


def load_registry(path: Path) -> Registry:
    """Return the registry in a file, empty if there is none.  Raises: ConfigError for other contents."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Registry()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: holds no plugins ({error}): delete it and scan again") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ConfigError(f"{path}: is not a registry of version {VERSION}: delete it and scan again")
    try:
        plugins = tuple(plugin_of(values) for values in _listed(found.get("plugins"), "plugins"))
        keys = [plugin.key for plugin in plugins]
        if twice := next((key for key in keys if keys.count(key) > 1), ""):
            raise ConfigError(f"two plugins have the key '{twice}'")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}: delete it and scan again") from error
    return Registry(plugins=plugins)


def plugin_of(values: object) -> Plugin:
    """Return the plugin that plain values describe.  Raises: ConfigError."""
    facts = _checked(values, Plugin)
    if not KEY.fullmatch(facts["key"]):
        raise ConfigError(f"'{facts['key']:.64}' is no key of a plugin")
    facts["stamp"] = Stamp(**_checked(facts["stamp"], Stamp))
    facts["measured"] = tuple(Measured(**_checked(m, Measured)) for m in facts.get("measured", ()))
    facts["parameters"] = tuple(parameter_of(p) for p in facts.get("parameters", ()))
    return Plugin(**facts)


def parameter_of(values: object) -> EffectParameter:
    """Return the parameter that plain values describe.  Raises: ConfigError."""
    if not isinstance(values, Mapping) or not all(
        key in values for key in ("name", "doc", "kind", "default")
    ):
        raise ConfigError(f"{values!r:.64} is no parameter")
    for key, value in values.items():
        if key not in PARAMETER_KEYS or not isinstance(value, PARAMETER_KEYS[key]):
            raise ConfigError(f"{values['name']!r:.64}: {key} = {value!r:.64} is not known")
    kind, choices = values["kind"], tuple(values.get("choices", ()))
    numbers = [values.get(key, math.nan) for key in ("lowest", "highest")]
    is_whole = {
        "number": all(math.isfinite(n) for n in numbers) and numbers[0] < numbers[1],
        "choice": len(choices) > 0 and all(isinstance(c, str) for c in choices),
        "switch": True,
    }.get(kind, False)
    if not is_whole:
        raise ConfigError(f"{values['name']!r:.64}: has no range of kind {kind!r:.64}")
    change = "ramp" if kind == "number" else "set"
    parameter = EffectParameter(**{**values, "choices": choices, "change": change})
    default: Value = parameter.checked(values["default"])
    assert default == parameter.default
    return parameter


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "Stamp": dict,
}


def _checked(values: object, kind: type) -> dict[str, Any]:
    """Return the values as arguments of a dataclass: its keys, of the right types.  Raises: ConfigError."""
    if not isinstance(values, dict):
        raise ConfigError(f"{values!r:.64} is no {kind.__name__.lower()}")
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"a {kind.__name__.lower()} has no '{key:.64}'")
        wanted = _TYPES.get(str(known[key].type), list)
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ConfigError(f"{key} = {value!r:.64} of a {kind.__name__.lower()} is not of the right kind")
    needed = ("key", "name", "path", "stamp") if kind is Plugin else tuple(known)
    if missing := [key for key in needed if key not in values]:
        raise ConfigError(f"a {kind.__name__.lower()} lacks '{missing[0]}'")
    return dict(values)


def _listed(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"has no list of {what}")
    return value
