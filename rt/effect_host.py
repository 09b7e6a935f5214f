"""Effects that sound: pedalboard's own and third parties' plugins, made, set, measured (pedalboard's home).

A process that makes a plugin may crash or hang by it: only the worker, the program that renders, and the
throw-away process that scans do so.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .effect_builtin import class_name, enum_member
from .effect_table import Effect, EffectParameter, Value
from .errors import EffectError

SURVEY_S = 2.5
"""Sound over which it is seen how many samples an effect holds back: the longest holds 1.1 s."""
CLEAR = 0.5
"""Share of its energy that an impulse keeps in one sample where an effect only delays it."""
SHORTEST_SHIFT, LONGEST_SHIFT = 8, 4096
"""A single late answer to an impulse is a filter's phase below, latency between, an echo beyond."""
TEXT_TOLERANCE = 0.01
"""By how much, of its range, a parameter may differ from the text that it was set by."""
PLUGIN_SURVEY_S = 0.3
"""The same for plugins, beyond the latency that they report."""
EXTERNAL_LOAD_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How late an effect gives back what it got, in samples.

    held: most samples that it has taken and not given back.  shift: index in what it gives of the first
    sample that it got.
    """

    held: int = 0
    shift: int = 0

    @property
    def samples(self) -> int:
        """The delay with which all can be given back in blocks as they came."""
        return self.held + self.shift


class Processor:
    """One effect with its memory.

    Raises: EffectError if it cannot be made.  Thread: one at a time; made slowly, see `opened`.
    """

    def __init__(
        self,
        effect: Effect,
        values: Mapping[str, Value],
        *,
        rate_hz: int,
        block_samples: int,
        state: str = "",
        impulse: Path | None = None,
    ) -> None:
        self.effect = effect
        self._rate_hz, self._block = float(rate_hz), block_samples
        try:
            self._plugin = _load(effect, state) if effect.plugin else _make(effect, values, impulse)
            self._raw = _raw_parameters(self._plugin, effect) if effect.plugin else {}
            for name, value in values.items():
                if name != IMPULSE:
                    self.set(name, self.inner(effect[name], value))
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EffectError(f"{effect.key}: {said}") from error

    def process(self, x: np.ndarray) -> np.ndarray:
        """Return (2, m) for (2, sample): m may be less, while it holds samples back."""
        return self._plugin.process(x, self._rate_hz, buffer_size=self._block, reset=False)

    def inner(self, parameter: EffectParameter, value: Value) -> Any:
        """Return a value as `set` takes it: a plugin's go from 0 to 1.  Slow for plugins."""
        if self._raw:
            return _raw_value(self.effect, parameter, self._raw[parameter.name], value)
        if parameter.kind == "choice":
            return self._member(parameter, str(value))
        return value

    def set(self, name: str, inner: Any) -> None:
        """Set a parameter, heard from the next block on."""
        if self._raw:
            self._raw[name].raw_value = inner
        else:
            setattr(self._plugin, name, inner)

    def reset(self) -> None:
        """Forget all that was heard.  Thread: that which processes: it holds the interpreter meanwhile.

        Some plugins pedalboard resets by making them anew; the parameters of the one before are freed then.
        Raises: EffectError if a new one lacks a parameter.
        """
        self._plugin.reset()
        if self._raw:
            self._raw = _raw_parameters(self._plugin, self.effect)

    @property
    def survey_samples(self) -> int:
        """Sound that shows how many samples it holds back."""
        if not self.effect.plugin:
            return round(SURVEY_S * self._rate_hz)
        return int(self._plugin.reported_latency_samples) + round(PLUGIN_SURVEY_S * self._rate_hz)

    def _member(self, parameter: EffectParameter, value: str) -> Any:
        """Return the member of pedalboard's enumeration that a choice's short name stands for."""
        kind = type(getattr(self._plugin, parameter.name))
        return getattr(kind, enum_member(self.effect.key, parameter.name, value))


IMPULSE = "impulse"
"""The parameter that names an impulse response, which is given to the effect when it is made."""


def _make(effect: Effect, values: Mapping[str, Value], impulse: Path | None) -> Any:
    import pedalboard

    kind: Callable[..., Any] = getattr(pedalboard, class_name(effect.key))
    if IMPULSE not in values:
        return kind()
    if impulse is None:
        raise EffectError(f"{effect.key}: '{values[IMPULSE]}' was not found: look at [effects] impulses")
    return kind(str(impulse))


def names_in(path: str) -> list[str]:
    """Return the names of the plugins in a file."""
    return list(_format(path).get_plugin_names_for_file(path))


def opened(path: str, name: str, limit_s: float = EXTERNAL_LOAD_S, *, is_quick: bool = False) -> Any:
    """Return a third party's plugin.  Raises: EffectError.

    is_quick: without pedalboard's own list of parameters, for which it asks for 1001 texts of each in Python:
    most of the time that loading takes, and all of the time in which it would hold the hop loop up.
    Thread: one for all plugins of a process: pedalboard lets only that of the first one load others.
    """
    kind = _quick(_format(path)) if is_quick else _format(path)
    try:
        return kind(path, plugin_name=name or None, initialization_timeout=limit_s)
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        raise EffectError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _quick(kind: Any) -> Any:
    def leave_out(plugin: Any, values: object) -> None:
        """Take the place of the list's making."""

    return type(kind.__name__, (kind,), {"__set_initial_parameter_values__": leave_out})


def _format(path: str) -> Any:
    import pedalboard

    if path.endswith(".component"):
        if not hasattr(pedalboard, "AudioUnitPlugin"):
            raise EffectError("Audio Units are loaded on macOS only")
        return pedalboard.AudioUnitPlugin
    return pedalboard.VST3Plugin


def _raw_parameters(plugin: Any, effect: Effect) -> dict[str, Any]:
    """Return the plugin's own parameters by the names of the table, whose `doc` is what the plugin says.

    Of several of one name it is the first, as in pedalboard, which the probe reads them by.
    """
    own: dict[str, Any] = {}
    for parameter in plugin._parameters:
        own.setdefault(parameter.name, parameter)
    if missing := [p.name for p in effect.parameters if p.doc not in own]:
        raise EffectError(f"{effect.key} has no {missing[0]} any more: `stemrack plugins scan --all`")
    return {p.name: own[p.doc] for p in effect.parameters}


def _raw_value(effect: Effect, parameter: EffectParameter, own: Any, value: Value) -> float:
    """Return what stands for a value in the plugin, which alone knows its scale."""
    if parameter.kind == "switch":
        return float(bool(value))
    raw = float(own.get_raw_value_for_text(str(value)))
    if parameter.kind == "choice":
        if own.get_text_for_raw_value(raw) != value:
            raise EffectError(f"{effect.key}: {parameter.name} = {value!r} is not taken")
        return raw
    lowest, highest = parameter.lowest, parameter.highest
    read = _number_in(own.get_text_for_raw_value(raw))
    if read is not None and abs(read - float(value)) <= TEXT_TOLERANCE * (highest - lowest):
        return raw
    return (float(value) - lowest) / (highest - lowest)  # it does not read its own texts


def set_values(plugin: Any, effect: Effect, values: Mapping[str, Value]) -> None:
    """Set parameters of a plugin that `opened` gave, as a `Processor` does.

    Raises: EffectError for a value that is not taken; ConfigError for a parameter that the effect has not.
    """
    raw = _raw_parameters(plugin, effect)
    for name, value in values.items():
        parameter = effect[name]
        raw[name].raw_value = _raw_value(effect, parameter, raw[name], value)


def _number_in(text: str) -> float | None:
    found = re.search(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", text)
    return float(found[0]) if found else None


def _load(effect: Effect, state: str) -> Any:
    try:
        plugin = opened(effect.plugin, effect.plugin_name, is_quick=True)
        if state:
            plugin.raw_state = base64.b64decode(state, validate=True)
    except (EffectError, ValueError, RuntimeError) as error:  # binascii.Error is a ValueError
        raise EffectError(f"{effect.key} cannot be loaded: {error}") from error
    return plugin


def measured_latency(processor: Processor, *, block_samples: int) -> Latency:
    """Return what an impulse through the processor says; its memory is cleared after that."""
    processor.process(np.zeros((2, block_samples), np.float32))  # only what has run can be reset
    processor.reset()
    n_blocks = max(4, -(-processor.survey_samples // block_samples))
    x = np.zeros((2, block_samples), np.float32)
    x[:, 0] = 0.5
    pieces: list[np.ndarray] = []
    for _ in range(n_blocks):
        pieces.append(processor.process(x))
        x[:, 0] = 0.0
    processor.reset()
    return latency_of(pieces, block_samples)


def latency_of(pieces: Sequence[np.ndarray], block_samples: int) -> Latency:
    """Return what the answer to an impulse in the first sample says: a piece (2, m) for each block.

    held comes from counting samples.  shift is where the impulse comes out if it comes as one: what smears
    it (a room, a filter) is taken to begin at once, like the first sample of its answer.
    """
    n_in = block_samples * np.arange(1, len(pieces) + 1)
    n_out = np.cumsum([piece.shape[1] for piece in pieces])
    held = max(0, int((n_in - n_out).max()))
    answer = np.concatenate(pieces, axis=1)
    energy = np.nan_to_num(np.square(answer.astype(np.float64)).sum(axis=0))
    total = float(energy.sum())
    place = int(energy.argmax()) if total else 0
    if total and energy[place] >= CLEAR * total and SHORTEST_SHIFT <= place <= LONGEST_SHIFT:
        return Latency(held=held, shift=place)
    return Latency(held=held)
