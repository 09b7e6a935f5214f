"""The registry of scanned plugins: what it gives, keeps and refuses."""

import json
from dataclasses import replace

import pytest

from stemrack.rt.effect_table import EffectParameter
from stemrack.rt.errors import ConfigError
from stemrack.rt.plugin_registry import (
    Measured,
    Plugin,
    Registry,
    Stamp,
    free_key,
    load_registry,
    plugin_values,
    registry_file,
    save_registry,
    stamp_of,
)

PARAMETERS = (
    EffectParameter(name="mix", doc="Mix", unit="%", lowest=0.0, highest=100.0, step=0.1, default=50.0),
    EffectParameter(name="freeze", doc="Freeze", kind="switch", default=False, change="set"),
    EffectParameter(
        name="mode", doc="Mode", kind="choice", choices=("hall", "room"), default="room", change="set"
    ),
)
MEASURED = (
    Measured(rate_hz=44_100, reported_samples=64, latency_samples=64, block_us=20.0, worst_us=30.0),
    Measured(rate_hz=48_000, reported_samples=64, latency_samples=70, block_us=18.5, worst_us=30.0),
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "Room.vst3"
    (path / "Contents").mkdir(parents=True)
    (path / "Contents/Room.so").write_bytes(b"machine code")
    return path


@pytest.fixture
def plugin(file):
    return Plugin(
        key="Room",
        name="The Room",
        path=str(file),
        stamp=stamp_of(file),
        inner_name="Room",
        maker="Someone",
        version="1.2",
        load_ms=12.5,
        measured=MEASURED,
        parameters=PARAMETERS,
    )


def test_a_file_gives_back_what_was_saved(tmp_path, plugin):
    refused = replace(plugin, key="Bad", refused="crashed", parameters=(), measured=(), resets_anywhere=False)
    registry = Registry(plugins=(plugin, refused))
    save_registry(tmp_path / "new/plugins.json", registry)
    assert load_registry(tmp_path / "new/plugins.json") == registry
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["plugins.json"]


def test_no_file_is_an_empty_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMRACK_STATE", str(tmp_path))
    assert registry_file() == tmp_path / "plugins.json"
    assert load_registry(registry_file()) == Registry()


def test_latency_and_cost_are_the_largest(plugin):
    assert (plugin.latency_samples, plugin.block_us) == (70, 20.0)
    assert (replace(plugin, measured=()).latency_samples, replace(plugin, measured=()).block_us) == (0, 0.0)


def test_the_effect_of_a_plugin(plugin, file):
    effect = plugin.effect
    assert (effect.key, effect.title, effect.doc) == ("Room", "The Room", "Someone 1.2")
    assert (effect.plugin, effect.plugin_name) == (str(file), "Room")
    assert effect.defaults == {"mix": 50.0, "freeze": False, "mode": "room"}


def test_only_what_was_accepted_and_is_unchanged_can_be_named(plugin, file):
    registry = Registry(plugins=(plugin, replace(plugin, key="Bad", refused="crashed while loading")))
    assert registry.plugin("Room") is plugin
    assert registry.usable() == [plugin]
    with pytest.raises(ConfigError, match="'Bad' was refused: crashed while loading"):
        registry.plugin("Bad")
    with pytest.raises(ConfigError, match="no plugin 'Hall'"):
        registry.plugin("Hall")
    (file / "Contents/Room.so").write_bytes(b"other machine code")
    with pytest.raises(ConfigError, match="'Room' has changed: run `stemrack plugins scan`"):
        registry.plugin("Room")
    assert registry.usable() == []


def test_a_file_that_is_gone_is_changed(plugin, file):
    (file / "Contents/Room.so").unlink()
    assert not plugin.is_unchanged
    assert stamp_of(file / "Contents/Room.so") is None


def test_usable_are_those_below_the_folders(plugin, tmp_path):
    registry = Registry(plugins=(plugin,))
    assert registry.usable([tmp_path / "elsewhere", tmp_path]) == [plugin]
    assert registry.usable([tmp_path / "elsewhere"]) == []


def test_keys_are_short_unique_and_safe():
    assert free_key("MVerb", []) == "MVerb"
    assert free_key("MVerb", ["mverb", "MVerb_2"]) == "MVerb_3"
    assert free_key("../../etc/x", []) == "etcx"
    assert free_key("♫", []) == "plugin"
    assert free_key("Reverb", []) == "Reverb_2"  # comes with pedalboard
    assert free_key("Room-3", []) == "Room_3"  # a chain calls the third Room so
    assert len(free_key("a" * 200, [])) == 40


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda v: v.pop("version"), "is not a registry of version 1"),
        (lambda v: v.update(version=2), "is not a registry of version 1"),
        (lambda v: v.update(plugins={}), "has no list of plugins"),
        (lambda v: v["plugins"].append(v["plugins"][0]), "two plugins have the key 'Room'"),
        (lambda v: v["plugins"].append(7), "7 is no plugin"),
        (lambda v: v["plugins"][0].update(key="a/b"), "'a/b' is no key"),
        (lambda v: v["plugins"][0].pop("path"), "lacks 'path'"),
        (lambda v: v["plugins"][0].update(more=1), "has no 'more'"),
        (lambda v: v["plugins"][0].update(refused=None), "refused = None"),
        (lambda v: v["plugins"][0].update(load_ms=True), "load_ms = True"),
        (lambda v: v["plugins"][0]["stamp"].pop("size"), "stamp lacks 'size'"),
        (lambda v: v["plugins"][0]["stamp"].update(size="x"), "size = 'x'"),
        (lambda v: v["plugins"][0]["measured"][0].pop("rate_hz"), "lacks 'rate_hz'"),
        (lambda v: v["plugins"][0]["parameters"].append([]), "is no parameter"),
        (lambda v: v["plugins"][0]["parameters"][0].pop("default"), "is no parameter"),
        (lambda v: v["plugins"][0]["parameters"][0].update(unit=3), "unit = 3 is not known"),
        (lambda v: v["plugins"][0]["parameters"][0].update(plugin="x"), "plugin = 'x' is not known"),
        (lambda v: v["plugins"][0]["parameters"][0].update(kind="text"), "no range of kind 'text'"),
        (lambda v: v["plugins"][0]["parameters"][0].update(lowest=200), "no range of kind 'number'"),
        (lambda v: v["plugins"][0]["parameters"][0].pop("highest"), "no range of kind 'number'"),
        (lambda v: v["plugins"][0]["parameters"][0].update(default=200.0), "must be 0 to 100 %"),
        (lambda v: v["plugins"][0]["parameters"][1].update(default=1), "must be true or false"),
        (lambda v: v["plugins"][0]["parameters"][2].update(choices=[]), "no range of kind 'choice'"),
        (lambda v: v["plugins"][0]["parameters"][2].update(choices=[1]), "no range of kind 'choice'"),
        (lambda v: v["plugins"][0]["parameters"][2].update(default="den"), "must be one of hall, room"),
    ],
)
def test_other_contents_are_refused_with_the_remedy(tmp_path, plugin, break_it, says):
    values = {"version": 1, "plugins": [plugin_values(plugin)]}
    break_it(values)
    path = tmp_path / "plugins.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="delete it and scan again") as caught:
        load_registry(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_what_is_no_json_is_refused(tmp_path, text):
    path = tmp_path / "plugins.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="delete it and scan again"):
        load_registry(path)


def test_a_stamp_is_of_all_parts(file):
    before = stamp_of(file)
    (file / "Contents/more").write_bytes(b"1234")
    assert stamp_of(file).size == before.size + 4
    assert Stamp(mtime_ns=1, size=2) != before
