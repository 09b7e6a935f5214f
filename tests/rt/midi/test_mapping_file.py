"""The mapping file: what was written is read, what is wrong is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.control.table import Table, mixer_parameters
from stemrack.rt.errors import ConfigError, OutputError
from stemrack.rt.midi.binding import Binding
from stemrack.rt.midi.mapping_file import load_mapping, mapping_text, parse_mapping, save_mapping

TABLE = Table(mixer_parameters(STEMS))
GAIN, MUTE = "stem/vocals/gain_db", "stem/vocals/mute"
FADER = f'[[control]]\npath = "{GAIN}"\nkind = "cc7"\nchannel = 1\nnumber = 7\n'

NAMES = st.text("aZ0 :*?[]#=\"'\\\x00\x7f\n\tü漢🎹", max_size=12)
CHANNELS = st.integers(1, 16)
FADERS = st.builds(
    Binding,
    path=st.sampled_from([p.path for p in TABLE if p.kind == "number" and p.lowest < -1.5]),
    kind=st.sampled_from(["cc7", "cc14", "relative"]),
    channel=CHANNELS,
    number=st.integers(0, 31),
    port=NAMES,
    encoding=st.sampled_from(["twos_complement", "signed_bit", "offset_64"]),
    lowest=st.one_of(st.none(), st.floats(-60.0, -30.0)),
    highest=st.one_of(st.none(), st.floats(-29.0, 0.0)),
)
BUTTONS = st.builds(
    Binding,
    path=st.sampled_from([p.path for p in TABLE if p.kind == "switch"]),
    kind=st.sampled_from(["cc7", "note"]),
    channel=CHANNELS,
    number=st.integers(0, 127),
    port=NAMES,
    button=st.sampled_from(["toggle", "momentary"]),
)


@given(st.lists(st.one_of(FADERS, BUTTONS), unique=True, max_size=6))
def test_what_was_written_is_read(bindings):
    assert parse_mapping(mapping_text(bindings), "m.toml", TABLE) == tuple(bindings)


def test_a_file_is_saved_whole(tmp_path):
    path = tmp_path / "new" / "midi.toml"
    assert load_mapping(path, TABLE) == ()
    fader = Binding(path=GAIN, kind="cc7", channel=1, number=7, port="nano*", highest=0.0)
    save_mapping(path, [fader])
    assert load_mapping(path, TABLE) == (fader,)
    save_mapping(path, [])
    assert load_mapping(path, TABLE) == ()
    assert [p.name for p in path.parent.iterdir()] == ["midi.toml"]


def test_a_control_of_an_effect_is_kept_although_its_plugin_is_gone(tmp_path):
    gone = Binding(path="stem/vocals/fx/gone_plugin/drive", kind="cc7", channel=1, number=7)
    save_mapping(tmp_path / "midi.toml", [gone])
    assert load_mapping(tmp_path / "midi.toml", TABLE) == (gone,)


def test_the_text_says_only_what_is_not_usual():
    fader = Binding(path=GAIN, kind="cc7", channel=1, number=7)
    assert mapping_text([fader]).endswith("\n\n" + FADER)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    path = tmp_path / "midi.toml"
    path.mkdir()
    with pytest.raises(OutputError) as raised:
        save_mapping(path, [])
    assert str(raised.value).startswith(f"{path}: could not be written (")
    assert [p.name for p in tmp_path.iterdir()] == ["midi.toml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[control", "m.toml is not TOML: "),
        ("[controls]", "m.toml: there is no table 'controls': it knows control"),
        ("control = 3", "m.toml: control = 3: must be tables, each [[control]]"),
        ("control = [3]", "m.toml: [[control]] 1 = 3: must be a table"),
        (
            FADER + "chanel = 2",
            "m.toml: [[control]] 1: there is no key 'chanel': it knows path, kind, channel",
        ),
        (FADER.replace("= 7", "= 200"), "m.toml: [[control]] 1: number = 200: must be 0 to 127"),
        (FADER.replace("= 7", "= true"), "m.toml: [[control]] 1: number = True: must be a whole number"),
        (FADER.replace("= 7", "= 7.0"), "m.toml: [[control]] 1: number = 7.0: must be a whole number"),
        (
            FADER.replace("cc7", "cc8"),
            "m.toml: [[control]] 1: kind = 'cc8': must be one of cc7, cc14, relative, note",
        ),
        (FADER.replace('"cc7"', "[]"), "m.toml: [[control]] 1: kind = []: must be one of "),
        (FADER + "port = 3", "m.toml: [[control]] 1: port = 3: must be text"),
        (FADER + 'lowest = "low"', "m.toml: [[control]] 1: lowest = 'low': must be a number"),
        (FADER + "lowest = nan", "m.toml: [[control]] 1: lowest = nan: must be -120 to 12"),
        (FADER + FADER, "m.toml: [[control]] 2 is the same as 1: take one away"),
        (
            FADER.replace("channel = 1\n", ""),
            "m.toml: [[control]] 1: channel is missing: it needs path, kind",
        ),
        (
            FADER.replace("gain_db", "gain"),
            "m.toml: [[control]] 1: path = 'stem/vocals/gain': must be one of ",
        ),
    ],
)
def test_what_is_wrong_is_named(text, said):
    with pytest.raises(ConfigError) as raised:
        parse_mapping(text, "m.toml", TABLE)
    assert str(raised.value).startswith(said)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_mapping(tmp_path, TABLE)
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load_mapping(path, TABLE)
