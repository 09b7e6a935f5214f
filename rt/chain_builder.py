"""Builds chains beside the sound: loads effects, measures their latency, lets them hear the last seconds.

A thread of the worker at normal priority. It is told of the chains that are wanted, finds out what differs
from those there are, and leaves orders for the rack (`effects`), which carries them out between two hops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ..models.stems import N_STEMS, STEMS
from .chains import Chain, Chains, Insert
from .effect_host import IMPULSE, Latency, Processor, measured_latency
from .effect_table import EffectTable
from .effects import EMPTY, HISTORY_S, ChainRun, Order, Rack
from .errors import EffectError
from .inserts import SLOW_SHARE, InsertRun, needs_rebuild, rise

ALLOW_LIMIT_S = 300.0
"""After that the room for a longer latency is not waited for any more: stems come late until it is there.

Longer than a change of profile may take, during which the delay stays as it is."""
POLL_S = 0.002
TRIED_HOPS = 4
RISE_HOPS = 4
"""Over which the sound that a new chain hears first is faded in."""

Loading = Callable[[str, str], None]
"""Told stem and insert that are being loaded, and ('', '') after it."""


class ChainBuilder:
    """The chains that are wanted, as orders for a rack.

    allowed: the latency that there is room for; wanted: told the latency of the chains to come; is_outdated:
    whether others are wanted already.  slow_share: of a hop's time, for one insert; inf where nobody waits.
    Thread: one at a time (`start`'s own).
    """

    def __init__(
        self,
        rack: Rack,
        table: EffectTable,
        impulses: Mapping[str, Path],
        *,
        allowed: Callable[[], int] = lambda: 1 << 62,
        wanted: Callable[[int], None] = lambda samples: None,
        is_outdated: Callable[[], bool] = lambda: False,
        loading: Loading = lambda stem, insert: None,
        slow_share: float = SLOW_SHARE,
    ) -> None:
        self._rack, self._table, self._impulses = rack, table, impulses
        self._allowed, self._wanted, self._loading = allowed, wanted, loading
        self._is_outdated, self._slow_share = is_outdated, slow_share
        self._chains = Chains()
        self._runs = rack.chains
        self._latencies: dict[tuple[object, ...], Latency] = {}

    @property
    def latency_samples(self) -> int:
        """That of the newest chains, which may not be heard yet."""
        return max(run.latency_samples for run in self._runs)

    def change(self, revision: int, chains: Chains, *, waits: bool = True) -> bool:
        """Leave the order that brings these chains about; returns whether that was done.

        waits: first for the room of their latency, unless `is_outdated`, and let them hear what was; else
        they begin in silence.
        """
        built: dict[int, ChainRun] = {}
        moves = []
        for stem, name in enumerate(STEMS):
            before, after = self._chains[name], chains[name]
            if before == after:
                continue
            if self._is_same(before, after):
                moves += self._moves(stem, before, after)
            else:
                built[stem] = ChainRun(stem, tuple(self._insert(name, insert) for insert in after))
        runs = [built.get(stem, run) for stem, run in enumerate(self._runs)]
        latency = max(run.latency_samples for run in runs)
        self._wanted(latency)
        if built and waits and not self._wait_for_room(latency):
            for chain in built.values():
                self._let_go(chain)
            return False
        self._chains, self._runs = chains, runs
        self._rack.orders.append(self._order(revision, moves, built, hears=waits))
        return True

    def begin(self, revision: int, chains: Chains) -> None:
        """Have these chains heard from the rack's first sample on.  Thread: no hop may come meanwhile."""
        self.change(revision, chains, waits=False)
        rack = self._rack  # they are faded to from the dry stems over one hop: let that be silence
        for _ in rack.push(np.zeros((N_STEMS, 2, rack.hop), np.float32)):
            pass
        rack.restart()
        self.bury()

    def bury(self) -> None:
        """Let go of chains that are heard no more."""
        while self._rack.discarded:
            self._let_go(self._rack.discarded.popleft())

    def _let_go(self, chain: ChainRun) -> None:
        for place in chain.ending():
            self._loading(STEMS[chain.stem], chain.inserts[place].insert.name)
        self._loading("", "")

    def _moves(self, stem: int, before: Chain, after: Chain) -> Iterator[Callable[[], None]]:
        """Give what brings inserts to other values; one that refuses a value is to be bypassed."""
        for run, was, insert in zip(self._runs[stem].inserts, before, after, strict=True):
            if was != insert:
                try:
                    yield run.move_to(was, insert)
                except EffectError as error:
                    self._rack.tell("insert-bypassed", STEMS[stem], insert.name, str(error))

    def _is_same(self, before: Chain, after: Chain) -> bool:
        return len(before) == len(after) and not any(
            b.effect != a.effect or needs_rebuild(b, a, self._table[a.effect])
            for b, a in zip(before, after, strict=True)
        )

    def _insert(self, stem: str, insert: Insert) -> InsertRun:
        """Return an insert at work; a wire if it is bypassed or cannot be made."""
        rate_hz, hop = self._rack.rate_hz, self._rack.hop
        effect = self._table[insert.effect]
        processor, twin, latency = None, None, Latency()
        if not insert.bypass:
            self._loading(stem, insert.name)
            try:
                processor = self._processor(insert)
                self._check_speed(processor)
                latency = self._latency(insert, processor)
                if any(p.change == "blend" for p in effect.parameters):
                    twin = self._processor(insert)
            except EffectError as error:
                processor = None
                self._rack.tell("insert-bypassed", stem, insert.name, str(error))
            self._loading("", "")
        return InsertRun(
            insert,
            effect,
            processor,
            latency,
            rate_hz=rate_hz,
            hop=hop,
            twin=twin,
            slow_share=self._slow_share,
        )

    def _processor(self, insert: Insert) -> Processor:
        return Processor(
            self._table[insert.effect],
            insert.values,
            rate_hz=self._rack.rate_hz,
            block_samples=self._rack.hop,
            state=insert.state,
            impulse=self._impulses.get(str(insert.values.get(IMPULSE))),
        )

    def _check_speed(self, processor: Processor) -> None:
        """Raise EffectError if even the fastest of a few hops takes too long; its memory is cleared."""
        silence = np.zeros((2, self._rack.hop), np.float32)
        times_s = []
        for _ in range(TRIED_HOPS):
            started = time.perf_counter()
            processor.process(silence)
            times_s.append(time.perf_counter() - started)
        processor.reset()
        limit_s = self._slow_share * self._rack.hop / self._rack.rate_hz
        if min(times_s) > limit_s:
            key, took_ms = processor.effect.key, 1e3 * min(times_s)
            raise EffectError(f"{key} takes {took_ms:.1f} ms for a hop, {1e3 * limit_s:.1f} ms may be")

    def _latency(self, insert: Insert, processor: Processor) -> Latency:
        """Return the latency of an insert, measured; pedalboard's own at neutral values and once each."""
        effect = self._table[insert.effect]
        hop = self._rack.hop
        if effect.plugin:
            return measured_latency(processor, block_samples=hop)
        kept = {p.name: insert.values[p.name] for p in effect.parameters if p.change == "rebuild"}
        key = (effect.key, *kept.values())
        if key not in self._latencies:
            neutral = Insert(name=insert.name, effect=insert.effect, values=effect.neutral | kept)
            scratch = self._processor(neutral)
            self._latencies[key] = measured_latency(scratch, block_samples=hop)
        return self._latencies[key]

    def _wait_for_room(self, latency_samples: int) -> bool:
        """Return whether to go on; False if other chains are wanted by now."""
        stop = time.monotonic() + ALLOW_LIMIT_S
        while self._allowed() < latency_samples and time.monotonic() < stop:
            if self._is_outdated():
                return False
            time.sleep(POLL_S)
        return True

    def _order(
        self, revision: int, moves: list[Callable[[], None]], built: Mapping[int, ChainRun], *, hears: bool
    ) -> Order:
        """Return the order for chains that have heard the stems up to now.

        What is too slow to catch up with the sound begins where the sound is, with a gap behind it.
        """
        rack = self._rack
        start = rack.position
        n = round(HISTORY_S * rack.rate_hz) // rack.hop * rack.hop
        begin = heard = max(0, start - n) if hears and built else start
        slope = rise(RISE_HOPS * rack.hop)
        pieces: dict[int, list[np.ndarray]] = {stem: [EMPTY] for stem in built}
        while hears and built and heard < rack.position:  # what comes meanwhile is the hop loop's to catch up
            if heard >= start + n:
                heard, pieces = rack.position, {stem: [EMPTY] for stem in built}
                break
            for stem, chain in built.items():
                x = rack.history(stem, heard, heard + rack.hop)
                if begin > 0 and heard < begin + len(slope):  # a sudden start would come back from a delay
                    x = x * slope[heard - begin : heard - begin + rack.hop]
                pieces[stem].append(chain.process(x, rack.tell, partial(self._enter, chain)))
            heard += rack.hop
        tails = {stem: np.concatenate(parts, axis=1) for stem, parts in pieces.items()}
        return Order(revision=revision, moves=moves, chains=built, heard_until=heard, tails=tails)

    def _enter(self, chain: ChainRun, stem: int, place: int) -> None:
        """Say that an insert runs which is not in force yet."""
        if place < 0:
            self._loading("", "")
        else:
            self._loading(STEMS[stem], chain.inserts[place].insert.name)
