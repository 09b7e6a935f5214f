"""What effects cost: the time of each insert in a hop, in chains behind a separator or alone.

The chains are those of the live worker (`rt.effects.Rack`): an insert's time is all of it, with its dry path,
its dry/wet mix, and the second instance that hears along where a parameter is blended.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..models.stems import MODEL_RATE_HZ, N_STEMS
from ..rt.chains import Chains, new_insert
from ..rt.effect_table import EffectTable
from ..rt.preset_sound import HOP, PresetSound, rack_with

WARM_UP_HOPS = 16
"""Not measured: the first ones touch their memory for the first time."""
PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
INSERT_HEADS = ("", *(f"{name}, us" for name in PERCENTILES), "of a hop")
EFFECT_HEADS = (*INSERT_HEADS, "hops")
CONTROL = "control"
OWN_PROCESS_S = 60.0
"""A plugin has so long to start, and ten times the sound to go through it."""


class TimedChains:
    """The chains of a sound, with the time of every insert in every hop.

    Thread: one.
    """

    def __init__(
        self, sound: PresetSound, hop: int, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.hop_us = 1e6 * hop / MODEL_RATE_HZ
        self.times_us: dict[str, list[float]] = {
            f"{stem}/{insert.name}": [] for stem, chain in sound.chains for insert in chain
        }
        self.bypassed: dict[str, str] = {}
        """Inserts that could not be made, or were given up, and why: they cost nothing from then on."""
        self._hop, self._clock, self._sound = hop, clock, sound
        self._names = {0: ""}
        self._now, self._began = "", 0.0
        self._rack = rack_with(sound, MODEL_RATE_HZ, hop, tell=self._tell, on_insert=self._on_insert)
        self.forget(0)

    def push(self, stems: np.ndarray) -> None:
        """Take stems, (stem, 2, whole hops)."""
        for start in range(0, stems.shape[2], self._hop):
            for _ in self._rack.push(np.ascontiguousarray(stems[:, :, start : start + self._hop])):
                pass

    def forget(self, n: int) -> None:
        """Keep the first n hops only."""
        for kept in self.times_us.values():
            del kept[n:]

    def _tell(self, kind: str, stem: str, insert: str, why: str) -> None:
        if kind == "insert-bypassed":
            self.bypassed[f"{stem}/{insert}"] = why

    def _on_insert(self, number: int) -> None:
        now = self._clock()
        if self._now:
            self.times_us[self._now].append(1e6 * (now - self._began))
        if number not in self._names:
            stem, insert = self._sound.insert_at(number) or ("", None)
            self._names[number] = f"{stem}/{insert.name}" if insert else ""
        self._now, self._began = self._names[number], now


def percentiles_us(times_us: list[float]) -> dict[str, float]:
    """Return p50, p99, p99.9 and max."""
    values = np.percentile(times_us, list(PERCENTILES.values()))
    return dict(zip(PERCENTILES, map(float, values), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectCost:
    """The time of one effect alone. failed: why there is none."""

    key: str
    hop_us: float
    times_us: list[float] = field(default_factory=list)
    is_plugin: bool = False
    failed: str = ""

    @property
    def share(self) -> float:
        """Mean time as a share of the hop."""
        return float(np.mean(self.times_us)) / self.hop_us if self.times_us else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: figures, not every time."""
        plain: dict[str, Any] = {"effect": self.key, "plugin": self.is_plugin, "n_hops": len(self.times_us)}
        if self.failed:
            return plain | {"failed": self.failed}
        return plain | {"insert_us": percentiles_us(self.times_us), "share": self.share}


def effect_costs(
    table: EffectTable,
    seconds: float,
    source: np.ndarray,
    *,
    impulses: Mapping[str, Path],
    clock: Callable[[], float] = time.perf_counter,
    on_progress: Callable[[str, float], None] | None = None,
) -> list[EffectCost]:
    """Return what each effect costs alone, at its defaults, over so many seconds; the dearest first.

    Last comes a control, which spins for the time of a typical one: what it shows beyond its median is the
    machine.
    source: (2, sample), heard again and again.  A plugin runs in a process of its own: it may take it down.
    on_progress: called with an effect and the seconds of its sound that are done.
    Raises: ValueError for less than a hop.
    """
    if seconds * MODEL_RATE_HZ < HOP or source.shape[1] < HOP:
        raise ValueError(f"{seconds:g} s of {source.shape} is less than a hop")
    costs = []
    for effect in table:
        if on_progress:
            on_progress(effect.key, 0.0)
        if effect.plugin:
            costs.append(_in_own_process(effect.key, table, seconds, source, impulses))
        else:
            costs.append(effect_cost(effect.key, table, seconds, source, impulses, clock))
        if on_progress:
            on_progress(effect.key, seconds)
    costs.sort(key=lambda cost: -float(np.median(cost.times_us or [0.0])))
    medians = [float(np.median(cost.times_us)) for cost in costs if cost.times_us]
    return [*costs, _control(float(np.median(medians or [0.0])), seconds, clock)]


def effect_cost(
    key: str,
    table: EffectTable,
    seconds: float,
    source: np.ndarray,
    impulses: Mapping[str, Path],
    clock: Callable[[], float] = time.perf_counter,
) -> EffectCost:
    """Return what one effect costs alone, at its defaults."""
    chains = Chains(vocals=(new_insert(table, key),))
    timed = TimedChains(PresetSound(chains=chains, table=table, impulses=impulses), HOP, clock=clock)
    cost = EffectCost(key=key, hop_us=timed.hop_us, is_plugin=bool(table[key].plugin))
    if timed.bypassed:
        return replace(cost, failed=next(iter(timed.bypassed.values())))
    stems = np.zeros((N_STEMS, 2, HOP), np.float32)
    n_source = source.shape[1] // HOP
    for n in range(WARM_UP_HOPS + round(seconds * MODEL_RATE_HZ / HOP)):
        if n == WARM_UP_HOPS:
            timed.forget(0)
        start = n % n_source * HOP
        stems[-1] = source[:, start : start + HOP]
        timed.push(stems)
    failed = next(iter(timed.bypassed.values()), "")
    return replace(cost, failed=failed, times_us=[] if failed else next(iter(timed.times_us.values())))


def _control(spin_us: float, seconds: float, clock: Callable[[], float]) -> EffectCost:
    times_us = []
    for _ in range(round(seconds * MODEL_RATE_HZ / HOP)):
        began = now = clock()
        while now - began < 1e-6 * spin_us:
            now = clock()
        times_us.append(1e6 * (now - began))
    return EffectCost(key=CONTROL, hop_us=1e6 * HOP / MODEL_RATE_HZ, times_us=times_us)


def _in_own_process(
    key: str, table: EffectTable, seconds: float, source: np.ndarray, impulses: Mapping[str, Path]
) -> EffectCost:
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        found = pool.submit(effect_cost, key, table, seconds, source, impulses)
        return found.result(timeout=OWN_PROCESS_S + 10.0 * seconds)
    except (BrokenProcessPool, TimeoutError) as error:
        failed = "did not come back" if isinstance(error, TimeoutError) else "crashed"
        return EffectCost(key=key, hop_us=1e6 * HOP / MODEL_RATE_HZ, is_plugin=True, failed=failed)
    finally:
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()  # it may hang while it ends, in the plugin
        pool.shutdown(wait=True, cancel_futures=True)


def insert_rows(times_us: Mapping[str, list[float]], hop_us: float) -> list[tuple[str, ...]]:
    """Return the table of inserts, under INSERT_HEADS; the share is that of the mean."""
    rows = []
    for name, times in times_us.items():
        figures = [f"{us:.0f}" for us in percentiles_us(times).values()]
        rows.append((name, *figures, f"{100 * np.mean(times) / hop_us:.2f} %"))
    return rows


def effect_rows(costs: list[EffectCost]) -> list[tuple[str, ...]]:
    """Return the table of effects, under EFFECT_HEADS, of those that have times."""
    rows = []
    for cost in costs:
        if cost.times_us:
            name = f"{cost.key} (plugin)" if cost.is_plugin else cost.key
            rows += [
                (*row, str(len(cost.times_us))) for row in insert_rows({name: cost.times_us}, cost.hop_us)
            ]
    return rows
