"""Learning: which control was meant."""

import pytest
from midi_rig import BOX, GAIN, MUTE, PAN, SOLO, TABLE, Rig, cc7, note

from stemrack.rt.control.codec import ProtocolError
from stemrack.rt.errors import ConfigError
from stemrack.rt.midi.binding import Binding, gain_at
from stemrack.rt.midi.mapping import Mapper, Outgoing


def learnt(*messages, path=GAIN, kind=None, bindings=()):
    rig = Rig(*bindings)
    rig.mapper.learn(path, kind)
    assert rig.mapper.learning == path
    for number, value in messages:
        assert rig.cc(number, value) == []
    return rig


def test_the_controller_that_is_moved_is_learnt():
    rig = learnt((1, 64), (7, 50), (1, 65), (7, 52), (1, 64), (7, 53))
    assert rig.mapper.bindings == (cc7(port=BOX),)
    assert rig.mapper.learning == ""
    assert rig.cc(7, 127) == []
    assert rig.cc(7, 90) == [(GAIN, round(gain_at(90 / 127), 4))]


def test_jitter_is_not_learnt():
    rig = learnt(*[(7, 60 + n % 3) for n in range(50)])
    assert rig.mapper.bindings == ()
    assert rig.mapper.learning == GAIN


def test_halves_that_come_together_are_fourteen_bits():
    messages = [m for n in range(4) for m in ((3, 60 + n), (35, (n * 37) % 128))]
    (binding,) = learnt(*messages).mapper.bindings
    assert binding == Binding(path=GAIN, kind="cc14", channel=1, number=3, port=BOX)
    (binding,) = learnt(*messages[:7], kind="cc7").mapper.bindings
    assert (binding.kind, binding.number) == ("cc7", 3)
    assert learnt((3, 1), (3, 9), kind="cc14").mapper.bindings == ()


def test_a_controller_above_31_may_stand_alone():
    (binding,) = learnt((35, 0), (35, 9)).mapper.bindings
    assert (binding.kind, binding.number) == ("cc7", 35)


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        ((1, 1, 2, 127), "twos_complement"),
        ((1, 1, 2, 65), "signed_bit"),
        ((65, 66, 63), "offset_64"),
    ],
)
def test_endless_knobs_are_learnt_by_turning_them_both_ways(values, encoding):
    rig = learnt(*[(9, v) for v in values[:-1]], kind="relative")
    assert rig.mapper.bindings == ()
    rig.cc(9, values[-1])
    (binding,) = rig.mapper.bindings
    assert (binding.kind, binding.encoding, binding.number) == ("relative", encoding, 9)


def test_a_switch_learns_notes_and_buttons():
    rig = Rig()
    rig.mapper.learn(MUTE)
    assert rig.hear(0x80, 60, 0) == []
    assert rig.mapper.learning == MUTE
    assert rig.hear(0x90, 60, 9) == []
    assert rig.mapper.bindings == (note(port=BOX),)
    rig.mapper.learn(SOLO)
    rig.cc(20, 127)
    assert rig.mapper.bindings[1:] == (cc7(path=SOLO, number=20, port=BOX),)
    assert learnt((20, 127), path=MUTE, kind="note").mapper.bindings == ()


def test_a_number_does_not_learn_notes():
    rig = learnt()
    assert rig.hear(0x90, 60, 9) == []
    assert rig.mapper.learning == GAIN


def test_a_control_learnt_anew_leaves_its_old_parameter():
    rig = learnt((7, 0), (7, 9), bindings=(cc7(path=PAN), cc7(path=PAN, number=8), note(number=7)))
    assert rig.mapper.bindings == (cc7(path=PAN, number=8), note(number=7), cc7(port=BOX))


def test_names_with_wildcards_are_learnt_as_they_are():
    rig = Rig(ports=("a2j:x [20] 20:0",))
    rig.mapper.learn(MUTE)
    rig.hear(0x90, 60, 9, port="a2j:x [20] 20:0")
    assert rig.mapper.bindings[0].port == "a2j:x [[]20]"
    assert rig.hear(0x90, 60, 9, port="a2j:x [20] 24:0") == [(MUTE, True)]
    assert rig.hear(0x90, 60, 9, port="a2j:x 2 20:0") == []


def test_learning_tells_and_ends():
    rig, told = Rig(), []
    rig.mapper.on_change = lambda: told.append((rig.mapper.learning, len(rig.mapper.bindings)))
    rig.mapper.learn(MUTE)
    rig.mapper.learn("")
    rig.mapper.learn(MUTE)
    rig.hear(0x90, 60, 9)
    rig.mapper.unlearn(MUTE)
    assert told == [(MUTE, 0), ("", 0), (MUTE, 0), ("", 1), ("", 0)]


def test_unlearning_turns_lights_off():
    rig = Rig(note(), cc7())
    rig.other(MUTE, True)
    assert rig.mapper.unlearn(MUTE) == [Outgoing(BOX, bytes((0x90, 60, 0)))]
    assert rig.mapper.unlearn(GAIN) == []
    assert rig.mapper.bindings == ()
    assert rig.hear(0x90, 60, 1) == []


def test_learning_refuses_what_cannot_be():
    with pytest.raises(ProtocolError):
        Rig().mapper.learn("stem/kazoo/gain_db")
    with pytest.raises(ConfigError, match="kind = 'relative': must be cc7 or note"):
        Rig().mapper.learn(MUTE, "relative")
    with pytest.raises(ConfigError, match="must be one of"):
        Mapper(TABLE, [cc7(path="engine/latency_ms")])
