"""What the doctor finds, with what it looks at replaced; and once with what there is."""

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stemrack.models import jit
from stemrack.rt import doctor, runner_choice, separate
from stemrack.rt.config import Config, with_overrides
from stemrack.rt.doctor import Finding, diagnose, hop_times_ms
from stemrack.rt.errors import DeviceError

NAMES = [
    "system",
    "packages",
    "compiled code",
    "weights",
    "runner",
    "audio",
    "priority",
    "wake-ups",
    "processor",
    "disk",
]


def device_list(*names):
    return lambda: {"devices": [{"name": n} for n in names], "default": {}}


@pytest.fixture
def quick(monkeypatch):
    """Nothing is asked outside of this process."""
    monkeypatch.setattr(doctor, "ask_devices", device_list("system"))
    monkeypatch.setattr(
        doctor, "_run", lambda command: "0.05 0.1 2.5" if "lateness" in command[-1] else "True"
    )
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)


def found(config=None, name=None):
    findings = {f.name: f for f in diagnose(config or Config(), self_test=False)}
    return findings[name] if name else findings


def test_the_shipped_configuration_has_no_failure_and_is_plain_json(quick):
    findings = found()
    assert [n for n in findings if n not in ("GPU", "locked memory")] == NAMES
    assert [f for f in findings.values() if f.state == "fail"] == []
    plain = [f.as_dict() for f in findings.values()]
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain[0]) == {"name", "state", "text", "remedy"}


def test_all_that_is_wrong_has_a_remedy_and_ends_nothing(quick, monkeypatch, tmp_path):
    def no_audio():
        raise DeviceError("PortAudio", "cannot be used")

    monkeypatch.setattr(doctor, "ask_devices", no_audio)
    monkeypatch.setattr(doctor, "_run", lambda command: "")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # `import` then raises ImportError
    missing = str(tmp_path / "none.safetensors")
    findings = found(with_overrides(Config(), {"engine.weights": missing}))
    wrong = {name: f.state for name, f in findings.items() if f.state != "ok"}
    assert wrong == {
        "weights": "fail",
        "runner": "fail",
        "audio": "fail",
        "priority": "warn",
        "wake-ups": "warn",
    }
    assert all(findings[name].remedy for name in wrong)
    assert missing in findings["weights"].text


def test_a_missing_package_is_named(quick, monkeypatch):
    version = importlib.metadata.version

    def without(*gone):
        def look(name):
            if name in gone:
                raise importlib.metadata.PackageNotFoundError(name)
            return version("numpy")

        return look

    monkeypatch.setattr(importlib.metadata, "version", without("soxr", "pedalboard"))
    assert found(name="packages").text == "missing: soxr, pedalboard"
    assert found(name="packages").state == "fail"


@pytest.mark.parametrize(
    ("runner", "state", "said"),
    [
        ("auto", "ok", "cpu (there is no NVIDIA driver)"),
        ("torch-cpu", "ok", "torch-cpu (asked for)"),
        ("abacus", "fail", "there is no 'abacus'"),
    ],
)
def test_the_runner_and_why(quick, monkeypatch, runner, state, said):
    monkeypatch.setattr(runner_choice, "count_gpus", lambda: None)
    finding = found(with_overrides(Config(), {"engine.runner": runner}), "runner")
    assert finding.state == state
    assert finding.text.startswith(said)


def test_kept_kernels_are_counted_where_numba_keeps_them(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(jit.numba.config, "CACHE_DIR", str(tmp_path))
    assert found(name="compiled code").text.startswith("none kept yet")
    (tmp_path / "rt").mkdir()
    for n in range(3):
        (tmp_path / "rt" / f"callback-{n}.nbc").touch()
    (tmp_path / "rt" / "callback.nbi").touch()
    assert found(name="compiled code").text == "3 kernels kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "rt"]  # the doctor leaves nothing behind
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path) != tmp_path)
    assert found(name="compiled code").state == "warn"


@pytest.mark.parametrize(
    ("names", "state", "said"), [((), "warn", "no device"), (("a", "b"), "ok", "2 devices: a, b")]
)
def test_devices(quick, monkeypatch, names, state, said):
    monkeypatch.setattr(doctor, "ask_devices", device_list(*names))
    finding = found(name="audio")
    assert (finding.state, finding.text) == (state, said)


@pytest.mark.parametrize(("free", "state"), [(60e6, "warn"), (99e6, "warn"), (101e6, "ok")])
def test_disk_warns_below_twice_where_recording_stops(quick, monkeypatch, tmp_path, free, state):
    asked = []

    def usage(folder):
        asked.append(folder)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(doctor.shutil, "disk_usage", usage)
    config = with_overrides(Config(), {"recording.folder": str(tmp_path / "not" / "yet")})
    assert found(config, "disk").state == state
    assert asked == [tmp_path]


def test_a_recording_folder_that_is_no_folder_is_said(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path) != tmp_path)
    finding = found(with_overrides(Config(), {"recording.folder": str(tmp_path / "takes")}), "disk")
    assert (finding.state, finding.text) == ("warn", f"{tmp_path / 'takes'} cannot be written")


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        ("powersave\n", "warn", "clock policy powersave"),
        ("performance\n", "ok", "performance"),
        (None, "ok", "cannot"),
    ],
)
def test_the_clock_policy(quick, monkeypatch, tmp_path, text, state, said):
    governor = tmp_path / "governor"
    if text:
        governor.write_text(text)
    monkeypatch.setattr(doctor, "GOVERNORS", governor)
    finding = found(name="processor")
    assert finding.state == state
    assert said in finding.text


@pytest.mark.parametrize(
    ("kept", "printed", "state", "remedy"),
    [
        (False, "0.05 0.9 3.5", "ok", ""),
        (False, "0.05 1.1 30", "warn", "keep_awake"),
        (True, "0.05 1.1 30", "warn", "allowance_samples"),
        (False, "", "warn", "look again"),
    ],
)
def test_late_wake_ups_are_told(quick, monkeypatch, kept, printed, state, remedy):
    asked = []
    monkeypatch.setattr(doctor, "_run", lambda command: asked.append(command[-1]) or printed)
    monkeypatch.setattr(sys, "platform", "linux")
    finding = found(with_overrides(Config(), {"engine.keep_awake": kept}), "wake-ups")
    assert finding.state == state
    assert remedy in finding.remedy
    assert (printed.split() or ["could not"])[-1] in finding.text
    assert any(f"keeps_awake={kept}" in script for script in asked)


def test_a_graphics_card_is_listed_and_said_to_be_idle(quick, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
    ask = doctor._run
    monkeypatch.setattr(doctor, "_run", lambda cmd: "GPU 0: A\nGPU 1: B" if "-L" in cmd else ask(cmd))
    assert found(name="GPU") == Finding("GPU", "ok", "GPU 0: A; GPU 1: B (not used)")


def test_commands_that_fail_or_hang_say_nothing(monkeypatch):
    assert doctor._run([sys.executable, "-c", "print(' x ')"]) == "x"
    assert doctor._run([sys.executable, "-c", "print('x'); raise SystemExit(1)"]) == ""
    assert doctor._run(["/nonexistent/command"]) == ""

    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert doctor._run([sys.executable]) == ""


class Clocked:
    """A separator of hops of 512 whose step moves the clock by the next of its times."""

    hop = 512

    def __init__(self, times_s):
        self.now, self.times, self.n_steps = 0.0, times_s, 0

    def init_state(self):
        return None

    def step(self, x, state):
        assert x.shape == (2, self.hop)
        assert x.dtype == np.float32
        self.now += self.times[self.n_steps % len(self.times)]
        self.n_steps += 1

    def clock(self):
        return self.now


def test_hop_times_leave_the_warm_up_out():
    separator = Clocked([0.002])
    times = hop_times_ms(separator, 0.1, separator.clock)
    assert separator.n_steps == 8 + len(times)
    assert len(times) in (50, 51)  # 0.1 / 0.002, whichever way the sum of them is rounded
    assert times == pytest.approx([2.0] * len(times))


def test_one_hop_is_timed_even_if_it_takes_longer_than_the_test():
    separator = Clocked([3.0])
    assert hop_times_ms(separator, 1.0, separator.clock) == pytest.approx([3000.0])


@pytest.mark.parametrize(("hop_s", "state"), [(0.002, "ok"), (0.009, "warn"), (0.012, "fail")])
def test_the_self_test_compares_with_the_hop(quick, monkeypatch, hop_s, state):
    separator = Clocked([hop_s])
    monkeypatch.setattr(separate, "load_separator", lambda *args, **options: separator)
    monkeypatch.setattr(doctor.time, "perf_counter", separator.clock)
    *_, last = diagnose(Config(), self_test=True)
    assert (last.name, last.state) == ("self-test", state)
    assert last.text.startswith(f"a hop of 11.6 ms takes {1e3 * hop_s:.1f} ms (p50), {1e3 * hop_s:.1f} (p99)")
    assert bool(last.remedy) == (state != "ok")


def test_a_profile_that_is_not_there_fails_the_self_test_too(quick):
    config = replace(Config(), engine=replace(Config().engine, profile="no-such-profile"))
    findings = {f.name: f.state for f in diagnose(config, self_test=True)}
    assert findings["weights"] == "fail"
    assert findings["self-test"] == "fail"


def test_the_real_machine_can_be_looked_at():
    findings = found()
    assert findings["priority"].state in ("ok", "warn")
    assert findings["audio"].state in ("ok", "warn", "fail")
    assert findings["runner"].state == "ok"
    assert f"of {doctor.WAKE_UPS}" in findings["wake-ups"].text
