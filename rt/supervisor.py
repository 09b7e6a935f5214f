"""Starts the audio process and the worker, watches them, and starts them again when they hang or die."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, Literal

from .atomics import load, store
from .audio import DeviceChoice, Resolved, run_audio
from .block import (
    ACTIVE_WORKER,
    AUDIO_HEARTBEAT_NS,
    AUDIO_PHASE,
    CAPTURE_WRITE,
    IDLE,
    INPUT_FROM_CAPTURE,
    N_CALLBACKS,
    NEVER,
    NODE_HEARTBEAT_NS,
    PUT_FROM,
    PUT_UNTIL,
    READY,
    SHUTDOWN,
    SHUTDOWN_ALL,
    SHUTDOWN_AUDIO,
    WORKER_PHASE,
    WORKER_SHIFT,
    Block,
)
from .child import REAP_S, Child, Event, OnEvent, child_process
from .heartbeat import age_s, beat
from .rack_thread import EffectSettings
from .stream import StreamPlan
from .worker import WorkerSettings
from .worker_watch import PREPARE_LIMIT_S, WorkerWatch

AUDIO_LIMIT_S = 5.0
"""The audio process may be opening a device, which takes seconds on some systems."""
CEASED_S = 0.8
"""A stream without a callback for so long has lost its device."""
BEGIN_S = 4.0
"""The same before its first: PulseAudio holds streams up for a second that are opened right after a look."""

AudioState = Literal["starting", "idle", "opening", "running", "waiting", "stopping"]


class AudioWatch:
    """The audio process's life, and its stream's.  Thread: the supervisor's."""

    def __init__(self, block: Block, context: BaseContext, semaphore: Any, on_event: OnEvent) -> None:
        self._block, self._context, self._semaphore = block, context, semaphore
        self._on_event = on_event
        self._child = Child(self._make)
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
        self._before: tuple[int, int] = (0, 0)
        """Counts when the stream was asked for."""

    def _make(self) -> Any:
        self._pipe, self._theirs = self._context.Pipe()
        arguments = (self._block.raw, self._block.geometry, self._semaphore, self._theirs)
        return child_process(self._context, "stemrack-audio", run_audio, arguments)

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
        self._before = self._moved()
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

    def replan(self, plan: StreamPlan) -> None:
        """Have a stream that must be opened again have another delay: the callback has it by then."""
        if self._open:
            self._open = (self._open[0], plan)

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
        if self._differs(moved, self._seen):
            self._seen, self._seen_s = moved, now
        elif now - self._seen_s > (CEASED_S if self._differs(moved, self._before) else BEGIN_S):
            self._again("device-lost", {"silent_s": round(now - self._seen_s, 2)})

    def _differs(self, now: tuple[int, int], before: tuple[int, int]) -> bool:
        captured = bool(self._open) and self._open[1].input_source == INPUT_FROM_CAPTURE
        return now[0] != before[0] and (not captured or now[1] != before[1])

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
            self._before = self._moved()
            self._pipe.send(("wait", *before))
            self.state = "waiting"

    def end(self) -> None:
        """Make sure that the process is gone; it fades out first if its device is alive."""
        if self._child.process is not None:
            self._child.end(REAP_S)
            self._pipe.close()


class Supervisor:
    """The children of a node.  Thread: one calls everything; `tick` at least every LIMIT_S / 4.

    They are two, and a third while the profile changes: a worker on standby.
    effects, blame: see WorkerWatch.
    """

    def __init__(
        self,
        block: Block,
        context: BaseContext,
        settings: WorkerSettings,
        on_event: OnEvent,
        *,
        effects: Callable[[], EffectSettings] = EffectSettings,
        blame: Callable[[list[str], str], None] = lambda names, why: None,
    ) -> None:
        self._block = block
        semaphore = context.Semaphore(0)
        self._make = partial(WorkerWatch, block, context, semaphore, effects=effects, blame=blame)
        self._on_event = on_event
        beat(block, NODE_HEARTBEAT_NS)
        self.worker = self._make(settings, on_event)
        self.standby: WorkerWatch | None = None
        self.audio = AudioWatch(block, context, semaphore, on_event)

    def start(self) -> None:
        """Start both."""
        beat(self._block, NODE_HEARTBEAT_NS)
        self.worker.start()
        beat(self._block, NODE_HEARTBEAT_NS)  # the first start of all may take long: our code is compiled
        self.audio.start()

    def tick(self) -> None:
        """Give the node's sign of life, then look after them."""
        beat(self._block, NODE_HEARTBEAT_NS)
        self.worker.tick()
        if self.standby:
            self.standby.tick()
        self.audio.tick()

    def end(self) -> None:
        """Have both end: the audio process fades out, both are killed if they do not go."""
        store(self._block.words, SHUTDOWN, SHUTDOWN_AUDIO)
        self.audio.end()
        store(self._block.words, SHUTDOWN, SHUTDOWN_ALL)
        self.worker.end()
        self.drop_standby()

    def prepare(self, settings: WorkerSettings) -> WorkerWatch:
        """Spawn a worker that loads and listens, and puts no stems; returns its watch."""
        which = 1 - self.worker.which
        self._block.words[PUT_FROM + 2 * which] = self._block.words[PUT_UNTIL + 2 * which] = NEVER
        self.standby = self._make(settings, self._note_of_standby, which)
        self.standby.is_standby = True
        self.standby.start()
        return self.standby

    def _note_of_standby(self, event: Event) -> None:
        """Tell what is told of a worker once it is in charge: before, the switch tells."""
        if self.standby is None or not self.standby.is_standby:
            self._on_event(event)

    def drop_standby(self) -> None:
        """Kill the worker on standby."""
        if self.standby:
            self.standby.end(0.0)
            self._forget(self.standby.which)
            self.standby = None

    def _forget(self, which: int) -> None:
        """Say that a worker is gone, also where it died first: a virtual clock waits for those there are."""
        store(self._block.words, which * WORKER_SHIFT + WORKER_PHASE, IDLE)

    def promote(self) -> None:
        """Put the worker on standby in charge; the one before it is gone."""
        assert self.standby
        self.standby.follow(self.worker)
        self._forget(self.worker.which)
        self.worker, self.standby = self.standby, None
        store(self._block.words, ACTIVE_WORKER, self.worker.which)
