"""Hop times against the hop: `stemrack bench`. Percentiles, stages, and a control that only spins.

    RTF = hop time / hop duration;   over: hop time > hop;   late: time since the hop was due > hop

Each separator takes turns with its control, which spins on the clock for that separator's median time: what
the control shows beyond its median is the machine, not us.  Measured is `Separator.step`, and the effect
chains of a preset behind it if one is given; the live worker adds mixture consistency, rate conversion where
the device needs it, and a copy.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..models.stems import MODEL_RATE_HZ
from ..rt.errors import InputError
from ..rt.files import AudioSource
from ..rt.preset_sound import HOP, PresetSound
from .effect_cost import TimedChains, percentiles_us
from .plots import hop_histogram

SLICE_S = 5.0
"""How long a separator or a control runs before the next takes its turn."""

WARM_UP_HOPS = 16
"""Not measured, at the beginning of each slice: another series has had the caches."""

INPUT_S = 30.0
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
BENCH_HEADS = ("", *(f"{name}, ms" for name in PERCENTILES), "RTF", "over", "late", "hops")
STAGE_HEADS = ("", *(f"{name}, ms" for name in PERCENTILES), "share")
CONTROL = "control of"
EFFECTS = "effects"
"""The stage of the chains."""


class Separator(Protocol):
    """What is measured; one with `on_stage` (`rt.separate.Separator`) shows its stages too."""

    hop: int

    def init_state(self) -> Any: ...

    def step(self, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]: ...


@dataclass(slots=True, kw_only=True)
class HopTimes:
    """Times of the hops of one series, in the order they were run."""

    name: str
    deadline_ms: float
    times_ms: list[float] = field(default_factory=list)
    lateness_ms: list[float] = field(default_factory=list)
    """Begin of a hop after it was due; 0 where nothing waits."""
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    chains: TimedChains | None = None
    """Those behind the separator; they may have several hops in one of its."""

    def percentiles_ms(self, stage: str | None = None) -> dict[str, float]:
        """Return p50, p99, p99.9 and max of the hops or of a stage."""
        times = self.stage_ms[stage] if stage else self.times_ms
        values = np.percentile(times, list(PERCENTILES.values()))
        return dict(zip(PERCENTILES, map(float, values), strict=True))

    @property
    def rtf(self) -> float:
        """Mean hop time as a share of the hop."""
        return float(np.mean(self.times_ms)) / self.deadline_ms

    @property
    def n_over(self) -> int:
        """Hops that took longer than a hop lasts."""
        return int(np.count_nonzero(np.array(self.times_ms) > self.deadline_ms))

    @property
    def n_late(self) -> int:
        """Hops not ready a hop after they were due: also those that were woken late or had to queue."""
        ready_ms = np.array(self.times_ms) + np.array(self.lateness_ms)
        return int(np.count_nonzero(ready_ms > self.deadline_ms))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: figures, not every time."""
        return {
            "name": self.name,
            "n_hops": len(self.times_ms),
            "deadline_ms": self.deadline_ms,
            "hop_ms": self.percentiles_ms(),
            "rtf": self.rtf,
            "n_over": self.n_over,
            "n_late": self.n_late,
            "max_lateness_ms": max(self.lateness_ms),
            "stage_ms": {stage: self.percentiles_ms(stage) for stage in self.stage_ms},
            **self._chains_as_dict(),
        }

    def forget_warm_up(self) -> None:
        """Keep what was noted of the hops that count."""
        n = len(self.times_ms)
        for kept in self.stage_ms.values():
            del kept[n:]
        if self.chains:
            self.chains.forget(n * round(1e3 * self.deadline_ms / self.chains.hop_us))

    def _chains_as_dict(self) -> dict[str, Any]:
        if self.chains is None:
            return {}
        hop_us = self.chains.hop_us
        inserts = {
            name: percentiles_us(times) | {"share": float(np.mean(times)) / hop_us, "n_hops": len(times)}
            for name, times in self.chains.times_us.items()
        }
        return {"insert_hop_us": hop_us, "insert_us": inserts, "bypassed": dict(self.chains.bypassed)}


def machine() -> str:
    """Return system, processor, cores and Python, in one line."""
    cores = f"{os.cpu_count()} cores"
    return f"{platform.system()} {platform.machine()}, {cores}, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """All series of a bench: each separator, followed by its control."""

    series: tuple[HopTimes, ...]
    is_paced: bool

    @property
    def machine(self) -> str:
        """System, processor, cores and Python, in one line."""
        return machine()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        series = [times.as_dict() for times in self.series]
        return {"machine": self.machine, "paced": self.is_paced, "series": series}


class _Runner:
    """One series in progress: where it is in the input, and when its next hop is due."""

    def __init__(self, times: HopTimes, step: Callable[[int], None], hop_s: float) -> None:
        self.times, self.step, self.hop_s = times, step, hop_s
        self.n_run = 0

    def run(self, n: int, clock: Callable[[], float], sleep: Callable[[float], None] | None) -> None:
        """Run the warm-up and n hops that count; with `sleep`, each when it is due or as soon as it can."""
        for _ in range(WARM_UP_HOPS):
            self.step(self.n_run)
            self.n_run += 1
        self.times.forget_warm_up()
        due = clock()
        for _ in range(n):
            if sleep and (wait := due - clock()) > 0:
                sleep(wait)
            began = clock()
            self.step(self.n_run)
            self.times.times_ms.append(1e3 * (clock() - began))
            self.times.lateness_ms.append(1e3 * max(0.0, began - due) if sleep else 0.0)
            self.n_run += 1
            due += self.hop_s


def bench(
    separators: Mapping[str, Separator],
    seconds: float,
    *,
    source: np.ndarray | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    paced: bool = False,
    sound: PresetSound | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> BenchReport:
    """Return the hop times of separators, by name, over so many seconds of sound each; a control after each.

    source: (2, sample) to separate, again and again; None: `bench_noise`.  paced: hops come in real time, as
    they do live; else one upon the other.  sound: its chains are behind each separator.
    on_progress: called with a series and the seconds of its sound that are done; in all
    2 * len(separators) * seconds.
    Raises: ValueError for no separator, less than a hop, or a source of another shape or shorter than a hop.
    """
    if not separators:
        raise ValueError("no separator to measure")
    x = bench_noise() if source is None else np.ascontiguousarray(source, np.float32)
    pairs: list[tuple[_Runner, _Runner, int]] = []
    for name, separator in separators.items():
        hop_s = separator.hop / MODEL_RATE_HZ
        if seconds < hop_s or x.ndim != 2 or x.shape[0] != 2 or x.shape[1] < separator.hop:
            raise ValueError(f"'{name}': {seconds:g} s of {x.shape} is less than a hop or not stereo")
        times = HopTimes(name=name, deadline_ms=1e3 * hop_s)
        if sound and sound.chains:
            times.chains = TimedChains(sound, math.gcd(separator.hop, HOP), clock=clock)
        measured = _Runner(times, _separating(separator, x, times, clock), hop_s)
        spun = HopTimes(name=f"{CONTROL} {name}", deadline_ms=1e3 * hop_s)
        control = _Runner(spun, _spinning(times, clock), hop_s)
        pairs.append((measured, control, round(seconds / hop_s)))
    while any(n > len(measured.times.times_ms) for measured, _, n in pairs):
        for measured, control, n in pairs:
            n_slice = min(n - len(measured.times.times_ms), max(1, round(SLICE_S / measured.hop_s)))
            for runner in (measured, control):
                if n_slice > 0:
                    runner.run(n_slice, clock, sleep if paced else None)
                    if on_progress:
                        on_progress(runner.times.name, n_slice * runner.hop_s)
    series = tuple(runner.times for measured, control, _ in pairs for runner in (measured, control))
    return BenchReport(series=series, is_paced=paced)


def _separating(
    separator: Separator, x: np.ndarray, times: HopTimes, clock: Callable[[], float]
) -> Callable[[int], None]:
    """Return what separates hop number n, and notes the time of its stages if they can be heard of."""
    state, hop = separator.init_state(), separator.hop
    n_hops = x.shape[1] // hop
    last = [0.0]

    def ended(stage: str) -> None:
        now = clock()
        times.stage_ms.setdefault(stage, []).append(1e3 * (now - last[0]))
        last[0] = now

    def step(n: int) -> None:
        start = n % n_hops * hop
        last[0] = clock()
        stems, _ = separator.step(x[:, start : start + hop], state)
        if times.chains:
            last[0] = clock()
            times.chains.push(stems)
            ended(EFFECTS)

    def step_by_stages(n: int) -> None:
        separator.on_stage = ended  # pyright: ignore[reportAttributeAccessIssue]
        try:
            step(n)
        finally:
            separator.on_stage = None  # pyright: ignore[reportAttributeAccessIssue]

    return step_by_stages if hasattr(separator, "on_stage") else step


def _spinning(measured: HopTimes, clock: Callable[[], float]) -> Callable[[int], None]:
    """Return what does nothing for the median time of a measured hop."""
    memo = [0, 0.0]

    def step(_: int) -> None:
        began = clock()
        if memo[0] != len(measured.times_ms):
            memo[:] = [len(measured.times_ms), float(np.median(measured.times_ms)) / 1e3]
        while clock() - began < memo[1]:
            pass

    return step


def bench_noise(seconds: float = INPUT_S, seed: int = 1) -> np.ndarray:
    """Return something music-like, (2, sample) float32: pink noise, half of it common, with a beat, RMS 0.1.

    Two beats a second, each falling by 20 dB: the networks hear loud and quiet, centre and sides.
    """
    n = round(seconds * MODEL_RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((3, n)))
    spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]))
    middle, left, right = np.fft.irfft(spectrum, n)
    beat = 10.0 ** -(np.arange(n) / MODEL_RATE_HZ * 2.0 % 1.0)
    x = np.stack([middle + left, middle + right]) * beat
    return (0.1 / np.sqrt(np.mean(x**2)) * x).astype(np.float32)


def bench_file(path: Path, seconds: float = INPUT_S) -> np.ndarray:
    """Return the first seconds of a sound file as (2, sample) float32, taken as if at the model's rate.

    Raises: InputError for a file that cannot be read or lasts less than a second.
    """
    n, pieces = round(seconds * MODEL_RATE_HZ), []
    with AudioSource(path) as source:
        for piece in source.blocks():
            pieces.append(piece)
            if sum(p.shape[1] for p in pieces) >= n:
                break
    x = np.concatenate(pieces, axis=1)[:, :n]
    if x.shape[1] < MODEL_RATE_HZ:
        raise InputError(path, "is too short for a bench: give a second or more")
    return np.ascontiguousarray(np.broadcast_to(x, (2, x.shape[1])))


def bench_rows(report: BenchReport) -> list[tuple[str, ...]]:
    """Return the table of all series, under BENCH_HEADS."""
    rows = []
    for times in report.series:
        figures = [f"{ms:.2f}" for ms in times.percentiles_ms().values()]
        counts = (str(times.n_over), str(times.n_late), str(len(times.times_ms)))
        rows.append((times.name, *figures, f"{times.rtf:.3f}", *counts))
    return rows


def stage_rows(times: HopTimes) -> list[tuple[str, ...]]:
    """Return the table of a series' stages, under STAGE_HEADS; `share` is of the mean hop time."""
    rows = []
    for stage, stage_ms in times.stage_ms.items():
        figures = [f"{ms:.3f}" for ms in times.percentiles_ms(stage).values()]
        rows.append((stage, *figures, f"{100 * np.sum(stage_ms) / np.sum(times.times_ms):.1f} %"))
    return rows


def draw_bench(report: BenchReport, path_png: Path) -> None:
    """Write the histogram of all series of a report; the line is the shortest deadline.

    Raises: OutputError for what the disk refuses.
    """
    series = {times.name: np.array(times.times_ms) for times in report.series}
    pace = "in real time" if report.is_paced else "one upon the other"
    hop_histogram(
        path_png, series, min(t.deadline_ms for t in report.series), f"Hops {pace}, {report.machine}"
    )
