"""Starts the audio process and the worker, watches them, and starts them again when they hang or die."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from multiprocessing.context import SpawnContext
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
    WORKER_HEARTBEAT_NS,
    WORKER_PHASE,
    WORKER_SHIFT,
    Block,
)
from .child import REAP_S, Child, Event, OnEvent
from .heartbeat import LIMIT_S, age_s, beat
from .runner_choice import RunnerPlan
from .stream import StreamPlan
from .worker import CHOSEN, WorkerSettings, run_worker

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
RETIRE_LIMIT_S = 5.0
"""A worker that hands over must be gone by then: stems wait for less than a second."""

HUNG = "gave no sign of life"

WorkerState = Literal["starting", "ready", "restarting", "failed", "retiring", "retired"]
AudioState = Literal["starting", "idle", "opening", "running", "waiting", "stopping"]


class WorkerWatch:
    """The worker's life.  Thread: the supervisor's.

    which: its set of words in the block.  is_standby: it is to take over from another one, see `Supervisor`;
    until it has, it is not started again.
    """

    def __init__(
        self,
        block: Block,
        context: SpawnContext,
        semaphore: Any,
        settings: WorkerSettings,
        on_event: OnEvent,
        which: int = 0,
    ) -> None:
        self._block, self._on_event = block, on_event
        self.which, self.is_standby = which, False
        self._phase = which * WORKER_SHIFT + WORKER_PHASE
        self._heartbeat = which * WORKER_SHIFT + WORKER_HEARTBEAT_NS
        self._retired_s = 0.0
        self._settings = settings
        self._plan, self._ran, self._why = RunnerPlan(settings.runner), "", ""

        def spawn() -> Any:
            arguments = (block.raw, block.geometry, semaphore, self._settings_now(), which)
            return context.Process(target=run_worker, args=arguments, name="stemrack-worker", daemon=True)

        self._child = Child(spawn)
        self.state: WorkerState = "starting"
        self.n_deaths = 0
        self.n_restarts = 0
        self._in_a_row = 0
        self._next_start_s = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._child.pid

    def _settings_now(self) -> WorkerSettings:
        """Return what the next worker separates with: on the CPU once CUDA has failed."""
        if not (self._plan.gave_up and self._settings.on_cpu):
            return self._settings
        return replace(self._settings, load=self._settings.on_cpu, runner=self._plan.next_runner)

    def _hear_choice(self) -> None:
        """Note the runner that the worker says it took, and why."""
        first, _, rest = self.said.partition(" ")
        if first == CHOSEN:
            self._ran, _, self._why = rest.partition(": ")

    def start(self) -> None:
        """Spawn the worker."""
        self._block.say(2 * self.which, "")
        self._ran = self._why = ""
        store(self._block.words, self._phase, IDLE)
        beat(self._block, self._heartbeat)
        self._child.start()
        self.state = "starting"

    def tick(self) -> None:
        """Look at the worker once and do what is needed."""
        if self.state in ("failed", "retired"):
            return
        if self.state == "retiring":
            self._see_off()
            return
        if self._child.process is None:
            if time.monotonic() >= self._next_start_s:
                self.n_restarts += 1
                self.start()
            return
        if self.state == "restarting":  # killed, but a driver holds it: two workers must never write one slot
            self._child.kill()
            return
        phase = load(self._block.words, self._phase)
        if not self._child.is_alive:
            self._bury("ended")
        elif age_s(self._block, self._heartbeat) > (LIMIT_S if phase == READY else PREPARE_LIMIT_S):
            self._bury(HUNG)
        elif phase == READY and self.state != "ready":
            self.state = "ready"
            taken_s = time.monotonic() - self._child.spawned_s
            self._hear_choice()
            facts = {"after_s": round(taken_s, 2), "runner": self._ran, "why": self._why}
            self._on_event(
                Event("worker-ready", time.monotonic(), {k: v for k, v in facts.items() if v != ""})
            )
        elif self._in_a_row and time.monotonic() - self._child.spawned_s > HEALTHY_S:
            self._in_a_row = 0

    def _bury(self, why: str) -> None:
        code = self._child.kill()
        self.n_deaths += 1
        self._in_a_row += 1
        facts = {"why": why, "exit_code": code, "said": self.said, "in_a_row": self._in_a_row}
        if self.is_standby:
            self.state = "failed"
            return
        self._on_event(Event("worker-died", time.monotonic(), facts))
        self._choose_again(hung=why == HUNG)
        if self._in_a_row >= MAX_DEATHS:
            self.state = "failed"
            self._on_event(Event("running-dry", time.monotonic(), {"said": self.said}))
            return
        self.state = "restarting"
        self._next_start_s = time.monotonic() + BACKOFF_S[min(self._in_a_row, len(BACKOFF_S)) - 1]

    def _choose_again(self, *, hung: bool) -> None:
        """Go on on the CPU if CUDA was at fault."""
        self._hear_choice()
        plan = self._plan.after_failure(ran=self._ran, said=self.said, hung=hung, in_a_row=self._in_a_row)
        if plan != self._plan:
            self._plan = plan
            facts = {"runner": plan.next_runner, "why": plan.gave_up}
            self._on_event(Event("runner-changed", time.monotonic(), facts))

    @property
    def said(self) -> str:
        """Its last words."""
        return self._block.said(2 * self.which)

    def retire(self) -> None:
        """Have it end once it has handed over; it is not started again."""
        self.state, self._retired_s = "retiring", time.monotonic()

    def _see_off(self) -> None:
        late = time.monotonic() - self._retired_s > RETIRE_LIMIT_S
        if late or not self._child.is_alive or age_s(self._block, self._heartbeat) > LIMIT_S:
            self._child.kill()
        if self._child.process is None:
            self.state = "retired"

    def follow(self, other: WorkerWatch) -> None:
        """Go on with another one's counters."""
        self.n_deaths += other.n_deaths
        self.n_restarts += other.n_restarts

    def revive(self) -> None:
        """Start a worker that was given up, or replace the one there is."""
        self._child.kill()
        self._in_a_row, self._next_start_s = 0, 0.0
        self._plan = RunnerPlan(self._settings.runner)
        self.state = "restarting"

    def end(self, timeout_s: float = REAP_S) -> None:
        """Make sure that the worker is gone."""
        self._child.end(timeout_s)


class AudioWatch:
    """The audio process's life, and its stream's.  Thread: the supervisor's."""

    def __init__(self, block: Block, context: SpawnContext, semaphore: Any, on_event: OnEvent) -> None:
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
    """The children of a node.  Thread: one calls everything; `tick` at least every LIMIT_S / 4.

    They are two, and a third while the profile changes: a worker on standby.
    """

    def __init__(
        self, block: Block, context: SpawnContext, settings: WorkerSettings, on_event: OnEvent
    ) -> None:
        self._block = block
        semaphore = context.Semaphore(0)
        self._make = partial(WorkerWatch, block, context, semaphore)
        self._on_event = on_event
        beat(block, NODE_HEARTBEAT_NS)
        self.worker = self._make(settings, on_event)
        self.standby: WorkerWatch | None = None
        self.audio = AudioWatch(block, context, semaphore, on_event)

    def start(self) -> None:
        """Spawn both."""
        beat(self._block, NODE_HEARTBEAT_NS)
        self.worker.start()
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
