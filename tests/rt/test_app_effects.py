"""What a configuration says of effects: impulse responses, plugins, presets, and the reasons why not."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from stemrack.rt.app_effects import effects_of, find_preset, presets_of, with_faders
from stemrack.rt.chains import Chains, line_of
from stemrack.rt.effect_builtin import BUILT_IN, SILENT_IN_STREAMS
from stemrack.rt.effect_host import Processor
from stemrack.rt.errors import ConfigError
from stemrack.rt.params import Fader, MixerState
from stemrack.rt.presets import Preset

PRESET = """format = "stemrack preset 1"
title = "Mine"

[mixer.vocals]
gain_db = -9.0

[[chain.other]]
effect = "peak_filter"
gain_db = -4.0
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMRACK_STATE", str(tmp_path / "state"))


def config(**effects):
    named = {"impulses": "", "presets": "", "plugin_folders": [], "preset": ""} | effects
    return SimpleNamespace(effects=SimpleNamespace(**named))


def folder_of(path, *names):
    path.mkdir()
    for name in names:
        answer = np.zeros((64, 2), np.float32)
        answer[0] = 1.0
        if name.endswith((".wav", ".flac", ".aif", ".aiff", ".WAV")):
            soundfile.write(path / name, answer, 44100)
        else:
            (path / name).write_text(PRESET if name.endswith(".toml") else "no sound")
    return str(path)


# -- effects ------------------------------------------------------------------------------------------------


def test_without_a_folder_of_impulses_all_but_three_effects_can_be_used():
    effects = effects_of(config())
    assert {e.key for e in BUILT_IN} - {e.key for e in effects.table} == {*SILENT_IN_STREAMS, "convolution"}
    assert effects.impulses == {}


@pytest.mark.parametrize("key", sorted(SILENT_IN_STREAMS))
def test_what_is_silent_in_streams_is_refused_with_the_reason(key):
    table = effects_of(config()).table
    with pytest.raises(ConfigError, match=f"^'{key}' gives nothing but silence where sound comes in pieces"):
        table.of_insert(key)
    with pytest.raises(ConfigError, match="gives nothing but silence"):
        table.of_insert(f"{key}-2")


def test_convolution_without_impulses_says_what_to_do():
    with pytest.raises(
        ConfigError, match=r"needs impulse responses: name their folder, \[effects\] impulses"
    ):
        effects_of(config()).table.of_insert("convolution")


def test_sound_files_of_the_folder_are_choices_in_order(tmp_path):
    folder = folder_of(tmp_path / "ir", "room.wav", "Hall.WAV", "plate.flac", "notes.txt")
    effects = effects_of(config(impulses=folder))
    assert effects.table["convolution"]["impulse"].choices == ("Hall", "plate", "room")
    assert effects.impulses["plate"] == tmp_path / "ir" / "plate.flac"
    with pytest.raises(ConfigError, match="must be one of Hall, plate, room"):
        effects.table["convolution"]["impulse"].checked("notes")


def test_an_impulse_can_be_played(tmp_path):
    effects = effects_of(config(impulses=folder_of(tmp_path / "ir", "room.wav")))
    effect = effects.table["convolution"]
    made = Processor(
        effect, effect.defaults, rate_hz=44100, block_samples=512, impulse=effects.impulses["room"]
    )
    assert made.process(np.ones((2, 512), np.float32)).shape == (2, 512)


@pytest.mark.parametrize("key", ["impulses", "presets"])
def test_a_folder_that_is_not_there_is_named(tmp_path, key):
    asked = config(**{key: str(tmp_path / "gone")})
    with pytest.raises(ConfigError, match=rf"^\[effects\] {key} = '.*gone': there is no such folder$"):
        effects_of(asked) if key == "impulses" else presets_of(asked, BUILT_IN)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder_of(tmp_path / "ir", "room.wav")
    assert list(effects_of(config(impulses="~/ir")).impulses) == ["room"]


# -- presets ------------------------------------------------------------------------------------------------


def test_own_presets_stand_before_shipped_ones(tmp_path):
    shipped = presets_of(config(), effects_of(config()).table)
    assert shipped
    name = next(iter(shipped))
    folder = folder_of(tmp_path / "presets", f"{name}.toml", "mine.toml")
    found = presets_of(config(presets=folder), BUILT_IN)
    assert set(found) == {*shipped, "mine"}
    assert line_of(found["mine"].chains["other"]) == line_of(found[name].chains["other"]) == "peak_filter"
    assert found[name].title == "Mine" != shipped[name].title


def test_a_file_that_is_no_preset_is_named(tmp_path):
    folder = folder_of(tmp_path / "presets", "mine.toml")
    (tmp_path / "presets" / "broken.toml").write_text("format = ")
    with pytest.raises(ConfigError, match="broken"):
        presets_of(config(presets=folder), BUILT_IN)


def test_a_preset_is_found_by_name_and_by_file(tmp_path):
    folder = folder_of(tmp_path / "presets", "mine.toml")
    by_name = find_preset(config(presets=folder), BUILT_IN, "mine")
    by_file = find_preset(config(), BUILT_IN, f"{folder}/mine.toml")
    assert by_name.chains == by_file.chains
    assert by_name.chains.other[0].values["gain_db"] == -4.0


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(
        ConfigError, match=r"^there is no preset 'loud': there are .*karaoke.*or give a \.toml$"
    ):
        find_preset(config(), BUILT_IN, "loud")


def test_faders_of_a_preset_keep_the_ramp_and_all_that_it_does_not_set():
    mixer = MixerState(
        drums=Fader(gain_db=-3.0), vocals=Fader(gain_db=1.0, pan=0.5, ramp_ms=77.0), master_db=-2.0
    )
    own = with_faders(mixer, Preset(name="x", title="X", faders={"vocals": Fader(gain_db=-9.0, mute=True)}))
    assert own.vocals == Fader(gain_db=-9.0, mute=True, ramp_ms=77.0)
    assert (own.drums, own.master_db) == (mixer.drums, -2.0)
    assert with_faders(mixer, Preset(name="x", title="X", master_db=0.0)).master_db == 0.0
    assert with_faders(mixer, Preset(name="x", title="X", chains=Chains())) == mixer
