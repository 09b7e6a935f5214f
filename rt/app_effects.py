"""What a configuration says of effects: those there are, impulse responses, presets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .effect_builtin import BUILT_IN, SILENT_IN_STREAMS, with_impulses
from .effect_table import Effects, EffectTable
from .errors import ConfigError

if TYPE_CHECKING:
    from .params import MixerState
    from .presets import Preset

IMPULSE_SUFFIXES = (".wav", ".flac", ".aif", ".aiff")
SILENT = (
    "gives nothing but silence where sound comes in pieces, with the pedalboard of today: "
    "its delay line is emptied at every call"
)


def effects_of(config: Any) -> Effects:
    """Return the effects of a configuration: pedalboard's, impulses of its folder, plugins that were scanned.

    Raises: ConfigError for a folder that is not there and a broken registry.
    """
    from .plugin_registry import load_registry, registry_file

    impulses: dict[str, Path] = {}
    if config.effects.impulses:
        folder = _folder(config.effects.impulses, "impulses")
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMPULSE_SUFFIXES)
        impulses = {path.stem: path for path in files}
    folders = [Path(f) for f in config.effects.plugin_folders] or None
    plugins = [plugin.effect for plugin in load_registry(registry_file()).usable(folders)]
    built_in = [effect for effect in BUILT_IN if effect.key not in SILENT_IN_STREAMS]
    table = with_impulses(EffectTable([*built_in, *plugins]), impulses)
    refused = {key: f"'{key}' {SILENT}" for key in SILENT_IN_STREAMS}
    if not impulses:
        refused["convolution"] = (
            "'convolution' needs impulse responses: name their folder, [effects] impulses"
        )
    return Effects(table=table.refusing(refused), impulses=impulses)


def presets_of(config: Any, table: EffectTable) -> dict[str, Preset]:
    """Return all presets by name: the shipped ones, and those of the configuration's folder before them.

    Raises: ConfigError for a folder that is not there, and for a file in it that is no preset.
    """
    from .presets import presets_in, shipped_presets

    found = shipped_presets(table)
    if config.effects.presets:
        own, wrong = presets_in(_folder(config.effects.presets, "presets"), table)
        if wrong:
            raise ConfigError(wrong[0])
        found |= own
    return found


def find_preset(config: Any, table: EffectTable, name: str) -> Preset:
    """Return a preset by name or file.  Raises: ConfigError."""
    from .presets import load_preset

    if name.endswith(".toml"):
        return load_preset(Path(name), table)
    presets = presets_of(config, table)
    if name not in presets:
        raise ConfigError(f"there is no preset '{name}': there are {', '.join(presets)}, or give a .toml")
    return presets[name]


def with_faders(mixer: MixerState, preset: Preset) -> MixerState:
    """Return the faders with those that a preset sets."""
    own: dict[str, Any] = {
        stem: replace(fader, ramp_ms=getattr(mixer, stem).ramp_ms) for stem, fader in preset.faders.items()
    }
    if preset.master_db is not None:
        own["master_db"] = preset.master_db
    return replace(mixer, **own)


def _folder(name: str, key: str) -> Path:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"[effects] {key} = '{name}': there is no such folder")
    return folder
