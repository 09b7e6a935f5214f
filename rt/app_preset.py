"""What --preset and --config say of effects, to the commands that need no engine: render, bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from .command_line import Option

if TYPE_CHECKING:
    from .effect_table import Effects
    from .preset_sound import PresetSound

PresetName = Annotated[
    str | None,
    Option("--preset", metavar="NAME|FILE.toml", help="Effect chains and faders: a preset's name or file."),
]
EffectsConfig = Annotated[
    Path | None,
    Option("-c", "--config", help="A stemrack.toml: its [effects] say where presets and impulses are."),
]


def effects_named(config_file: Path | None) -> Effects:
    """Return the effects of a configuration, or of none.  Raises: ConfigError."""
    from .app_effects import effects_of
    from .app_live import overridden

    return effects_of(overridden(config_file, {}))


def sound_named(name: str, config_file: Path | None) -> PresetSound:
    """Return the sound of a preset by name or file.  Raises: ConfigError with the names there are."""
    from .app_effects import find_preset
    from .app_live import overridden
    from .preset_sound import sound_of

    config, effects = overridden(config_file, {}), effects_named(config_file)
    return sound_of(find_preset(config, effects.table, name), effects.table, effects.impulses)
