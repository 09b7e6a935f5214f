"""What MIDI controls do: bytes and the state in, changes of parameters out, and lights the other way.

An absolute control is passive after anybody else has changed its parameter, until it reaches the value in
force (soft takeover). No I/O, no thread and no clock: `rt/midi/port.py` brings the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..control.messages import Set, Value
from ..control.table import Table
from .binding import TOP7, TOP14, Binding, Heard, Kind, check_binding, clicks, heard_in, is_port, travel_of
from .learning import Learner

TAKEOVER = 3 / 128
"""A passive control takes over within this part of its travel; Mixxx has the same."""
PRESSED = 64
"""A controller used as a button is down from this value on."""


class Outgoing(NamedTuple):
    """A message for the box whose input port has this name."""

    port: str
    message: bytes


@dataclass(slots=True)
class _Control:
    """What is known of a control of a box. A position is in steps of the control, 0 at the bottom."""

    position: int | None = None
    """Where it was last; None before it was moved."""
    agreed: float | None = None
    """The value in force when it last followed; it is passive while another one is."""
    shown: int | None = None
    """What its light or motor shows."""
    upper: int = 0
    waits_for_lower: bool = False


class Mapper:
    """Bindings at work.  Thread: one (the control loop).

    table: what may be bound; the values say what of it is there now.
    on_change: called after `bindings` or `learning` has changed.
    Raises: ConfigError for a binding that cannot work.
    """

    def __init__(self, table: Table, bindings: Iterable[Binding] = ()) -> None:
        self._table = table
        self._bindings: tuple[Binding, ...] = ()
        self._ports: tuple[str, ...] = ()
        self._controls: dict[tuple[str, Binding], _Control] = {}
        self._learner: Learner | None = None
        self.on_change: Callable[[], None] = lambda: None
        for binding in bindings:
            check_binding(binding, table)
            self._bindings += (binding,)

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All bindings, in the order they were made."""
        return self._bindings

    @property
    def learning(self) -> str:
        """The parameter that waits for a control; empty: none."""
        return self._learner.path if self._learner else ""

    def handle(self, port: str, data: bytes, values: Mapping[str, Value]) -> list[Set]:
        """Return the changes that messages from a port ask for. values: the state now.

        While learning there are none: a control that is moved to be learnt moves nothing.
        """
        now = dict(values)
        steps: list[Set] = []
        for heard in heard_in(data):
            if self._learner is not None:
                self._learn_from(self._learner, port, heard)
                continue
            for binding in self._bindings:
                if binding.hears(heard) and is_port(port, binding.port) and binding.path in now:
                    wanted = self._wanted(port, binding, heard, now[binding.path])
                    if wanted is not None:
                        now[binding.path] = wanted
                        steps.append(Set(path=binding.path, value=wanted))
        return steps

    # -- learning -----------------------------------------------------------------------------------------

    def learn(self, path: str, kind: Kind | None = None) -> None:
        """Wait for a control to be moved, which then moves the parameter; an empty path ends the waiting.

        Raises: ProtocolError if there is no such parameter, ConfigError if no such control can move it.
        """
        self._learner = Learner(self._table[path], kind) if path else None
        self.on_change()

    def unlearn(self, path: str) -> list[Outgoing]:
        """Take a parameter's controls away; returns what turns their lights off."""
        gone = [b for b in self._bindings if b.path == path]
        is_switch = path in self._table and self._table[path].kind == "switch"
        dark = self.feedback(path, False) if is_switch else []
        self._forget(gone)
        self.on_change()
        return dark

    def _learn_from(self, learner: Learner, port: str, heard: Heard) -> None:
        binding = learner.hear(port, heard)
        if binding is None:
            return
        check_binding(binding, self._table)
        self._forget(
            [
                b
                for b in self._bindings
                if is_port(port, b.port)
                and b.channel == binding.channel
                and (b.kind == "note") == (binding.kind == "note")
                and set(b.numbers) & set(binding.numbers)
            ]
        )
        self._bindings += (binding,)
        self._learner = None
        self.on_change()

    def _forget(self, gone: list[Binding]) -> None:
        self._bindings = tuple(b for b in self._bindings if b not in gone)
        self._controls = {key: c for key, c in self._controls.items() if key[1] not in gone}

    # -- what a message asks for --------------------------------------------------------------------------

    def _wanted(self, port: str, binding: Binding, heard: Heard, now: Value) -> Value:
        """Return the new value of the binding's parameter; None for no change."""
        control = self._controls.setdefault((port, binding), _Control())
        if isinstance(now, bool):
            return _pressed(control, binding, heard.value, now)
        if not isinstance(now, float | int):
            return None
        if binding.kind == "relative":
            travel = travel_of(self._table[binding.path], binding)
            value = travel.turned(now, clicks(binding.encoding, heard.value))
            return value if value != now else None
        position = _position(control, binding, heard)
        return None if position is None else self._followed(control, binding, position, float(now))

    def _followed(self, control: _Control, binding: Binding, position: int, now: float) -> float | None:
        """Return the value an absolute control stands for; None while it is passive or nothing changes."""
        travel, top = travel_of(self._table[binding.path], binding), _top(binding)
        before, control.position, control.shown = control.position, position, position
        target = travel.position_of(now) * top
        if control.agreed != now:
            is_near = abs(position - target) <= TAKEOVER * top
            has_crossed = before is not None and (before - target) * (position - target) <= 0.0
            if not (is_near or has_crossed):
                control.agreed = None
                return None
        # the step that stands for the value in force changes nothing: what a motor fader sends while it is
        # being moved there must not round that value
        control.agreed = now if position == round(target) else travel.value_of(position, top)
        return control.agreed if control.agreed != now else None

    # -- lights -------------------------------------------------------------------------------------------

    def feedback(self, path: str, value: Value) -> list[Outgoing]:
        """Return the messages that show a parameter's value on its controls.

        None for a fader that has just set it, nor where it is shown already. A value of None is that of an
        insert that has gone: its button's light goes out, and its controls wait to be taken over again.
        """
        bound = [b for b in self._bindings if b.path == path]
        return [
            out
            for port in self._ports
            for b in bound
            if is_port(port, b.port)
            for out in self._show(port, b, value)
        ]

    def ports_are(self, ports: Iterable[str], values: Mapping[str, Value]) -> list[Outgoing]:
        """Take note of which input ports are open; returns what sets the lights of the new ones."""
        new = tuple(ports)
        fresh = [port for port in new if port not in self._ports]
        self._ports = new
        # of a box that was away nobody knows where its controls are now
        self._controls = {k: c for k, c in self._controls.items() if k[0] in new and k[0] not in fresh}
        return [out for out in self.lights(values) if out.port in fresh]

    def lights(self, values: Mapping[str, Value]) -> list[Outgoing]:
        """Return the messages that show all values on all controls which do not show them yet."""
        paths = dict.fromkeys(b.path for b in self._bindings if b.path in values)
        return [out for path in paths for out in self.feedback(path, values[path])]

    def _show(self, port: str, binding: Binding, value: Value) -> list[Outgoing]:
        control = self._controls.setdefault((port, binding), _Control())
        if value is None:
            control.agreed = control.position = None  # where it is moved to meanwhile is not followed
        if isinstance(value, bool) or (value is None and binding.kind == "note"):
            position = TOP7 if value else 0
        elif isinstance(value, float | int):
            if control.agreed == value and binding.kind != "relative":
                return []
            position = round(travel_of(self._table[binding.path], binding).position_of(value) * _top(binding))
        else:
            return []
        if control.shown == position:
            return []
        control.shown = position
        return [Outgoing(port, message) for message in _messages(binding, position)]


def _top(binding: Binding) -> int:
    return TOP14 if binding.kind == "cc14" else TOP7


def _pressed(control: _Control, binding: Binding, value: int, now: bool) -> bool | None:
    """Return what a switch becomes by a message of its button; None for no change."""
    is_down = value > 0 if binding.kind == "note" else value >= PRESSED
    was_down = control.position is not None and control.position >= PRESSED
    control.position = TOP7 if is_down else 0
    # many boxes light a button themselves while it is down: afterwards its light must be set anew
    control.shown = None
    if binding.button == "momentary":
        return is_down if is_down != now else None
    is_press = is_down and (binding.kind == "note" or not was_down)
    return not now if is_press else None


def _position(control: _Control, binding: Binding, heard: Heard) -> int | None:
    """Return where an absolute control stands; None while the lower half of a 14-bit one is awaited."""
    if binding.kind != "cc14":
        return heard.value
    if heard.number != binding.number:
        control.waits_for_lower = False
        return control.upper << 7 | heard.value
    control.upper = heard.value
    if control.waits_for_lower:  # a second upper half in a row: this box sends no lower ones
        return heard.value << 7 | heard.value
    control.waits_for_lower = True
    return None


def _messages(binding: Binding, position: int) -> list[bytes]:
    channel = binding.channel - 1
    if binding.kind == "note":
        return [bytes((0x90 | channel, binding.number, position))]
    if binding.kind != "cc14":
        return [bytes((0xB0 | channel, binding.number, position))]
    return [
        bytes((0xB0 | channel, number, half))
        for number, half in zip(binding.numbers, (position >> 7, position & 0x7F), strict=True)
    ]
