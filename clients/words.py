"""Values in the words that people type and read."""

from __future__ import annotations

from typing import Any


class UsageError(Exception):
    """A word that cannot be meant."""


def value_from(text: str, now: Any) -> Any:
    """Return the value a word means, for a parameter that has `now` as its value; None: not known.

    Raises: UsageError if it means none.

    >>> value_from("on", False), value_from("-6", 0.0), value_from("1", "live")
    (True, -6.0, '1')
    """
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
    if isinstance(now, bool):
        if text.lower() not in words:
            raise UsageError(f"'{text}' must be on or off")
        return words[text.lower()]
    if isinstance(now, str):
        return text
    try:
        number = float(text)
    except ValueError:
        if now is None:
            return text
        raise UsageError(f"'{text}' must be a number") from None
    if number - number != 0.0:
        raise UsageError(f"'{text}' must be a finite number")
    return number


def shown(value: Any, unit: str = "") -> str:
    """Return a value for people, which `value_from` reads again.

    >>> shown(True), shown(-6.0, "dB"), shown("live")
    ('on', '-6 dB', 'live')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.10g} {unit}".rstrip()
    return str(value).replace("\n", ", ")
