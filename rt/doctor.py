"""`stemrack doctor`: what is installed, what would run and why, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..models.errors import ModelError
from .asking import ask_devices
from .config import Config
from .errors import ConfigError, HostError

SELF_TEST_S = 5.0
CHILD_LIMIT_S = 30.0
PACKAGES = ("numpy", "numba", "onnxruntime", "torch", "sounddevice", "soundfile", "soxr", "pedalboard")
AUDIO_REMEDY = "install PortAudio (Debian, Ubuntu: apt-get install libportaudio2), restart the sound server"
WAKE_UPS = 1_000
WAKE_LIMIT_MS = 1.0
"""For 99 in 100; the audio thread and the worker each wake once a block, and a block may be 2.9 ms."""
GOVERNORS = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its name, how it is, in words, and what would mend it."""

    name: str
    state: Literal["ok", "warn", "fail"]
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return plain values for JSON."""
        return asdict(self)


def diagnose(config: Config, *, self_test: bool = True) -> Iterator[Finding]:
    """Yield the findings one by one; with self_test, the last runs the separator for SELF_TEST_S."""
    yield Finding("system", "ok", f"{platform.platform()}, Python {platform.python_version()}")
    yield _packages()
    yield _kernels()
    yield _weights(config)
    yield from _runners(config)
    yield _devices()
    yield _realtime()
    yield _wake_ups(config)
    yield from _locked_memory()
    yield _governor()
    yield _disk(config)
    if self_test:
        yield _self_test(config)


def _packages() -> Finding:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    text = ", ".join(versions)
    if not missing:
        return Finding("packages", "ok", text)
    return Finding("packages", "fail", f"missing: {', '.join(missing)}", "pip install stemrack")


def _kernels() -> Finding:
    from ..models import jit

    # Where numba keeps it by now: asking `cache_folder` again would give a folder inside that one.
    folder = Path(jit.numba.config.CACHE_DIR)  # pyright: ignore[reportAttributeAccessIssue]
    if not os.access(folder, os.W_OK):
        return Finding(
            "compiled code", "warn", f"{folder} cannot be written", "set XDG_CACHE_HOME: every start compiles"
        )
    n = sum(1 for _ in folder.rglob("*.nbc"))
    text = f"{n} kernels kept" if n else "none kept yet: the first start compiles"
    return Finding("compiled code", "ok", text)


def _weights(config: Config) -> Finding:
    from .profile_kinds import find_files, profile_facts

    try:
        profile = profile_facts(config.engine.profile)
        paths = find_files(profile.name, Path(config.engine.weights) if config.engine.weights else None)
    except ModelError as error:
        return Finding("weights", "fail", str(error), "choose another [engine] profile or weights")
    size_mib = sum(path.stat().st_size for path in paths.values()) / 2**20
    names = ", ".join(path.name for path in paths.values())
    return Finding("weights", "ok", f"profile {profile.name}: {names}, {size_mib:.1f} MiB")


def _runners(config: Config) -> Iterator[Finding]:
    from .runner_choice import choose_runner
    from .separate import RUNNERS

    wanted = config.engine.runner
    if wanted not in RUNNERS:
        yield Finding("runner", "fail", f"there is no '{wanted}'", f"[engine] runner: {', '.join(RUNNERS)}")
        return
    try:
        import onnxruntime
    except ImportError as error:
        yield Finding(
            "runner",
            "warn" if wanted == "torch-cpu" else "fail",
            f"ONNX Runtime does not load: {error}",
            "pip install stemrack",
        )
        return
    providers = onnxruntime.get_available_providers()
    try:
        chosen, why = choose_runner(wanted)
    except ConfigError as error:
        yield Finding("runner", "fail", str(error), "[engine] runner = 'auto'")
        return
    yield Finding("runner", "ok", f"{chosen} ({why}); ONNX Runtime offers {', '.join(providers)}")
    gpu = shutil.which("nvidia-smi")
    if gpu:
        done = _run([gpu, "-L"])
        said = done.splitlines() if done else ["nvidia-smi lists none"]
        yield Finding("GPU", "ok", f"{'; '.join(said)}{'' if chosen == 'cuda' else ' (not used)'}")


def _run(command: list[str]) -> str:
    """Return what a command prints; nothing if it does not run or takes longer than CHILD_LIMIT_S."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _devices() -> Finding:
    try:
        found = ask_devices()
    except HostError as error:
        return Finding("audio", "fail", str(error), AUDIO_REMEDY)
    names = [d["name"] for d in found["devices"]]
    if not names:
        return Finding(
            "audio", "warn", "no device", "plug one in, start a sound server, or use --output none"
        )
    return Finding("audio", "ok", f"{len(names)} devices: {', '.join(names[:6])}")


def _realtime() -> Finding:
    script = f"from {__package__}.heartbeat import realtime_priority; print(realtime_priority())"
    if _run([sys.executable, "-c", script]) == "True":
        return Finding("priority", "ok", "the worker gets real-time priority")
    return Finding(
        "priority",
        "warn",
        "no real-time priority: hops may be late while the machine is busy",
        "allow it: 'rtprio 20' for your user in /etc/security/limits.conf",
    )


def _wake_ups(config: Config) -> Finding:
    """Sleep for WAKE_UPS times 2 ms in a process of its own, and see how late it is waked."""
    from .awake import why_not_awake

    kept = config.engine.keep_awake
    script = (
        f"from {__package__}.awake import lateness_ms; print(*lateness_ms({WAKE_UPS}, keeps_awake={kept}))"
    )
    found = [float(value) for value in _run([sys.executable, "-c", script]).split()]
    if not found:
        return Finding("wake-ups", "warn", "could not be measured", "look again while nothing else runs")
    p50, p99, longest = found
    text = f"{p50:.2f} ms late (p50), {p99:.2f} (p99), {longest:.2f} (longest) of {WAKE_UPS}"
    text += ", processors kept awake" if kept else ""
    if p99 <= WAKE_LIMIT_MS:
        return Finding("wake-ups", "ok", text)
    remedy = "close other programs, or give more time: [engine] allowance_samples"
    if not kept and not why_not_awake():
        remedy = "let the processors not sleep: [engine] keep_awake = true, or --keep-awake"
    return Finding("wake-ups", "warn", text, remedy)


def _locked_memory() -> Iterator[Finding]:
    try:
        import resource  # Unix only
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    text = "no limit" if limit == resource.RLIM_INFINITY else f"{limit / 2**20:.1f} MiB"
    yield Finding("locked memory", "ok", f"{text} (stemrack locks none; JACK asks for no limit)")


def _governor() -> Finding:
    try:
        governor = GOVERNORS.read_text().strip()
    except OSError:
        return Finding("processor", "ok", f"{os.cpu_count()} cores; its clock policy cannot be read")
    if governor == "powersave":
        return Finding("processor", "warn", "clock policy powersave", "cpupower frequency-set -g performance")
    return Finding("processor", "ok", f"{os.cpu_count()} cores, clock policy {governor}")


def _disk(config: Config) -> Finding:
    folder = config.recording.folder.absolute()
    there = next((f for f in (folder, *folder.parents) if f.is_dir()), None)
    if there is None or not os.access(there, os.W_OK):
        remedy = "[recording] folder: choose one that can be written"
        return Finding("disk", "warn", f"{folder} cannot be written", remedy)
    free = shutil.disk_usage(there).free
    if free < 2 * config.recording.min_free_bytes:
        return Finding("disk", "warn", f"{free / 1e6:.0f} MB free", "recordings would stop soon: free space")
    return Finding("disk", "ok", f"{free / 1e9:.1f} GB free for recordings")


def _self_test(config: Config) -> Finding:
    """Separate noise for some seconds and compare a hop's time with its length."""
    import numpy as np

    from ..models.stems import MODEL_RATE_HZ
    from .separate import load_separator

    engine = config.engine
    weights = Path(engine.weights) if engine.weights else None
    try:
        separator = load_separator(engine.profile, engine.runner, weights, n_threads=engine.threads)
    except (HostError, ModelError) as error:
        return Finding("self-test", "fail", str(error), "see the findings above")
    times_ms = hop_times_ms(separator, SELF_TEST_S, time.perf_counter)
    p50, p99 = np.percentile(times_ms, [50, 99])
    hop_ms = 1e3 * separator.hop / MODEL_RATE_HZ
    text = (
        f"a hop of {hop_ms:.1f} ms takes {p50:.1f} ms (p50), {p99:.1f} (p99), {max(times_ms):.1f} (longest)"
    )
    if p99 < 0.5 * hop_ms:
        return Finding("self-test", "ok", text)
    remedy = "close other programs, or give more time: [engine] allowance_samples"
    return Finding("self-test", "warn" if p99 < hop_ms else "fail", text, remedy)


def hop_times_ms(separator: Any, seconds: float, clock: Callable[[], float]) -> list[float]:
    """Return the time of each hop of noise, warm, for so many seconds of the clock."""
    import numpy as np

    state = separator.init_state()
    x = (0.1 * np.random.default_rng(2).standard_normal((2, separator.hop))).astype(np.float32)
    for _ in range(8):
        separator.step(x, state)
    times, stop = [], clock() + seconds
    while not times or clock() < stop:
        started = clock()
        separator.step(x, state)
        times.append(1e3 * (clock() - started))
    return times
