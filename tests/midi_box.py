"""A MIDI controller of our own on a JACK server of our own."""

import os
from contextlib import contextmanager

import rtmidi
from jack_server import SHARED_MEMORY, JackServer


@contextmanager
def midi_server():
    """A JACK server that this process and its children find."""
    before = {key: os.environ.get(key) for key in ("JACK_DEFAULT_SERVER", "JACK_NO_START_SERVER")}
    with JackServer(realtime=False) as server:
        os.environ.update({key: server.environment[key] for key in before})
        yield server
    # of clients that a killed server had, nobody else removes these
    for path in SHARED_MEMORY.glob(f"jack_sem.*_{server.name}_*"):
        path.unlink(missing_ok=True)
    for key, value in before.items():
        if value is None:
            del os.environ[key]
        else:
            os.environ[key] = value


class Box:
    """A controller as JACK shows it: two virtual ports, which may be unplugged."""

    def __init__(self, name="box"):
        self.name = f"{name} out:port"
        self._out = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name=f"{name} out")
        self._in = rtmidi.MidiIn(rtmidi.API_UNIX_JACK, name=f"{name} in")
        self._in.open_virtual_port("port")
        self._out.open_virtual_port("port")
        self._got = []
        self._ports = (self._out, self._in)

    def send(self, *numbers):
        self._out.send_message(numbers)

    @property
    def got(self):
        """All that it was sent, as hexadecimal text."""
        while (message := self._in.get_message()) is not None:
            self._got.append(bytes(message[0]).hex(" "))
        return self._got

    def unplug(self):
        """Take the ports away; once is enough, and RtMidi falls over a second time."""
        for port in self._ports:
            port.close_port()
            port.delete()
        self._ports = ()
