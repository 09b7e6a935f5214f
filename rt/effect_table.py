"""The table of effects: what can be put into a chain, with the parameters, units and ranges of each.

Nothing here loads an effect: the control path, the page and MIDI read this table; `effect_host` makes the
effects that it names. `effect_builtin` lists those that come with pedalboard, `plugin_registry` the plugins
that were scanned.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .errors import ConfigError

Value = bool | float | str
Change = Literal["set", "ramp", "blend", "rebuild"]
"""How a new value is reached without a click.

set: at once, the effect smooths it itself.  ramp: in small steps through sub-blocks.  blend: a second
instance makes it with the new value, and is cross-faded to.  rebuild: a new chain is made
beside the one that is heard and cross-faded to.
"""
COPY = re.compile(r"(?P<key>.+)-(?P<number>[2-9]|[1-9][0-9])\Z")
"""The name of a second, third, ... insert of one effect in a chain: reverb-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectParameter:
    """One thing of an effect that can be set.

    name: the effect's own.  neutral: the value at which the effect changes nothing, as far as it has one;
    None: the default.  is_log: whether ramps and knobs go in ratios (frequencies).
    """

    name: str
    doc: str
    kind: Literal["number", "switch", "choice"] = "number"
    unit: str = ""
    lowest: float = -math.inf
    highest: float = math.inf
    step: float | None = None
    default: Value = 0.0
    choices: tuple[str, ...] = ()
    change: Change = "ramp"
    neutral: Value | None = None
    is_log: bool = False

    def checked(self, value: object) -> Value:
        """Return the value as chains hold it.  Raises: ConfigError."""
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise ConfigError(f"{self.name} = {value!r:.64}: must be true or false")
            return value
        if self.kind == "choice":
            if value not in self.choices:
                raise ConfigError(f"{self.name} = {value!r:.64}: must be one of {', '.join(self.choices)}")
            return str(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{self.name} = {value!r:.64}: must be a number")
        if not (self.lowest <= value <= self.highest and abs(value) <= sys.float_info.max):  # nor is NaN
            limits = f"{self.lowest:g} to {self.highest:g} {self.unit}".rstrip()
            raise ConfigError(f"{self.name} = {value!r:.64}: must be {limits}")
        return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One kind of effect. key: its name in chains; title, doc: for people.

    has_neutral: whether at its neutral values it gives back what it gets; the others need `dry_wet` 0 for
    that.  plugin: the file of a third party's plugin, and the name in it; empty for what pedalboard brings.
    can_reset: whether its memory can be cleared by the thread that plays it.
    """

    key: str
    title: str
    doc: str
    parameters: tuple[EffectParameter, ...] = ()
    has_neutral: bool = False
    plugin: str = ""
    plugin_name: str = ""
    can_reset: bool = True

    def __getitem__(self, name: str) -> EffectParameter:
        """Return a parameter.  Raises: ConfigError if there is none of that name."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        known = ", ".join(p.name for p in self.parameters) or "none"
        raise ConfigError(f"{self.key} has no parameter '{name[:64]}': it has {known}")

    @property
    def defaults(self) -> dict[str, Value]:
        """The value of each parameter before anything was set."""
        return {p.name: p.default for p in self.parameters}

    @property
    def neutral(self) -> dict[str, Value]:
        """The values at which it changes least."""
        return {p.name: p.default if p.neutral is None else p.neutral for p in self.parameters}


class EffectTable:
    """Effects by key.

    >>> table = EffectTable([Effect(key="gain", title="Gain", doc="Louder or softer.")])
    >>> table.of_insert("gain-2").key
    'gain'
    """

    def __init__(self, effects: Iterable[Effect], refused: Mapping[str, str] | None = None) -> None:
        self._by_key: Mapping[str, Effect] = {e.key: e for e in effects}
        self._refused = dict(refused or {})

    def refusing(self, refused: Mapping[str, str]) -> EffectTable:
        """Return the table that, of effects which it lacks, says why."""
        return EffectTable(self, refused)

    def __iter__(self) -> Iterator[Effect]:
        return iter(self._by_key.values())

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __getitem__(self, key: str) -> Effect:
        """Return an effect.  Raises: ConfigError if there is none of that key."""
        try:
            return self._by_key[key]
        except KeyError:
            if key in self._refused:
                raise ConfigError(self._refused[key]) from None
            said = f"there is no effect '{key[:64]}': `stemrack plugins list` shows those there are"
            raise ConfigError(said) from None

    def of_insert(self, name: str) -> Effect:
        """Return the effect of an insert's name: its key, with a number if the chain has several."""
        if name not in self._by_key and (copy := COPY.match(name)):
            name = copy["key"]
        return self[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What can be put into chains. impulses: files, by the names that the table has for them."""

    table: EffectTable
    impulses: Mapping[str, Path] = field(default_factory=dict)
