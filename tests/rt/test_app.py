"""The command line: help at once, one line per error, exit codes."""

import resource
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile
from fake_separator import FakeSeparator

from stemrack.models.errors import SpecError
from stemrack.rt import app
from stemrack.rt.errors import InputError
from stemrack.rt.offline import ClipMode

HEAVY = ("torch", "numba", "onnxruntime", "soundfile", "soxr", "numpy")


@pytest.fixture
def engine(monkeypatch):
    """The fake in the place of rt/separate.py; its `calls` are what was asked for."""
    fake = types.ModuleType("stemrack.rt.separate")
    fake.calls = []

    def load_separator(profile, runner, weights, n_threads):
        fake.calls.append((profile, runner, weights))
        return FakeSeparator()

    fake.load_separator = load_separator
    monkeypatch.setitem(sys.modules, "stemrack.rt.separate", fake)
    return fake


def run_app(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        app.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture
def song(tmp_path):
    x = np.random.default_rng(0).uniform(-0.4, 0.4, (5_000, 2))
    soundfile.write(tmp_path / "song.wav", x, 44_100)
    return tmp_path / "song.wav"


@pytest.mark.parametrize("arguments", [["--help"], ["render", "--help"], ["--version"]])
def test_help_comes_at_once_and_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom stemrack.rt.app import main\n"
        f"try: main({arguments!r})\n"
        f"finally: print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0
    assert "heavy: []" in done.stdout
    assert taken_s < 1.0  # processor time: 0.13 s measured, and 0.35 s on the clock beside a training run


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "stemrack.rt.app", "render", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--two-stems STEM" in done.stdout


def test_render_writes_what_the_flags_say(engine, song, tmp_path, capsys):
    out_folder = tmp_path / "out"
    code, out, err = run_app(capsys, "render", song, "-o", out_folder, "--flac", "--int24", "-n", "club")
    assert (code, err) == (0, "")
    assert out.startswith(f"{song}: 0.1 s in ")
    assert engine.calls == [("club", "auto", None)]
    info = soundfile.info(out_folder / "club" / "song" / "vocals.flac")
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (5_000, 44_100, 2, "PCM_24")
    arguments = ["--two-stems", "vocals", "--float32", "--filename", "{track}-{stem}.{ext}", "--live"]
    code, _, _ = run_app(capsys, "render", song, "-o", out_folder, *arguments, "--runner", "x")
    assert code == 0
    assert soundfile.info(out_folder / "live" / "song-no_vocals.wav").subtype == "FLOAT"
    assert engine.calls[-1] == ("live", "x", None)
    code, _, _ = run_app(capsys, "render", song, "-o", out_folder, "--mp3", "--mp3-bitrate", "96")
    assert code == 0
    assert soundfile.info(out_folder / "live" / "song" / "drums.mp3").frames == 5_000


def test_render_with_a_preset(engine, song, tmp_path, capsys):
    out_folder = tmp_path / "out"
    arguments = [song, "-o", out_folder, "--float32", "--mix"]
    assert run_app(capsys, "render", *arguments, "--preset", "karaoke")[0] == 0
    assert run_app(capsys, "render", *arguments)[0] == 0

    def levels(folder):
        return {p.stem: soundfile.read(p)[0].std() for p in (out_folder / folder / "song").iterdir()}

    wet, dry = levels("live-karaoke"), levels("live")
    assert set(wet) == {"drums", "bass", "other", "vocals", "mix"}
    assert wet["vocals"] == pytest.approx(10 ** (-24 / 20) * dry["vocals"], rel=1e-4)
    own = tmp_path / "own.toml"
    own.write_text('format = "stemrack preset 1"\ntitle = "Own"\n[mixer.bass]\nmute = true\n')
    (tmp_path / "stemrack.toml").write_text(f'[effects]\npresets = "{tmp_path / "presets"}"\n')
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.toml").write_bytes(own.read_bytes())
    assert run_app(capsys, "render", *arguments, "--preset", own)[0] == 0
    config = ["--config", tmp_path / "stemrack.toml"]
    assert run_app(capsys, "render", *arguments, "--preset", "mine", *config)[0] == 0
    for folder in ("live-own", "live-mine"):
        assert (levels(folder)["bass"], levels(folder)["drums"]) == (0.0, dry["drums"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--preset", "loud"],
            "stemrack: there is no preset 'loud': there are acapella-room, bass-",
        ),
        (["--preset", "none.toml"], "stemrack: none.toml: cannot be read"),
        (["--config", "none.toml"], "stemrack: --config says where presets and impulses are"),
        (["--flac", "--mp3"], "stemrack: choose one of --flac and --mp3"),
        (["--flac", "--float32"], "stemrack: flac holds integers only"),
        (["--two-stems", "guitar"], "stemrack: there is no stem 'guitar'"),
        (["--filename", "{x}"], "stemrack: --filename '{x}' cannot work"),
        (["--mp3", "--mp3-bitrate", "5"], "stemrack: an mp3 bit rate of 5 kbit/s"),
        (["--clip-mode", "loud"], "is not one of"),
        (["-j", "0"], "greater than or equal to 1"),
        (["--shape"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(engine, song, tmp_path, capsys, arguments, reason):
    code, out, err = run_app(capsys, "render", song, "-o", tmp_path / "out", *arguments)
    assert (code, out) == (2, "")
    assert reason in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_no_argument_shows_the_help_or_what_is_missing(capsys):
    assert run_app(capsys, "render")[0] == 2
    code, out, err = run_app(capsys)
    assert code in (0, 2)
    assert "render" in out + err


def test_unreadable_input_is_exit_code_3(engine, tmp_path, capsys):
    code, _, err = run_app(capsys, "render", tmp_path / "none.wav")
    assert (code, err) == (3, f"stemrack: {tmp_path / 'none.wav'}: no such file\n")
    assert engine.calls == []


def test_an_engine_that_cannot_be_loaded_is_one_line(engine, song, tmp_path, capsys):
    def refuse(profile, runner, weights, n_threads):
        raise SpecError("no profile 'x': there are live")

    engine.load_separator = refuse
    code, _, err = run_app(capsys, "render", song, "-n", "x", "-o", tmp_path / "out")
    assert (code, err) == (1, "stemrack: no profile 'x': there are live\n")


def test_evaluate_passes_its_options_on(monkeypatch, tmp_path, capsys):
    fake = types.ModuleType("stemrack.rt.evaluate")
    calls = []
    fake.evaluate_command = lambda folder, **options: calls.append((folder, options))
    monkeypatch.setitem(sys.modules, "stemrack.rt.evaluate", fake)
    monkeypatch.setattr("stemrack.rt.evaluate", fake, raising=False)
    arguments = ["--json", tmp_path / "a.json", "--museval", "--limit", "3", "-n", "club", "--live"]
    assert run_app(capsys, "evaluate", tmp_path, *arguments)[0] == 0
    ((folder, options),) = calls
    assert folder == tmp_path
    assert options == {
        "profile": "club",
        "weights": None,
        "runner": "auto",
        "json_path": tmp_path / "a.json",
        "csv_path": None,
        "museval": True,
        "live": True,
        "limit": 3,
    }

    def refuse(folder, **options):
        raise InputError(folder, "holds no songs")

    fake.evaluate_command = refuse
    assert run_app(capsys, "evaluate", tmp_path)[::2] == (1, f"stemrack: {tmp_path}: holds no songs\n")


def test_the_clip_modes_of_both_sides_are_the_same():
    assert tuple(app.ClipModeName) == ClipMode.__args__


def test_control_log_gives_the_mix_that_was_heard(engine, song, tmp_path, capsys):
    from stemrack.rt.control_log import ControlLog
    from stemrack.rt.params import Fader, MixerState

    log = ControlLog(rate_hz=44_100, delay_samples=1_408, start_ramp_samples=0)
    log.add(1, 0, MixerState(master_ramp_ms=0.0))
    log.add(2, 2_048, MixerState(master_db=-20.0, drums=Fader(pan=0.0), master_ramp_ms=0.0))
    log.write(tmp_path / "log.jsonl")
    arguments = ["-o", tmp_path / "out", "--float32", "--live", "--control-log", tmp_path / "log.jsonl"]
    code, out, _ = run_app(capsys, "render", song, *arguments)
    assert code == 0
    assert "2 fader moves replayed" in out
    mix, _ = soundfile.read(tmp_path / "out" / "live" / "song" / "mix.wav", dtype="float32")
    x, _ = soundfile.read(song, dtype="float32")
    assert mix.shape == x.shape
    moved = 2_048 - 1_408  # the fader acts on what is heard then, the input of D samples before
    assert np.abs(mix[:moved] - x[:moved]).max() < 1e-6
    assert np.abs(mix[moved:] - 0.1 * x[moved:]).max() < 1e-6


@pytest.mark.parametrize(
    "arguments", [["--control-log", "x"], ["--live", "--control-log", "x", "another.wav"]]
)
def test_control_log_needs_live_and_one_file(engine, song, capsys, arguments):
    code, _, err = run_app(capsys, "render", song, *arguments)
    assert code == 2
    assert "--control-log goes with --live and one file" in err


@pytest.mark.parametrize("arguments", [["--mix"], ["--preset", "karaoke"]])
def test_control_log_has_its_own_mix_and_chains(engine, song, capsys, arguments):
    code, _, err = run_app(capsys, "render", song, "--live", "--control-log", "x", *arguments)
    assert code == 2
    assert "--control-log writes the mix that was heard: leave out --mix and --preset" in err
