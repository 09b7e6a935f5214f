"""Scenes: what faders and chains were when they were stored, and presets in the same form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...models.stems import STEMS
from ..chains import Chains, chains_of
from ..effect_table import EffectTable
from ..errors import ConfigError
from ..presets import Preset
from .codec import LONGEST_TEXT, ProtocolError
from .faders import SCENE_PATHS, STEM_PATHS
from .messages import ErrorCode, Value
from .table import SILENT_DB

MAX_SCENES = 100
"""That clients stored; presets do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Faders by path, and the inserts of each stem's chain as `Insert.as_dict` gives them.

    Chains are made when the scene is recalled: it may name a plugin that is not there any more.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    chains: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def only(self, stems: tuple[str, ...]) -> Scene:
        """Return what it says of some stems; all of it if none are named.  Raises: ProtocolError."""
        check_stems(stems)
        if not stems:
            return self
        return Scene(
            values={p: v for p, v in self.values.items() if STEM_PATHS.get(p) in stems},
            chains={stem: inserts for stem, inserts in self.chains.items() if stem in stems},
        )

    def made(self, effects: EffectTable, present: Chains, name: str) -> Chains:
        """Return the chains with those of the scene.  Raises: ProtocolError if one cannot be made."""
        for stem, inserts in self.chains.items():
            try:
                made = chains_of(effects, {stem: list(inserts)})
            except ConfigError as error:
                said = f"scene '{name}' wants in the chain of {stem} what is not here: {error}"
                raise ProtocolError(ErrorCode.NOT_NOW, said[:LONGEST_TEXT], "name") from error
            present = present.with_chain(stem, made[stem])
        return present


def check_stems(stems: tuple[str, ...]) -> None:
    """Check names of stems.  Raises: ProtocolError."""
    for stem in stems:
        if stem not in STEMS:
            said = f"there is no stem '{stem[:32]}', but {', '.join(STEMS)}"
            raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, "stems")


def scene_of(values: Mapping[str, Value], chains: Chains) -> Scene:
    """Return the scene of what is in force now."""
    return Scene(
        values={p: values[p] for p in SCENE_PATHS},
        chains={stem: [insert.as_dict() for insert in chain] for stem, chain in chains},
    )


def scene_of_preset(preset: Preset) -> Scene:
    """Return a preset as a scene: the faders that it names, and the chains of all stems."""
    values: dict[str, Value] = {}
    for stem, fader in preset.faders.items():
        values[f"stem/{stem}/gain_db"] = _level(fader.gain_db)
        values[f"stem/{stem}/mute"], values[f"stem/{stem}/solo"] = fader.mute, fader.solo
        values[f"stem/{stem}/pan"] = fader.pan
    if preset.master_db is not None:
        values["master/gain_db"] = _level(preset.master_db)
    return Scene(
        values=values,
        chains={stem: [insert.as_dict() for insert in chain] for stem, chain in preset.chains},
    )


def _level(gain_db: float) -> float:
    return max(gain_db, SILENT_DB) if not math.isnan(gain_db) else SILENT_DB
