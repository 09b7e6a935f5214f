"""A controller on a live node, over JACK: what is turned is heard, what others move is shown."""

from pathlib import Path

import pytest
from jack_server import missing_for_jack
from live_node import calling, heard_gain, node_on, write_steady
from midi_box import Box, midi_server
from processes import until

from stemrack.rt.control.messages import Event, Get, Learn, Set, Unlearn
from stemrack.rt.midi.binding import gain_at
from stemrack.rt.midi.desk import MidiDesk
from stemrack.rt.midi.mapping_file import parse_mapping

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(
        bool(missing_for_jack()) or not Path("/proc/self/fd").exists(),
        reason=missing_for_jack() or "needs /proc",
    ),
]
GAIN = "stem/vocals/gain_db"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    with (
        midi_server(),
        node_on(write_steady(folder / "steady.wav"), folder) as (engine, node, address, tokens),
    ):
        desk = MidiDesk(node, ("box*",), folder / "midi.toml", "jack")
        node.post(desk.start)
        box = Box()
        try:
            with calling(address, tokens.by_role["operator"], events=True) as caller:
                until(lambda: caller.ask(Get, paths=("midi/ports",)).values["midi/ports"])
                until(lambda: not engine.counters()["is_dry"])
                yield engine, node, caller, box, folder
        finally:
            box.unplug()
            desk.stop()


def test_a_control_is_learnt_and_then_heard(running):
    engine, node, caller, box, folder = running
    caller.ask(Learn, path=GAIN)
    assert caller.ask(Get, paths=("midi/learning",)).values == {"midi/learning": GAIN}
    for value in (90, 91, 92, 93, 94, 95):
        box.send(0xB0, 7, value)
    until(lambda: caller.ask(Get, paths=("midi/learning",)).values == {"midi/learning": ""})
    until(lambda: (folder / "midi.toml").exists())
    table = node.commands.table
    bindings = parse_mapping((folder / "midi.toml").read_text(), "midi.toml", table)
    assert [(b.path, b.kind, b.number) for b in bindings] == [(GAIN, "cc7", 7)]
    for value in (95, 80, 64):
        box.send(0xB0, 7, value)
    at = gain_at(64 / 127)
    until(lambda: caller.ask(Get, paths=(GAIN,)).values[GAIN] == pytest.approx(at, abs=0.01))
    until(lambda: heard_gain(engine) == pytest.approx(10 ** (at / 20), rel=1e-3))


def test_what_others_move_is_shown_and_must_be_taken_over(running):
    _, _, caller, box, _ = running
    caller.ask(Set, path=GAIN, value=0.0)
    until(lambda: box.got and box.got[-1] == f"b0 07 {round(0.75 * 127):02x}")
    box.send(0xB0, 7, 20)
    box.send(0xB0, 7, 30)  # far from where the fader is now: nothing
    caller.ask(Get)
    assert caller.ask(Get, paths=(GAIN,)).values[GAIN] == 0.0
    box.send(0xB0, 7, 94)  # near to it: taken over
    box.send(0xB0, 7, 127)
    until(lambda: caller.ask(Get, paths=(GAIN,)).values[GAIN] == 12.0)
    origins = {d.origin for m in caller.heard for d in getattr(m, "changes", ()) if GAIN in d.values}
    assert "midi" in origins


def test_an_effect_is_learnt_moved_and_left_alone_while_it_is_gone(running):
    engine, _, caller, box, folder = running
    line, wet = "stem/vocals/chain", "stem/vocals/fx/invert/dry_wet"
    caller.ask(Set, path=line, value="invert")
    caller.ask(Set, path=wet, value=0.5)
    caller.ask(Learn, path=wet)
    for value in (60, 61, 62, 63, 64, 65):
        box.send(0xB0, 21, value)
    until(lambda: caller.ask(Get, paths=("midi/learning",)).values == {"midi/learning": ""})
    box.send(0xB0, 21, 64)
    box.send(0xB0, 21, 127)
    until(lambda: caller.ask(Get, paths=(wet,)).values == {wet: 1.0})
    assert engine.chains.vocals[0].dry_wet == 1.0
    caller.ask(Set, path=line, value="")
    box.send(0xB0, 21, 3)
    caller.ask(Set, path=line, value="invert")
    assert caller.ask(Get, paths=(wet,)).values == {wet: 1.0}
    box.send(0xB0, 21, 126)
    box.send(0xB0, 21, 0)
    until(lambda: caller.ask(Get, paths=(wet,)).values == {wet: 0.0})
    until(lambda: wet in (folder / "midi.toml").read_text())
    caller.ask(Set, path=line, value="")
    caller.ask(Unlearn, path=wet)
    until(lambda: wet not in (folder / "midi.toml").read_text())


def test_unplugged_and_back_it_works_on(running):
    _, _, caller, box, _ = running
    box.unplug()
    until(lambda: caller.ask(Get, paths=("midi/ports",)).values["midi/ports"] == "")
    again = Box()
    try:
        until(lambda: caller.ask(Get, paths=("midi/ports",)).values["midi/ports"])
        caller.ask(Set, path=GAIN, value=0.0)
        for value in (100, 95, 64):
            again.send(0xB0, 7, value)
        until(
            lambda: caller.ask(Get, paths=(GAIN,)).values[GAIN] == pytest.approx(gain_at(64 / 127), abs=0.01)
        )
        caller.ask(Unlearn, path=GAIN)
        again.send(0xB0, 7, 30)
        assert caller.ask(Get, paths=(GAIN,)).values[GAIN] == pytest.approx(gain_at(64 / 127), abs=0.01)
    finally:
        again.unplug()
    assert not [m for m in caller.heard if isinstance(m, Event) and m.kind == "midi-refused"]
