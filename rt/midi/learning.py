"""Learning: which control was meant, from the messages that come while a person moves it."""

from __future__ import annotations

import re

from ..control.table import Parameter
from .binding import LSB, TOP7, Binding, Encoding, Heard, Kind, check_kind, stable_name

LEARN_TRAVEL = 3
"""A control whose value moved by less is not meant: resting knobs jitter."""
_PRESS_TRAVEL = 64

_Key = tuple[str, int, int]
"""Port, channel and number of a controller."""


class Learner:
    """Waits for the control that is to move a parameter. kind: what it must be, none to find out.

    An endless knob is learnt only if asked for, and must be turned both ways: only then is its encoding
    certain. Raises: ConfigError for a kind that cannot move the parameter.
    """

    def __init__(self, parameter: Parameter, kind: Kind | None = None) -> None:
        if kind is not None:
            check_kind(parameter, kind)
        self.path = parameter.path
        self._is_switch, self._kind = parameter.kind == "switch", kind
        self._values: dict[_Key, set[int]] = {}
        self._last: _Key | None = None
        self._uppers: set[_Key] = set()
        """Controllers that were followed at once by the one with number + 32."""

    def hear(self, port: str, heard: Heard) -> Binding | None:
        """Return the binding once it is clear which control was moved."""
        if heard.is_note:
            wanted = self._is_switch and self._kind in (None, "note") and heard.value > 0
            return self._binding("note", port, heard) if wanted else None
        key = (port, heard.channel, heard.number)
        upper = (port, heard.channel, heard.number - LSB)
        if self._last == upper:
            self._uppers.add(upper)
        self._last = key
        values = self._values.setdefault(key, set())
        values.add(heard.value)
        travel = max(values) - min(values)
        if self._is_switch:
            pressed = TOP7 in values or travel >= _PRESS_TRAVEL
            return self._binding("cc7", port, heard) if pressed and self._kind != "note" else None
        if self._kind == "relative":
            encoding = _encoding_of(values)
            return self._binding("relative", port, heard, encoding) if encoding else None
        if travel < LEARN_TRAVEL or upper in self._uppers:
            return None
        is_upper = key in self._uppers
        if self._kind == "cc14" and not is_upper:
            return None
        return self._binding("cc14" if is_upper and self._kind != "cc7" else "cc7", port, heard)

    def _binding(
        self, kind: Kind, port: str, heard: Heard, encoding: Encoding = "twos_complement"
    ) -> Binding:
        return Binding(
            path=self.path,
            kind=kind,
            channel=heard.channel,
            number=heard.number,
            port=_literal(stable_name(port)),
            encoding=encoding,
        )


def _literal(name: str) -> str:
    """Return the pattern that only this name fits."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _encoding_of(values: set[int]) -> Encoding | None:
    """Return what an endless knob speaks that was turned both ways; None while that is not clear.

    Quarters of the range: up is in the first one but for offset_64, where it is in the third; down is in
    the fourth, the third and the second.
    """
    quarters = {value // 32 for value in values if value not in (0, 64)}
    by_quarters: dict[frozenset[int], Encoding] = {
        frozenset((0, 3)): "twos_complement",
        frozenset((0, 2)): "signed_bit",
        frozenset((1, 2)): "offset_64",
    }
    return by_quarters.get(frozenset(quarters))
