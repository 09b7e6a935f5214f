"""A MIDI control tied to a parameter: how it is heard among bytes, and the law of its travel.

Source: MIDI 1.0 Detailed Specification (running status, real-time messages, 14-bit controllers).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal, NamedTuple

from ..control.table import GAIN_HIGHEST_DB, SILENT_DB, Parameter, Table
from ..errors import ConfigError

Kind = Literal["cc7", "cc14", "relative", "note"]
Encoding = Literal["twos_complement", "signed_bit", "offset_64"]
Button = Literal["toggle", "momentary"]

GAIN_KNOTS = (
    (0.0, SILENT_DB),
    (0.1, -48.0),
    (0.3, -24.0),
    (0.5, -12.0),
    (0.625, -6.0),
    (0.75, 0.0),
    (0.875, 6.0),
    (1.0, GAIN_HIGHEST_DB),
)
"""Position of a fader and its gain in dB; between them it is linear. The page has the same (`law.js`)."""
GAIN_TICKS = 100
"""Clicks of an endless knob over the travel of a fader (0 dB is one of them), or of what goes in ratios."""
TOP7, TOP14 = 127, 16_383
"""Highest value of a controller, and of a 14-bit one."""
LSB = 32
"""Number of a 14-bit controller's lower half, counted from its upper one."""


# -- laws ----------------------------------------------------------------------------------------------------


def gain_at(position: float) -> float:
    """Return the gain, in dB, of a fader at a position, 0 (bottom, silence) to 1 (top).

    >>> gain_at(0.75), gain_at(0.0), gain_at(1.0)
    (0.0, -120.0, 12.0)
    """
    at = min(max(position, 0.0), 1.0)
    (x0, y0), (x1, y1) = next(part for part in pairwise(GAIN_KNOTS) if at <= part[1][0])
    return y0 + (y1 - y0) * ((at - x0) / (x1 - x0))


def position_of(gain_db: float) -> float:
    """Return where a fader with a gain stands, 0 to 1; the inverse of `gain_at`.

    >>> position_of(0.0), position_of(-200.0)
    (0.75, 0.0)
    """
    gain_db = min(max(gain_db, SILENT_DB), GAIN_HIGHEST_DB)
    (x0, y0), (x1, y1) = next(part for part in pairwise(GAIN_KNOTS) if gain_db <= part[1][1])
    return x0 + (x1 - x0) * ((gain_db - y0) / (y1 - y0))


@dataclass(frozen=True, slots=True)
class Travel:
    """From the bottom of a control to its top. is_log: in ratios; its bottom is above 0 then."""

    lowest: float
    highest: float
    is_gain: bool
    step: float
    is_log: bool = False

    def position_of(self, value: float) -> float:
        """Return the place of a value, 0 to 1.

        >>> Travel(20.0, 20_000.0, False, 0.0, is_log=True).position_of(2_000.0)
        0.6666666666666666
        """
        low, high, at = map(self._law, (self.lowest, self.highest, value))
        return min(max((at - low) / (high - low), 0.0), 1.0)

    def _law(self, value: float) -> float:
        if self.is_log:
            return math.log10(max(value, self.lowest))
        return position_of(value) if self.is_gain else value

    def value_at(self, position: float) -> float:
        """Return the value at a place."""
        low, high = self._law(self.lowest), self._law(self.highest)
        at = low + position * (high - low)
        value = 10.0**at if self.is_log else gain_at(at) if self.is_gain else at
        return min(max(round(value, self._places), self.lowest), self.highest)

    @property
    def _places(self) -> int:
        """Of values after the point: finer than a 14-bit step, and readable."""
        least = (self.highest - self.lowest) / TOP14
        if self.is_log:
            least = self.lowest * math.log(self.highest / self.lowest) / TOP14
        return max(4, math.ceil(-math.log10(least)))

    def value_of(self, raw: int, top: int) -> float:
        """Return the value of an absolute control; the step next to 0 dB, or to a pan's middle, is that."""
        position = raw / top
        if self.lowest < 0.0 < self.highest and abs(position - self.position_of(0.0)) * top <= 0.5 + 1e-9:
            return 0.0
        return self.value_at(position)

    def turned(self, value: float, n_clicks: int) -> float:
        """Return the value after some clicks of an endless knob."""
        if self.is_gain or self.is_log:
            at = round(self.position_of(value) * GAIN_TICKS) + n_clicks
            return self.value_at(min(max(at / GAIN_TICKS, 0.0), 1.0))
        turned = round(value + n_clicks * self.step, self._places)
        return min(max(turned, self.lowest), self.highest)


def clicks(encoding: Encoding, value: int) -> int:
    """Return how far an endless knob was turned, from the value (0 to 127) it sent.

    >>> clicks("twos_complement", 127), clicks("signed_bit", 65), clicks("offset_64", 65)
    (-1, -1, 1)
    """
    if encoding == "offset_64":
        return value - 64
    if encoding == "signed_bit":
        return value if value < 64 else 64 - value
    return value if value < 64 else value - 128


# -- bytes ---------------------------------------------------------------------------------------------------


class Heard(NamedTuple):
    """A controller or note message. channel: from 1. value: of a note, its velocity, 0 when released."""

    is_note: bool
    channel: int
    number: int
    value: int


_N_DATA = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}


def heard_in(data: bytes) -> Iterator[Heard]:
    """Yield the controller and note messages in some bytes; all else is passed over, nothing raises.

    Running status holds within `data`; real-time bytes may stand anywhere; what is cut off is dropped.
    """
    status, held = 0, bytearray()
    for byte in data:
        if byte >= 0xF8:
            continue
        if byte >= 0x80:
            # system messages, sysex among them, end running status: their data is passed over
            status = byte if byte < 0xF0 else 0
            held.clear()
            continue
        if not status:
            continue
        held.append(byte)
        if len(held) == _N_DATA[status & 0xF0]:
            heard = _heard(status, held)
            held.clear()
            if heard is not None:
                yield heard


def _heard(status: int, held: bytearray) -> Heard | None:
    kind, channel = status & 0xF0, (status & 0x0F) + 1
    if kind == 0xB0:
        return Heard(False, channel, held[0], held[1])
    if kind in (0x80, 0x90):
        return Heard(True, channel, held[0], held[1] if kind == 0x90 else 0)
    return None


# -- ports and bindings --------------------------------------------------------------------------------------


def stable_name(port: str) -> str:
    """Return a port's name without the numbers that ALSA gives anew each time.

    >>> stable_name("nanoKONTROL2:nanoKONTROL2 MIDI 1 20:0")
    'nanoKONTROL2:nanoKONTROL2 MIDI 1'
    """
    return re.sub(r" \d+:\d+$", "", port)


def is_port(port: str, pattern: str) -> bool:
    """Whether a port's name fits a pattern, as in a shell.

    >>> is_port("nanoKONTROL2:nanoKONTROL2 MIDI 1 20:0", "nano*"), is_port("X-Touch 20:0", "X-Touch")
    (True, True)
    """
    return fnmatchcase(port, pattern) or fnmatchcase(stable_name(port), pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A control and the parameter it moves.  Raises: ConfigError for a value out of its limits.

    cc7: a controller. cc14: its finer form, whose lower half has number + 32. relative: an endless knob, with
    the encoding of its clicks. note: a button. A switch is turned over by each press (toggle) or is on while
    the button is down (momentary). lowest and highest: ends of its travel, none for the parameter's.
    """

    path: str
    kind: Kind
    channel: int
    number: int
    port: str = "*"
    encoding: Encoding = "twos_complement"
    button: Button = "toggle"
    lowest: float | None = None
    highest: float | None = None

    def __post_init__(self) -> None:
        _limit("channel", self.channel, 1, 16)
        _limit("number", self.number, 0, LSB - 1 if self.kind == "cc14" else 127)

    def hears(self, heard: Heard) -> bool:
        """Whether a message is this control's."""
        return (
            heard.channel == self.channel
            and heard.is_note == (self.kind == "note")
            and heard.number in self.numbers
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of its messages."""
        return (self.number, self.number + LSB) if self.kind == "cc14" else (self.number,)


def _limit(key: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:  # nor is NaN
        raise ConfigError(f"{key} = {value}: must be {lowest:g} to {highest:g}")


def check_binding(binding: Binding, table: Table) -> None:
    """Check that a control can move its parameter.  Raises: ConfigError with key, value and limit.

    A path of an insert that the table does not have passes: its plugin may come back.
    """
    path = binding.path
    if path not in table and is_insert_path(path):
        return
    if path not in table or not table[path].is_bindable:
        bindable = [p.path for p in table if p.is_bindable]
        effects = "stem/STEM/fx/INSERT/PARAMETER of an effect"
        raise ConfigError(f"path = {path!r}: must be one of {', '.join(bindable)}, or {effects}")
    parameter = table[path]
    check_kind(parameter, binding.kind)
    for key in ("lowest", "highest"):
        end = getattr(binding, key)
        if end is not None and parameter.kind == "switch":
            raise ConfigError(f"{key} = {end}: must be left out, {path} is a switch")
        if end is not None:
            _limit(key, end, parameter.lowest, parameter.highest)
    if parameter.kind == "number":
        travel = travel_of(parameter, binding)
        if not travel.lowest < travel.highest:
            raise ConfigError(f"lowest = {travel.lowest:g}: must be below highest, {travel.highest:g}")


def is_insert_path(path: str) -> bool:
    """Whether a path has the form of one of an effect in a chain.

    >>> is_insert_path("stem/vocals/fx/reverb/room_size"), is_insert_path("stem/vocals/pan")
    (True, False)
    """
    parts = path.split("/")
    return len(parts) == 5 and all(parts) and (parts[0], parts[2]) == ("stem", "fx")


def check_kind(parameter: Parameter, kind: Kind) -> None:
    """Check that a kind of control can move a parameter.  Raises: ConfigError."""
    fitting = ("cc7", "note") if parameter.kind == "switch" else ("cc7", "cc14", "relative")
    if kind not in fitting:
        said = f"must be {' or '.join(fitting)}, since {parameter.path} is a {parameter.kind}"
        raise ConfigError(f"kind = {kind!r}: {said}")


def travel_of(parameter: Parameter, binding: Binding) -> Travel:
    """Return the values between which a control moves a number."""
    lowest = parameter.lowest if binding.lowest is None else binding.lowest
    highest = parameter.highest if binding.highest is None else binding.highest
    is_gain = parameter.lowest == SILENT_DB and parameter.highest == GAIN_HIGHEST_DB
    is_log = parameter.is_log and parameter.lowest > 0.0
    return Travel(lowest, highest, is_gain, parameter.step or (highest - lowest) / TOP7, is_log)


# -- boxes with two ports ------------------------------------------------------------------------------------

_DIRECTIONS = {"in", "out", "input", "output", "capture", "playback"}


def output_of(port: str, outputs: Iterable[str]) -> str | None:
    """Return which output leads back to the box that an input comes from; None if none of that name is there.

    JACK has no two ports of one name: there names may differ in the words for the direction.

    >>> output_of("system:midi_capture_2", ["system:midi_playback_1", "system:midi_playback_2"])
    'system:midi_playback_2'
    """
    names = list(outputs)
    for same in (str, stable_name, _words):
        found = [name for name in names if same(name) == same(port)]
        if found:
            return found[0]
    return None


def _words(port: str) -> str:
    words = re.findall(r"[^\W_]+", port.lower())
    return " ".join(word for word in words if word not in _DIRECTIONS)
