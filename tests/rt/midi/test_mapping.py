"""Bytes in, changes out: soft takeover, buttons, 14 bits, lights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_rig import BOX, BYPASS, CUTOFF, GAIN, MUTE, PAN, ROOM, SOLO, TABLE, Rig, cc7, note

from stemrack.rt.control.messages import Set
from stemrack.rt.midi.binding import TOP7, Binding, gain_at, position_of
from stemrack.rt.midi.mapping import TAKEOVER

# -- absolute controls -------------------------------------------------------------------------------------


def test_a_fader_follows_from_the_value_in_force_on():
    rig = Rig(cc7())
    assert rig.cc(7, 95) == []  # the step of 0 dB, where it stands
    assert rig.cc(7, 96) == [(GAIN, round(gain_at(96 / 127), 4))]
    assert rig.cc(7, 127) == [(GAIN, 12.0)]
    assert rig.cc(7, 0) == [(GAIN, -120.0)]
    assert rig.cc(8, 5) == []
    assert rig.hear(0xB1, 7, 5) == []


def test_a_far_fader_is_passive_until_it_comes_near():
    rig = Rig(cc7())
    assert [rig.cc(7, v) for v in (0, 40, 92)] == [[], [], []]  # 92 is 3.25 steps off: more than 3/128
    assert rig.cc(7, 93) == [(GAIN, round(gain_at(93 / 127), 4))]


def test_a_fader_that_crosses_takes_over_however_fast():
    rig = Rig(cc7())
    assert rig.cc(7, 10) == []
    assert rig.cc(7, 120) == [(GAIN, round(gain_at(120 / 127), 4))]


@pytest.mark.parametrize("by", ["page", "scene", "another fader"])
def test_whoever_else_changes_the_value_the_fader_is_passive_again(by):
    rig = Rig(cc7(), cc7(number=8))
    rig.cc(7, 95), rig.cc(7, 60)
    if by == "another fader":
        rig.cc(8, 58), rig.cc(8, 110)
        assert rig.values[GAIN] == round(gain_at(110 / 127), 4)
    else:
        rig.other(GAIN, 6.0)
    held = rig.values[GAIN]
    assert [rig.cc(7, v) for v in (61, 62, 90)] == [[], [], []]
    assert rig.values[GAIN] == held
    assert rig.cc(7, 115) == [(GAIN, round(gain_at(115 / 127), 4))]


def test_a_value_that_went_and_came_back_is_not_jumped_from():
    rig = Rig(cc7())
    rig.cc(7, 95), rig.cc(7, 100)
    agreed = rig.values[GAIN]
    rig.other(GAIN, -30.0)
    assert rig.cc(7, 120) == []  # moved while passive
    rig.other(GAIN, agreed)
    assert rig.cc(7, 121) == []
    assert rig.cc(7, 99) == [(GAIN, round(gain_at(99 / 127), 4))]


@given(
    now=st.floats(-120.0, 12.0),
    moves=st.lists(st.integers(0, 127), min_size=1, max_size=20),
)
def test_a_fader_never_jumps_unless_it_crossed(now, moves):
    rig = Rig(cc7())
    rig.other(GAIN, now)
    target, before = position_of(now) * TOP7, None
    for raw in moves:
        steps = rig.cc(7, raw)
        near = abs(raw - target) <= TAKEOVER * TOP7
        crossed = before is not None and min(before, raw) <= target <= max(before, raw)
        if steps:
            assert near or crossed
            return
        before = raw
        if near or crossed:
            return


def test_the_step_of_the_value_in_force_does_not_round_it():
    rig = Rig(cc7())
    rig.other(GAIN, -9.1)
    assert rig.cc(7, round(position_of(-9.1) * TOP7)) == []
    assert rig.values[GAIN] == -9.1
    assert rig.cc(7, 74) == [(GAIN, round(gain_at(74 / 127), 4))]


def test_fourteen_bits_wait_for_their_lower_half():
    rig = Rig(Binding(path=PAN, kind="cc14", channel=1, number=3))
    assert rig.hear(0xB0, 3, 64) == []
    assert rig.hear(0xB0, 35, 0) == []  # 8192: the middle, where it stands
    assert rig.hear(0xB0, 35, 1) == [(PAN, round(8193 / 16383 * 2 - 1, 4))]
    assert rig.hear(0xB0, 3, 127, 35, 127) == [(PAN, 1.0)]


def test_a_box_that_sends_upper_halves_only_is_understood():
    rig = Rig(Binding(path=PAN, kind="cc14", channel=1, number=3))
    assert rig.hear(0xB0, 3, 63) == []
    assert rig.hear(0xB0, 3, 64) == [(PAN, round((64 << 7 | 64) / 16383 * 2 - 1, 4))]
    assert rig.hear(0xB0, 3, 127) == [(PAN, 1.0)]


def test_a_range_of_its_own():
    rig = Rig(cc7(lowest=-24.0, highest=0.0))
    assert rig.cc(7, 127) == []
    assert rig.cc(7, 0) == [(GAIN, -24.0)]
    rig.other(GAIN, -60.0)  # outside of its travel: at its end it takes over without a jump
    assert rig.cc(7, 0) == []
    assert rig.cc(7, 127) == [(GAIN, 0.0)]


def test_several_messages_at_once_build_on_each_other():
    rig = Rig(Binding(path=PAN, kind="relative", channel=1, number=9), note())
    assert rig.hear(0xB0, 9, 1, 9, 1, 9, 127) == [(PAN, 0.05), (PAN, 0.1), (PAN, 0.05)]
    assert rig.hear(0x90, 60, 100, 60, 0, 60, 100) == [(MUTE, True), (MUTE, False)]


def test_one_control_may_move_two_parameters():
    rig = Rig(cc7(), cc7(path="stem/drums/gain_db"))
    rig.cc(7, 95)
    assert [path for path, _ in rig.cc(7, 90)] == [GAIN, "stem/drums/gain_db"]


@pytest.mark.parametrize(
    ("encoding", "down"), [("twos_complement", 127), ("signed_bit", 65), ("offset_64", 63)]
)
def test_endless_knobs_need_no_takeover(encoding, down):
    rig = Rig(Binding(path=GAIN, kind="relative", channel=1, number=9, encoding=encoding))
    rig.other(GAIN, gain_at(0.5))
    assert rig.cc(9, down) == [(GAIN, round(gain_at(0.49), 4))]
    rig.other(GAIN, -120.0)
    assert rig.cc(9, down) == []


# -- buttons -----------------------------------------------------------------------------------------------


def test_a_note_turns_a_switch_over_at_each_press():
    rig = Rig(note())
    assert rig.hear(0x90, 60, 1) == [(MUTE, True)]
    assert rig.hear(0x80, 60, 64) == []
    assert rig.hear(0x90, 60, 127) == [(MUTE, False)]
    assert rig.hear(0x90, 60, 0) == []


def test_a_momentary_note_is_on_while_it_is_down():
    rig = Rig(note(button="momentary"))
    assert rig.hear(0x90, 60, 1) == [(MUTE, True)]
    assert rig.hear(0x90, 60, 5) == []
    assert rig.hear(0x90, 60, 0) == [(MUTE, False)]


def test_a_controller_as_a_button():
    rig = Rig(cc7(path=MUTE), cc7(path=SOLO, number=8, button="momentary"))
    assert [rig.cc(7, v) for v in (127, 127, 0, 64, 63)] == [[(MUTE, True)], [], [], [(MUTE, False)], []]
    assert [rig.cc(8, v) for v in (127, 0, 0)] == [[(SOLO, True)], [(SOLO, False)], []]


# -- ports -------------------------------------------------------------------------------------------------


def test_a_binding_hears_its_port_only():
    rig = Rig(note(port="nano*"), ports=("nanoKONTROL2 20:0", BOX))
    assert rig.hear(0x90, 60, 1) == []
    assert rig.hear(0x90, 60, 1, port="nanoKONTROL2 20:0") == [(MUTE, True)]


def test_two_boxes_of_one_binding_have_positions_of_their_own():
    rig = Rig(cc7(), ports=("a", "b"))
    assert rig.cc(7, 95, port="a") == []
    assert len(rig.cc(7, 100, port="a")) == 1
    assert rig.cc(7, 20, port="b") == []
    assert len(rig.cc(7, 101, port="a")) == 1


def test_of_a_box_that_was_away_nobody_knows_where_its_faders_are():
    rig = Rig(cc7())
    rig.cc(7, 95), rig.cc(7, 127)
    rig.mapper.ports_are((), rig.values)
    rig.take()
    rig.sent += rig.mapper.ports_are((BOX,), rig.values)
    assert rig.take() == [(BOX, "b0 07 7f")]
    assert rig.cc(7, 40) == []


# -- lights ------------------------------------------------------------------------------------------------


def test_lights_show_the_state_when_a_box_comes():
    rig = Rig(cc7(), note(), Binding(path=PAN, kind="cc14", channel=3, number=3))
    assert rig.take() == [
        (BOX, "b0 07 5f"),
        (BOX, "90 3c 00"),
        (BOX, "b2 03 40"),
        (BOX, "b2 23 00"),
    ]
    assert rig.mapper.lights(rig.values) == []  # shown already


def test_changes_by_others_are_shown_once():
    rig = Rig(cc7(), note())
    rig.take()
    rig.other(GAIN, 12.0), rig.other(GAIN, 12.0), rig.other(MUTE, True)
    assert rig.take() == [(BOX, "b0 07 7f"), (BOX, "90 3c 7f")]
    rig.other(GAIN, None)
    assert rig.take() == []


def test_the_fader_that_moves_is_not_moved_but_others_are():
    rig = Rig(cc7(), cc7(number=8), ports=(BOX, "second"))
    rig.cc(7, 95)
    rig.take()
    rig.cc(7, 127)
    assert rig.take() == [(BOX, "b0 08 7f"), ("second", "b0 07 7f"), ("second", "b0 08 7f")]
    rig.other(GAIN, 0.0)
    assert (BOX, "b0 07 5f") in rig.take()


def test_a_motor_that_tells_where_it_is_moved_to_is_followed_without_a_change():
    rig = Rig(cc7())
    rig.other(GAIN, -9.1)
    moved_to = rig.take()[-1][1]
    assert rig.hear(*bytes.fromhex(moved_to)) == []
    assert rig.values[GAIN] == -9.1
    assert len(rig.cc(7, 20)) == 1  # however far: it is in step


def test_a_button_is_lit_by_the_state_also_after_its_own_press():
    rig = Rig(note())
    rig.take()
    rig.hear(0x90, 60, 100)
    assert rig.take() == [(BOX, "90 3c 7f")]
    rig.hear(0x80, 60, 0)
    rig.hear(0x90, 60, 100)
    assert rig.take() == [(BOX, "90 3c 00")]


def test_the_ring_of_an_endless_knob_is_set_by_the_node():
    rig = Rig(Binding(path=PAN, kind="relative", channel=1, number=9))
    assert rig.take() == [(BOX, "b0 09 40")]
    rig.cc(9, 1)
    assert rig.take() == [(BOX, "b0 09 43")]


# -- effects -----------------------------------------------------------------------------------------------


def test_an_effect_is_taken_over_and_moved():
    rig = Rig(cc7(ROOM))
    rig.other(ROOM, 0.5)
    assert rig.cc(7, 10) == []
    assert rig.cc(7, 64) == []  # the step of the value in force
    assert rig.cc(7, 66) == [(ROOM, round(66 / 127, 5))]
    assert rig.cc(7, 127) == [(ROOM, 1.0)]


def test_a_frequency_goes_in_ratios():
    rig = Rig(cc7(CUTOFF))
    rig.other(CUTOFF, 20.0)
    rig.cc(7, 0)
    moved = [rig.cc(7, value)[0][1] for value in (42, 84, 127)]
    assert moved == [pytest.approx(20.0 * 1000 ** (v / 127), abs=1e-3) for v in (42, 84, 127)]
    assert moved[-1] == 20_000.0


def test_an_endless_knob_turns_a_frequency_by_a_ratio():
    rig = Rig(Binding(path=CUTOFF, kind="relative", channel=1, number=9))
    rig.other(CUTOFF, 2_000.0)
    assert rig.cc(9, 1) == [(CUTOFF, pytest.approx(20.0 * 1000**0.68, abs=0.01))]
    for _ in range(40):
        rig.cc(9, 1)
    assert rig.values[CUTOFF] == 20_000.0


def test_an_insert_that_is_not_in_the_chain_is_not_moved_and_its_binding_stays():
    rig = Rig(cc7(ROOM), note(BYPASS))
    assert rig.cc(7, 64) == rig.hear(0x90, 60, 100) == []
    assert [b.path for b in rig.mapper.bindings] == [ROOM, BYPASS]
    rig.other(BYPASS, False)
    assert rig.hear(0x90, 60, 100) == [(BYPASS, True)]


def test_an_insert_that_comes_again_is_taken_over_again():
    rig = Rig(cc7(ROOM), note(BYPASS))
    rig.other(ROOM, 0.5)
    rig.other(BYPASS, True)
    rig.cc(7, 64), rig.cc(7, 100)
    agreed = rig.values[ROOM]
    rig.take()
    rig.other(ROOM, None)
    rig.other(BYPASS, None)
    assert rig.take() == [(BOX, "90 3c 00")]  # the button's light goes out
    assert rig.cc(7, 20) == []
    rig.other(ROOM, agreed)
    assert rig.cc(7, 21) == []
    assert rig.cc(7, 99) == [(ROOM, round(99 / 127, 5))]


def test_an_effect_is_learnt():
    rig = Rig()
    rig.mapper.learn(ROOM)
    for value in (10, 11, 12, 13, 14):
        rig.cc(20, value)
    assert [(b.path, b.kind, b.number) for b in rig.mapper.bindings] == [(ROOM, "cc7", 20)]
    assert rig.mapper.learning == ""


# -- anything ----------------------------------------------------------------------------------------------

ALL = (
    cc7(),
    Binding(path=PAN, kind="cc14", channel=1, number=3),
    Binding(path="master/gain_db", kind="relative", channel=1, number=9, encoding="offset_64"),
    note(),
    cc7(path=SOLO, number=11),
)
MESSAGES = st.one_of(
    st.binary(max_size=24),
    st.tuples(st.sampled_from([0xB0, 0x90]), st.sampled_from([3, 7, 9, 11, 35, 60]), st.integers(0, 127)).map(
        bytes
    ),
)


@given(st.lists(st.tuples(MESSAGES, st.sampled_from(["hear", "learn", "other"])), max_size=30))
def test_any_bytes_give_only_values_that_the_table_takes(events):
    rig = Rig(*ALL)
    for message, what in events:
        if what == "learn":
            rig.mapper.learn([GAIN, MUTE, ""][len(message) % 3])
        if what == "other":
            rig.other(GAIN, float(-len(message)))
        for step in rig.mapper.handle(BOX, message, rig.values):
            assert isinstance(step, Set)
            rig.values[step.path] = TABLE[step.path].checked(step.value)
            rig.mapper.feedback(step.path, step.value)


def test_a_parameter_that_is_gone_is_left_alone():
    rig = Rig(cc7(), note())
    assert rig.mapper.handle(BOX, bytes((0xB0, 7, 95)), {}) == []
    assert rig.mapper.handle(BOX, bytes((0x90, 60, 1)), {MUTE: "odd"}) == []
