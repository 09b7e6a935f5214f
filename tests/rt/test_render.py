"""The job: layout, failures that stop nothing else, exit codes, several processes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_separator import Deadly, FakeSeparator
from vst3_plugins import hostile_plugins

from stemrack.models.errors import WeightsError
from stemrack.rt.chains import Chains, Insert
from stemrack.rt.effect_table import Effect, EffectTable
from stemrack.rt.errors import ConfigError
from stemrack.rt.files import SinkFormat
from stemrack.rt.offline import RenderSettings
from stemrack.rt.preset_sound import PresetSound
from stemrack.rt.render import RenderOptions, plan, render

TESTS = Path(__file__).resolve().parent.parent


def song(path, n=3_000, peak=0.4):
    path.parent.mkdir(exist_ok=True, parents=True)
    x = np.random.default_rng(2).uniform(-1, 1, (n, 2))
    soundfile.write(path, peak * x / np.abs(x).max(), 44_100)
    return path


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def options_for(*inputs, **kwargs):
    return RenderOptions(inputs=tuple(map(Path, inputs)), **kwargs)


def test_the_layout_is_that_of_demucs():
    tasks = plan(options_for("in/a song.mp3", "b.wav", "in/a song.mp3"))
    assert [t.source for t in tasks] == [Path("in/a song.mp3"), Path("b.wav")]
    assert tasks[0].targets["bass"] == Path("separated/live/a song/bass.wav")
    settings = RenderSettings(sink_format=SinkFormat(container="flac"), two_stems="vocals")
    template = "{stem}/{track}.{trackext}.{ext}"
    (task,) = plan(options_for("x/a.mp3", name="my/own.toml", settings=settings, template=template))
    assert task.targets == {
        "vocals": Path("separated/own/vocals/a.mp3.flac"),
        "no_vocals": Path("separated/own/no_vocals/a.mp3.flac"),
    }


def test_a_preset_has_a_folder_of_its_own_and_a_mix_its_file():
    settings = RenderSettings(sound=PresetSound(name="karaoke"), with_mix=True)
    (task,) = plan(options_for("a.wav", name="live:fast", settings=settings))
    assert set(task.targets) == {"drums", "bass", "other", "vocals", "mix"}
    assert task.targets["mix"] == Path("separated/live-fast-karaoke/a/mix.wav")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{track}.{ext}", "stems of a.wav would all go to"),
        ("{stem}.{ext}", "stems of a.wav and b.wav would all go to"),
        ("{artist}/{stem}.wav", "cannot work: it may hold {track}"),
        ("{track}/{stem", "cannot work"),
        ("{track.x}{stem}", "cannot work"),
        ("{}{stem}", "cannot work"),
        ("/tmp/{track}{stem}", "give a file name below -o"),
        ("{track}{stem}/", "give a file name below -o"),
        ("", "give a file name below -o"),
    ],
)
def test_templates_that_cannot_work_are_refused(template, reason):
    with pytest.raises(ConfigError, match=reason.replace("{", r"\{")):
        plan(options_for("a.wav", "b.wav", template=template))


def test_tracks_of_one_name_do_not_overwrite_each_other():
    with pytest.raises(ConfigError, match=r"stems of one/a.wav and two/a.flac would all go to"):
        plan(options_for("one/a.wav", "two/a.flac"))
    assert len(plan(options_for("one/a.wav", "two/a.flac", template="{track}_{trackext}/{stem}.{ext}"))) == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failed_file_stops_no_other(tmp_path, capsys, jobs):
    good = [song(tmp_path / f"{name}.wav") for name in "abc"]
    broken = np.zeros((3_000, 2), np.float32)
    broken[2_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 44_100, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("words " * 100)
    inputs = [tmp_path / "text.wav", good[0], tmp_path / "nan.wav", *good[1:]]
    options = options_for(*inputs, out=tmp_path / "out", jobs=jobs, as_json=True)
    assert render(options, FakeSeparator) == 1
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert {e["source"]: e["event"] for e in events[:-1]} == {
        **{str(path): "rendered" for path in good},
        str(tmp_path / "nan.wav"): "failed",
        str(tmp_path / "text.wav"): "failed",
    }
    assert (events[-1]["rendered"], events[-1]["failed"], events[-1]["exit_code"]) == (3, 2, 1)
    assert "sample 2000 is NaN" in err
    assert all(line.startswith("stemrack: ") for line in err.splitlines())
    assert len(err.splitlines()) == 2
    stems = ("bass", "drums", "other", "vocals")
    assert files(tmp_path / "out") == [f"live/{name}/{stem}.wav" for name in "abc" for stem in stems]
    rendered = next(e for e in events if e["event"] == "rendered")
    assert rendered["n_samples"] == 3_000
    assert rendered["peaks_db"]["drums"] < 0
    assert rendered["gains_db"]["drums"] <= 0
    assert rendered["times_real_time"] > 0


def test_exit_codes(tmp_path, capsys):
    good = song(tmp_path / "a.wav")
    assert render(options_for(good, out=tmp_path / "out"), FakeSeparator) == 0
    assert "x real time), peaks drums -" in capsys.readouterr().out

    def never():
        raise AssertionError("nothing to separate: no reason to load")

    assert render(options_for(tmp_path / "x.wav", tmp_path, out=tmp_path / "out"), never) == 3
    (tmp_path / "file").touch()
    assert render(options_for(good, out=tmp_path / "file"), FakeSeparator) == 1
    assert "a part of the path is a file, not a folder" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="0 jobs"):
        options_for(good, jobs=0)


def test_turning_down_and_saturation_are_said(tmp_path, capsys):
    good = song(tmp_path / "a.wav", peak=0.99)
    for mode in ("attenuate", "rescale", "none"):
        settings = RenderSettings(clip_mode=mode)
        loud = partial(FakeSeparator, gain=3.0)
        assert render(options_for(good, out=tmp_path / "out", settings=settings), loud) == 0
    attenuated, rescaled, left = capsys.readouterr().out.splitlines()
    assert "; all stems turned down by " in attenuated
    assert "they no longer sum to the mixture" in rescaled
    assert "samples saturated, use --clip-mode attenuate" in left


def _no_weights():
    raise WeightsError("no weights")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_engine_that_cannot_be_loaded_ends_the_job(tmp_path, jobs):
    inputs = [song(tmp_path / f"{name}.wav") for name in "ab"]
    with pytest.raises(WeightsError, match="no weights"):
        render(options_for(*inputs, out=tmp_path / "out", jobs=jobs), _no_weights)
    assert not (tmp_path / "out").exists()


def test_a_killed_process_costs_one_file(tmp_path, capsys):
    inputs = [song(tmp_path / f"{name}.wav") for name in "abcd"]
    song(inputs[1], peak=0.95)
    options = options_for(*inputs, out=tmp_path / "out", jobs=2, as_json=True)
    assert render(options, Deadly) == 1
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert sorted(e["source"] for e in events if e["event"] == "rendered") == [
        str(inputs[0]),
        str(inputs[2]),
        str(inputs[3]),
    ]
    assert [e["source"] for e in events if e["event"] == "failed"] == [str(inputs[1])]
    assert "its process was killed, twice" in err
    assert not (tmp_path / "out" / "live" / "b").exists()
    assert not multiprocessing.active_children()


def with_plugin(path):
    table = EffectTable([Effect(key=path.stem, title=path.stem, doc="", plugin=str(path))])
    chains = Chains(vocals=(Insert(name=path.stem, effect=path.stem),))
    return RenderSettings(sound=PresetSound(name="own", chains=chains, table=table))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("kind", ["Crasher", "LoadCrash"])
def test_a_plugin_that_crashes_costs_its_file_and_has_a_name(tmp_path, capsys, jobs, kind):
    """Crasher aborts in its 1000th block: the short file does not get there."""
    settings = with_plugin(hostile_plugins()[kind])
    inputs = [song(tmp_path / "long.wav", 550_000), song(tmp_path / "short.wav")]
    options = options_for(*inputs, out=tmp_path / "out", settings=settings, jobs=jobs, as_json=True)
    assert render(options, FakeSeparator) == 1
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    failed = {e["source"]: e["error"] for e in events if e["event"] == "failed"}
    said = f"plugin '{kind}' (vocals/{kind}) crashed, twice: bypass it in preset 'own', or take it out"
    dead = inputs if kind == "LoadCrash" else inputs[:1]
    assert failed == {str(path): f"{path}: {said}" for path in dead}
    assert [e["source"] for e in events if e["event"] == "rendered"] == [str(p) for p in inputs[len(dead) :]]
    assert f"stemrack: {inputs[0]}: {said}" in err
    stems = ("bass", "drums", "other", "vocals")
    whole = [f"live-own/short/{stem}.wav" for stem in stems] if kind == "Crasher" else []
    assert files(tmp_path / "out") == whole
    assert not multiprocessing.active_children()


@pytest.fixture
def bystander():
    """A child of this process that has nothing to do with the rendering."""
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600.0,))
    child.start()
    yield child
    child.kill()
    child.join()


def test_a_crash_ends_no_process_that_the_job_did_not_start(tmp_path, capsys, bystander):
    options = options_for(song(tmp_path / "a.wav", peak=0.95), song(tmp_path / "b.wav"), jobs=2)
    assert render(replace(options, out=tmp_path / "out"), Deadly) == 1
    assert "its process was killed, twice" in capsys.readouterr().err
    assert multiprocessing.active_children() == [bystander]


def test_a_hang_ends_no_process_that_the_job_did_not_start(tmp_path, capsys, monkeypatch, bystander):
    monkeypatch.setattr("stemrack.rt.render.HANG_LIMIT_S", 1.5)
    settings = with_plugin(hostile_plugins()["LoadHang"])
    path = song(tmp_path / "a.wav")
    assert render(options_for(path, out=tmp_path / "out", settings=settings), FakeSeparator) == 1
    assert "did not come back for 1.5 s, twice" in capsys.readouterr().err
    assert multiprocessing.active_children() == [bystander]


def test_a_plugin_that_hangs_costs_its_file_and_has_a_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("stemrack.rt.render.HANG_LIMIT_S", 1.5)
    settings = with_plugin(hostile_plugins()["LoadHang"])
    path = song(tmp_path / "a.wav")
    assert render(options_for(path, out=tmp_path / "out", settings=settings), FakeSeparator) == 1
    _, err = capsys.readouterr()
    said = "plugin 'LoadHang' (vocals/LoadHang) did not come back for 1.5 s, twice: bypass it in preset 'own'"
    assert err == f"stemrack: {path}: {said}, or take it out\n"
    assert not (tmp_path / "out").exists()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_leaves_nothing_half_written(tmp_path, jobs, number):
    """Takes seconds: real processes, told to stop while they write; the signal comes at any moment."""
    inputs = [song(tmp_path / f"{name}.wav", 200_000) for name in "abcd"]
    script = tmp_path / "job.py"
    script.write_text(
        "import sys, types, fake_separator\n"
        "import stemrack.rt\n"
        "engine = types.ModuleType('stemrack.rt.separate')\n"
        "def load_separator(profile, runner, weights, n_threads): return fake_separator.Slow()\n"
        "engine.load_separator = load_separator\n"
        "load_separator.__module__ = 'stemrack.rt.separate'\n"
        "sys.modules['stemrack.rt.separate'] = engine\n"
        "if __name__ == '__main__':\n"
        "    from stemrack.rt.app import main\n"
        "    main()\n"
    )
    command = [sys.executable, script, "render", *inputs, "-o", tmp_path / "out", "-j", str(jobs), "--live"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    job = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "out").rglob("*.part")):
        time.sleep(0.05)
    assert list((tmp_path / "out").rglob("*.part"))
    job.send_signal(number)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 128 + number
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
