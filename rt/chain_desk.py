"""The node's side of the effect chains: what is wanted, what the worker answers, and the delay they need.

The worker builds chains (`rack_thread`); this keeps the target that everybody sees, sends it, bypasses what
crashed or was too slow, and has the callback fade to another delay where the latency of effects changes:
before the worker puts later stems, and after it puts earlier ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .atomics import load, store
from .block import (
    DELAY_BEGIN,
    DELAY_FADE_SAMPLES,
    DELAY_SAMPLES,
    EFFECTS_ALLOWED,
    EFFECTS_REVISION,
    EFFECTS_SAMPLES,
    EFFECTS_WANTED,
    LARGEST_BLOCK,
    NEXT_DELAY,
    POSITION,
    WORKER_SHIFT,
    Block,
    of_worker,
)
from .chains import Chains
from .control_log import ControlLog
from .effect_table import EffectTable
from .errors import EngineStateError
from .rack_thread import Costs, EffectSettings, Happened
from .stream import StreamPlan
from .supervisor import AudioWatch
from .worker_watch import WorkerWatch

SEND_PERIOD_S = 0.005
"""Chains go to the worker no more often: the newest wins."""

UP_TO_DATE_LIMIT_S = 3.0
"""Chains that are later than the present ones have no room before the change of profile is over."""

Note = Callable[[str, dict[str, Any]], None]
"""Told kind and facts of an event."""


class ChainDesk:
    """The chains of a node.

    `target` is what everybody sees; what is heard follows.  allowance_samples: more time for the worker while
    there are effects.  Thread: any; `poll` and `follow` the engine's.
    """

    def __init__(
        self,
        block: Block,
        table: EffectTable,
        impulses: Mapping[str, Path],
        chains: Chains,
        note: Note,
        *,
        allowance_samples: int = 0,
    ) -> None:
        self.table, self._impulses, self._block, self._note = table, impulses, block, note
        self._allowance_samples = allowance_samples
        self.target = chains
        self._accepted = chains
        self.costs: Mapping[str, tuple[float, float]] = {}
        """Mean and longest time of each insert in microseconds a hop, by 'stem/insert'."""
        self.planned_samples = 0
        """What the delay has for effects: their latency, and time."""
        self._revision = 1
        self._by_revision = {1: chains}
        """Those that may still be told to be in force."""
        self._sent = 1
        self._told = self._logged = 1
        """Of the chains that the worker has in force, and that the log knows."""
        self.log: ControlLog | None = None
        """Where edits are entered."""
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._ending = False
        self._pipe: Any = None
        self._sender = threading.Thread(target=self._send, name="stemrack-chains", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._sender.start()

    def stop(self) -> None:
        """Send no more."""
        self._ending = True
        self._wake.set()

    def set_target(self, chains: Chains, seen: Chains | None = None) -> None:
        """Have these chains heard, as soon as they are built.

        seen: those that they were made from; what the node has bypassed since then stays bypassed.
        """
        with self._lock:
            if seen is not None and seen is not self.target:
                chains = _with_bypasses(chains, self.target, since=seen)
            if chains != self.target:
                self.target = chains
                self._revision += 1
                self._by_revision[self._revision] = chains
                self._wake.set()

    def settings_now(self) -> EffectSettings:
        """Return what a worker that is spawned now begins with."""
        with self._lock:
            return EffectSettings(
                table=self.table, impulses=self._impulses, chains=self.target, revision=self._revision
            )

    def bypass(self, names: Iterable[str], why: str) -> None:
        """Bypass inserts, by 'stem/insert', and say why."""
        with self._lock:
            for name in names:
                stem, _, insert_name = name.partition("/")
                insert = self.target.insert(stem, insert_name)
                if insert is None or insert.bypass:
                    continue
                self.set_target(self.target.with_insert(stem, replace(insert, bypass=True)))
                self._note("insert-bypassed", {"stem": stem, "insert": insert_name, "why": why})

    def blame(self, names: Iterable[str], why: str) -> None:
        """Bypass what a worker died in: of several suspects a third party's plugins."""
        found = {n: self.target.insert(*n.split("/", 1)) for n in names if "/" in n}
        suspects = {n: i for n, i in found.items() if i is not None}
        plugins = [n for n, insert in suspects.items() if self.table[insert.effect].plugin]
        self.bypass(plugins or list(suspects), why)

    # -- the worker -----------------------------------------------------------------------------------------

    def poll(self, pipe: Any) -> None:
        """Hear what a worker says, by the node's end of its pipe.  Thread: the engine's."""
        if pipe is not self._pipe:
            with self._lock:
                self._pipe, self._sent = pipe, 0
                self._wake.set()
            self._told = 0  # another worker, that has to say what it has
        try:
            while pipe is not None and pipe.poll(0):
                self._hear(pipe.recv())
        except (EOFError, OSError):
            pass  # it has died: the supervisor sees to that
        revision = load(self._block.words, of_worker(self._block.words, EFFECTS_REVISION))
        if revision not in (self._told, 0):  # 0: a worker that has just begun
            self._told = revision
            if self.log and revision != self._logged:
                self.log.chain_edits.append(load(self._block.words, POSITION))
            self._logged = revision
            with self._lock:
                self._accepted = self._by_revision.get(revision, self._accepted)
                self._by_revision = {r: c for r, c in self._by_revision.items() if r >= revision}

    def _hear(self, said: Happened | Costs) -> None:
        if isinstance(said, Costs):
            self.costs = said.by_insert
        elif said.kind == "insert-bypassed":
            self.bypass([f"{said.stem}/{said.insert}"], said.why)
        else:
            self._note(said.kind, {"stem": said.stem, "insert": said.insert, "why": said.why})

    def _send(self) -> None:
        while not self._ending:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                pipe, revision, chains = self._pipe, self._revision, self.target
                is_new = revision != self._sent
                self._sent = revision
            if pipe is not None and is_new:
                with suppress(OSError, ValueError):  # it has died: the next one begins with the target
                    pipe.send((revision, chains))
            time.sleep(SEND_PERIOD_S)

    def bring_up_to_date(self, worker: WorkerWatch) -> None:
        """Return once a worker that is to take over has the chains of now, or cannot have them yet.

        Thread: that which changes the profile; nothing else writes to that worker's pipe meanwhile.
        """
        sent, stop = 0, time.monotonic() + UP_TO_DATE_LIMIT_S
        while time.monotonic() < stop:
            newest = self.settings_now()
            if newest.revision != sent:
                sent = newest.revision
                with suppress(OSError, ValueError):  # it has died: that is told by who looks after it
                    worker.pipe.send((sent, newest.chains))
            if load(self._block.words, worker.which * WORKER_SHIFT + EFFECTS_REVISION) == newest.revision:
                return
            time.sleep(SEND_PERIOD_S)

    @property
    def is_settled(self) -> bool:
        """Whether what is wanted is heard, with its delay."""
        return self._told == self._revision and is_settled(self._block)

    # -- the delay ------------------------------------------------------------------------------------------

    @property
    def _in_force(self) -> int:
        return load(self._block.words, of_worker(self._block.words, EFFECTS_SAMPLES))

    @property
    def allowance_samples(self) -> int:
        """Time that the effects there are, or will be, get."""
        return self._allowance_samples if any(chain for _, chain in self.target) else 0

    def needed_samples(self, hop: int) -> int:
        """Return effects' time and their latency, in force and to come, in whole hops of the separator."""
        wanted = load(self._block.words, of_worker(self._block.words, EFFECTS_WANTED))
        return in_hops(max(wanted, self._in_force), hop) + self.allowance_samples

    @property
    def planned_parts(self) -> tuple[int, int]:
        """Latency of the effects and time for them, which make up `planned_samples`."""
        time_samples = min(self.allowance_samples, self.planned_samples)
        return self.planned_samples - time_samples, time_samples

    def plan(self, samples: int) -> None:
        """Say what the delay of a stream, or of another profile, has room for."""
        self.planned_samples = samples
        self._allow()

    def _allow(self, samples: int | None = None) -> None:
        """Tell the worker how much latency there is room for: the allowance is none."""
        planned = self.planned_samples if samples is None else samples
        store(self._block.words, EFFECTS_ALLOWED, max(0, planned - self.allowance_samples))

    def follow(self, plan: StreamPlan, audio: AudioWatch, hop: int) -> StreamPlan:
        """Return the stream's plan after a look at the latency of the effects.

        More: the delay is faded up, then the worker may.  Less: the worker has less, and the delay follows.
        """
        if not is_settled(self._block):
            return plan
        if audio.state == "running" and load(self._block.words, NEXT_DELAY) != plan.delay_samples:
            change_delay(self._block, plan.delay_samples)  # it was opened before the plan changed
            return plan
        self._allow()
        needed, planned = self.needed_samples(hop), self.planned_samples
        if needed < planned:  # first take the room away, then see whether it was claimed meanwhile
            self._allow(needed)
            if self.needed_samples(hop) != needed:
                return plan
        if needed == planned:
            return plan
        changed = replace(plan, delay_samples=plan.delay_samples + needed - planned)
        try:
            check_room(self._block, changed.delay_samples)
        except EngineStateError as error:
            self.refuse(str(error))
            return plan
        if audio.state == "running":
            change_delay(self._block, changed.delay_samples)
        audio.replan(changed)
        self.planned_samples = needed
        delay_ms = round(1e3 * changed.delay_samples / changed.rate_hz, 1)
        self._note("delay-changed", {"effects_samples": needed, "delay_ms": delay_ms})
        return changed

    def refuse(self, why: str) -> None:
        """Go back to the chains that were heard last; what was bypassed meanwhile stays so."""
        with self._lock:
            chains = _with_bypasses(self._accepted, self.target)
            if chains == self.target:
                return  # told already: the worker has not gone back yet
            self._note("chain-refused", {"why": why})
            self.set_target(chains)


def _with_bypasses(chains: Chains, of: Chains, since: Chains = Chains()) -> Chains:
    """Return chains in which that is bypassed too which is so in `of` and was not in `since`."""
    for stem, chain in of:
        for insert in chain:
            here, before = chains.insert(stem, insert.name), since.insert(stem, insert.name)
            if insert.bypass and here and not (before and before.bypass):
                chains = chains.with_insert(stem, replace(here, bypass=True))
    return chains


def in_hops(samples: int, hop: int) -> int:
    """Return a latency in whole hops, as what comes in hops has it.

    >>> in_hops(0, 512), in_hops(220, 512), in_hops(1024, 512)
    (0, 512, 1024)
    """
    return -(-samples // hop) * hop


def check_room(block: Block, delay_samples: int) -> None:
    """Raise EngineStateError if there are no stems that old."""
    room = block.delay_room
    if delay_samples > room:
        said = f"with these effects the delay is {delay_samples} samples, there is room for {room}"
        raise EngineStateError(f"{said}: take out what is that late")


def change_delay(block: Block, delay_samples: int) -> None:
    """Have the callback fade to another delay, for which there is room, from its next block but one on."""
    w = block.words
    store(w, DELAY_BEGIN, load(w, POSITION) + 2 * int(w[LARGEST_BLOCK]) + DELAY_FADE_SAMPLES)
    store(w, NEXT_DELAY, delay_samples)


def is_settled(block: Block) -> bool:
    """Return whether the delay that was wanted last is heard."""
    return load(block.words, DELAY_SAMPLES) == load(block.words, NEXT_DELAY)
