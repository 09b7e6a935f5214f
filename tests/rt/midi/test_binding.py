"""Bytes, laws and limits of a MIDI control."""

import re
from pathlib import Path

import pytest
from control_node import EFFECTS
from hypothesis import example, given
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.control.chain_table import InsertParameters, PossibleTable
from stemrack.rt.control.table import SILENT_DB, Parameter, mixer_parameters, node_parameters
from stemrack.rt.errors import ConfigError
from stemrack.rt.midi.binding import (
    GAIN_KNOTS,
    TOP7,
    TOP14,
    Binding,
    Heard,
    Travel,
    check_binding,
    clicks,
    gain_at,
    heard_in,
    is_port,
    output_of,
    position_of,
    stable_name,
    travel_of,
)

TABLE = PossibleTable(mixer_parameters(STEMS) + node_parameters(), InsertParameters(EFFECTS))
GAIN, PAN, MUTE = "stem/vocals/gain_db", "stem/vocals/pan", "stem/vocals/mute"
ROOM, LADDER = "stem/vocals/fx/reverb/room_size", "stem/vocals/fx/ladder_filter/"


def test_the_fader_goes_through_its_knots():
    assert [(p, gain_at(p)) for p, _ in GAIN_KNOTS] == list(GAIN_KNOTS)
    assert [(position_of(g), g) for _, g in GAIN_KNOTS] == list(GAIN_KNOTS)
    assert (gain_at(-1.0), gain_at(2.0)) == (-120.0, 12.0)
    assert (position_of(-500.0), position_of(99.0)) == (0.0, 1.0)


@given(st.floats(0.0, 1.0))
def test_a_position_comes_back_from_its_gain(position):
    assert position_of(gain_at(position)) == pytest.approx(position, abs=1e-12)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_higher_fader_is_not_quieter(one, other):
    low, high = sorted((one, other))
    assert gain_at(low) <= gain_at(high)


@given(
    path=st.sampled_from([GAIN, PAN, "master/ceiling_db"]),
    top=st.sampled_from([TOP7, TOP14]),
    data=st.data(),
)
def test_every_step_of_a_control_comes_back_from_its_value(path, top, data):
    parameter = TABLE[path]
    ends = st.floats(parameter.lowest, parameter.highest)
    low, high = sorted((data.draw(ends), data.draw(ends)))
    if high - low < 0.5:
        low, high = parameter.lowest, parameter.highest
    binding = Binding(path=path, kind="cc7", channel=1, number=1, lowest=low, highest=high)
    travel = travel_of(parameter, binding)
    raw = data.draw(st.integers(0, top))
    value = travel.value_of(raw, top)
    assert low <= value <= high
    # values are rounded to four places: on a short travel of 14 bits that is some steps
    steps = top * 1e-4 / (high - low) if path != GAIN else top * 1e-4 * 0.28
    assert abs(travel.position_of(value) * top - raw) <= 0.5 + 1e-6 + steps * 4


@pytest.mark.parametrize("top", [TOP7, TOP14])
def test_zero_db_and_the_middle_can_be_reached(top):
    travel = travel_of(TABLE[GAIN], Binding(path=GAIN, kind="cc7", channel=1, number=1))
    assert [travel.value_of(n, top) for n in (0, top)] == [-120.0, 12.0]
    assert travel.value_of(round(0.75 * top), top) == 0.0
    pan = travel_of(TABLE[PAN], Binding(path=PAN, kind="cc7", channel=1, number=1))
    assert [pan.value_of(n, top) for n in (0, (top + 1) // 2, top)] == [-1.0, 0.0, 1.0]


@given(st.floats(-120.0, 12.0), st.integers(-64, 63))
def test_an_endless_knob_reaches_both_ends_and_zero(gain_db, n):
    travel = travel_of(TABLE[GAIN], Binding(path=GAIN, kind="relative", channel=1, number=1))
    turned = travel.turned(gain_db, n)
    assert -120.0 <= turned <= 12.0
    assert travel.turned(travel.turned(-120.0, 75), 0) == 0.0
    assert (travel.turned(gain_db, 100), travel.turned(gain_db, -100)) == (12.0, -120.0)
    if n > 0 and gain_db < 11.0:
        assert turned > gain_db - 0.01
        assert travel.turned(turned, 1) > turned - 0.01


def test_an_endless_knob_moves_a_pan_by_its_step():
    travel = travel_of(TABLE[PAN], Binding(path=PAN, kind="relative", channel=1, number=1))
    assert travel.turned(0.0, -1) == -0.05
    assert travel.turned(-0.05, 2) == 0.05
    assert travel.turned(0.98, 1) == 1.0


@pytest.mark.parametrize(
    ("encoding", "values", "expected"),
    [
        ("twos_complement", (1, 63, 127, 65, 64, 0), (1, 63, -1, -63, -64, 0)),
        ("signed_bit", (1, 63, 65, 127, 64, 0), (1, 63, -1, -63, 0, 0)),
        ("offset_64", (65, 127, 63, 1, 64, 0), (1, 63, -1, -63, 0, -64)),
    ],
)
def test_clicks_of_each_encoding(encoding, values, expected):
    assert tuple(clicks(encoding, v) for v in values) == expected


# -- bytes -------------------------------------------------------------------------------------------------


@given(st.binary(max_size=64))
@example(bytes(range(256)))
def test_any_bytes_give_messages_or_nothing(data):
    for heard in heard_in(data):
        assert 1 <= heard.channel <= 16
        assert 0 <= heard.number <= 127
        assert 0 <= heard.value <= 127


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("b0 07 40", [Heard(False, 1, 7, 64)]),
        ("9f 3c 7f", [Heard(True, 16, 60, 127)]),
        ("90 3c 00", [Heard(True, 1, 60, 0)]),
        ("80 3c 40", [Heard(True, 1, 60, 0)]),
        ("b0 07 40 08 41", [Heard(False, 1, 7, 64), Heard(False, 1, 8, 65)]),  # running status
        ("b0 f8 07 fe 40", [Heard(False, 1, 7, 64)]),  # real-time bytes in between
        ("b0 07", []),
        ("07 40", []),
        ("b0 07 90 3c 7f", [Heard(True, 1, 60, 127)]),
        ("f0 7e 07 40 f7 07 40", []),  # a system message ends running status
        ("f0 7e 07 b0 07 40", [Heard(False, 1, 7, 64)]),
        ("c0 05 05 e0 00 40 a0 01 02", []),
        ("f2 01 02 b1 01 02", [Heard(False, 2, 1, 2)]),
        ("", []),
    ],
)
def test_what_is_heard(data, expected):
    assert list(heard_in(bytes.fromhex(data))) == expected


# -- names -------------------------------------------------------------------------------------------------


def test_names_without_alsas_numbers():
    name = "nanoKONTROL2:nanoKONTROL2 MIDI 1 20:0"
    assert stable_name(name) == "nanoKONTROL2:nanoKONTROL2 MIDI 1"
    assert stable_name("box:port 2") == "box:port 2"
    assert is_port(name, "nano*")
    assert is_port(name, stable_name(name))
    assert is_port(name, "*")
    assert not is_port(name, "NANO*")
    assert not is_port(name, "X-Touch*")


@pytest.mark.parametrize(
    ("port", "outputs", "expected"),
    [
        ("X 20:0", ["Y 20:0", "X 20:0"], "X 20:0"),
        ("X 20:0", ["X 24:0"], "X 24:0"),
        ("X 20:0", ["X 16:0", "X 20:0"], "X 20:0"),
        (
            "system:midi_capture_1",
            ["system:midi_playback_2", "system:midi_playback_1"],
            "system:midi_playback_1",
        ),
        (
            "a2j:n [20] (capture): n MIDI 1",
            ["a2j:n [20] (playback): n MIDI 1"],
            "a2j:n [20] (playback): n MIDI 1",
        ),
        ("box out:port", ["other in:port", "box in:port"], "box in:port"),
        ("box out:port", ["box in:port 2"], None),
        ("box", [], None),
    ],
)
def test_the_way_back_to_a_box(port, outputs, expected):
    assert output_of(port, outputs) == expected


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channel": 0}, "channel = 0: must be 1 to 16"),
        ({"channel": 17}, "channel = 17: must be 1 to 16"),
        ({"number": 128}, "number = 128: must be 0 to 127"),
        ({"number": 32, "kind": "cc14"}, "number = 32: must be 0 to 31"),
    ],
)
def test_a_control_has_limits(values, said):
    whole = {"path": GAIN, "kind": "cc7", "channel": 1, "number": 7} | values
    with pytest.raises(ConfigError) as raised:
        Binding(**whole)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"path": "stem/kazoo/gain_db"}, "path = 'stem/kazoo/gain_db': must be one of "),
        ({"path": "engine/latency_ms"}, "path = 'engine/latency_ms': must be one of "),
        ({"path": "device/input"}, "path = 'device/input': must be one of "),
        ({"path": "stem/vocals/chain"}, "path = 'stem/vocals/chain': must be one of "),
        ({"path": LADDER + "mode"}, f"path = '{LADDER}mode': must be one of "),
        ({"path": LADDER + "drive"}, f"path = '{LADDER}drive': must be one of "),  # it has no ends
        ({"path": ROOM, "highest": 1.5}, "highest = 1.5: must be 0 to 1"),
        ({"path": ROOM, "kind": "note"}, f"kind = 'note': must be cc7 or cc14 or relative, since {ROOM} is"),
        ({"kind": "note"}, f"kind = 'note': must be cc7 or cc14 or relative, since {GAIN} is a number"),
        (
            {"path": MUTE, "kind": "relative"},
            f"kind = 'relative': must be cc7 or note, since {MUTE} is a switch",
        ),
        ({"path": MUTE, "lowest": 0.0}, f"lowest = 0.0: must be left out, {MUTE} is a switch"),
        ({"lowest": -121.0}, "lowest = -121.0: must be -120 to 12"),
        ({"highest": float("nan")}, "highest = nan: must be -120 to 12"),
        ({"lowest": 0.0, "highest": -6.0}, "lowest = 0: must be below highest, -6"),
    ],
)
def test_a_control_fits_its_parameter(values, said):
    whole = {"path": GAIN, "kind": "cc7", "channel": 1, "number": 7} | values
    with pytest.raises(ConfigError) as raised:
        check_binding(Binding(**whole), TABLE)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("path", [ROOM, "stem/vocals/fx/gone_plugin/drive", "stem/vocals/fx/reverb/gone"])
def test_a_binding_to_an_insert_is_kept_whether_it_is_there_or_not(path):
    check_binding(Binding(path=path, kind="cc7", channel=1, number=7), TABLE)


@pytest.mark.parametrize("path", ["stem/vocals/fx/gone_plugin", "stem/vocals/fx//drive", "fx/a/b/c/d"])
def test_what_is_no_path_of_an_insert_is_refused(path):
    with pytest.raises(ConfigError, match="must be one of"):
        check_binding(Binding(path=path, kind="cc7", channel=1, number=7), TABLE)


@given(st.floats(20.0, 20_000.0), st.integers(0, 16_383))
def test_a_travel_in_ratios_comes_back(value, raw):
    travel = Travel(20.0, 20_000.0, False, 1.0, is_log=True)
    assert travel.value_at(travel.position_of(value)) == pytest.approx(value, abs=1e-4)
    assert travel.position_of(travel.value_at(raw / 16_383)) == pytest.approx(raw / 16_383, abs=0.4 / 16_383)
    assert 20.0 <= travel.value_of(raw, 16_383) <= 20_000.0


def test_a_travel_far_below_one_keeps_its_steps():
    travel = Travel(0.0, 0.001, False, 0.0)
    assert len({travel.value_at(raw / 16_383) for raw in range(16_384)}) == 16_384


def test_what_begins_at_zero_has_no_ratios():
    from_zero = Parameter(path="a", kind="number", doc="A.", lowest=0.0, highest=1.0, is_log=True)
    binding = Binding(path="a", kind="cc7", channel=1, number=7)
    assert travel_of(from_zero, binding).value_at(0.25) == 0.25


def test_the_page_has_the_same_law():
    source = (Path(__file__).resolve().parents[3] / "clients/web/law.js").read_text(encoding="utf-8")
    body = re.search(r"FADER_MARKS = \[(.*?)\];", source, re.DOTALL)[1].replace("SILENT_DB", str(SILENT_DB))
    marks = [tuple(map(float, pair)) for pair in re.findall(r"\[([-\d.]+), ([-\d.]+)\]", body)]
    assert [(height, gain_db) for gain_db, height in reversed(marks)] == list(GAIN_KNOTS)
