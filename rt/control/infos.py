"""What a node tells of what can be set: parameters and effects; and the base of all that is sent."""

from __future__ import annotations

from typing import dataclass_transform

from msgspec import Struct, field

Value = bool | float | str | None
"""What a parameter holds. A number is never NaN or infinite: silence is a gain of -120 dB."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Typed(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Base of all that is sent."""


class ParameterInfo(Typed, kw_only=True):
    """What is known about a parameter: enough to draw and to check it."""

    path: str
    """Its name."""
    kind: str
    """number, switch, choice or text."""
    doc: str
    """For people: what it does."""
    unit: str = ""
    """As dB or ms; empty: it has none."""
    lowest: float | None = None
    """The least value of a number; none: there is no least one."""
    highest: float | None = None
    """The largest value of a number; none: there is no largest one."""
    step: float | None = None
    """A useful step for keys and wheels."""
    default: Value = None
    """Its value before anything was set."""
    choices: tuple[str, ...] = ()
    """The values that a choice may have."""
    ramp_ms: float | None = None
    """Its own ramp; none: it changes at once."""
    role: str = "operator"
    """Who may set it; empty: nobody, it is told by the node."""
    is_log: bool = False
    """Whether knobs should go in ratios, as with frequencies."""


class EffectInfo(Typed, kw_only=True):
    """What can be put into a chain."""

    key: str
    """Its name in a chain's line. A second one in a chain is called key-2, a third one key-3."""
    title: str
    """Its name for people."""
    doc: str
    """For people: what it does."""
    parameters: tuple[ParameterInfo, ...] = ()
    """Each with its bare name as `path`; in a chain it is `stem/S/fx/INSERT/NAME`. Every insert also has
    `bypass` and `dry_wet`."""
