"""The table of parameters: what it lets through, what it refuses and why, and what it tells of itself."""

import math

import pytest
from control_node import INPUTS, OUTPUTS, PROFILES, plain_table
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.control.codec import ProtocolError
from stemrack.rt.control.faders import values_of
from stemrack.rt.control.messages import ErrorCode
from stemrack.rt.control.table import (
    DEFAULT_RAMP_MS,
    GAIN_HIGHEST_DB,
    RAMP_HIGHEST_MS,
    ROLES,
    SILENT_DB,
    Parameter,
    Table,
    gain,
    mixer_parameters,
    node_parameters,
)
from stemrack.rt.params import GAIN_LIMIT_DB, RAMP_LIMITS_MS, RAMP_MS, MixerState

TABLE = plain_table()
ALL = pytest.mark.parametrize("parameter", list(TABLE), ids=lambda p: p.path)


def right_values(parameter):
    """Return a strategy for every value that a parameter may have."""
    if parameter.kind == "switch":
        return st.booleans()
    if parameter.kind == "number":
        low = max(parameter.lowest, -1e300)
        high = min(parameter.highest, 1e300)
        return st.floats(low, high, allow_nan=False)
    return st.sampled_from(parameter.choices) if parameter.kind == "choice" else st.text(max_size=80)


def wrong_values(parameter):
    """Return a strategy for pairs of a value that a parameter may not have, and the code that says so."""
    not_that = {
        "switch": st.one_of(st.none(), st.floats(), st.text(max_size=9)),
        "number": st.one_of(st.none(), st.booleans(), st.text(max_size=9)),
        "choice": st.one_of(st.none(), st.booleans(), st.floats()),
        "text": st.one_of(st.none(), st.booleans(), st.floats()),
    }
    wrong = [not_that[parameter.kind].map(lambda v: (v, ErrorCode.WRONG_TYPE))]
    if parameter.kind == "number" and math.isfinite(parameter.highest):
        beyond = st.one_of(
            st.floats(max_value=parameter.lowest, exclude_max=True),
            st.floats(min_value=parameter.highest, exclude_min=True),
            st.just(math.nan),
        )
        wrong.append(beyond.map(lambda v: (v, ErrorCode.OUT_OF_RANGE)))
    if parameter.kind == "choice":
        names = st.text(max_size=99).filter(lambda name: name not in parameter.choices)
        wrong.append(names.map(lambda v: (v, ErrorCode.OUT_OF_RANGE)))
    return st.one_of(wrong)


@ALL
@settings(max_examples=40)
@given(data=st.data())
def test_right_values_pass_unchanged(parameter, data):
    value = data.draw(right_values(parameter))
    assert parameter.checked(value) == value
    assert type(parameter.checked(value)) is type(value)


@ALL
@settings(max_examples=40)
@given(data=st.data())
def test_wrong_values_are_refused_with_the_path(parameter, data):
    value, code = data.draw(wrong_values(parameter))
    with pytest.raises(ProtocolError) as caught:
        parameter.checked(value)
    assert (caught.value.code, caught.value.path) == (code, parameter.path)
    assert 0 < len(caught.value.message) < 300


@ALL
def test_the_limits_belong_to_the_range(parameter):
    if parameter.kind == "number" and math.isfinite(parameter.highest):
        assert parameter.checked(parameter.lowest) == parameter.lowest
        assert parameter.checked(parameter.highest) == parameter.highest


@ALL
def test_whole_numbers_become_numbers(parameter):
    if parameter.kind == "number":
        assert isinstance(parameter.checked(0), float)


@ALL
def test_defaults_are_right_values_or_nothing_known_yet(parameter):
    assert parameter.default == "" or parameter.checked(parameter.default) == parameter.default


@ALL
def test_every_parameter_says_what_it_is(parameter):
    assert parameter.doc.endswith(".")
    assert len(parameter.path) <= 128
    assert parameter.role is None or parameter.role in ROLES
    assert (parameter.step is None) == (parameter.kind != "number" or parameter.role is None)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("stem/bass/gain_db", 12.5, "12.5 dB: must be -120 to 12 dB"),
        ("stem/bass/pan", -2.0, "-2 : must be -1 to 1"),
        ("stem/bass/mute", 1.0, "1.0: must be true or false"),
        ("stem/bass/gain_db", "x" * 99, f"'{'x' * 63}: must be a number"),
        ("engine/profile", "x" * 99, f"'{'x' * 64}': must be one of live, studio"),
        ("engine/profile", 3.0, "3.0: must be text"),
    ],
)
def test_errors_say_what_to_do(path, value, said):
    with pytest.raises(ProtocolError) as caught:
        TABLE[path].checked(value)
    assert caught.value.message == said


def test_a_choice_without_choices():
    with pytest.raises(ProtocolError, match=r"must be one of nothing \(none is there now\)"):
        Table(node_parameters())["device/input"].checked("x")


@pytest.mark.parametrize(("value", "limited"), [(-1e308, -120.0), (3.0, 3.0), (math.inf, 12.0)])
def test_limited(value, limited):
    assert TABLE["master/gain_db"].limited(value) == limited


def test_paths():
    assert "stem/vocals/solo" in TABLE
    assert "stem/piano/solo" not in TABLE
    assert TABLE["stem/vocals/solo"].kind == "switch"
    assert [p.path for p in TABLE][:4] == [f"stem/drums/{w}" for w in ("gain_db", "mute", "solo", "pan")]
    assert len({p.path for p in TABLE}) == len(list(TABLE)) == 5 * len(STEMS) + 3 + 12


def test_a_path_that_is_not_there():
    with pytest.raises(ProtocolError) as caught:
        TABLE["x" * 99]
    assert caught.value.code == ErrorCode.UNKNOWN_PATH
    assert caught.value.message == f"there is no parameter '{'x' * 64}': ask for the table with describe"


def test_defaults():
    assert TABLE.defaults["stem/drums/gain_db"] == 0.0
    assert {p: TABLE.defaults[p] for p in values_of(MixerState())} == values_of(MixerState())


def test_choices_are_those_of_the_node():
    choices = {p.path: p.choices for p in TABLE if p.kind == "choice"}
    assert choices == {"device/input": INPUTS, "device/output": OUTPUTS, "engine/profile": PROFILES}


def test_only_an_admin_changes_what_interrupts_the_sound():
    assert {p.path for p in TABLE if p.role == "admin"} == {"device/input", "device/output", "engine/profile"}


def test_limits_are_those_of_the_mixer():
    """The protocol stands below the mixer in no layer; so its limits are written twice, and compared here."""
    assert GAIN_HIGHEST_DB == GAIN_LIMIT_DB
    assert RAMP_LIMITS_MS == (0.0, RAMP_HIGHEST_MS)
    assert DEFAULT_RAMP_MS == RAMP_MS
    assert MixerState(ceiling_db=TABLE["master/ceiling_db"].lowest).ceiling_db == -60.0


def test_info_of_a_number():
    info = gain("x/gain_db", "Fader of x.").info
    assert (info.path, info.kind, info.doc, info.unit) == ("x/gain_db", "number", "Fader of x.", "dB")
    assert (info.lowest, info.highest, info.step, info.default) == (SILENT_DB, GAIN_HIGHEST_DB, 1.0, 0.0)
    assert (info.ramp_ms, info.role, info.choices) == (DEFAULT_RAMP_MS, "operator", ())


def test_info_of_a_number_without_limits():
    info = TABLE["engine/latency_ms"].info
    assert (info.lowest, info.highest, info.role) == (None, None, "")


def test_info_of_what_is_no_number():
    info = Parameter(path="a", kind="choice", doc="A.", choices=("b", "c"), role="admin").info
    assert (info.lowest, info.highest, info.choices, info.role) == (None, None, ("b", "c"), "admin")


def test_stems_have_the_same_parameters():
    rows = mixer_parameters(("a", "b"))
    assert [p.path.replace("/b/", "/a/") for p in rows if "/b/" in p.path] == [
        p.path for p in rows if "/a/" in p.path
    ]
