"""Presets: what is written is read, a mistake is said with its place, those shipped are what they say."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from control_node import EFFECTS
from hypothesis import given
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains, chain_of, line_of, with_value
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.errors import ConfigError
from stemrack.rt.params import Fader
from stemrack.rt.presets import (
    Preset,
    load_preset,
    parse_preset,
    presets_in,
    shipped_presets,
    toml_text,
    toml_values,
)

HEAD = 'format = "stemrack preset 1"\n'
SHIPPED = shipped_presets(BUILT_IN)


def parsed(text, table=EFFECTS):
    return parse_preset(HEAD + text, "p", "p.toml", table)


def gains(name):
    """Return what is heard of each stem, as a gain on the left, with the faders of a preset."""
    faders = {s: SHIPPED[name].faders.get(s, Fader()) for s in STEMS}
    return {s: faders[s].gains(heard=not faders[s].mute)[0] for s in STEMS}


def lines(name):
    return {stem: line_of(chain) for stem, chain in SHIPPED[name].chains if chain}


# -- reading -------------------------------------------------------------------------------------------------


def test_a_preset_is_read():
    preset = parsed(
        """
        title = "Hall"
        doc = "Large."
        [mixer]
        master_db = -3
        [mixer.vocals]
        gain_db = -6
        pan = 0.25
        [mixer.drums]
        mute = true
        [[chain.vocals]]
        effect = "highpass_filter"
        cutoff_frequency_hz = 120
        [[chain.vocals]]
        effect = "reverb-2"
        freeze = true
        bypass = true
        dry_wet = 0.5
        """
    )
    assert (preset.name, preset.title, preset.doc, preset.master_db) == ("p", "Hall", "Large.", -3.0)
    assert preset.faders == {"vocals": Fader(gain_db=-6.0, pan=0.25), "drums": Fader(mute=True)}
    low_cut, reverb = preset.chains.vocals
    assert low_cut.values == {"cutoff_frequency_hz": 120.0}
    assert (reverb.name, reverb.effect, reverb.bypass, reverb.dry_wet) == ("reverb-2", "reverb", True, 0.5)
    assert reverb.values == {"room_size": 0.5, "freeze": True}
    assert preset.chains.bass == ()


def test_the_least_preset():
    assert parsed("") == Preset(name="p", title="p")


@pytest.mark.parametrize("level", ["-120", "-120.0", "-500", "-inf"])
def test_silence(level):
    preset = parsed(f"[mixer]\nmaster_db = {level}\n[mixer.bass]\ngain_db = {level}")
    assert (preset.master_db, preset.faders["bass"].gain_db) == (-math.inf, -math.inf)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= 3", "p.toml: is not TOML: "),
        ("colour = 3", "p.toml: there is no key 'colour': it knows format, title, doc, mixer, chain"),
        ("title = 3", "p.toml: title = 3: must be text"),
        ("doc = []", "p.toml: doc = []: must be text"),
        ("mixer = 3", "p.toml: mixer = 3: must be a table"),
        ("chain = 3", "p.toml: chain = 3: must be a table"),
        ("[mixer.kazoo]", "p.toml: [mixer]: there is no key 'kazoo': it knows drums, bass, other, vocals"),
        ("[mixer]\nbass = 3", "p.toml: [mixer]: bass = 3: must be a table"),
        ("[mixer]\nmaster_db = 13", "p.toml: [mixer]: master_db = 13: must be at most 12 dB"),
        ("[mixer]\nmaster_db = nan", "p.toml: [mixer]: master_db = nan: must be at most 12 dB"),
        ("[mixer]\nmaster_db = true", "p.toml: [mixer]: master_db = True: must be a number"),
        ("[mixer.bass]\ngain = 3", "p.toml: [mixer.bass]: there is no key 'gain': it knows gain_db, mute"),
        ("[mixer.bass]\ngain_db = 13", "p.toml: [mixer.bass]: gain_db = 13.0: must be "),
        ("[mixer.bass]\ngain_db = nan", "p.toml: [mixer.bass]: gain_db = nan: must be "),
        ("[mixer.bass]\npan = 'left'", "p.toml: [mixer.bass]: pan = 'left': must be a number"),
        ("[mixer.bass]\nmute = 1", "p.toml: [mixer.bass]: mute = 1: must be true or false"),
        ("[[chain.kazoo]]", "p.toml: [chain]: there is no key 'kazoo': it knows drums, bass, other, vocals"),
        ("[chain.bass]", "p.toml: [[chain.bass]]: must be a list of inserts"),
        ("[chain]\nbass = [3]", "p.toml: [[chain.bass]]: must be a list of inserts"),
        ("[[chain.bass]]", "p.toml: [[chain.bass]] 1: an insert needs effect = '...'"),
        (
            '[[chain.bass]]\neffect = "invert"\n[[chain.bass]]\neffect = "kazoo"',
            "p.toml: [[chain.bass]] 2: there is no effect 'kazoo'",
        ),
        (
            '[[chain.bass]]\neffect = "reverb"\nroom_size = 2',
            "p.toml: [[chain.bass]] 1: reverb: room_size = 2: must be 0 to 1",
        ),
        (
            '[[chain.bass]]\neffect = "reverb"\nsize = 2',
            "p.toml: [[chain.bass]] 1: reverb: reverb has no parameter 'size': it has room_size, freeze",
        ),
        (
            '[[chain.bass]]\neffect = "invert"\n[[chain.bass]]\neffect = "invert"',
            "p.toml: [[chain.bass]]: 'invert' comes twice: call the second one invert-2",
        ),
    ],
)
def test_mistakes_are_said_with_their_place(text, said):
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert str(caught.value).startswith(said)


DIGITS, HEX_DIGITS = "1" + 4400 * "0", "0x" + 4400 * "f"
"""Integers beyond what Python turns from text, or to text."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[mixer]\nmaster_db = 1{400 * '0'}", "master_db: an integer has more than 64 bits"),
        (f"[mixer.bass]\npan = -1{400 * '0'}", "pan: an integer has more than 64 bits"),
        (f"[mixer]\nmaster_db = {-(1 << 63) - 1}", "master_db: an integer has more than 64 bits"),
        (f"[mixer]\nmaster_db = {1 << 63}", "master_db: an integer has more than 64 bits"),
        (f"[mixer]\nmaster_db = {DIGITS}", "an integer has more than 64 bits"),
        (f"title = {HEX_DIGITS}", "title: an integer has more than 64 bits"),
        (f"doc = [[{HEX_DIGITS}]]", "doc: an integer has more than 64 bits"),
        (
            f'[[chain.bass]]\neffect = "reverb"\nroom_size = {HEX_DIGITS}',
            "room_size: an integer has more than 64 bits",
        ),
        (f"doc = {100 * '['}{100 * ']'}", "tables or lists are nested too deep"),
        (f"doc = {5000 * '['}{5000 * ']'}", "tables or lists are nested too deep"),
        (f"doc{5000 * '.a'} = 1", "tables or lists are nested too deep"),
    ],
)
def test_what_toml_need_not_hold_is_refused(text, said):
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert str(caught.value).startswith(f"p.toml: is not TOML: {said}")


def test_the_largest_integers_are_read():
    for number in (1 << 63) - 1, -(1 << 63):
        with pytest.raises(ConfigError, match=f"title = {number}: must be text"):
            parsed(f"title = {number}")
    assert parsed(f"[mixer]\nmaster_db = {-(1 << 63)}").master_db == -math.inf


@pytest.mark.parametrize("head", ["", "format = 1", 'format = "stemrack preset 2"'])
def test_another_format(head):
    with pytest.raises(ConfigError, match="must be 'stemrack preset 1'; a newer one needs a newer stemrack"):
        parse_preset(head, "p", "p.toml", EFFECTS)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_names_that_the_protocol_cannot_say(name):
    with pytest.raises(ConfigError, match="a preset's name has 1 to 64 characters in one line"):
        parse_preset(HEAD, name, "p.toml", EFFECTS)


# -- writing -------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FADERS = st.builds(
    Fader,
    gain_db=st.one_of(st.just(-math.inf), st.floats(-119.9, 12.0)),
    mute=st.booleans(),
    solo=st.booleans(),
    pan=st.floats(-1.0, 1.0),
)


@st.composite
def chains(draw):
    chains = Chains()
    for stem in draw(st.sets(st.sampled_from(STEMS))):
        names = draw(st.lists(st.sampled_from(["reverb", "reverb-2", "invert"]), unique=True))
        made = []
        for insert in chain_of(EFFECTS, " ".join(names)):
            if insert.effect == "reverb":
                insert = with_value(EFFECTS, insert, "room_size", draw(st.floats(0.0, 1.0)))
                insert = with_value(EFFECTS, insert, "dry_wet", draw(st.floats(0.0, 1.0)))
            made.append(with_value(EFFECTS, insert, "bypass", draw(st.booleans())))
        chains = chains.with_chain(stem, tuple(made))
    return chains


def written(preset):
    """Return the TOML of a preset, all of whose values are said."""
    parts = [toml_text({"format": "stemrack preset 1", "title": preset.title, "doc": preset.doc})]
    if preset.master_db is not None:
        parts.append("[mixer]\n" + toml_text({"master_db": preset.master_db}))
    parts += [f"[mixer.{stem}]\n" + _fader_text(fader) for stem, fader in preset.faders.items()]
    for stem, chain in preset.chains:
        parts += [f"[[chain.{stem}]]\n" + toml_text(insert.as_dict()) for insert in chain]
    return "".join(parts)


def _fader_text(fader):
    return toml_text({name: getattr(fader, name) for name in ("gain_db", "mute", "solo", "pan")})


@given(
    title=TEXTS,
    doc=TEXTS,
    faders=st.dictionaries(st.sampled_from(STEMS), FADERS),
    master_db=st.one_of(st.none(), st.just(-math.inf), st.floats(-119.9, 12.0)),
    chains=chains(),
)
def test_what_is_written_is_read(title, doc, faders, master_db, chains):
    preset = Preset(name="p", title=title, doc=doc, faders=faders, master_db=master_db, chains=chains)
    assert parse_preset(written(preset), "p", "p.toml", EFFECTS) == preset


def test_the_state_of_a_plugin_and_odd_names_survive():
    (insert,) = chain_of(EFFECTS, "reverb")
    preset = Preset(name="p", title="P", chains=Chains(bass=(replace(insert, state="AAECAw=="),)))
    assert parse_preset(written(preset), "p", "p.toml", EFFECTS) == preset
    odd = replace(insert, values={"a b": 1.0})
    assert '"a b" = 1.0' in written(Preset(name="p", title="P", chains=Chains(bass=(odd,))))


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.booleans(), st.floats(allow_nan=False))))
def test_any_plain_values_are_written_and_read(values):
    assert toml_values(toml_text(values)) == values


# -- files ---------------------------------------------------------------------------------------------------


def test_a_folder_of_presets(tmp_path):
    (tmp_path / "b.toml").write_text(HEAD + 'title = "B"')
    (tmp_path / "a.toml").write_text(HEAD + '[[chain.bass]]\neffect = "reverb"')
    (tmp_path / "gone.toml").write_text(HEAD + '[[chain.bass]]\neffect = "gone_plugin"')
    (tmp_path / "notes.txt").write_text("nothing")
    presets, wrong = presets_in(tmp_path, EFFECTS)
    assert {name: p.title for name, p in presets.items()} == {"a": "a", "b": "B"}
    (said,) = wrong
    assert said.startswith(f"{tmp_path / 'gone.toml'}: [[chain.bass]] 1: there is no effect 'gone_plugin'")


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match="is no folder of presets"):
        presets_in(tmp_path / "nowhere", EFFECTS)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_preset(tmp_path / "nowhere.toml", EFFECTS)
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"p.toml: is not text in UTF-8"):
        load_preset(tmp_path / "p.toml", EFFECTS)


# -- those that are shipped ----------------------------------------------------------------------------------


def test_a_useful_set_is_shipped():
    names = ["acapella-room", "bass-isolate", "dj-wash-out", "drum-punch", "karaoke", "monitor-safe"]
    assert list(SHIPPED) == names
    for preset in SHIPPED.values():
        assert preset.title
        assert preset.doc.endswith(".")
        assert preset.master_db is None
        assert parse_preset(written(preset), preset.name, "again", BUILT_IN) == preset


def test_karaoke_turns_the_voice_down_and_dips_where_it_leaks():
    heard = gains("karaoke")
    assert 0.0 < heard["vocals"] < 0.1
    assert {heard[s] for s in STEMS if s != "vocals"} == {1.0}
    assert lines("karaoke") == {"other": "peak_filter"}
    assert -6.0 <= SHIPPED["karaoke"].chains.other[0].values["gain_db"] < 0.0


@pytest.mark.parametrize(
    ("name", "stem", "line"),
    [
        ("acapella-room", "vocals", "highpass_filter reverb"),
        ("drum-punch", "drums", "compressor low_shelf_filter"),
        ("bass-isolate", "bass", "highpass_filter lowpass_filter"),
    ],
)
def test_one_stem_alone(name, stem, line):
    heard = gains(name)
    assert heard.pop(stem) >= 1.0
    assert set(heard.values()) == {0.0}
    assert lines(name) == {stem: line}


def test_the_wash_leaves_the_voice_dry():
    assert lines("dj-wash-out") == dict.fromkeys(("drums", "bass", "other"), "highpass_filter reverb")
    assert gains("dj-wash-out")["vocals"] == 1.0


def test_monitors_are_safe():
    preset = SHIPPED["monitor-safe"]
    assert preset.faders == {}
    assert lines("monitor-safe") == dict.fromkeys(STEMS, "highpass_filter brickwall_limiter")
    for _, chain in preset.chains:
        assert chain[1].values["ceiling_db"] <= -6.0
        assert not chain[1].bypass
        assert chain[1].dry_wet == 1.0


def test_every_file_that_is_shipped_is_listed():
    folder = Path(__file__).parents[2] / "rt" / "preset_files"
    assert {p.stem for p in folder.iterdir()} == set(SHIPPED)
