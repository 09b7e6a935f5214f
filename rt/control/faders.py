"""Between the faders and the values that stand for them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...models.stems import STEMS
from ..params import Fader, MixerState
from .messages import Value
from .table import SILENT_DB

STEM_PATHS = {f"stem/{s}/{what}": s for s in STEMS for what in ("gain_db", "mute", "solo", "pan")}
SCENE_PATHS = (*STEM_PATHS, "master/gain_db")
"""The faders that a scene holds."""
MIXER_PATHS = (*SCENE_PATHS, "cue/gain_db", "master/ceiling_db")


def values_of(mixer: MixerState) -> dict[str, Value]:
    """Return the values by path of faders; `mixer_of` is the way back."""
    values: dict[str, Value] = {}
    for stem, fader in zip(STEMS, mixer.faders, strict=True):
        at = f"stem/{stem}"
        values[f"{at}/gain_db"] = max(fader.gain_db, SILENT_DB)
        values[f"{at}/mute"], values[f"{at}/solo"] = fader.mute, fader.solo
        values[f"{at}/pan"] = fader.pan
    values["master/gain_db"] = max(mixer.master_db, SILENT_DB)
    values["cue/gain_db"] = max(mixer.cue_db, SILENT_DB)
    values["master/ceiling_db"] = mixer.ceiling_db
    return values


def mixer_of(values: Mapping[str, Value], ramps_ms: Mapping[str, float], previous: MixerState) -> MixerState:
    """Return the faders of values; those that move get the longest ramp of what moves them.

    ramps_ms: of the paths that were set. A fader that nothing moves keeps its ramp, so
    that a fade which is under way goes on.
    """
    own_ms = {s: [r for p, r in ramps_ms.items() if STEM_PATHS.get(p) == s] for s in STEMS}
    faders = {}
    for stem in STEMS:
        at = f"stem/{stem}"
        faders[stem] = Fader(
            gain_db=_gain(values[f"{at}/gain_db"]),
            mute=bool(values[f"{at}/mute"]),
            solo=bool(values[f"{at}/solo"]),
            pan=_number(values[f"{at}/pan"]),
            ramp_ms=max(own_ms[stem], default=getattr(previous, stem).ramp_ms),
        )
    moved = MixerState(
        **faders,
        master_db=_gain(values["master/gain_db"]),
        cue_db=_gain(values["cue/gain_db"]),
        ceiling_db=_number(values["master/ceiling_db"]),
        master_ramp_ms=ramps_ms.get("master/gain_db", previous.master_ramp_ms),
        cue_ramp_ms=ramps_ms.get("cue/gain_db", previous.cue_ramp_ms),
    )
    solos_ms = [r for p, r in ramps_ms.items() if p.endswith("/solo")]
    if not solos_ms:
        return moved
    return moved.with_ramp_where_moved(previous, max(solos_ms), [s for s in STEMS if not own_ms[s]])


def _gain(value: Value) -> float:
    level = _number(value)
    return -math.inf if level <= SILENT_DB else level


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
