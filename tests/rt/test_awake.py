"""Processors kept awake: by whom, at which priority, and until when."""

import json
import os
import subprocess
import sys

import pytest
from fake_separator import HOP, FakeSeparator
from processes import until

from stemrack.rt import awake
from stemrack.rt.app_live import engine_settings, overridden
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.errors import ConfigError
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

linux = pytest.mark.skipif(bool(awake.why_not_awake()), reason=awake.why_not_awake() or "it is possible")

IN_A_PROCESS = """
import json, os, time
from stemrack.rt.awake import keep_awake
n, again = keep_awake(), keep_awake()
busy_s = time.monotonic()
count = 0
while time.monotonic() < busy_s + 0.5:
    count += 1
tasks = [int(t) for t in os.listdir("/proc/self/task")]
idle = [t for t in tasks if os.sched_getscheduler(t) == os.SCHED_IDLE]
print(json.dumps([n, again, sorted(sorted(os.sched_getaffinity(t)) for t in idle), count]))
"""


def idle_threads(pid):
    """Processors of the threads of a process that run when nothing else does."""
    tasks = [int(t) for t in os.listdir(f"/proc/{pid}/task")]
    return sorted(min(os.sched_getaffinity(t)) for t in tasks if os.sched_getscheduler(t) == os.SCHED_IDLE)


@linux
def test_one_thread_for_each_processor_and_python_goes_on():
    done = subprocess.run([sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, check=True)
    n, again, processors, count = json.loads(done.stdout)
    assert n == again == len(os.sched_getaffinity(0))
    assert processors == [[p] for p in sorted(os.sched_getaffinity(0))]
    assert count > 10_000  # they do not hold what Python needs


@linux
def test_a_thread_that_must_stay_at_normal_priority_ends(monkeypatch):
    def refused(*_):
        raise PermissionError("a sandbox")

    monkeypatch.setattr(awake, "_awake", [])
    monkeypatch.setattr(awake.os, "sched_setscheduler", refused)
    assert awake.keep_awake() == 0
    until(lambda: not any(t.name.startswith("stemrack-awake") for t in awake.threading.enumerate()))


@linux
@pytest.mark.parametrize("keeps_awake", [True, False])
def test_the_audio_process_does_it_where_it_is_asked_to(keeps_awake):
    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=FakeSeparator),
        devices=DeviceChoice(input=None, output=None, keeps_awake=keeps_awake),
        plan_for=lambda resolved: StreamPlan(rate_hz=44_100, delay_samples=4_096),
    )
    with Engine(settings) as engine:
        engine.start()
        assert idle_threads(engine.audio.pid) == (sorted(os.sched_getaffinity(0)) if keeps_awake else [])
        assert idle_threads(engine.worker.pid) == []


def test_the_setting_and_the_option_reach_the_devices():
    for config in (
        overridden(None, {"engine.keep_awake": True, "device.output": "none"}),
        overridden(None, {"device.output": "none"}),
    ):
        assert engine_settings(config).devices.keeps_awake == config.engine.keep_awake


def test_other_systems_refuse_it(monkeypatch):
    monkeypatch.setattr(awake.sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="keep_awake: only Linux"):
        engine_settings(overridden(None, {"engine.keep_awake": True, "device.output": "none"}))


@pytest.mark.parametrize(
    ("own", "files", "why"),
    [
        ("0::/", {}, ""),
        ("0::/", {"cpu.max": "max 100000"}, ""),
        ("0::/", {"cpu.max": "200000 100000"}, "quota"),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, "quota"),
        ("4:cpu,cpuacct:/a\n3:memory:/b", {"cpu/a/cpu.cfs_quota_us": "50000"}, "quota"),
        ("4:cpu,cpuacct:/a\n3:memory:/b", {"cpu/a/cpu.cfs_quota_us": "-1"}, ""),
        (None, {}, ""),
    ],
)
def test_a_quota_of_processor_time_is_not_spent_on_nothing(tmp_path, monkeypatch, own, files, why):
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(awake, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(awake, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(awake.sys, "platform", "linux")
    assert why in awake.why_not_awake()
    assert bool(why) == bool(awake.why_not_awake())
    if why:
        monkeypatch.setattr(awake, "_awake", [])
        assert awake.keep_awake() == 0
