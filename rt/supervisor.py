"""Starts the audio process and the worker, watches them, and starts them again when they hang or die."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import SpawnContext
from typing import Any, Literal

from .atomics import load, store
from .audio import DeviceChoice, Resolved, run_audio
from .block import (
    AUDIO_HEARTBEAT_NS,
    AUDIO_PHASE,
    CAPTURE_WRITE,
    IDLE,
    INPUT_FROM_CAPTURE,
    N_CALLBACKS,
    NODE_HEARTBEAT_NS,
    READY,
    SHUTDOWN,
    SHUTDOWN_ALL,
    SHUTDOWN_AUDIO,
    WORKER_HEARTBEAT_NS,
    WORKER_PHASE,
    Block,
)
from .errors import EngineStateError
from .heartbeat import LIMIT_S, age_s, beat
from .stream import StreamPlan
from .worker import WorkerSettings, run_worker

MAX_DEATHS = 5
"""A worker that dies so often in a row is left dead: the node plays dry."""
HEALTHY_S = 10.0
"""Life after which earlier deaths are forgotten."""
BACKOFF_S = (0.0, 0.25, 0.5, 1.0, 2.0)
PREPARE_LIMIT_S = 180.0
"""A worker that loads may take long: the first export of a network is part of it."""
AUDIO_LIMIT_S = 5.0
"""The audio process may be opening a device, which takes seconds on some systems."""
CEASED_S = 0.8
"""A stream without a callback for so long has lost its device."""
REAP_S = 1.0

WorkerState = Literal["starting", "ready", "restarting", "failed"]
AudioState = Literal["starting", "idle", "opening", "running", "waiting", "stopping"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person would want to know: what, when (monotonic seconds), and its facts."""

    kind: str
    at_s: float
    facts: dict[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


class _Child:
    """A process that is spawned, watched and, if need be, killed."""

    def __init__(self, spawn: Callable[[], Any]) -> None:
        self._spawn = spawn
        self.process: Any = None
        self.spawned_s = 0.0

    def start(self) -> None:
        self.process = self._spawn()
        self.process.start()
        self.spawned_s = time.monotonic()

    @property
    def pid(self) -> int | None:
        process = self.process  # another thread may bury it meanwhile
        return process.pid if process is not None else None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def kill(self) -> int | None:
        """Return the exit code once the process is gone and reaped; None: it hangs in the system still."""
        if self.process is None:
            return None
        self.process.kill()
        self.process.join(REAP_S)
        code = self.process.exitcode
        if code is not None:
            self.process.close()
            self.process = None
        return code

    def end(self, timeout_s: float) -> None:
        """Wait for a process that was asked to end, then make sure."""
        if self.process is not None:
            self.process.join(timeout_s)
            self.kill()


class WorkerWatch:
    """The worker's life.  Thread: the supervisor's."""

    def __init__(
        self, block: Block, context: SpawnContext, semaphore: Any, settings: WorkerSettings, on_event: OnEvent
    ) -> None:
        self._block, self._on_event = block, on_event
        arguments = (block.raw, block.geometry, semaphore, settings)
        self._child = _Child(
            lambda: context.Process(target=run_worker, args=arguments, name="stemrack-worker", daemon=True)
        )
        self.state: WorkerState = "starting"
        self.n_deaths = 0
        self.n_restarts = 0
        self._in_a_row = 0
        self._next_start_s = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._child.pid

    def start(self) -> None:
        """Spawn the worker."""
        self._block.say(0, "")
        store(self._block.words, WORKER_PHASE, IDLE)
        beat(self._block, WORKER_HEARTBEAT_NS)
        self._child.start()
        self.state = "starting"

    def tick(self) -> None:
        """Look at the worker once and do what is needed."""
        if self.state == "failed":
            return
        if self._child.process is None:
            if time.monotonic() >= self._next_start_s:
                self.n_restarts += 1
                self.start()
            return
        if self.state == "restarting":  # killed, but a driver holds it: two workers must never write one slot
            self._child.kill()
            return
        phase = load(self._block.words, WORKER_PHASE)
        if not self._child.is_alive:
            self._bury("ended")
        elif age_s(self._block, WORKER_HEARTBEAT_NS) > (LIMIT_S if phase == READY else PREPARE_LIMIT_S):
            self._bury("gave no sign of life")
        elif phase == READY and self.state != "ready":
            self.state = "ready"
            taken_s = time.monotonic() - self._child.spawned_s
            self._on_event(Event("worker-ready", time.monotonic(), {"after_s": round(taken_s, 2)}))
        elif self._in_a_row and time.monotonic() - self._child.spawned_s > HEALTHY_S:
            self._in_a_row = 0

    def _bury(self, why: str) -> None:
        code = self._child.kill()
        self.n_deaths += 1
        self._in_a_row += 1
        facts = {"why": why, "exit_code": code, "said": self._block.said(0), "in_a_row": self._in_a_row}
        self._on_event(Event("worker-died", time.monotonic(), facts))
        if self._in_a_row >= MAX_DEATHS:
            self.state = "failed"
            self._on_event(Event("running-dry", time.monotonic(), {"said": self._block.said(0)}))
            return
        self.state = "restarting"
        self._next_start_s = time.monotonic() + BACKOFF_S[min(self._in_a_row, len(BACKOFF_S)) - 1]

    def revive(self) -> None:
        """Start a worker that was given up, or replace the one there is."""
        self._child.kill()
        self._in_a_row, self._next_start_s = 0, 0.0
        self.state = "restarting"

    def end(self) -> None:
        """Make sure that the worker is gone."""
        self._child.end(REAP_S)


class AudioWatch:
    """The audio process's life, and its stream's.  Thread: the supervisor's."""

    def __init__(self, block: Block, context: SpawnContext, semaphore: Any, on_event: OnEvent) -> None:
        self._block, self._context, self._semaphore = block, context, semaphore
        self._on_event = on_event
        self._child = _Child(self._make)
        self._pipe: Any = None
        self._theirs: Any = None
        self.state: AudioState = "starting"
        self.resolved: Resolved | None = None
        self.surveyed: tuple[int, int] | None = None
        self.error: str | None = None
        self.reported_latency_ms: Any = None
        self.n_restarts = 0
        self._open: tuple[DeviceChoice, StreamPlan] | None = None
        self._seen: tuple[int, int] = (0, 0)
        self._seen_s = 0.0

    def _make(self) -> Any:
        self._pipe, self._theirs = self._context.Pipe()
        arguments = (self._block.raw, self._block.geometry, self._semaphore, self._theirs)
        return self._context.Process(target=run_audio, args=arguments, name="stemrack-audio", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._child.pid

    def start(self) -> None:
        """Spawn the audio process."""
        self._block.say(1, "")
        store(self._block.words, AUDIO_PHASE, IDLE)
        beat(self._block, AUDIO_HEARTBEAT_NS)
        self._child.start()
        self._theirs.close()  # so that a dead process is seen as the end of the pipe
        self.state = "starting"

    def tell(self, order: str, *given: Any) -> None:
        """Send an order to the audio process; its answer comes by `tick`."""
        self.error = self.surveyed = None
        self._pipe.send((order, *given))
        if order == "resolve":
            self.resolved = None
        elif order == "open":
            self._open = (given[0], given[1])
            self.state = "opening"
        elif order == "stop":
            self._open = None
            self.state = "stopping"

    def tick(self) -> None:
        """Hear answers, and look whether process and callbacks are alive."""
        if self._child.process is None:
            return
        try:
            while self._pipe.poll():
                self._hear(*self._pipe.recv())
        except (EOFError, ConnectionError):
            pass  # it has died: seen below
        if not self._child.is_alive:
            self._again("process-died", {"said": self._block.said(1)})
        elif age_s(self._block, AUDIO_HEARTBEAT_NS) > self._limit_s:
            self._again("process-hung", {})
        elif self.state == "running":
            self._watch_callbacks()
        elif self.state == "starting" and load(self._block.words, AUDIO_PHASE) == READY:
            self.state = "idle"

    @property
    def _limit_s(self) -> float:
        """A process that has not begun yet may be compiling its callback."""
        return AUDIO_LIMIT_S if load(self._block.words, AUDIO_PHASE) == READY else PREPARE_LIMIT_S

    def _hear(self, answer: str, given: Any) -> None:
        if answer == "resolved":
            self.resolved = given
        elif answer == "surveyed":
            self.surveyed = given
        elif answer == "opened":
            back = self.state == "waiting"
            self.state, self.reported_latency_ms = "running", given
            self._seen, self._seen_s = self._moved(), time.monotonic()
            self._on_event(Event("device-back" if back else "stream-opened", time.monotonic()))
        elif answer == "stopped":
            self.state = "idle"
        elif answer == "failed":
            self.error, self.state = given, "idle"

    def _moved(self) -> tuple[int, int]:
        w = self._block.words
        captured = bool(self._open) and self._open[1].input_source == INPUT_FROM_CAPTURE
        return load(w, N_CALLBACKS), load(w, CAPTURE_WRITE) if captured else 0

    def _watch_callbacks(self) -> None:
        now, moved = time.monotonic(), self._moved()
        captured = bool(self._open) and self._open[1].input_source == INPUT_FROM_CAPTURE
        if moved[0] != self._seen[0] and (not captured or moved[1] != self._seen[1]):
            self._seen, self._seen_s = moved, now
        elif now - self._seen_s > CEASED_S:
            self._again("device-lost", {"silent_s": round(now - self._seen_s, 2)})

    def _again(self, kind: str, facts: dict[str, Any]) -> None:
        """Kill the process, spawn a new one, and have it wait for the devices of the stream that was open."""
        before = self._open
        code = self._child.kill()
        self._child.process = (
            None  # one that hangs in a driver is left to the system: it holds nothing of ours
        )
        self._pipe.close()
        self._on_event(Event(kind, time.monotonic(), facts | {"exit_code": code}))
        self.n_restarts += 1
        self.start()
        if before:
            self._pipe.send(("wait", *before))
            self.state = "waiting"

    def end(self) -> None:
        """Make sure that the process is gone; it fades out first if its device is alive."""
        if self._child.process is not None:
            self._child.end(REAP_S)
            self._pipe.close()


class Supervisor:
    """Both children of a node.  Thread: one calls everything; `tick` at least every LIMIT_S / 4."""

    def __init__(
        self, block: Block, context: SpawnContext, settings: WorkerSettings, on_event: OnEvent
    ) -> None:
        self._block = block
        semaphore = context.Semaphore(0)
        beat(block, NODE_HEARTBEAT_NS)
        self.worker = WorkerWatch(block, context, semaphore, settings, on_event)
        self.audio = AudioWatch(block, context, semaphore, on_event)

    def start(self) -> None:
        """Spawn both."""
        beat(self._block, NODE_HEARTBEAT_NS)
        self.worker.start()
        self.audio.start()

    def tick(self) -> None:
        """Give the node's sign of life, then look after both."""
        beat(self._block, NODE_HEARTBEAT_NS)
        self.worker.tick()
        self.audio.tick()

    def end(self) -> None:
        """Have both end: the audio process fades out, both are killed if they do not go."""
        store(self._block.words, SHUTDOWN, SHUTDOWN_AUDIO)
        self.audio.end()
        store(self._block.words, SHUTDOWN, SHUTDOWN_ALL)
        self.worker.end()


def wait_until(
    done: Callable[[], bool], tick: Callable[[], None], timeout_s: float, what: str, period_s: float = 0.005
) -> None:
    """Tick until `done`.  Raises: EngineStateError when that takes longer than `timeout_s`."""
    stop = time.monotonic() + timeout_s
    while not done():
        tick()
        if time.monotonic() > stop:
            raise EngineStateError(f"{what} took more than {timeout_s:g} s")
        time.sleep(period_s)
