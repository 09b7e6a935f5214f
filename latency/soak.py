"""`stemrack soak`: a long paced run, with faults on request, against a control that only keeps time.

The control takes turns with the engine, a slice each, never at the same time: an empty native callback, and a
worker that spins for the engine's median time per hop. What the control misses, the machine missed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..models.stems import N_STEMS
from ..rt.atomics import load, store
from ..rt.block import (
    FAULT,
    FAULT_NAN,
    FAULT_NONE,
    FAULT_RAISE,
    FAULT_SLOW,
    HOP_TIMES_WRITTEN,
    N_HOP_TIMES,
)
from ..rt.engine import Engine

COUNTED = (
    "callbacks",
    "xruns",
    "hops",
    "late_hops",
    "fallbacks",
    "dry_samples",
    "skipped_hops",
    "worker_deaths",
)
SETTLE_S = 1.0
"""Not counted, at the beginning of each slice."""
FAULTS = {"nan": (FAULT_NAN, 0.3), "raise": (FAULT_RAISE, 0.05), "slow": (FAULT_SLOW, 1.0)}
"""What the worker is asked to do wrong, and for how long."""
ENGINE, CONTROL = "engine", "control"


class SpinningSeparator:
    """Silence after a fixed time on the processor: the control's worker.  Pickles."""

    def __init__(self, hop: int, latency_samples: int, busy_s: float) -> None:
        self.hop, self.latency_samples, self._busy_s = hop, latency_samples, busy_s

    def init_state(self) -> None:
        """Return nothing: it remembers nothing."""
        return None

    def step(self, x: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        """Return silence for a hop, after spinning."""
        stop = time.perf_counter() + self._busy_s
        while time.perf_counter() < stop:
            pass
        return np.zeros((N_STEMS, 2, x.shape[1]), np.float32), None

    run = step

    def __call__(self) -> SpinningSeparator:
        """Return itself: the worker calls what loads its separator."""
        return self


@dataclass(slots=True, kw_only=True)
class Series:
    """What one side of a soak counted, all slices together."""

    name: str
    seconds: float = 0.0
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    hop_ms: list[np.ndarray] = field(default_factory=list)
    slices: list[tuple[int, int]] = field(default_factory=list)
    """Late hops and xruns of each slice: noise of the machine comes in bursts."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds of processor time by process and thread."""

    @property
    def times_ms(self) -> np.ndarray:
        """Times of all hops."""
        return np.concatenate(self.hop_ms) if self.hop_ms else np.zeros(0)

    def percentiles_ms(self) -> dict[str, float]:
        """Return p50, p99, p99.9 and max of the hop times."""
        if not self.times_ms.size:
            return {}
        p = np.percentile(self.times_ms, [50, 99, 99.9, 100])
        return dict(zip(("p50", "p99", "p99.9", "max"), (round(float(v), 3) for v in p), strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        share = {k: round(100 * v / max(self.seconds, 1e-9), 2) for k, v in sorted(self.cpu.items())}
        return {
            "seconds": round(self.seconds, 1),
            **self.counted,
            "late_hops_and_xruns_by_slice": self.slices,
            "hop_ms": self.percentiles_ms(),
            "processor_percent": share,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOptions:
    """How long, in slices of what length, disturbed by what. faults: names of FAULTS, one every fault_s."""

    minutes: float
    slice_s: float = 60.0
    busy_threads: int = 0
    faults: tuple[str, ...] = ()
    fault_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One side of a soak: how its engine is made, and the environment it is made in."""

    make: Callable[[float], Engine]
    """Given the median hop time in seconds (0 while it is not known)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    beside: Callable[[Engine, float], AbstractContextManager[object]] = lambda engine, seconds: nullcontext()
    """What goes on while it is counted, given how long that is."""


def soak(
    engine: Variant,
    control: Variant | None,
    options: SoakOptions,
    on_progress: Callable[[float, str], None] = lambda seconds, what: None,
) -> dict[str, Series]:
    """Return what the engine and its control counted, each for `minutes`, in alternating slices."""
    series = {ENGINE: Series(name=ENGINE)}
    if control:
        series[CONTROL] = Series(name=CONTROL)
    median_s = 0.0
    while series[ENGINE].seconds < 60.0 * options.minutes - 0.5:
        for name, variant in ((ENGINE, engine), (CONTROL, control)):
            if variant is None:
                continue
            length = min(options.slice_s, 60.0 * options.minutes - series[name].seconds)
            with _environment(variant.environment), _busy(options.busy_threads):
                made = variant.make(median_s)
                _slice(series[name], made, variant, length, options, on_progress)
            if name == ENGINE:
                median_s = float(np.median(series[ENGINE].times_ms)) / 1e3
    return series


def _slice(
    series: Series,
    made: Engine,
    variant: Variant,
    length: float,
    options: SoakOptions,
    on_progress: Callable[[float, str], None],
) -> None:
    with made as engine:
        engine.start()
        time.sleep(SETTLE_S)
        _count(series, engine, variant, length, options, on_progress)


def _count(
    series: Series,
    engine: Engine,
    variant: Variant,
    length: float,
    options: SoakOptions,
    on_progress: Callable[[float, str], None],
) -> None:
    with variant.beside(engine, length):
        before, cpu, first = engine.counters(), _processor_seconds(engine), _n_hops(engine)
        started = time.monotonic()
        next_fault, n_faults = started + options.fault_s, 0
        while (now := time.monotonic()) < started + length:
            if series.name == ENGINE and options.faults and now >= next_fault:
                _inject(engine, options.faults[n_faults % len(options.faults)])
                next_fault, n_faults = now + options.fault_s, n_faults + 1
            time.sleep(min(0.5, max(0.0, started + length - now)))
            on_progress(time.monotonic() - now, series.name)
        after = engine.counters()
        for name in COUNTED:
            series.counted[name] += after[name] - before[name]
        late, xruns = (after[n] - before[n] for n in ("late_hops", "xruns"))
        series.slices.append((late, xruns))
        for name, seconds in _processor_seconds(engine).items():
            series.cpu[name] = series.cpu.get(name, 0.0) + seconds - cpu.get(name, 0.0)
        at = np.arange(max(first, _n_hops(engine) - N_HOP_TIMES), _n_hops(engine)) % N_HOP_TIMES
        series.hop_ms.append(engine.block.hop_times_us[at] / 1e3)
        series.seconds += time.monotonic() - started


def _n_hops(engine: Engine) -> int:
    return load(engine.block.words, HOP_TIMES_WRITTEN)


def _inject(engine: Engine, name: str) -> None:
    fault, seconds = FAULTS[name]
    store(engine.block.words, FAULT, fault)
    time.sleep(seconds)
    store(engine.block.words, FAULT, FAULT_NONE)


@contextmanager
def _environment(values: Mapping[str, str]):
    """Set environment variables for the processes that are spawned meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _busy(n_threads: int):
    """Keep Python threads of this process busy."""
    stop = threading.Event()

    def spin() -> None:
        n = 0
        while not stop.is_set():
            n += 1

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _processor_seconds(engine: Engine) -> dict[str, float]:
    """Return processor time by process and thread, where the system shows it (Linux)."""
    found: dict[str, float] = {}
    for name, pid in (("node", os.getpid()), ("audio", engine.audio.pid), ("worker", engine.worker.pid)):
        tasks = Path(f"/proc/{pid}/task")
        if not tasks.is_dir():
            continue
        for task in sorted(tasks.iterdir(), key=lambda p: int(p.name)):
            try:
                head, rest = (task / "stat").read_text().rsplit(")", 1)
            except (FileNotFoundError, ProcessLookupError):
                continue
            values = rest.split()
            seconds = (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
            thread = "main" if task.name == str(pid) else head.split("(", 1)[1]
            key = f"{name}/{thread}"
            found[key] = found.get(key, 0.0) + seconds
    return found


def soak_rows(series: Mapping[str, Series]) -> list[list[str]]:
    """Return the table of a soak, under SOAK_HEADS."""
    rows = []
    for s in series.values():
        p = s.percentiles_ms()
        times = [f"{p[k]:.2f}" if p else "" for k in ("p50", "p99", "p99.9", "max")]
        rows.append([s.name, f"{s.seconds / 60:.1f}", *times, *(str(s.counted[k]) for k in COUNTED[:6])])
    return rows


SOAK_HEADS = ["", "minutes", "p50", "p99", "p99.9", "max, ms", *(k.replace("_", " ") for k in COUNTED[:6])]


def cycles(engine: Engine, n: int, on_progress: Callable[[float, str], None]) -> dict[str, Any]:
    """Return what n starts and stops of the stream left behind: handles and threads before and after."""
    engine.start()
    for _ in range(5):
        engine.stop_stream()
        engine.start_stream()
    before = _open_things(engine)
    for _ in range(n):
        engine.stop_stream()
        engine.start_stream()
        on_progress(1.0, "cycles")
    counted = engine.counters()
    return {
        "cycles": n,
        "before": before,
        "after": _open_things(engine),
        "audio_restarts": counted["audio_restarts"],
        "worker_deaths": counted["worker_deaths"],
    }


def _open_things(engine: Engine) -> dict[str, int]:
    found = {}
    for name, pid in (("node", os.getpid()), ("audio", engine.audio.pid), ("worker", engine.worker.pid)):
        for kind in ("fd", "task"):
            folder = Path(f"/proc/{pid}/{kind}")
            if folder.is_dir():
                found[f"{name} {'handles' if kind == 'fd' else 'threads'}"] = len(list(folder.iterdir()))
    shared = Path("/dev/shm")
    return found | ({"shared memory files": len(list(shared.iterdir()))} if shared.is_dir() else {})
