"""Effect chains as data: lines, edits, and the way to plain values and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.chains import (
    MAX_INSERTS,
    Chains,
    Insert,
    chain_of,
    chains_of,
    insert_of,
    line_of,
    new_insert,
    with_value,
)
from stemrack.rt.effect_builtin import BUILT_IN, with_impulses
from stemrack.rt.errors import ConfigError

TABLE = with_impulses(BUILT_IN, ["hall", "spring"])
KEYS = sorted(effect.key for effect in TABLE)


def values_of(parameter):
    if parameter.kind == "switch":
        return st.booleans()
    if parameter.kind == "choice":
        return st.sampled_from(parameter.choices)
    return st.floats(parameter.lowest, parameter.highest)


@st.composite
def inserts(draw, name):
    effect = TABLE.of_insert(name)
    return Insert(
        name=name,
        effect=effect.key,
        values={p.name: draw(values_of(p)) for p in effect.parameters},
        bypass=draw(st.booleans()),
        dry_wet=draw(st.floats(0.0, 1.0)),
        state=draw(st.sampled_from(["", "AAAA", "c3RhdGU="])),
    )


names = st.builds(
    lambda key, number: key if number is None else f"{key}-{number}",
    st.sampled_from(KEYS),
    st.none() | st.integers(2, 99),
)
lines = st.lists(names, unique=True, max_size=MAX_INSERTS)


@st.composite
def some_chains(draw):
    chains = Chains()
    for stem in draw(st.lists(st.sampled_from(STEMS), unique=True, max_size=2)):
        chain = tuple(draw(inserts(name)) for name in draw(st.lists(names, unique=True, max_size=3)))
        chains = chains.with_chain(stem, chain)
    return chains


@given(some_chains())
def test_chains_come_back_from_plain_values(chains):
    assert chains_of(TABLE, chains.as_dict()) == chains
    assert chains_of(TABLE, json.loads(json.dumps(chains.as_dict()))) == chains


@given(lines)
def test_a_line_gives_a_chain_that_says_it(line):
    assert line_of(chain_of(TABLE, "  ".join(line))) == " ".join(line)


@given(lines, st.data())
def test_an_edit_keeps_what_it_names_and_makes_the_rest_new(line, data):
    present = tuple(data.draw(inserts(name)) for name in line[:3])
    edited = data.draw(st.permutations(line))[: data.draw(st.integers(0, MAX_INSERTS))]
    chain = chain_of(TABLE, " ".join(edited), present)
    assert [i.name for i in chain] == edited
    for insert in chain:
        kept = [i for i in present if i.name == insert.name]
        assert insert is kept[0] if kept else insert == new_insert(TABLE, insert.name)


def test_a_new_insert_has_the_defaults_of_its_effect():
    insert = new_insert(TABLE, "reverb-2")
    assert (insert.name, insert.effect) == ("reverb-2", "reverb")
    assert insert.values == TABLE["reverb"].defaults
    assert (insert.bypass, insert.dry_wet, insert.state) == (False, 1.0, "")


def test_an_empty_line_is_an_empty_chain():
    assert chain_of(TABLE, "   ") == ()
    assert line_of(()) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gain gain", "'gain' comes twice: call the second one gain-2"),
        ("gain lfo", "there is no effect 'lfo'"),
        ("gain-1", "there is no effect 'gain-1'"),
        (
            " ".join(f"gain-{n}" for n in range(2, MAX_INSERTS + 3)),
            f"{MAX_INSERTS + 1} inserts: a chain takes",
        ),
    ],
)
def test_lines_that_say_no_chain_are_refused(line, said):
    with pytest.raises(ConfigError, match=said):
        chain_of(TABLE, line)


def test_the_hint_for_a_copy_that_comes_twice_can_be_followed():
    with pytest.raises(ConfigError) as caught:
        chain_of(TABLE, "gain gain-2 gain-2")
    hint = str(caught.value).split()[-1]
    assert [i.effect for i in chain_of(TABLE, f"gain gain-2 {hint}")] == ["gain", "gain", "gain"]


def test_as_many_inserts_as_may_be_are_taken():
    line = " ".join(f"gain-{n}" for n in range(2, MAX_INSERTS + 2))
    assert len(chain_of(TABLE, line)) == MAX_INSERTS
    with pytest.raises(ConfigError, match=f"a chain takes {MAX_INSERTS}"):
        chains_of(TABLE, {"bass": [{"effect": name} for name in f"gain {line}".split()]})


def test_one_value_changes_and_the_rest_stays():
    before = new_insert(TABLE, "reverb")
    after = with_value(TABLE, before, "room_size", 1)
    assert after.values == {**before.values, "room_size": 1.0}
    assert before.values["room_size"] == 0.5
    assert with_value(TABLE, before, "bypass", True).bypass is True
    assert with_value(TABLE, before, "dry_wet", 0).dry_wet == 0.0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("room_size", 1.5, "room_size = 1.5: must be 0 to 1"),
        ("room_size", float("nan"), "room_size"),
        ("room_size", True, "must be a number"),
        ("freeze_mode", 1, "must be true or false"),
        ("size", 0.5, "reverb has no parameter 'size'"),
        ("bypass", 1, "bypass = 1: must be true or false"),
        ("dry_wet", 1.1, "dry_wet = 1.1: must be 0"),
        ("dry_wet", True, "dry_wet = True"),
        ("dry_wet", float("nan"), "dry_wet = nan"),
        ("dry_wet", "1", "dry_wet = '1'"),
    ],
)
def test_values_that_cannot_be_are_refused(name, value, said):
    with pytest.raises(ConfigError, match=said):
        with_value(TABLE, new_insert(TABLE, "reverb"), name, value)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({}, "an insert needs effect"),
        ({"effect": 3}, "an insert needs effect"),
        ({"effect": "reverb", "state": b"x"}, "reverb: state must be text"),
        ({"effect": "reverb-2", "room_size": 2}, "reverb-2: room_size = 2: must be 0 to 1"),
        ({"effect": "reverb", "wet": 1}, "reverb: reverb has no parameter 'wet'"),
        ({"effect": "lfo"}, "there is no effect 'lfo'"),
    ],
)
def test_plain_values_that_are_no_insert_are_refused(plain, said):
    with pytest.raises(ConfigError, match=said):
        insert_of(TABLE, plain)


def test_what_plain_values_leave_out_is_as_in_a_new_insert():
    insert = insert_of(TABLE, {"effect": "delay", "mix": 1, "bypass": True})
    assert insert.values == {**TABLE["delay"].defaults, "mix": 1.0}
    assert insert.as_dict()["bypass"] is True
    assert "dry_wet" not in insert.as_dict()
    assert "state" not in insert.as_dict()


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"guitar": []}, "there is no stem 'guitar', but drums, bass, other, vocals"),
        ({"bass": {"effect": "gain"}}, "bass: must be a list of inserts"),
        ({"bass": ["gain"]}, "bass: must be a list of inserts"),
        ({"bass": [{"effect": "gain"}, {"effect": "gain"}]}, "'gain' comes twice"),
    ],
)
def test_plain_values_that_are_no_chains_are_refused(plain, said):
    with pytest.raises(ConfigError, match=said):
        chains_of(TABLE, plain)


def test_chains_are_found_and_changed_by_stem_and_name():
    gain, reverb = new_insert(TABLE, "gain"), new_insert(TABLE, "reverb")
    chains = Chains().with_chain("vocals", (gain, reverb))
    louder = with_value(TABLE, gain, "gain_db", 6.0)
    changed = chains.with_insert("vocals", louder)
    assert changed["vocals"] == (louder, reverb)
    assert chains["vocals"] == (gain, reverb)
    assert changed.insert("vocals", "gain") is louder
    assert changed.insert("vocals", "gain-2") is None
    assert [stem for stem, _ in changed] == list(STEMS)
    assert changed
    assert not Chains()
    assert Chains().as_dict() == {}
