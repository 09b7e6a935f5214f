"""Another profile while the sound goes on: a second worker takes over at a hop, and the delay is faded.

The next worker is spawned beside the one in charge. It loads, warms up and listens to the same input, so that
its memory is warm. Then both learn the position p where it takes over: the one puts the stems of hops before
p and ends, the other those from p on, the first faded from what the first one had for it (`worker.HopLoop`).
The callback fades from the old delay to the new one (`delay`), where both its paths find stems.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .atomics import load, store
from .block import (
    DELAY_BEGIN,
    DELAY_FADE_SAMPLES,
    DELAY_SAMPLES,
    FADE_SAMPLES,
    HOP,
    N_SKIPPED_HOPS,
    NEXT_DELAY,
    ORIGIN,
    POSITION,
    PUT_FROM,
    PUT_UNTIL,
    RATE_HZ,
    WORKER_POSITION,
    WORKER_SHIFT,
    Block,
)
from .errors import EngineStateError
from .stream import StreamPlan
from .supervisor import Supervisor, WorkerWatch
from .worker import WorkerSettings

WARM_S = 2.0
"""Sound that the next worker hears before it takes over."""
LEAD_S = 0.05
"""From the decision to the hand-over: more than the fade takes, and the node thread may be held up."""
WARM_TRIES = 3
"""Of as much sound without a skipped hop: one hop may be the machine's fault, three times one is not."""
WARM_LIMIT_S = 20.0
SETTLE_LIMIT_S = 10.0
"""After that the old worker is gone and a stream that stands still is left to its own restart."""
PERIOD_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """What was planned: input position of the first hop of the next worker, and the change of delay."""

    position: int
    delay_samples: int
    begin: int
    """Output position where the delay begins to change."""


def plan_hand_over(block: Block, which: int, delay_samples: int) -> HandOver:
    """Return the hand-over to worker `which`, after telling both workers and the callback of it.

    Two workers never write one slot: the present one is stopped first, before it can have come so far.
    """
    w = block.words
    hop, lead = int(w[HOP]), round(LEAD_S * int(w[RATE_HZ])) + DELAY_FADE_SAMPLES + FADE_SAMPLES
    position = _border(w, load(w, POSITION) + lead, hop)
    store(w, PUT_UNTIL + 2 * (1 - which), position)
    while load(w, POSITION) >= position:  # this thread was held up for that long
        lead *= 2
        position = _border(w, load(w, POSITION) + lead, hop)
        store(w, PUT_UNTIL + 2 * (1 - which), position)
    store(w, PUT_FROM + 2 * which, position)
    before = int(w[DELAY_SAMPLES])
    begin = position + before
    if delay_samples > before:  # both paths read what the present worker puts
        begin -= DELAY_FADE_SAMPLES + FADE_SAMPLES
    store(w, DELAY_BEGIN, begin)
    store(w, NEXT_DELAY, delay_samples)
    return HandOver(position=position, delay_samples=delay_samples, begin=begin)


def _border(words: np.ndarray, position: int, hop: int) -> int:
    origin = int(words[ORIGIN])
    return origin - (origin - position) // hop * hop


class ProfileSwitch:
    """One change of profile; lock: the supervisor's.  Thread: any but that which ticks the supervisor."""

    def __init__(
        self, block: Block, supervisor: Supervisor, lock: threading.RLock, ending: threading.Event
    ) -> None:
        self._block, self._supervisor, self._lock, self._ending = block, supervisor, lock, ending

    def prepare(self, settings: WorkerSettings, plan: StreamPlan, limit_s: float) -> WorkerWatch:
        """Start the next worker, let it listen, and return its watch.

        Raises: EngineStateError if it dies, is too slow or has no room; nothing has changed then.
        """
        w = self._block.words
        room = self._block.delay_room
        if plan.delay_samples > room:
            said = f"its delay of {plan.delay_samples} samples has no room in this node, which has {room}"
            raise EngineStateError(f"{said}: start the node with it")
        with self._lock:
            if self._ending.is_set():
                raise EngineStateError("the node is stopping")
            next_worker = self._supervisor.prepare(settings)
        self._wait(lambda: next_worker.state == "ready", limit_s, "loading it", next_worker)
        at = next_worker.which * WORKER_SHIFT
        for _ in range(WARM_TRIES):
            skipped = int(w[at + N_SKIPPED_HOPS])
            heard = load(w, POSITION) + round(WARM_S * int(w[RATE_HZ]))
            self._wait(
                lambda heard=heard: load(w, at + WORKER_POSITION) >= heard,
                WARM_LIMIT_S,
                "listening to the sound",
                next_worker,
            )
            if int(w[at + N_SKIPPED_HOPS]) == skipped:
                return next_worker
        raise EngineStateError("it cannot keep up with the sound beside the present profile")

    def commit(self, plan: StreamPlan) -> HandOver:
        """Have the next worker take over.  Thread: holds the lock.  Raises: EngineStateError."""
        next_worker = self._supervisor.standby
        if next_worker is None or next_worker.state != "ready":
            raise EngineStateError("its worker has just died")
        if self._supervisor.audio.state != "running":
            raise EngineStateError("the stream has stopped meanwhile: try again when it runs")
        next_worker.is_standby = False
        self._supervisor.audio.replan(plan)
        self._supervisor.worker.retire()
        return plan_hand_over(self._block, next_worker.which, plan.delay_samples)

    def settle(self, done: HandOver) -> None:
        """Wait until the old worker is gone and the delay is the new one; never raises: it cannot go back."""
        w, supervisor = self._block.words, self._supervisor
        stop = time.monotonic() + SETTLE_LIMIT_S
        while not self._ending.wait(PERIOD_S) and time.monotonic() < stop:
            with self._lock:
                if supervisor.standby and supervisor.worker.state == "retired":
                    supervisor.promote()
            if not supervisor.standby and load(w, DELAY_SAMPLES) == done.delay_samples:
                return

    def drop(self) -> None:
        """Kill the next worker: the present one goes on."""
        with self._lock:
            self._supervisor.drop_standby()

    def _wait(self, done: Callable[[], bool], limit_s: float, what: str, worker: WorkerWatch) -> None:
        stop = time.monotonic() + limit_s
        while not done():
            if worker.state == "failed":
                raise EngineStateError(f"its worker died, saying: {worker.said or 'nothing'}")
            if time.monotonic() > stop:
                raise EngineStateError(f"{what} took more than {limit_s:g} s")
            if self._ending.wait(PERIOD_S):
                raise EngineStateError("the node is stopping")
