"""The file of scenes: what is written is read, also the older form; what is none is refused."""

import json

import pytest

from stemrack.rt.control.scene_file import FORMAT, load_scenes, save_scenes
from stemrack.rt.control.scenes import Scene
from stemrack.rt.errors import ConfigError

GAIN = "stem/drums/gain_db"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scenes.json"


def test_what_is_written_is_read(path):
    scenes = {
        "a": Scene(values={GAIN: -3.0}, chains={"bass": [], "vocals": [{"effect": "reverb", "x": 0.5}]}),
        "format": Scene(values={"stem/drums/mute": True}),
        "Straße": Scene(),
    }
    save_scenes(path, scenes)
    assert load_scenes(path) == scenes
    assert json.loads(path.read_text())["format"] == FORMAT == "stemrack scenes 2"
    assert [p.name for p in path.parent.iterdir()] == ["scenes.json"]


def test_no_file_holds_no_scenes(path):
    assert load_scenes(path) == {}


def test_the_older_form_is_read(path):
    path.write_text(json.dumps({"a": {GAIN: -3.0, "cue/gain_db": 1.0}, "format": {GAIN: -6.0}, "scenes": {}}))
    assert load_scenes(path) == {
        "a": Scene(values={GAIN: -3.0}),
        "format": Scene(values={GAIN: -6.0}),
        "scenes": Scene(),
    }


def test_plugins_that_are_gone_are_no_trouble_before_the_recall(path):
    scene = Scene(chains={"vocals": [{"effect": "gone_plugin", "state": "AAAA"}]})
    save_scenes(path, {"a": scene})
    assert load_scenes(path) == {"a": scene}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "holds no scenes"),
        ("[]", "holds no scenes"),
        ('{"a": 3}', "scene 'a': holds no scenes"),
        ('{"a": {"stem/drums/gain_db": 99}}', "scene 'a': stem/drums/gain_db = 99 dB: must be "),
        (
            '{"format": "stemrack scenes 3"}',
            "must be 'stemrack scenes 2'; a newer one needs a newer stemrack",
        ),
        ('{"format": "stemrack scenes 2"}', "holds no scenes"),
        ('{"format": "stemrack scenes 2", "scenes": []}', "holds no scenes"),
        ('{"format": "stemrack scenes 2", "scenes": {"a": 3}}', "scene 'a': holds no scenes"),
        ('{"format": "stemrack scenes 2", "scenes": {"a": {"values": 3}}}', "scene 'a': holds no scenes"),
        ('{"format": "stemrack scenes 2", "scenes": {"a": {"chains": []}}}', "scene 'a': holds no scenes"),
        (
            '{"format": "stemrack scenes 2", "scenes": {"a": {"chains": {"bass": 3}}}}',
            "scene 'a': the chain of bass is none",
        ),
        (
            '{"format": "stemrack scenes 2", "scenes": {"a": {"chains": {"bass": ["reverb"]}}}}',
            "scene 'a': the chain of bass is none",
        ),
        (
            '{"format": "stemrack scenes 2", "scenes": {"a": {"chains": {"kazoo": []}}}}',
            "scene 'a': the chain of kazoo is none",
        ),
    ],
)
def test_files_that_hold_no_scenes(path, text, said):
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_scenes(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_a_file_that_cannot_be_read(path):
    path.mkdir()
    with pytest.raises(ConfigError, match="holds no scenes"):
        load_scenes(path)
