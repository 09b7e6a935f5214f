"""The worker process: waits for a hop, separates it, puts its stems where the callback looks for them."""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..models.stems import MODEL_RATE_HZ, N_STEMS
from .atomics import load, store
from .block import (
    ACTIVE_WORKER,
    DELAY_SAMPLES,
    EPOCH,
    FADE_SAMPLES,
    FAULT,
    FAULT_NAN,
    FAULT_NONE,
    FAULT_RAISE,
    FAULT_SLOW,
    HANDED_OVER,
    HOP,
    HOP_TIMES_WRITTEN,
    IDLE,
    LARGEST_BLOCK,
    N_BAD_HOPS,
    N_HOP_TIMES,
    N_HOPS,
    N_SKIPPED_HOPS,
    NEVER,
    ORIGIN,
    POSITION,
    PREPARING,
    PUT_FROM,
    PUT_UNTIL,
    RATE_HZ,
    READY,
    RING_SAMPLES,
    SHUTDOWN_ALL,
    WORKER_EPOCH,
    WORKER_HEARTBEAT_NS,
    WORKER_PHASE,
    WORKER_POSITION,
    WORKER_REALTIME,
    WORKER_SHIFT,
    Block,
    Geometry,
)
from .effects import Rack
from .heartbeat import begin_child, end_process, node_is_gone, realtime_priority
from .pipeline import Pipeline, Separator, grid_hop
from .rack_thread import EffectSettings, WorkerEffects
from .ring import put_slot, take
from .runner_choice import choose_runner

MAX_LAG_HOPS = 16
"""Behind by more, the worker jumps to the newest hop; by less, it catches up and keeps its memory."""

RATE_LIMIT_S = 1.0
"""Devices that take longer to answer have their chains built again at their rate."""

WAIT_S = 0.1
"""The semaphore's time-out: the heartbeat's period where no sound comes."""

STANDBY_POLL_S = 0.001
"""How often a worker that is not in charge yet looks for a hop."""

SWITCH_S = 0.0001
"""How long the hop loop waits for the thread that builds chains to give up the interpreter, whenever it
comes back from a kernel: with 0.0005 forty calls took 14 ms in place of 3.4 while a plugin was loaded."""

SLOW_FACTOR = 10.0
"""Hops of hop time that the fault FAULT_SLOW adds."""


class HasRack(Protocol):
    """Where the hop loop gets the effects of a stream from."""

    def rack_at(self, rate_hz: int) -> Rack: ...


class HopLoop:
    """Takes whole hops from the input ring and puts their stems into the slots.

    A new stream, a jump and a sample that is not finite begin with fresh memory at a border of the
    separator's hops; until stems come from there the callback plays dry.

    effects: the chains that the stems go through before the slots; None: none.
    which: its set of words in the block, as two may run while the profile changes. Each then puts what lies
    within its PUT_FROM and PUT_UNTIL: the next one listens before its time, so that its memory is warm, and
    its first hop is cross-faded from what the ending one left for that.  Thread: the worker.
    """

    def __init__(
        self, block: Block, separator: Separator, which: int = 0, effects: HasRack | None = None
    ) -> None:
        self._block, self._separator, self._effects = block, separator, effects
        self._which, self._at = which, which * WORKER_SHIFT
        self._hop = int(block.words[HOP])
        self._x = np.empty((2, self._hop), np.float32)
        self._epoch = -1
        self._spare: Pipeline | None = None
        self.finished = False
        """Whether the next worker has all that is left to do."""
        self._begin(0)

    def _begin(self, position: int) -> None:
        """Go on at `position` or the next border with fresh memory, made in an idle moment: it takes long."""
        w = self._block.words
        spare, self._spare = self._spare, None
        rate_hz = int(w[RATE_HZ]) or MODEL_RATE_HZ
        self._pipeline = spare if spare and spare.rate_hz == rate_hz else self._fresh(rate_hz)
        self._grid = grid_hop(self._separator.hop, rate_hz, self._hop)
        origin = int(w[ORIGIN])
        position = origin - (origin - position) // self._grid * self._grid  # rounds up
        self._taken = self._put = position
        self._waiting = np.empty((N_STEMS, 2, 0), np.float32)
        self._rack = self._effects.rack_at(rate_hz) if self._effects else None
        self._first: tuple[int, np.ndarray] | None = None
        store(w, self._at + WORKER_POSITION, position)

    def _fresh(self, rate_hz: int) -> Pipeline:
        return Pipeline(self._separator, rate_hz=rate_hz, n_channels=2, live=True)

    def poll(self) -> int:
        """Return how many hops were taken: all that are whole now."""
        n = 0
        while not self.finished and self._next():
            n += 1
        self._put_first()
        if self._spare is None and not n:
            self._spare = self._fresh(self._pipeline.rate_hz)
        return n

    def _next(self) -> bool:
        w = self._block.words
        epoch = load(w, EPOCH)
        if epoch != self._epoch:
            joins = self._epoch < 0 and load(w, PUT_FROM + 2 * self._which) == NEVER
            self._epoch = epoch
            self._begin(load(w, POSITION) if joins else int(w[ORIGIN]))
            store(w, self._at + WORKER_EPOCH, epoch)
        lag = load(w, POSITION) - self._taken
        if lag < self._hop:
            return False
        if lag > min(MAX_LAG_HOPS * self._grid, int(w[RING_SAMPLES]) // 2):
            self._jump(lag // self._hop - 1)
        if not take(w, POSITION, self._block.ring, self._taken, self._x):
            if load(w, POSITION) - self._taken < self._hop:  # a jump to a border that is still to come
                return False
            self._jump(1)
            return True
        started = time.perf_counter()
        separated = self._pipeline.n_separated
        stems = self._pipeline.push(self._x)
        stems = _with_fault(stems, int(w[FAULT]), self._hop / (int(w[RATE_HZ]) or MODEL_RATE_HZ))
        self._taken += self._hop
        if np.isfinite(stems).all():
            self._emit(stems)
        else:
            w[self._at + N_BAD_HOPS] += 1
            self._begin(self._taken)
        if self._pipeline.n_separated != separated:
            self._count(started)
        store(w, self._at + WORKER_POSITION, self._taken)
        return True

    def _jump(self, n_hops: int) -> None:
        before = self._taken
        self._begin(before + n_hops * self._hop)
        self._block.words[self._at + N_SKIPPED_HOPS] += (self._taken - before) // self._hop

    def _emit(self, stems: np.ndarray) -> None:
        if self._waiting.shape[2]:
            stems = np.concatenate([self._waiting, stems], axis=2)
        whole = stems.shape[2] // self._hop * self._hop
        for start in range(0, whole, self._hop):
            hop = np.ascontiguousarray(stems[:, :, start : start + self._hop])
            for ready in self._rack.push(hop) if self._rack else (hop,):
                self._give(self._put, ready)
                self._put += self._hop
        self._waiting = stems[:, :, whole:]

    def _give(self, stamp: int, stems: np.ndarray) -> None:
        """Put the stems of a hop, unless the other worker does, or leave them for it to fade from."""
        w = self._block.words
        first, stop = (load(w, index + 2 * self._which) for index in (PUT_FROM, PUT_UNTIL))
        if stamp >= stop:
            if stamp == stop and not self.finished:
                self._block.handover[:] = stems
                store(w, self._at + HANDED_OVER, stamp)
            self.finished = True
        elif stamp == first:
            self._first = stamp, stems
            self._put_first()
        elif stamp > first:
            put_slot(self._block.stamps, self._block.slots, stamp, stems)

    def _put_first(self) -> None:
        """Put the first hop of a hand-over, faded from the other worker's; alone once it is wanted."""
        if self._first is None:
            return
        w = self._block.words
        stamp, stems = self._first
        if load(w, (1 - self._which) * WORKER_SHIFT + HANDED_OVER) == stamp:
            share = ((np.arange(self._hop) + 0.5) / self._hop).astype(np.float32)
            before = self._block.handover
            stems = before + share * (stems - before)
        else:
            wanted = stamp + int(w[DELAY_SAMPLES]) - FADE_SAMPLES
            is_wanted = load(w, POSITION) + int(w[LARGEST_BLOCK]) > wanted
            if not is_wanted and load(w, ACTIVE_WORKER) != self._which:
                return
        put_slot(self._block.stamps, self._block.slots, stamp, stems)
        self._first = None

    def _count(self, started: float) -> None:
        w = self._block.words
        if load(w, ACTIVE_WORKER) == self._which:
            n = int(w[HOP_TIMES_WRITTEN])
            self._block.hop_times_us[n % N_HOP_TIMES] = (time.perf_counter() - started) * 1e6
            store(w, HOP_TIMES_WRITTEN, n + 1)
        store(w, self._at + WORKER_HEARTBEAT_NS, time.monotonic_ns())
        w[self._at + N_HOPS] += 1


def _with_fault(stems: np.ndarray, fault: int, hop_s: float) -> np.ndarray:
    """Return the stems, spoilt as `stemrack soak` and the tests ask for."""
    if fault == FAULT_NONE:
        return stems
    if fault == FAULT_RAISE:
        raise RuntimeError("a fault that was asked for")
    if fault == FAULT_SLOW:
        time.sleep(SLOW_FACTOR * hop_s)
    return stems * np.float32(np.nan) if fault == FAULT_NAN else stems


CHOSEN = "runner"
"""What a worker's first words begin with: the runner it took, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker process separates with; `load` gives the separator and must pickle.

    runner: the one that was asked for, where `load` has a choice between CUDA and the CPU. on_cpu: what to
    load in place of it once CUDA has failed.  effects: the chains to begin with.
    """

    load: Callable[[], Separator]
    realtime: bool = True
    runner: str = ""
    on_cpu: Callable[[], Separator] | None = None
    effects: EffectSettings = EffectSettings()  # noqa: RUF009  frozen


def load_from_profile(profile: str, runner: str, weights: Path | None, n_threads: int) -> Separator:
    """Return the separator of a profile; imported only here, in the worker."""
    from .separate import load_separator

    return load_separator(profile, runner, weights, n_threads=n_threads)


def run_worker(
    raw: Any, geometry: Geometry, semaphore: Any, settings: WorkerSettings, which: int = 0, pipe: Any = None
) -> None:
    """Be the worker until the node asks for the end or is gone.  Process: its own; never returns."""
    begin_child()
    block = Block(raw, geometry)

    def end_of_thread(failed: threading.ExceptHookArgs) -> None:
        """A worker without the thread that builds its chains is none: the next one has both."""
        block.say(2 * which, f"{failed.exc_type.__name__}: {failed.exc_value}")
        traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
        end_process(1)

    threading.excepthook = end_of_thread
    try:
        _prepare(block, settings, semaphore, which, pipe)
    finally:
        if sys.exc_info()[0] is not None:
            block.say(2 * which, traceback.format_exc().strip().splitlines()[-1])
            print(traceback.format_exc(), file=sys.stderr, flush=True)
        end_process(1 if sys.exc_info()[0] is not None else 0)


def _prepare(block: Block, settings: WorkerSettings, semaphore: Any, which: int, pipe: Any) -> None:
    w, at = block.words, which * WORKER_SHIFT
    store(w, at + WORKER_PHASE, PREPARING)
    store(w, at + WORKER_HEARTBEAT_NS, time.monotonic_ns())
    joins = load(w, ACTIVE_WORKER) != which
    if not joins:  # first of all: the threads that an inference engine starts inherit the priority
        w[at + WORKER_REALTIME] = int(settings.realtime and realtime_priority())
    if settings.runner:  # told before loading, so that the node knows what failed
        block.say(2 * which, "{} {}: {}".format(CHOSEN, *choose_runner(settings.runner)))
    separator = settings.load()
    warm_up(separator)
    rate_hz = _rate_hz(block, waits=bool(settings.effects.chains))
    effects = WorkerEffects(block, which, int(w[HOP]), rate_hz, settings.effects, pipe)
    loop = HopLoop(block, separator, which, effects)
    gc.collect()
    gc.freeze()  # what is loaded stays: a full collection in the middle of a hop would look at all of it
    if joins:  # only now: loading must not take the processor from the worker in charge
        w[at + WORKER_REALTIME] = int(settings.realtime and realtime_priority(of_all_threads=True))
    store(w, at + WORKER_HEARTBEAT_NS, time.monotonic_ns())
    sys.setswitchinterval(SWITCH_S)
    effects.start()
    store(w, at + WORKER_PHASE, READY)
    while not loop.finished and not node_is_gone(block, SHUTDOWN_ALL):
        if load(w, ACTIVE_WORKER) == which:
            semaphore.acquire(timeout=WAIT_S)
        else:  # the semaphore wakes the other one
            time.sleep(STANDBY_POLL_S)
        store(w, at + WORKER_HEARTBEAT_NS, time.monotonic_ns())
        loop.poll()
    store(w, at + WORKER_PHASE, IDLE)


def _rate_hz(block: Block, *, waits: bool) -> int:
    """Return the rate of the stream to come; waits: until the node, which asks the devices, knows it."""
    stop = time.monotonic() + (RATE_LIMIT_S if waits else 0.0)
    while (
        load(block.words, RATE_HZ) == 0 and time.monotonic() < stop and not node_is_gone(block, SHUTDOWN_ALL)
    ):
        time.sleep(0.005)
    return load(block.words, RATE_HZ) or MODEL_RATE_HZ


def warm_up(separator: Separator, n_hops: int = 8) -> None:
    """Run a few hops of noise, so that compiling and first allocations are over before sound comes."""
    pipeline = Pipeline(separator, rate_hz=MODEL_RATE_HZ, n_channels=2, live=True)
    noise = np.random.default_rng(1).standard_normal((2, separator.hop)).astype(np.float32) * np.float32(0.1)
    for _ in range(n_hops):
        pipeline.push(noise)
    scratch = np.zeros((N_STEMS, 2, separator.hop), np.float32)
    put_slot(np.full(1, -1), np.zeros((1, *scratch.shape), np.float32), 0, scratch)
    take(np.zeros(256, np.int64), 0, np.zeros((2, 1024), np.float32), 0, scratch[0])
