"""The effects of a worker: its rack, and the thread that hears from the node which chains are wanted.

The hop loop never waits for this thread: orders and what happened go through queues, and what the node has to
know after a crash stands in the shared block (which insert the loop is in, which one is being loaded).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..models.stems import STEMS
from .atomics import load, store
from .block import (
    EFFECTS_ALLOWED,
    EFFECTS_REVISION,
    EFFECTS_SAMPLES,
    EFFECTS_WANTED,
    INSERT_NOW,
    N_INSERTS,
    NAME_BYTES,
    WORKER_HEARTBEAT_NS,
    WORKER_SHIFT,
    Block,
    write_text,
)
from .chain_builder import ChainBuilder
from .chains import Chains, insert_number
from .effect_builtin import BUILT_IN
from .effect_table import EffectTable
from .effects import Rack

POLL_S = 0.02
COSTS_S = 1.0
"""How often the node hears what the inserts cost."""
LOADING = N_INSERTS
"""Row of `insert_names` with the insert that is being loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSettings:
    """The chains that a worker begins with, and all that it may load. revision: of the chains."""

    table: EffectTable = BUILT_IN
    impulses: Mapping[str, Path] = field(default_factory=dict)
    chains: Chains = Chains()  # noqa: RUF009  frozen
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Happened:
    """What a worker tells of an insert: insert-reset or insert-bypassed, and why."""

    kind: str
    stem: str
    insert: str
    why: str


@dataclass(frozen=True, slots=True)
class Costs:
    """Time of each insert in microseconds a hop, by 'stem/insert': on the average, and the longest."""

    by_insert: Mapping[str, tuple[float, float]]


class WorkerEffects:
    """The rack of a worker, kept as the node wants it.

    pipe: the worker's end.  Thread: `rack_at` and `rack` the hop loop's; the rest is its own thread's, which
    loads all plugins: pedalboard lets no other one do so after the first.
    """

    def __init__(
        self, block: Block, which: int, hop: int, rate_hz: int, settings: EffectSettings, pipe: Any
    ) -> None:
        self._block, self._which, self._hop = block, which, hop
        self._words, self._at = block.words, which * WORKER_SHIFT
        self._settings, self._pipe = settings, pipe
        self._chains, self._revision = settings.chains, settings.revision
        self._happened: deque[Happened] = deque()
        self._ending = threading.Event()
        self.rack, self._builder = self._made(rate_hz)
        self._is_built = threading.Event()

    def start(self) -> None:
        """Build the chains to begin with, return when they are, and hear the node from then on."""
        threading.Thread(target=self._run, name="stemrack-chains", daemon=True).start()
        self._is_built.wait()

    def rack_at(self, rate_hz: int) -> Rack:
        """Return the rack for a stream; another rate gets another one, whose chains are still to be built."""
        if rate_hz != self.rack.rate_hz:
            self.rack, self._builder = self._made(rate_hz)
        self.rack.restart()
        return self.rack

    def _made(self, rate_hz: int) -> tuple[Rack, ChainBuilder]:
        rack = Rack(self._hop, rate_hz)
        rack.tell = self._tell
        rack.enter = self._enter
        rack.on_order = lambda: self._in_force(rack)
        builder = ChainBuilder(
            rack,
            self._settings.table,
            self._settings.impulses,
            allowed=lambda: load(self._words, EFFECTS_ALLOWED),
            wanted=lambda samples: store(self._words, self._at + EFFECTS_WANTED, samples),
            is_outdated=self._is_outdated,
            loading=self._loading,
        )
        return rack, builder

    # -- what the hop loop tells --------------------------------------------------------------------------

    def _tell(self, kind: str, stem: str, insert: str, why: str) -> None:
        self._happened.append(Happened(kind, stem, insert, why))

    def _enter(self, stem: int, place: int) -> None:
        self._words[self._at + INSERT_NOW] = insert_number(stem, place)

    def _in_force(self, rack: Rack) -> None:
        names = self._block.insert_names[self._which]
        names[:LOADING] = 0
        for chain in rack.chains:
            for place, run in enumerate(chain.inserts):
                row = names[insert_number(chain.stem, place) - 1]
                write_text(row, f"{STEMS[chain.stem]}/{run.insert.name}")
        store(self._words, self._at + EFFECTS_SAMPLES, rack.latency_samples)
        store(self._words, self._at + EFFECTS_REVISION, rack.revision)

    def _loading(self, stem: str, insert: str) -> None:
        name = f"{stem}/{insert}"[:NAME_BYTES] if insert else ""
        write_text(self._block.insert_names[self._which, LOADING], name)
        if (
            load(self._words, self._at + EFFECTS_REVISION) == 0
        ):  # at the start nobody else gives a sign of life
            store(self._words, self._at + WORKER_HEARTBEAT_NS, time.monotonic_ns())

    # -- the thread -----------------------------------------------------------------------------------------

    def _is_outdated(self) -> bool:
        return self._pipe.poll(0)

    def _run(self) -> None:
        _leave_realtime()
        built = self._builder
        built.begin(self._revision, self._chains)
        self._is_built.set()
        costs_s = time.monotonic()
        while not self._ending.is_set():
            with suppress(EOFError, OSError):
                if self._hear() or built is not self._builder:
                    built = self._builder
                    built.change(self._revision, self._chains)
                built.bury()
                self._say()
                if time.monotonic() - costs_s >= COSTS_S:
                    costs_s = time.monotonic()
                    self._say_costs()
                continue
            return  # the node is gone

    def _hear(self) -> bool:
        """Return whether other chains are wanted; of several the newest."""
        heard = self._pipe.poll(POLL_S)
        while heard and self._pipe.poll(0):
            self._revision, self._chains = self._pipe.recv()
        return heard

    def _say(self) -> None:
        while self._happened:
            self._pipe.send(self._happened.popleft())

    def _say_costs(self) -> None:
        costs = {}
        for chain in self.rack.chains:
            for run in chain.inserts:
                costs[f"{STEMS[chain.stem]}/{run.insert.name}"] = run.mean_us, run.worst_us
                run.worst_us = 0.0
        if costs:
            self._pipe.send(Costs(costs))


def _leave_realtime() -> None:
    """Give this thread normal priority: building chains must not take the processor from the sound."""
    if hasattr(os, "sched_setscheduler"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
