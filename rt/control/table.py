"""The table of parameters: name, unit, range, default, ramp and role of everything that can be set.

Validation, documentation, the browser's panels and MIDI all read this table; what stands here exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .codec import ProtocolError
from .messages import ErrorCode, ParameterInfo, Value

SILENT_DB = -120.0
"""A gain at or below it is silence."""
GAIN_HIGHEST_DB = 12.0
RAMP_HIGHEST_MS = 60_000.0
DEFAULT_RAMP_MS = 10.0

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""Each may do what those before it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that can be set. ramp_ms: None where it changes at once; role: None if the node sets it."""

    path: str
    kind: Literal["number", "switch", "choice", "text"]
    doc: str
    unit: str = ""
    lowest: float = -math.inf
    highest: float = math.inf
    step: float | None = None
    default: Value = None
    choices: tuple[str, ...] = ()
    ramp_ms: float | None = None
    role: Role | None = "operator"
    is_log: bool = False
    """Whether knobs go in ratios."""

    def checked(self, value: Value) -> Value:
        """Return the value as the state holds it.  Raises: ProtocolError."""
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise self._wrong_type("true or false", value)
            return value
        if self.kind == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._wrong_type("a number", value)
            if not self.lowest <= value <= self.highest:
                said = (
                    f"{value:g} {self.unit}: must be {self.lowest:g} to {self.highest:g} {self.unit}".rstrip()
                )
                raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, self.path)
            return float(value)
        if not isinstance(value, str):
            raise self._wrong_type("text", value)
        if self.kind == "choice" and value not in self.choices:
            said = (
                f"'{value[:64]}': must be one of {', '.join(self.choices) or 'nothing (none is there now)'}"
            )
            raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, self.path)
        return value

    def limited(self, value: float) -> float:
        """Return a number within the range."""
        return min(max(value, self.lowest), self.highest)

    @property
    def is_bindable(self) -> bool:
        """Whether a MIDI control can move it: it is a switch, or a number between two ends."""
        if self.role is None or self.kind not in ("number", "switch"):
            return False
        return self.kind == "switch" or (math.isfinite(self.lowest) and math.isfinite(self.highest))

    def _wrong_type(self, wanted: str, value: Value) -> ProtocolError:
        return ProtocolError(ErrorCode.WRONG_TYPE, f"{value!r:.64}: must be {wanted}", self.path)

    @property
    def info(self) -> ParameterInfo:
        """What a client gets to know."""
        is_number = self.kind == "number"
        return ParameterInfo(
            path=self.path,
            kind=self.kind,
            doc=self.doc,
            unit=self.unit,
            lowest=self.lowest if is_number and math.isfinite(self.lowest) else None,
            highest=self.highest if is_number and math.isfinite(self.highest) else None,
            step=self.step,
            default=self.default,
            choices=self.choices,
            ramp_ms=self.ramp_ms,
            role=self.role or "",
            is_log=self.is_log,
        )


class Table:
    """Parameters by path.

    >>> Table(mixer_parameters(("drums",)))["stem/drums/pan"].highest
    1.0
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self._by_path: Mapping[str, Parameter] = {p.path: p for p in parameters}

    def __getitem__(self, path: str) -> Parameter:
        """Return the parameter.  Raises: ProtocolError if there is none of that path."""
        try:
            return self._by_path[path]
        except KeyError:
            said = f"there is no parameter '{path[:64]}': ask for the table with describe"
            raise ProtocolError(ErrorCode.UNKNOWN_PATH, said, path) from None

    def __contains__(self, path: object) -> bool:
        return path in self._by_path

    def __iter__(self):
        return iter(self._by_path.values())

    @property
    def defaults(self) -> dict[str, Value]:
        """The value of each before anything was set."""
        return {p.path: p.default for p in self}


def gain(path: str, doc: str) -> Parameter:
    """Return a fader's parameter."""
    return Parameter(
        path=path,
        kind="number",
        doc=doc,
        unit="dB",
        lowest=SILENT_DB,
        highest=GAIN_HIGHEST_DB,
        step=1.0,
        default=0.0,
        ramp_ms=DEFAULT_RAMP_MS,
    )


def _switch(path: str, doc: str, ramp_ms: float | None = DEFAULT_RAMP_MS) -> Parameter:
    return Parameter(path=path, kind="switch", doc=doc, default=False, ramp_ms=ramp_ms)


def mixer_parameters(stems: Iterable[str]) -> list[Parameter]:
    """Return the parameters of the faders."""
    rows = []
    for stem in stems:
        at = f"stem/{stem}"
        rows += [
            gain(f"{at}/gain_db", f"Fader of {stem}; -120 is silence."),
            _switch(f"{at}/mute", f"Whether {stem} is silent; wins over solo."),
            _switch(f"{at}/solo", f"Whether only {stem}, and other soloed stems, are heard."),
            Parameter(
                path=f"{at}/pan",
                kind="number",
                doc=f"Place of {stem}: -1 left only, 0 as it is, 1 right only.",
                lowest=-1.0,
                highest=1.0,
                step=0.05,
                default=0.0,
                ramp_ms=DEFAULT_RAMP_MS,
            ),
            Parameter(
                path=f"{at}/chain",
                kind="text",
                doc=f"Effects before the fader of {stem}, first to last, with a space between; empty: none.",
                default="",
            ),
        ]
    rows += [
        gain("master/gain_db", "Fader of the sum and of all stem outputs; -120 is silence."),
        gain("cue/gain_db", "Fader of the dry cue; -120 is silence."),
        Parameter(
            path="master/ceiling_db",
            kind="number",
            doc="Largest sample that is put out.",
            unit="dBFS",
            lowest=-60.0,
            highest=0.0,
            step=0.5,
            default=0.0,
        ),
    ]
    return rows


def node_parameters(
    profiles: tuple[str, ...] = (), inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()
) -> list[Parameter]:
    """Return the parameters of what the node runs."""
    moment = "changing it closes the stream for a moment."
    return [
        Parameter(
            path="recording/active",
            kind="switch",
            doc="Whether a recording is written, into a folder that the configuration names.",
            default=False,
        ),
        _choice("device/input", f"Where sound comes from; {moment}", inputs),
        _choice("device/output", f"Where sound goes to; {moment}", outputs),
        _choice("engine/profile", "What separates; another one is loaded first, then faded to.", profiles),
        _told("engine/state", "wet, dry, waiting (for the device) or stopped."),
        _told("engine/latency_ms", "From input to output, as the budget declares it.", "ms"),
        _told("engine/rate_hz", "Of the device.", "Hz"),
        _told("effects/costs", "What each insert costs: microseconds a hop on the average, a line each."),
        _told("scenes", "Names of the scenes, a line each."),
        _told("presets", "Names of those scenes that are presets and stay as they are, a line each."),
        _told("midi/learning", "The parameter that waits for a MIDI control to be moved; empty: none."),
        _told("midi/ports", "MIDI ports that are open, a line each."),
    ]


def _choice(path: str, doc: str, choices: tuple[str, ...]) -> Parameter:
    return Parameter(path=path, kind="choice", doc=doc, choices=choices, default="", role="admin")


def _told(path: str, doc: str, unit: str = "") -> Parameter:
    """Return what only the node sets: a number if it has a unit, text else."""
    if unit:
        return Parameter(path=path, kind="number", doc=doc, unit=unit, default=0.0, role=None)
    return Parameter(path=path, kind="text", doc=doc, default="", role=None)
