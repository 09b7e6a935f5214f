"""The table of effects: what its parameters take, and what the names of inserts mean."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemrack.rt.effect_table import COPY, Effect, EffectParameter, EffectTable
from stemrack.rt.errors import ConfigError

HUGE = 10**400
"""JSON and TOML have integers that no float can hold."""
GAIN = EffectParameter(
    name="gain_db", doc="How loud.", unit="dB", lowest=-60.0, highest=24.0, neutral=0.0, default=6.0
)
SPEED = EffectParameter(name="speed", doc="No limits.")
POWER = EffectParameter(name="power", doc="On or off.", kind="switch", default=False)
MODE = EffectParameter(name="mode", doc="Which.", kind="choice", choices=("low", "high"), default="low")
TOY = Effect(key="toy", title="Toy", doc="For tests.", parameters=(GAIN, SPEED, POWER, MODE))
TABLE = EffectTable([TOY, Effect(key="wire", title="Wire", doc="Nothing.", has_neutral=True)])


@given(st.floats(-60.0, 24.0) | st.integers(-60, 24))
def test_numbers_in_range_are_kept_as_floats(value):
    checked = GAIN.checked(value)
    assert checked == value
    assert type(checked) is float


@pytest.mark.parametrize(
    "value",
    [-60.1, 24.1, math.nan, math.inf, -math.inf, True, "6", None, [6.0], {}, 6 + 0j, HUGE, -HUGE],
    ids=lambda value: f"{value!r:.8}",
)
def test_what_is_no_number_in_range_is_refused(value):
    with pytest.raises(ConfigError, match="gain_db"):
        GAIN.checked(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, HUGE], ids=lambda value: f"{value!r:.8}")
def test_a_number_without_limits_is_still_finite(value):
    with pytest.raises(ConfigError, match="speed"):
        SPEED.checked(value)


def test_the_error_says_the_limits_with_their_unit():
    with pytest.raises(ConfigError, match=r"gain_db = 30: must be -60 to 24 dB$"):
        GAIN.checked(30)


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", None])
def test_switches_take_true_and_false_only(value):
    assert POWER.checked(True) is True
    assert POWER.checked(False) is False
    with pytest.raises(ConfigError, match=r"power = .*: must be true or false"):
        POWER.checked(value)


@pytest.mark.parametrize("value", ["", "LOW", 0, None, ["low"], "x" * 10000])
def test_choices_take_what_they_list_only(value):
    assert MODE.checked("high") == "high"
    with pytest.raises(ConfigError, match=r"must be one of low, high") as caught:
        MODE.checked(value)
    assert len(str(caught.value)) < 200


def test_defaults_and_neutral():
    assert TOY.defaults == {"gain_db": 6.0, "speed": 0.0, "power": False, "mode": "low"}
    assert TOY.neutral == {"gain_db": 0.0, "speed": 0.0, "power": False, "mode": "low"}
    assert TOY["mode"] is MODE


def test_what_is_not_there_is_named_with_what_is():
    with pytest.raises(ConfigError, match="toy has no parameter 'gain': it has gain_db, speed, power, mode"):
        TOY["gain"]
    with pytest.raises(ConfigError, match="wire has no parameter 'gain_db': it has none"):
        TABLE["wire"]["gain_db"]
    with pytest.raises(ConfigError, match="there is no effect 'lfo': `stemrack plugins list`"):
        TABLE["lfo"]


def test_a_table_is_walked_in_order():
    assert [e.key for e in TABLE] == ["toy", "wire"]
    assert "toy" in TABLE
    assert "toy-2" not in TABLE


@given(st.integers(2, 99))
def test_copies_are_numbered_from_2_to_99(number):
    assert TABLE.of_insert(f"toy-{number}") is TOY
    assert COPY.match(f"toy-{number}")["key"] == "toy"


@pytest.mark.parametrize(
    "name", ["toy-0", "toy-1", "toy-02", "toy-100", "toy-", "-2", "toy-2-3", "toy 2", "toy-2\n"]
)
def test_other_names_are_no_copies(name):
    with pytest.raises(ConfigError, match="there is no effect"):
        TABLE.of_insert(name)


def test_a_key_that_looks_like_a_copy_is_itself():
    mk2 = Effect(key="toy-2", title="Toy II", doc="Another.")
    assert EffectTable([TOY, mk2]).of_insert("toy-2") is mk2
    assert EffectTable([TOY, mk2]).of_insert("toy-2-2") is mk2
    assert EffectTable([TOY, mk2]).of_insert("toy-3") is TOY
