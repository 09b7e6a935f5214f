"""The life of a worker: spawned, heard, buried and started again, on the CPU once CUDA has failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import BaseContext
from typing import Any, Literal

from .atomics import load, store
from .block import (
    EFFECTS_REVISION,
    IDLE,
    INSERT_NOW,
    READY,
    WORKER_HEARTBEAT_NS,
    WORKER_PHASE,
    WORKER_SHIFT,
    Block,
    text_in,
)
from .child import REAP_S, Child, Event, OnEvent, child_process
from .heartbeat import LIMIT_S, age_s, beat
from .rack_thread import LOADING, EffectSettings
from .runner_choice import RunnerPlan
from .worker import CHOSEN, WorkerSettings, run_worker

MAX_DEATHS = 5
"""A worker that dies so often in a row is left dead: the node plays dry."""
HEALTHY_S = 10.0
"""Life after which earlier deaths are forgotten."""
BACKOFF_S = (0.0, 0.25, 0.5, 1.0, 2.0)
PREPARE_LIMIT_S = 180.0
"""A worker that loads may take long: the first export of a network is part of it."""
LOAD_EFFECT_LIMIT_S = 15.0
"""An effect that takes longer to load hangs: pedalboard itself gives a plugin 10 s."""
RETIRE_LIMIT_S = 5.0
"""A worker that hands over must be gone by then: stems wait for less than a second."""

HUNG = "gave no sign of life"

WorkerState = Literal["starting", "ready", "restarting", "failed", "retiring", "retired"]


class WorkerWatch:
    """The worker's life.  Thread: the supervisor's.

    which: its set of words in the block.  is_standby: it is to take over from another one, see `Supervisor`;
    until it has, it is not started again.  effects: the chains that one that is spawned now begins with;
    blame: told the inserts ('stem/insert') that a dead one was in, before the next is spawned.
    """

    def __init__(
        self,
        block: Block,
        context: BaseContext,
        semaphore: Any,
        settings: WorkerSettings,
        on_event: OnEvent,
        which: int = 0,
        *,
        effects: Callable[[], EffectSettings] = EffectSettings,
        blame: Callable[[list[str], str], None] = lambda names, why: None,
    ) -> None:
        self._block, self._on_event = block, on_event
        self._effects, self._blame = effects, blame
        self.pipe: Any = None
        """The node's end of the pipe on which chains go there and what happens to them comes back."""
        self.which, self.is_standby = which, False
        self._phase = which * WORKER_SHIFT + WORKER_PHASE
        self._heartbeat = which * WORKER_SHIFT + WORKER_HEARTBEAT_NS
        self._retired_s = 0.0
        self._load_seen = "", 0.0
        self._settings = settings
        self._plan, self._ran, self._why = RunnerPlan(settings.runner), "", ""

        def spawn() -> Any:
            self.pipe, theirs = context.Pipe()
            settings = replace(self._settings_now(), effects=self._effects())
            arguments = (block.raw, block.geometry, semaphore, settings, which, theirs)
            return child_process(context, "stemrack-worker", run_worker, arguments)

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
        w, at = self._block.words, self.which * WORKER_SHIFT
        w[at + INSERT_NOW] = w[at + EFFECTS_REVISION] = 0
        self._block.insert_names[self.which] = 0
        store(w, self._phase, IDLE)
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
        elif age_s(self._block, self._heartbeat) > self._limit_s(phase):
            self._bury(HUNG)
        elif phase == READY and self._hangs_loading():
            self._bury("hung")
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

    def _limit_s(self, phase: int) -> float:
        if phase == READY:
            return LIMIT_S
        return LOAD_EFFECT_LIMIT_S if self._loading else PREPARE_LIMIT_S

    def _hangs_loading(self) -> bool:
        """Return whether an insert is being loaded for ever: the sound goes on, but no chain can change."""
        now, loading = time.monotonic(), self._loading
        if loading != self._load_seen[0]:
            self._load_seen = loading, now
        return bool(loading) and now - self._load_seen[1] > LOAD_EFFECT_LIMIT_S

    @property
    def _loading(self) -> str:
        """The insert that is being loaded, as 'stem/insert'."""
        return text_in(self._block.insert_names[self.which, LOADING])

    def _inside(self) -> list[str]:
        """Return the inserts that the worker is in: the one it runs, and the one it loads."""
        now = int(self._block.words[self.which * WORKER_SHIFT + INSERT_NOW])
        names = [text_in(self._block.insert_names[self.which, now - 1])] if now else []
        return [name for name in (*names, self._loading) if name]

    def _bury(self, why: str) -> None:
        inside = self._inside()
        code = self._child.kill()
        self.n_deaths += 1
        self._in_a_row += 1
        facts = {"why": why, "exit_code": code, "said": self.said, "in_a_row": self._in_a_row}
        if self.is_standby:
            self.state = "failed"
            return
        if inside:
            facts["inside"] = " ".join(inside)
        self._on_event(Event("worker-died", time.monotonic(), facts))
        if inside:
            self._blame(inside, f"the worker {why} in it")
        self._choose_again(hung=why == HUNG)
        if self._in_a_row >= MAX_DEATHS:
            self.state = "failed"
            remedy = "choose another profile, or this one again: stemrack ctl set engine/profile NAME"
            facts = {"said": self.said, "remedy": remedy}
            self._on_event(Event("running-dry", time.monotonic(), facts))
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

    def end(self, timeout_s: float = REAP_S) -> None:
        """Make sure that the worker is gone."""
        self._child.end(timeout_s)
