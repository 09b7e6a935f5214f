"""Chains as parameters: which paths there are, what they hold, what a change of chains tells a board."""

import pytest
from control_node import EFFECTS, plain_table

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains, chain_of, with_value
from stemrack.rt.control.chain_table import (
    ChainTable,
    InsertParameters,
    Place,
    PossibleTable,
    changed_values,
    effect_info,
    place_of,
    value_in,
)
from stemrack.rt.control.codec import JSON, MSGPACK, Codec, ProtocolError
from stemrack.rt.control.messages import Described, ErrorCode
from stemrack.rt.control.table import mixer_parameters
from stemrack.rt.effect_table import Effect, EffectParameter, EffectTable

ROOM = "stem/vocals/fx/reverb/room_size"
INSERTS = InsertParameters(EFFECTS)


def chains(**lines):
    return Chains(**{stem: chain_of(EFFECTS, line) for stem, line in lines.items()})


# -- paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("stem/bass/chain", Place("bass", "", "")),
        ("stem/bass/fx/reverb-2/room_size", Place("bass", "reverb-2", "room_size")),
        ("stem/piano/chain", None),
        ("stem/piano/fx/reverb/room_size", None),
        ("stem/bass/fx/reverb", None),
        ("stem/bass/fx//room_size", None),
        ("stem/bass/fx/reverb/", None),
        ("stem/bass/gain_db", None),
        ("master/gain_db", None),
        ("", None),
    ],
)
def test_what_a_path_means(path, place):
    assert place_of(path) == place


def test_values_of_an_insert_are_found():
    insert = with_value(EFFECTS, chain_of(EFFECTS, "reverb")[0], "room_size", 0.2)
    held = Chains(vocals=(with_value(EFFECTS, insert, "dry_wet", 0.4),))
    found = {
        name: value_in(held, Place("vocals", "reverb", name)) for name in ("room_size", "dry_wet", "bypass")
    }
    assert found == {"room_size": 0.2, "dry_wet": 0.4, "bypass": False}
    assert value_in(held, Place("vocals", "reverb", "nothing")) is None
    assert value_in(held, Place("bass", "reverb", "room_size")) is None


# -- tables --------------------------------------------------------------------------------------------------


def test_the_table_has_what_the_chains_have():
    plain = plain_table()
    table = plain.following(chains(vocals="reverb reverb-2", bass="invert"))
    new = [p.path for p in table][len(list(plain)) :]
    assert new == [
        "stem/bass/fx/invert/bypass",
        "stem/bass/fx/invert/dry_wet",
        *(f"stem/vocals/fx/reverb/{n}" for n in ("bypass", "dry_wet", "room_size", "freeze")),
        *(f"stem/vocals/fx/reverb-2/{n}" for n in ("bypass", "dry_wet", "room_size", "freeze")),
    ]
    assert ROOM not in plain
    assert ROOM not in table.following(Chains())
    assert [p.path for p in table.following(Chains())] == [p.path for p in plain]


def test_a_table_stays_while_the_inserts_do():
    before = chains(vocals="reverb highpass_filter")
    table = plain_table().following(before)
    moved = before.with_insert("vocals", with_value(EFFECTS, before.vocals[0], "room_size", 0.9))
    assert table.following(moved) is table
    assert table.following(chains(vocals="highpass_filter reverb")) is not table


def test_parameters_are_the_effects_own():
    of = INSERTS.of("vocals", "highpass_filter")
    cutoff = of["stem/vocals/fx/highpass_filter/cutoff_frequency_hz"]
    assert (cutoff.unit, cutoff.lowest, cutoff.highest, cutoff.default) == ("Hz", 20.0, 20_000.0, 50.0)
    assert (cutoff.is_log, cutoff.ramp_ms, cutoff.role, cutoff.info.is_log) == (True, None, "operator", True)
    mode = INSERTS.of("vocals", "ladder_filter")["stem/vocals/fx/ladder_filter/mode"]
    assert (mode.kind, mode.choices, mode.default) == ("choice", ("LPF12", "HPF12"), "LPF12")
    assert INSERTS.of("bass", "reverb") is INSERTS.of("bass", "reverb")


def test_what_every_insert_has_wins_over_a_plugins_own_of_that_name():
    own = EffectParameter(name="bypass", doc="Its own.", default=0.3)
    effects = EffectTable([Effect(key="plugin", title="P", doc="P.", parameters=(own,))])
    inserts = InsertParameters(effects)
    assert inserts.of("bass", "plugin")["stem/bass/fx/plugin/bypass"].kind == "switch"
    (insert,) = chain_of(effects, "plugin")
    assert inserts.values("bass", insert) == {
        "stem/bass/fx/plugin/bypass": False,
        "stem/bass/fx/plugin/dry_wet": 1.0,
    }


def test_parameters_of_inserts_long_gone_are_not_kept_for_ever():
    inserts = InsertParameters(EFFECTS)
    for effect in EFFECTS:
        for stem in STEMS:
            for number in range(2, 100):
                inserts.of(stem, f"{effect.key}-{number}")
    assert len(inserts._kept) <= 512
    assert len(inserts.of("bass", "reverb-50")) == 4


def test_what_could_be_is_found_and_not_listed():
    table = PossibleTable(mixer_parameters(STEMS), INSERTS)
    assert ROOM in table
    assert table[ROOM].highest == 1.0
    assert "stem/vocals/fx/reverb-7/freeze" in table
    for path in ("stem/vocals/fx/kazoo/blow", "stem/vocals/fx/reverb/nothing", "engine/state", 7):
        assert path not in table
    assert table["stem/vocals/chain"].kind == "text"
    assert [p.path for p in table] == [p.path for p in mixer_parameters(STEMS)]
    with pytest.raises(ProtocolError) as caught:
        table["stem/vocals/fx/kazoo/blow"]
    assert caught.value.code == ErrorCode.UNKNOWN_PATH


# -- changes -------------------------------------------------------------------------------------------------


def test_a_new_insert_brings_its_line_and_values():
    assert changed_values(INSERTS, Chains(), chains(vocals="reverb")) == {
        "stem/vocals/chain": "reverb",
        "stem/vocals/fx/reverb/bypass": False,
        "stem/vocals/fx/reverb/dry_wet": 1.0,
        "stem/vocals/fx/reverb/room_size": 0.5,
        "stem/vocals/fx/reverb/freeze": False,
    }


def test_an_insert_that_goes_takes_its_paths_away():
    before = chains(vocals="reverb invert", bass="invert")
    after = before.with_chain("vocals", chain_of(EFFECTS, "invert", before.vocals))
    assert changed_values(INSERTS, before, after) == {
        "stem/vocals/chain": "invert",
        **{f"stem/vocals/fx/reverb/{n}": None for n in ("bypass", "dry_wet", "room_size", "freeze")},
    }


def test_a_value_touches_only_its_insert():
    before = chains(vocals="reverb invert")
    after = before.with_insert("vocals", with_value(EFFECTS, before.vocals[0], "room_size", 0.9))
    changed = changed_values(INSERTS, before, after)
    assert changed.pop("stem/vocals/chain") == "reverb invert"
    assert {p.split("/")[3] for p in changed} == {"reverb"}
    assert changed[ROOM] == 0.9


def test_the_same_chains_change_nothing():
    same = chains(vocals="reverb")
    assert changed_values(INSERTS, same, same) == {}


# -- what clients get to know --------------------------------------------------------------------------------


def test_an_effect_is_told():
    info = effect_info(EFFECTS["highpass_filter"])
    assert (info.key, info.title, info.doc) == ("highpass_filter", "High-pass", "Takes the low end away.")
    (cutoff,) = info.parameters
    assert (cutoff.path, cutoff.unit, cutoff.lowest, cutoff.is_log) == (
        "cutoff_frequency_hz",
        "Hz",
        20.0,
        True,
    )


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
def test_many_large_plugins_still_fit_into_a_frame(subprotocol):
    """Thirty plugins of 100 parameters each, and 32 of their inserts in chains: what a client must be able to
    take is 16 MiB."""
    many = tuple(EffectParameter(name=f"a_long_name_of_a_knob_{i}", doc="Knob.") for i in range(100))
    plugins = [Effect(key=f"plugin_{i}", title="P", doc="A plugin.", parameters=many) for i in range(30)]
    effects = EffectTable(plugins)
    line = " ".join(f"plugin_{i}" for i in range(8))
    full = Chains(**{stem: chain_of(effects, line) for stem in STEMS})
    table = ChainTable((), InsertParameters(effects)).following(full)
    infos = tuple(effect_info(e) for e in effects)
    described = Described(id=1, parameters=tuple(p.info for p in table), effects=infos)
    frame = Codec(subprotocol).encode(described)
    assert len(described.parameters) == 32 * 102
    assert len(frame) < 2**20
    assert Codec(subprotocol).decode_server(frame) == described
