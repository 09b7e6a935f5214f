"""Scanning real and hostile plugins, each in a process of its own."""

import os
import shutil
import signal
import time
from dataclasses import replace

import pytest
from processes import children_of
from vst3_plugins import hostile_plugins, real_plugins

from stemrack.rt import plugin_scan
from stemrack.rt.errors import ConfigError
from stemrack.rt.plugin_registry import Registry
from stemrack.rt.plugin_scan import Answer, asked, edited, plugin_files, scan, usual_folders

QUICK = ("MVerb", "PingPongPan", "SoulForce", "Crasher", "Nanner", "Latent", "LoadCrash")
"""Those that neither hang nor sleep."""


@pytest.fixture(scope="module")
def bundles():
    return real_plugins() | hostile_plugins()


@pytest.fixture(scope="module")
def folder(bundles, tmp_path_factory):
    """A folder of copies, some of them deeper."""
    folder = tmp_path_factory.mktemp("plugins").resolve()
    for name in QUICK:
        shutil.copytree(bundles[name], folder / ("maker" if name == "Latent" else ".") / f"{name}.vst3")
    return folder


@pytest.fixture(scope="module")
def registry(folder):
    return scan(Registry(), [folder])


def of(registry, key):
    return next(p for p in registry.plugins if p.key == key)


def test_all_are_found_and_all_but_one_can_be_used(registry):
    assert [p.key for p in registry.plugins] == sorted(QUICK, key=str.lower)
    assert {p.key for p in registry.plugins if p.refused} == {"LoadCrash"}
    assert {p.key for p in registry.usable()} == set(QUICK) - {"LoadCrash"}


def test_one_that_crashes_while_loading_is_refused_with_the_signal(registry):
    assert of(registry, "LoadCrash").refused == "crashed (SIGABRT) while loading"
    with pytest.raises(ConfigError, match="'LoadCrash' was refused: crashed"):
        registry.plugin("LoadCrash")


def test_what_is_known_of_a_real_one(registry):
    mverb = registry.plugin("MVerb")
    assert (mverb.name, mverb.inner_name, mverb.version) == ("MVerb", "MVerb", "1.0.0")
    assert mverb.maker == "Martin Eastwood, falkTX"
    assert mverb.latency_samples == 0
    assert [m.rate_hz for m in mverb.measured] == [44_100, 48_000]
    assert mverb.load_ms > 0
    assert mverb.block_us > 0
    assert mverb.resets_anywhere
    effect = mverb.effect
    assert effect["damping"].unit == "%"
    assert (effect["size"].lowest, effect["size"].highest, effect["size"].default) == (5.0, 100.0, 75.0)
    assert "current_program" not in effect.defaults  # it would change the others behind our back
    assert registry.plugin("PingPongPan").name == "Ping Pong Pan"


def test_a_latency_is_measured_and_reported(registry):
    latent = registry.plugin("Latent")
    assert [(m.reported_samples, m.latency_samples) for m in latent.measured] == [(2048, 2048)] * 2
    assert list(latent.effect.defaults) == ["level_db"]  # not the latency that the framework shows
    assert latent.effect.defaults == {"level_db": 0.0}


def test_what_goes_wrong_later_is_not_found_by_a_scan(registry):
    """They process fewer blocks here than it takes: what runs them must be ready for it."""
    assert registry.plugin("Crasher").refused == registry.plugin("Nanner").refused == ""


def test_one_that_hangs_is_killed_after_its_limit_and_refused(bundles):
    before = children_of(os.getpid())
    started = time.monotonic()
    found = scan(Registry(), [bundles["LoadHang"]], limit_s=3.0)
    assert time.monotonic() - started >= 3.0
    assert found.plugins[0].refused == "hangs: not done after 3 s, while loading"
    assert children_of(os.getpid()) <= before


def test_a_slow_one_is_entered_with_its_cost(bundles):
    found = scan(Registry(), [bundles["Sleeper"]]).plugin("Sleeper")
    assert 200_000 <= found.block_us <= found.measured[0].worst_us + found.measured[1].worst_us
    assert found.latency_samples == 0


def test_what_is_unchanged_is_not_opened_again(registry, folder, monkeypatch):
    opened = []

    def ask(request, limit_s):
        opened.append(os.path.basename(request["path"]))
        return Answer(facts={}, trouble="opened")

    monkeypatch.setattr(plugin_scan, "asked", ask)
    assert scan(registry, [folder]) == registry
    assert opened == []
    mverb = replace(of(registry, "MVerb"), stamp=replace(of(registry, "MVerb").stamp, size=1))
    older = Registry(plugins=tuple(mverb if p.key == "MVerb" else p for p in registry.plugins))
    assert of(scan(older, [folder]), "MVerb").refused == "opened"
    assert opened == ["MVerb.vst3"]
    opened.clear()
    all_again = scan(registry, [folder], again=True)
    assert len(opened) == len(QUICK)
    assert [p.key for p in all_again.plugins] == [p.key for p in registry.plugins]


def answers(monkeypatch, *facts):
    """Have files answer with these, in order."""
    left = list(facts)
    monkeypatch.setattr(plugin_scan, "asked", lambda request, limit_s: left.pop(0))


def test_two_of_one_name_keep_their_keys_whichever_is_scanned(monkeypatch, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "Room.vst3").write_text("code")
    fact = Answer(facts={"names": ["Room"], "plugin": {"name": "Room", "inner_name": "Room"}})
    answers(monkeypatch, fact, fact, fact, fact)
    first = scan(Registry(), [tmp_path])
    keys = {p.path: p.key for p in first.plugins}
    assert keys == {str(tmp_path / "a/Room.vst3"): "Room", str(tmp_path / "b/Room.vst3"): "Room_2"}
    assert {p.path: p.key for p in scan(first, [tmp_path], again=True).plugins} == keys


def test_a_file_with_several_plugins(monkeypatch, tmp_path):
    (tmp_path / "Suite.vst3").write_text("code")
    answers(
        monkeypatch,
        Answer(facts={"names": ["One", "Two"]}),
        Answer(facts={"plugin": {"name": "One", "inner_name": "One"}}),
        Answer(facts={"stage": "loading"}, trouble="crashed (SIGSEGV) while loading"),
    )
    found = scan(Registry(), [tmp_path])
    assert [(p.key, p.inner_name, p.refused) for p in found.plugins] == [
        ("One", "One", ""),
        ("Two", "Two", "crashed (SIGSEGV) while loading"),
    ]


def test_facts_that_make_no_sense_are_a_refusal(monkeypatch, tmp_path):
    (tmp_path / "Odd.vst3").write_text("code")
    odd = {"name": "x", "doc": "X", "kind": "number", "lowest": 1.0, "highest": 1.0, "default": 1.0}
    answers(monkeypatch, Answer(facts={"plugin": {"name": "Odd", "inner_name": "Odd", "parameters": [odd]}}))
    assert "no range of kind 'number'" in scan(Registry(), [tmp_path]).plugins[0].refused
    answers(monkeypatch, Answer(facts={"names": ["Odd"]}))
    assert scan(Registry(), [tmp_path]).plugins[0].refused == "told nothing"


def test_other_folders_stay_and_files_that_are_gone_go(registry, folder, tmp_path):
    (tmp_path / "Gone.vst3").write_text("not a plugin")
    gone = replace(of(registry, "MVerb"), key="Gone", path=str(tmp_path / "Gone.vst3"))
    before = Registry(plugins=(*registry.plugins, gone))
    (tmp_path / "Gone.vst3").unlink()
    (tmp_path / "empty").mkdir()
    assert scan(before, [tmp_path / "empty"]) == registry


def test_progress_names_the_file_before_it_is_opened(registry, folder):
    seen = []
    scan(registry, [folder], progress=lambda path, done, total: seen.append((path.stem, done, total)))
    assert len(seen) == len(QUICK)
    assert [done for _, done, _ in seen] == list(range(len(QUICK)))
    assert {total for _, _, total in seen} == {len(QUICK)}


def test_a_file_that_is_no_plugin_is_refused(tmp_path):
    (tmp_path / "Text.vst3").write_text("not machine code")
    found = scan(Registry(), [tmp_path]).plugins[0]
    assert found.key == "Text"
    assert found.refused
    assert not found.parameters


def test_files_are_found_deep_once_and_by_their_real_path(tmp_path):
    bundle = tmp_path / "maker/One.vst3/Contents/Inner.vst3"
    bundle.mkdir(parents=True)
    (tmp_path / "Two.VST3").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "Three.vst3").symlink_to(tmp_path / "Two.VST3")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = plugin_files([tmp_path, tmp_path / "maker/One.vst3", tmp_path / "nowhere"])
    assert sorted(p.name for p in found) == ["One.vst3", "Two.VST3"]


def test_usual_folders_are_those_of_the_system(monkeypatch):
    monkeypatch.setattr(plugin_scan.sys, "platform", "darwin")
    assert [f.name for f in usual_folders()] == ["VST3", "Components"] * 2
    assert plugin_scan._suffixes() == [".vst3", ".component"]
    monkeypatch.setattr(plugin_scan.sys, "platform", "linux")
    assert all(f.name.endswith("vst3") for f in usual_folders())


def test_an_exit_code_is_told(monkeypatch):
    monkeypatch.setattr(plugin_scan, "PROBE", "stemrack.rt.there_is_no_such_module")
    assert (
        asked({"do": "probe", "path": "x", "name": ""}, 20.0).trouble
        == "crashed (exit code 1) while starting"
    )
    assert plugin_scan._how(-signal.SIGSEGV) == "SIGSEGV"
    assert plugin_scan._how(-63) == "signal 63"


def test_without_a_display_no_window_is_shown(registry, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="MVerb: Editor cannot be shown"):
        edited(registry.plugin("MVerb"), {})


def test_a_plugin_that_crashes_in_its_editor_is_an_error(registry, bundles):
    crash = replace(of(registry, "LoadCrash"), refused="")
    with pytest.raises(ConfigError, match=r"LoadCrash: crashed \(SIGABRT\) while loading"):
        edited(crash, {})
