"""The commands around the live node, as a person or a program meets them."""

import json
import math
import signal
import socket
import subprocess
import sys
import time

import pytest
import soundfile
from fake_device import music

from stemrack.rt import app, asking, live
from stemrack.rt.app_live import engine_settings, input_overrides, overridden
from stemrack.rt.config import Config, parse_config, with_overrides
from stemrack.rt.control_log import ControlLog
from stemrack.rt.errors import ConfigError, DeviceError, OutputError
from stemrack.rt.meters import Level

pytestmark = pytest.mark.realtime

PROGRAM = [sys.executable, "-m", "stemrack.rt.app"]


def run_app(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        app.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, music(44_100 * 4).T, 44_100)
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_run_for_some_seconds_tells_what_happened(song, tmp_path):
    port = free_port()
    command = [*PROGRAM, "run", "-i", str(song), "-o", "none", "--seconds", "3", "--port", port, "--json"]
    command += ["--record", str(tmp_path), "--record-stems", "--control-log", str(tmp_path / "log.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [line["kind"] for line in lines]
    for kind in ("progress", "worker-ready", "stream-opened", "running", "status", "recorded", "stopped"):
        assert kind in kinds
    running = lines[kinds.index("running")]["lines"]
    assert "no device (virtual clock)" in running[0]
    assert any("input to output" in line and "1664" in line for line in running)
    assert any(f"mixer: http://127.0.0.1:{port}/#token=" in line for line in running)
    assert "Ctrl-C" in running[-1]
    last = [line for line in lines if line["kind"] == "status"][-1]
    assert last["levels"]["main"]["rms_db"][0] > -40.0
    assert last["counters"]["hops"] > 80
    recorded = lines[kinds.index("recorded")]
    assert len(recorded["files"]) == 5
    assert soundfile.info(recorded["files"][0]).frames == recorded["samples"] > 44_100
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_fades_and_finishes_and_a_second_one_ends_at_once(song, times):
    command = [*PROGRAM, "run", "-i", str(song), "-o", "none", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        for line in node.stdout:
            if json.loads(line)["kind"] == "status":
                break
        asked = time.monotonic()
        for _ in range(times):
            node.send_signal(signal.SIGINT)
            time.sleep(0.005)
        rest = [json.loads(line)["kind"] for line in node.stdout]
        code = node.wait(20)
    assert time.monotonic() - asked < 10.0
    if times == 1:
        assert code == 0
        assert rest[-1] == "stopped"
    else:
        assert code in (0, 130)  # 0: the first was heard before the second came


def test_a_file_that_is_missing_and_settings_that_are_wrong_are_one_line(capsys, tmp_path):
    code, _, err = run_app(capsys, "run", "-i", "nowhere/song.wav", "-o", "none")
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere/song.wav: no such file" in err
    settings = tmp_path / "stemrack.toml"
    settings.write_text("[mixer.drums]\ngain_db = 20\n")
    code, _, err = run_app(capsys, "run", "-c", settings)
    assert code == 2
    assert err == f"stemrack: {settings}: [mixer.drums] gain_db = 20.0: must be -inf to 12 dB\n"


def test_print_config_is_a_configuration(capsys):
    code, out, _ = run_app(capsys, "run", "--print-config", "--block", "128", "-o", "none")
    assert code == 0
    config = parse_config(out, "printed")
    assert (config.device.block_samples, config.device.output) == (128, "none")


def test_input_is_a_file_where_there_is_one(song):
    assert input_overrides(str(song)) == {"device.file": str(song)}
    assert input_overrides("Scarlett 2i2") == {"device.input": "Scarlett 2i2", "device.file": ""}
    assert input_overrides(None) == {}
    with pytest.raises(ConfigError, match="no such file"):
        input_overrides("missing.flac")
    assert overridden(None, {"device.rate_hz": 48_000}).device.rate_hz == 48_000


def test_channels_that_a_device_lacks_are_named(capsys, song, tmp_path):
    settings = tmp_path / "stemrack.toml"
    settings.write_text("[outputs]\nmain = [1, 2]\nvocals = [9, 10]\n")
    code, _, err = run_app(capsys, "run", "-c", settings, "-i", song, "-o", "none")
    assert code == 2
    assert "wants channel 10, 'virtual clock' has 8" in err


DEVICE = {
    "index": 3,
    "name": "Scarlett 2i2",
    "host_api": "ALSA",
    "n_inputs": 2,
    "n_outputs": 4,
    "rate_hz": 48_000.0,
    "low_latency_ms": [5.8, 5.8],
    "high_latency_ms": [34.8, 34.8],
}


def test_devices_are_listed_with_what_they_report(capsys, monkeypatch):
    found = {"devices": [DEVICE], "default": {"input": -1, "output": 3}}
    monkeypatch.setattr(asking, "ask_devices", lambda: found)
    code, out, _ = run_app(capsys, "devices")
    assert code == 0
    assert "not measured" in out
    for word in ("3<", "Scarlett 2i2", "ALSA", "2 / 4", "48000", "5.8 / 5.8"):
        assert word in out
    code, out, _ = run_app(capsys, "devices", "--json")
    assert json.loads(out) == found


def test_no_device_and_no_portaudio_say_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(
        asking, "ask_devices", lambda: {"devices": [], "default": {"input": -1, "output": -1}}
    )
    code, out, _ = run_app(capsys, "devices")
    assert code == 0
    assert "--output none" in out

    def fails():
        raise DeviceError("PortAudio", "cannot be used, saying: library not found")

    monkeypatch.setattr(asking, "ask_devices", fails)
    code, _, err = run_app(capsys, "devices")
    assert code == 1
    assert "PortAudio" in err


def test_asking_a_child_that_fails_or_hangs_is_an_error(monkeypatch):
    def answers(code, out="", err=""):
        done = subprocess.CompletedProcess([], code, out, err)
        monkeypatch.setattr(asking.subprocess, "run", lambda *a, **k: done)

    answers(1, err="OSError: PortAudio library not found")
    with pytest.raises(DeviceError, match="PortAudio library not found"):
        asking.ask_devices()
    answers(0, out='noise\n{"devices": []}\n')
    assert asking.ask_devices() == {"devices": []}

    def hangs(*a, **k):
        raise subprocess.TimeoutExpired("device", 15)

    monkeypatch.setattr(asking.subprocess, "run", hangs)
    with pytest.raises(DeviceError, match="did not answer in 15 s"):
        asking.ask_devices()


def test_status_lines_show_levels_and_counts():
    counted = {"is_dry": 1, "late_hops": 3, "xruns": 2, "fallbacks": 1, "worker_deaths": 0}
    lines = live.status_lines({"main": Level((-6.0, -7.0), (-30.0, -31.0))}, counted, 65.0, 12.4)
    assert "############............    -6.0 dB peak" in lines[5]
    assert "1:05  stems DRY   late hops 3   xruns 2" in lines[6]
    assert "+12 ppm" in lines[7]
    assert len(live.status_lines(None, counted, 0.0)) == 7


@pytest.mark.parametrize("name", ["gone.FLAC", "gone.m4a", "sounds/gone.aiff"])
def test_a_name_that_looks_like_a_file_is_no_device(name):
    with pytest.raises(ConfigError, match="no such file"):
        input_overrides(name)


def test_a_device_may_have_a_dot_in_its_name():
    assert input_overrides("USB 2.0") == {"device.input": "USB 2.0", "device.file": ""}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"engine.runner": "abacus"},
            "[engine] runner = 'abacus': must be one of auto, cpu, int8-cpu, onnx-cpu, torch-cpu, cuda",
        ),
        ({"device.file": "gone.flac"}, "[device] file = 'gone.flac': no such file"),
        ({"device.input": "Scarlett", "device.output": "none"}, "with output none there is no input either"),
        ({"device.input": 3, "device.output": "none"}, "[device] input = 3: with output none"),
    ],
)
def test_what_cannot_run_is_refused_before_a_process_is_started(values, said):
    with pytest.raises(ConfigError) as caught:
        engine_settings(with_overrides(Config(), values))
    assert said in str(caught.value)


def test_without_devices_silence_runs():
    settings = engine_settings(with_overrides(Config(), {"device.output": "none"}))
    assert (settings.devices.output, settings.input_file) == (None, None)


def test_a_control_log_needs_its_folder_before_anything_is_played(capsys, tmp_path):
    log = tmp_path / "no" / "log.jsonl"
    code, _, err = run_app(capsys, "run", "-o", "none", "--seconds", "0", "--control-log", log)
    assert (code, err.count("\n")) == (2, 1)
    assert "its folder is not there; make it first" in err


class FinishedEngine:
    """An engine that has run: what `_finish` asks of one."""

    control_log = ControlLog(rate_hz=44_100, delay_samples=0, start_ramp_samples=0)

    def stop_recording(self):
        return None

    def close(self):
        pass

    def counters(self):
        return {"hops": 3}


def test_a_control_log_that_cannot_be_written_is_said_after_the_counters(capsys, tmp_path):
    options = live.RunOptions(head=lambda engine: [], as_json=True, control_log=tmp_path)
    with pytest.raises(OutputError, match=r"cannot be written .*choose another --control-log"):
        live._finish(FinishedEngine(), options, live._Shown(as_json=True))
    assert json.loads(capsys.readouterr().out) == {"kind": "stopped", "hops": 3}


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


class RunningEngine(FinishedEngine):
    seconds, drift_ppm = 0.0, None

    def levels(self):
        return None


def watch(monkeypatch, capsys, clock, interrupted_at_s, seconds=None):
    def check():
        if clock.now_s >= 100.0 + interrupted_at_s:
            raise SystemExit(130)

    monkeypatch.setattr(live, "time", clock)
    options = live.RunOptions(head=lambda engine: [], as_json=True, seconds=seconds)
    live._watch(RunningEngine(), options, live._Shown(as_json=True), check)
    return [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]


def test_a_status_a_second_and_an_end_in_time(monkeypatch, capsys):
    clock = Clock()
    assert watch(monkeypatch, capsys, clock, math.inf, seconds=2.95) == ["status"] * 3
    assert clock.now_s == pytest.approx(103.0, abs=0.11)


def test_ctrl_c_is_heard_within_a_tenth_of_a_second_also_with_json(monkeypatch, capsys):
    clock = Clock()
    assert watch(monkeypatch, capsys, clock, 0.45)[-1] == "stopping"
    assert clock.now_s == pytest.approx(100.45, abs=0.11)
