"""The process that holds the MIDI ports; python-rtmidi's one home. Lines of JSON in and out.

It is a process of its own because JACK's library frees its clients when their server has died, and RtMidi
then uses freed memory: this process may fall, sound may not. It asks RtMidi's queues for messages and lets
JACK's thread call no Python: that would wait for the interpreter while JACK counts an xrun.
"""

# rtmidi's names are compiled in, without stubs:
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import rtmidi

from .binding import is_port, output_of

CLIENT = "stemrack-midi"
LOOK_S = 1.0
"""How often the names of the ports are asked for: no interface tells of a port that comes or goes."""
READ_S = 0.010
"""How long a message may wait in a queue."""
ALIVE_S = 3.0
"""JACK is lost if a message to ourselves has not come back for so long."""
EXIT_UNAVAILABLE, EXIT_LOST = 3, 4
_BEAT = [0xB0, 0, 0]
_APIS = {
    "alsa": rtmidi.API_LINUX_ALSA,
    "jack": rtmidi.API_UNIX_JACK,
    "core": rtmidi.API_MACOSX_CORE,
    "winmm": rtmidi.API_WINDOWS_MM,
}


@dataclass
class _Box:
    """A controller: its input port, and the output port that leads back to it, if there is one."""

    source: rtmidi.MidiIn
    target: rtmidi.MidiOut | None
    target_name: str | None


class Ports:
    """The input ports that fit some patterns, and their outputs.  Raises: rtmidi.RtMidiError."""

    def __init__(self, api: int, patterns: tuple[str, ...]) -> None:
        self._api, self._patterns = api, patterns
        # one of each for all listings: a new one each time would be a new client each time
        self._sources = rtmidi.MidiIn(api, name=CLIENT)
        self._targets = rtmidi.MidiOut(api, name=CLIENT)
        self._boxes: dict[str, _Box] = {}
        self._has_beat = api == rtmidi.API_UNIX_JACK
        self._beat_s = time.monotonic()
        if self._has_beat:
            self._targets.open_virtual_port("beat")
            own = [i for i, name in enumerate(self._sources.get_ports()) if name.startswith(CLIENT)]
            self._sources.open_port(own[-1], name="beat-in")

    @property
    def names(self) -> tuple[str, ...]:
        """Input ports that are open."""
        return tuple(self._boxes)

    def look(self) -> None:
        """Open what has come and close what has gone."""
        sources, targets = self._sources.get_ports(), self._targets.get_ports()
        for name, box in list(self._boxes.items()):
            # an output that comes or goes later: the box is taken up anew, so that its lights are set
            if name not in sources or output_of(name, targets) != box.target_name:
                self._close(name)
        for name in sources:
            if name not in self._boxes and self._is_wanted(name):
                box = self._opened(name, output_of(name, targets))
                if box is not None:
                    self._boxes[name] = box

    def is_alive(self) -> bool:
        """Whether the server of the ports still does its work; asks it for the next time."""
        if not self._has_beat:
            return True
        while self._sources.get_message() is not None:
            self._beat_s = time.monotonic()
        self._targets.send_message(_BEAT)
        return time.monotonic() - self._beat_s < ALIVE_S

    def read(self) -> Iterator[tuple[str, bytes]]:
        """Yield what has come in, with the port's name."""
        for name, box in self._boxes.items():
            while (got := box.source.get_message()) is not None:
                yield name, bytes(got[0])

    def send(self, name: str, message: bytes) -> None:
        """Send a message to the box of an input port, if it has an output."""
        box = self._boxes.get(name)
        if box is not None and box.target is not None:
            box.target.send_message(message)

    def close(self) -> None:
        """Close all; only while the server lives."""
        for name in self.names:
            self._close(name)
        for port in (self._sources, self._targets):
            port.close_port()
            port.delete()

    def _is_wanted(self, name: str) -> bool:
        # what is sent through these two comes back
        is_echo = name.startswith((CLIENT, "Midi Through"))
        return not is_echo and any(is_port(name, pattern) for pattern in self._patterns)

    def _opened(self, name: str, target_name: str | None) -> _Box | None:
        source = rtmidi.MidiIn(self._api, name=CLIENT)
        if not _open(source, name, "input"):
            source.delete()
            return None
        target = rtmidi.MidiOut(self._api, name=CLIENT) if target_name is not None else None
        if target is not None and target_name is not None and not _open(target, target_name, "output"):
            target.delete()
            target, target_name = None, None
        return _Box(source, target, target_name)

    def _close(self, name: str) -> None:
        box = self._boxes.pop(name)
        for port in (box.source, box.target):
            if port is not None:
                port.close_port()
                port.delete()


def _open(port: rtmidi.MidiIn | rtmidi.MidiOut, name: str, own_name: str) -> bool:
    """Return whether the port of that name was opened: RtMidi knows ports by places, which move."""
    names = port.get_ports()
    if name not in names:
        return False
    index = names.index(name)
    try:
        port.open_port(index, name=own_name)
    except rtmidi.RtMidiError:  # gone in between, or another program has it alone
        return False
    if port.get_ports()[index : index + 1] == [name]:
        return True
    port.close_port()
    return False


def open_ports(api: str, patterns: tuple[str, ...]) -> Ports:
    """Return the ports of an interface; `auto` takes the first that works.  Raises: rtmidi.RtMidiError."""
    if api != "auto":
        return Ports(_APIS[api], patterns)
    refused: rtmidi.RtMidiError | None = None
    for number in rtmidi.get_compiled_api():
        if number in _APIS.values():
            try:
                return Ports(number, patterns)
            except rtmidi.RtMidiError as error:
                refused = error
    raise refused or rtmidi.SystemError("this build of python-rtmidi knows no interface")


def _own_streams() -> Callable[..., None]:
    """Return what tells the parent something. C libraries that print get no stream to print to."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def tell(kind: str, *facts: Any) -> None:
        lines.write(json.dumps([kind, *facts]) + "\n")

    return tell


def _orders(waiting: queue.SimpleQueue[Any]) -> None:
    for line in sys.stdin:
        waiting.put(json.loads(line))
    waiting.put(None)


def run(api: str, patterns: tuple[str, ...]) -> int:
    """Hold the ports until standard input ends; returns the exit status."""
    tell = _own_streams()
    try:
        ports = open_ports(api, patterns)
    except rtmidi.RtMidiError as error:
        tell("unavailable", str(error))
        return EXIT_UNAVAILABLE
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_orders, args=(waiting,), daemon=True).start()
    told: tuple[str, ...] | None = None
    look_s = time.monotonic()
    try:
        while True:
            if time.monotonic() >= look_s:
                look_s = time.monotonic() + LOOK_S
                if not ports.is_alive():
                    return EXIT_LOST
                ports.look()
                if ports.names != told:
                    told = ports.names
                    tell("ports", told)
            for name, message in ports.read():
                tell("in", name, message.hex())
            try:
                order = waiting.get(timeout=READ_S if told else LOOK_S / 2)
            except queue.Empty:
                continue
            if order is None:
                ports.close()
                return 0
            ports.send(order[0], bytes.fromhex(order[1]))
    except BrokenPipeError:  # the parent has died
        return 0
    except rtmidi.RtMidiError as error:
        tell("lost", str(error))
        return EXIT_LOST


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends by closing our standard input
    # os._exit: closing ports whose server has gone may hang or crash
    os._exit(run(sys.argv[1], tuple(sys.argv[2:])))
