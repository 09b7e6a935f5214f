"""Real bytes through virtual MIDI ports of a JACK server of our own: learn, takeover, lights, unplug."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from jack_server import missing_for_jack, wait_until
from midi_box import Box, midi_server

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains
from stemrack.rt.control.board import Board
from stemrack.rt.control.chain_table import ChainTable, InsertParameters
from stemrack.rt.control.commands import Actions, Commands
from stemrack.rt.control.protocol import Client
from stemrack.rt.control.table import mixer_parameters
from stemrack.rt.effect_table import EffectTable
from stemrack.rt.errors import ConfigError
from stemrack.rt.midi.binding import Binding, gain_at
from stemrack.rt.midi.mapping import Mapper
from stemrack.rt.midi.port import MidiPorts
from stemrack.rt.params import MixerState

pytestmark = pytest.mark.realtime

needs_jack = pytest.mark.skipif(bool(missing_for_jack()), reason=missing_for_jack() or "jack is there")
GAIN, MUTE = "stem/vocals/gain_db", "stem/vocals/mute"
LIMIT_S = 20.0
TABLE = ChainTable(mixer_parameters(STEMS), InsertParameters(EffectTable([])))
NOTHING = Chains()
MIDI = Client("midi", "operator", "midi")


@pytest.fixture(scope="module")
def server():
    with midi_server() as server:
        yield server


BOX_ALONE = """
import rtmidi, sys
out = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name="box out")
out.open_virtual_port("port")
sys.stdin.read()
"""


class Rig:
    """A loop with the state, the mapper and the ports, as the node ties them together."""

    def __init__(self, *bindings, patterns=("box*",), api="jack"):
        self.board = Board("e", TABLE.defaults)
        actions = Actions(
            set_mixer=lambda m: None,
            change=lambda *a: None,
            chains=lambda: NOTHING,
            set_chains=lambda chains, seen: None,
        )
        self.commands = Commands(TABLE, self.board, MixerState(), actions, {})
        self.mapper = Mapper(TABLE, bindings)
        self.open, self.said = (), []
        self.loop = asyncio.new_event_loop()
        post = self.loop.call_soon_threadsafe
        self.ports = MidiPorts(
            patterns,
            lambda port, data: post(self._hear, port, data),
            lambda ports: post(self._ports_are, ports),
            say=self.said.append,
            api=api,
        )
        self.board.on_change.append(self._show)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def _hear(self, port, data):
        steps = self.mapper.handle(port, data, self.board.values)
        if steps:
            self.commands.apply(steps, MIDI)

    def _ports_are(self, ports):
        self.open = ports
        self.ports.send(self.mapper.ports_are(ports, self.board.values))

    def _show(self, delta):
        for path, value in delta.values.items():
            self.ports.send(self.mapper.feedback(path, value))

    def do(self, call):
        """Return what a call gives, in the loop."""

        async def in_loop():
            return call()

        return asyncio.run_coroutine_threadsafe(in_loop(), self.loop).result(LIMIT_S)

    def other(self, path, value):
        """A change by somebody else."""
        self.do(lambda: self.board.change({path: value}, "c1"))

    def value(self, path=GAIN):
        return self.do(lambda: self.board.values[path])

    def start(self):
        self._thread.start()
        self.ports.start()

    def stop(self):
        self.ports.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT_S)
        self.loop.close()


@contextmanager
def running(*bindings, **kw):
    rig = Rig(*bindings, **kw)
    rig.start()
    try:
        yield rig
    finally:
        rig.stop()


@contextmanager
def plugged(name="box"):
    box = Box(name)
    try:
        yield box
    finally:
        box.unplug()


def eventually(condition):
    assert wait_until(condition, LIMIT_S), "not in time"


@needs_jack
def test_a_fader_is_learnt_follows_and_is_passive_after_others(server):
    with plugged() as box, running() as rig:
        eventually(lambda: rig.open == (box.name,))
        rig.do(lambda: rig.mapper.learn(GAIN))
        for value in (93, 94, 96):
            box.send(0xB0, 7, value)
        eventually(lambda: rig.do(lambda: rig.mapper.learning) == "")
        assert [b.number for b in rig.mapper.bindings] == [7]
        box.send(0xB0, 7, 94)
        box.send(0xB0, 7, 127)
        eventually(lambda: rig.value() == 12.0)
        assert rig.board.since(0)[-1].origin == "midi"
        rig.other(GAIN, gain_at(64 / 127))
        eventually(lambda: box.got[-1:] == ["b0 07 40"])  # a motor fader would go there
        box.send(0xB0, 7, 120)
        box.send(0xB0, 7, 100)
        box.send(0xB0, 8, 1)
        rig.do(lambda: rig.mapper.learn(MUTE))  # a message that is seen to arrive after the passive ones
        box.send(0x90, 60, 1)
        eventually(lambda: rig.do(lambda: rig.mapper.learning) == "")
        assert rig.value() == gain_at(64 / 127)
        box.send(0xB0, 7, 0)
        eventually(lambda: rig.value() == -120.0)


@needs_jack
def test_lights_follow_the_state_and_the_moving_fader_is_left_alone(server):
    fader = Binding(path=GAIN, kind="cc7", channel=1, number=7)
    button = Binding(path=MUTE, kind="note", channel=1, number=60)
    with plugged() as box, running(fader, button) as rig:
        eventually(lambda: box.got == ["b0 07 5f", "90 3c 00"])
        box.send(0x90, 60, 100)
        eventually(lambda: box.got[2:] == ["90 3c 7f"])
        assert rig.value(MUTE) is True
        box.send(0xB0, 7, 95)
        box.send(0xB0, 7, 127)
        eventually(lambda: rig.value() == 12.0)
        rig.other(MUTE, False)
        eventually(lambda: box.got[3:] == ["90 3c 00"])  # and nothing to the fader


@needs_jack
def test_a_box_that_was_unplugged_is_taken_up_again(server):
    button = Binding(path=MUTE, kind="note", channel=1, number=60)
    with running(button) as rig:
        with plugged() as box:
            eventually(lambda: rig.open == (box.name,))
            box.send(0x90, 60, 100)
            eventually(lambda: rig.value(MUTE) is True)
        eventually(lambda: rig.open == ())
        rig.other(MUTE, False)
        rig.other(MUTE, True)
        with plugged() as box, plugged("stranger"):
            eventually(lambda: rig.open == (box.name,))
            eventually(lambda: box.got == ["90 3c 7f"])
            box.send(0x90, 60, 100)
            eventually(lambda: rig.value(MUTE) is False)
        assert rig.said == []


@needs_jack
def test_what_we_send_does_not_come_back_as_a_box_of_its_own(server):
    with plugged() as box, running(patterns=("*",)) as rig:
        eventually(lambda: rig.open)
        rig.other(GAIN, 3.0)
        with plugged("second") as second:
            eventually(lambda: second.name in rig.open)
            assert set(rig.open) == {box.name, second.name}


@needs_jack
def test_the_ports_come_back_when_their_process_was_killed(server):
    button = Binding(path=MUTE, kind="note", channel=1, number=60)
    with plugged() as box, running(button) as rig:
        eventually(lambda: rig.open == (box.name,))
        first = rig.ports.pid
        os.kill(first, signal.SIGKILL)
        eventually(lambda: rig.open == ())
        eventually(lambda: rig.open == (box.name,))
        assert rig.ports.pid not in (0, first)
        box.send(0x90, 60, 100)
        eventually(lambda: rig.value(MUTE) is True)


@needs_jack
def test_a_server_that_died_and_came_back_is_found_again(server):
    # In a process of its own: JACK's library may crash the process whose clients outlive their server.
    play = [sys.executable, "-c", BOX_ALONE]
    button = Binding(path=MUTE, kind="note", channel=1, number=60)
    with running(button) as rig:
        with subprocess.Popen(play, stdin=subprocess.PIPE) as box:
            eventually(lambda: rig.open == ("box out:port",))
            server.kill()
            eventually(lambda: rig.open == ())  # while the box, which knows of nothing, is there
            box.kill()
        server.restart()
        with plugged() as box:
            eventually(lambda: rig.open == (box.name,))
            box.send(0x90, 60, 100)
            eventually(lambda: rig.value(MUTE) is True)
        assert rig.said == []


def test_without_an_interface_one_line_is_said():
    absent = "winmm" if sys.platform == "linux" else "alsa"
    with running(api=absent) as rig:
        eventually(lambda: rig.said)
        eventually(lambda: rig.ports.pid == 0)
        assert len(rig.said) == 1
        assert rig.said[0].startswith("no MIDI: ")
        assert rig.said[0].endswith(f"(api {absent}); going on without")


def test_an_interface_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="api = 'oss': must be one of auto, alsa, jack, core, winmm"):
        MidiPorts((), lambda *a: None, lambda *a: None, say=print, api="oss")


def test_stop_without_start_and_twice():
    rig = Rig()
    rig.ports.stop()
    rig.ports.stop()
    rig.loop.close()
    assert rig.ports.pid == 0
