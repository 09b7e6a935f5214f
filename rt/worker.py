"""The worker process: waits for a hop, separates it, puts its stems where the callback looks for them."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..models.stems import MODEL_RATE_HZ, N_STEMS
from .atomics import load, store
from .block import (
    EPOCH,
    FAULT,
    FAULT_NAN,
    FAULT_NONE,
    FAULT_RAISE,
    FAULT_SLOW,
    HOP,
    HOP_TIMES_WRITTEN,
    N_BAD_HOPS,
    N_HOP_TIMES,
    N_HOPS,
    N_SKIPPED_HOPS,
    ORIGIN,
    POSITION,
    PREPARING,
    RATE_HZ,
    READY,
    RING_SAMPLES,
    SHUTDOWN_ALL,
    WORKER_EPOCH,
    WORKER_HEARTBEAT_NS,
    WORKER_PHASE,
    WORKER_POSITION,
    WORKER_REALTIME,
    Block,
    Geometry,
)
from .heartbeat import begin_child, end_process, node_is_gone, realtime_priority
from .pipeline import Pipeline, Separator
from .ring import put_slot, take

MAX_LAG_HOPS = 16
"""Behind by more, the worker jumps to the newest hop; by less, it catches up and keeps its memory."""

WAIT_S = 0.1
"""The semaphore's time-out: the heartbeat's period where no sound comes."""

SLOW_FACTOR = 10.0
"""Hops of hop time that the fault FAULT_SLOW adds."""


class HopLoop:
    """Takes whole hops from the input ring and puts their stems into the slots.

    A new stream, a jump and a sample that is not finite begin with fresh memory at a hop border; until stems
    come from there the callback plays dry.  Thread: the worker.
    """

    def __init__(self, block: Block, separator: Separator) -> None:
        self._block, self._separator = block, separator
        self._hop = int(block.words[HOP])
        self._x = np.empty((2, self._hop), np.float32)
        self._epoch = -1
        self._spare: Pipeline | None = None
        self._begin(0)

    def _begin(self, position: int) -> None:
        """Go on at `position` with fresh memory, made in an idle moment: that takes longer than a hop."""
        spare, self._spare = self._spare, None
        rate_hz = int(self._block.words[RATE_HZ]) or MODEL_RATE_HZ
        self._pipeline = spare if spare and spare.rate_hz == rate_hz else self._fresh(rate_hz)
        self._taken = self._put = position
        self._waiting = np.empty((N_STEMS, 2, 0), np.float32)
        store(self._block.words, WORKER_POSITION, position)

    def _fresh(self, rate_hz: int) -> Pipeline:
        return Pipeline(self._separator, rate_hz=rate_hz, n_channels=2, live=True)

    def poll(self) -> int:
        """Return how many hops were separated: all that are whole now."""
        n = 0
        while self._next():
            n += 1
        if self._spare is None and not n:
            self._spare = self._fresh(self._pipeline.rate_hz)
        return n

    def _next(self) -> bool:
        w = self._block.words
        epoch = load(w, EPOCH)
        if epoch != self._epoch:
            self._epoch = epoch
            self._begin(int(w[ORIGIN]))
            store(w, WORKER_EPOCH, epoch)
        lag = load(w, POSITION) - self._taken
        if lag < self._hop:
            return False
        if lag > min(MAX_LAG_HOPS * self._hop, int(w[RING_SAMPLES]) // 2):
            self._jump(lag // self._hop - 1)
        if not take(w, POSITION, self._block.ring, self._taken, self._x):
            self._jump(1)
            return True
        started = time.perf_counter()
        stems = self._pipeline.push(self._x)
        stems = _with_fault(stems, int(w[FAULT]), self._hop / (int(w[RATE_HZ]) or MODEL_RATE_HZ))
        self._taken += self._hop
        if np.isfinite(stems).all():
            self._emit(stems)
        else:
            w[N_BAD_HOPS] += 1
            self._begin(self._taken)
        self._count(started)
        store(w, WORKER_POSITION, self._taken)
        return True

    def _jump(self, n_hops: int) -> None:
        self._block.words[N_SKIPPED_HOPS] += n_hops
        self._begin(self._taken + n_hops * self._hop)

    def _emit(self, stems: np.ndarray) -> None:
        if self._waiting.shape[2]:
            stems = np.concatenate([self._waiting, stems], axis=2)
        whole = stems.shape[2] // self._hop * self._hop
        for start in range(0, whole, self._hop):
            hop = np.ascontiguousarray(stems[:, :, start : start + self._hop])
            put_slot(self._block.stamps, self._block.slots, self._put, hop)
            self._put += self._hop
        self._waiting = stems[:, :, whole:]

    def _count(self, started: float) -> None:
        w = self._block.words
        n = int(w[HOP_TIMES_WRITTEN])
        self._block.hop_times_us[n % N_HOP_TIMES] = (time.perf_counter() - started) * 1e6
        store(w, HOP_TIMES_WRITTEN, n + 1)
        store(w, WORKER_HEARTBEAT_NS, time.monotonic_ns())
        w[N_HOPS] += 1


def _with_fault(stems: np.ndarray, fault: int, hop_s: float) -> np.ndarray:
    """Return the stems, spoilt as `stemrack soak` and the tests ask for."""
    if fault == FAULT_NONE:
        return stems
    if fault == FAULT_RAISE:
        raise RuntimeError("a fault that was asked for")
    if fault == FAULT_SLOW:
        time.sleep(SLOW_FACTOR * hop_s)
    return stems * np.float32(np.nan) if fault == FAULT_NAN else stems


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker process separates with; `load` gives the separator and must pickle."""

    load: Callable[[], Separator]
    realtime: bool = True


def load_from_profile(profile: str, runner: str, weights: Path | None, n_threads: int) -> Separator:
    """Return the separator of a profile; imported only here, in the worker."""
    from .separate import load_separator

    return load_separator(profile, runner, weights, n_threads=n_threads)


def run_worker(raw: Any, geometry: Geometry, semaphore: Any, settings: WorkerSettings) -> None:
    """Be the worker until the node asks for the end or is gone.  Process: its own; never returns."""
    begin_child()
    block = Block(raw, geometry)
    try:
        _prepare(block, settings, semaphore)
    finally:
        if sys.exc_info()[0] is not None:
            block.say(0, traceback.format_exc().strip().splitlines()[-1])
            print(traceback.format_exc(), file=sys.stderr, flush=True)
        end_process(1 if sys.exc_info()[0] is not None else 0)


def _prepare(block: Block, settings: WorkerSettings, semaphore: Any) -> None:
    w = block.words
    store(w, WORKER_PHASE, PREPARING)
    store(w, WORKER_HEARTBEAT_NS, time.monotonic_ns())
    # First of all: the threads that an inference engine starts inherit the priority.
    w[WORKER_REALTIME] = int(settings.realtime and realtime_priority())
    separator = settings.load()
    warm_up(separator)
    loop = HopLoop(block, separator)
    gc.collect()
    gc.freeze()  # what is loaded stays: a full collection in the middle of a hop would look at all of it
    store(w, WORKER_HEARTBEAT_NS, time.monotonic_ns())
    store(w, WORKER_PHASE, READY)
    while not node_is_gone(block, SHUTDOWN_ALL):
        semaphore.acquire(timeout=WAIT_S)
        store(w, WORKER_HEARTBEAT_NS, time.monotonic_ns())
        loop.poll()


def warm_up(separator: Separator, n_hops: int = 8) -> None:
    """Run a few hops of noise, so that compiling and first allocations are over before sound comes."""
    pipeline = Pipeline(separator, rate_hz=MODEL_RATE_HZ, n_channels=2, live=True)
    noise = np.random.default_rng(1).standard_normal((2, separator.hop)).astype(np.float32) * np.float32(0.1)
    for _ in range(n_hops):
        pipeline.push(noise)
    scratch = np.zeros((N_STEMS, 2, separator.hop), np.float32)
    put_slot(np.full(1, -1), np.zeros((1, *scratch.shape), np.float32), 0, scratch)
    take(np.zeros(256, np.int64), 0, np.zeros((2, 1024), np.float32), 0, scratch[0])
