"""The effect chains of the stems at work: hops of stems in, hops with effects out, all equally late.

Each stem goes through its own chain, which has a constant latency. What comes out is kept in order of
content, and a hop goes on once all four stems have it: so chains of different latency are padded without a
word, and a chain that is exchanged goes on at the same sample of the music. The new one has heard the last
seconds of the stem already (`chain_builder` sees to that), and is faded to over one hop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..models.stems import N_STEMS, STEMS
from .inserts import InsertRun, rise

HISTORY_S = 2.0
"""Sound that a new chain hears before it is heard."""

TellOf = Callable[[str, str, str, str], None]
"""Told what happened: kind, stem, insert, reason."""
Enter = Callable[[int, int], None]
"""Told stem and place of the insert that runs next; place -1: none does."""


class ChainRun:
    """A chain's inserts, with their memory."""

    def __init__(self, stem: int, inserts: tuple[InsertRun, ...] = ()) -> None:
        self.stem, self.inserts = stem, inserts

    @property
    def latency_samples(self) -> int:
        """How much later than its input its output is."""
        return sum(insert.latency_samples for insert in self.inserts)

    def process(self, x: np.ndarray, tell: TellOf, enter: Enter) -> np.ndarray:
        """Return the hop of (2, sample) that was given `latency_samples` ago."""
        for place, insert in enumerate(self.inserts):
            enter(self.stem, place)
            name = insert.insert.name
            x = insert.process(x, lambda kind, why, name=name: tell(kind, STEMS[self.stem], name, why))
        if self.inserts:
            enter(self.stem, -1)
        return x

    def ending(self) -> Iterator[int]:
        """Give the place of each insert before it ends, the last first: a plugin may hang or crash then."""
        while self.inserts:
            yield len(self.inserts) - 1
            self.inserts = self.inserts[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the rack does between two hops.

    moves: new values of chains that stay.  chains: others to be heard, by stem.  heard_until: what these
    have heard of the stems, a position of the rack's clock.  tails: what they gave last, by stem; the newest
    sample is that of heard_until less the chain's latency.
    """

    revision: int
    moves: list[Callable[[], None]] = field(default_factory=list)
    chains: Mapping[int, ChainRun] = field(default_factory=dict)
    heard_until: int = 0
    tails: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    """A stem on its way: its chain, and what has come out of it and waits for the other stems.

    end: position of the end of what has come, by the rack's clock.  skip: samples still to come that lie
    before the beginning.  old: during an exchange the next hop, of the chain before; new: what the chain has
    given of it so far; late: samples it gives again that have come already.
    """

    chain: ChainRun
    end: int = 0
    skip: int = 0
    ready: np.ndarray = field(default_factory=lambda: EMPTY)
    old: np.ndarray | None = None
    new: np.ndarray = field(default_factory=lambda: EMPTY)
    late: int = 0

    def add(self, y: np.ndarray) -> None:
        """Take what the chain gives next."""
        if self.old is None:
            self._append(y)
            return
        n = min(self.late, y.shape[1])
        self.late -= n
        self.new = np.concatenate([self.new, y[:, n:]], axis=1)
        n_fade = self.old.shape[1]
        if self.new.shape[1] >= n_fade:
            self._append(self.old + rise(n_fade) * (self.new[:, :n_fade] - self.old))
            rest, self.old, self.new = self.new[:, n_fade:], None, EMPTY
            self._append(rest)

    def _append(self, y: np.ndarray) -> None:
        self.end += y.shape[1]
        n = min(self.skip, y.shape[1])
        self.skip -= n
        self.ready = np.concatenate([self.ready, y[:, n:]], axis=1)

    def exchange(self, old: np.ndarray, tail: np.ndarray, position: int) -> None:
        """Go on with a new chain, which has given `tail`; old: what the one before gives next."""
        missing = position - self.chain.latency_samples - self.end
        short = max(0, missing - tail.shape[1])
        known = tail[:, max(0, tail.shape[1] - missing) :] if missing > 0 else EMPTY
        self.old, self.late = old, max(0, -missing)
        self.new = np.concatenate([np.zeros((2, short), np.float32), known], axis=1)

    def restart(self, position: int) -> None:
        """Have nothing; what comes of before `position` is not wanted."""
        self.end, self.skip = position - self.chain.latency_samples, self.chain.latency_samples
        self.ready, self.old, self.new, self.late = EMPTY, None, EMPTY, 0


class Rack:
    """The chains of all stems.

    Shape: `push` takes (stem, 2, hop).  Thread: one (the hop loop's); `orders` and `discarded` are shared
    with the builder's.  Latency: that of the slowest chain, for all.
    """

    def __init__(self, hop: int, rate_hz: int) -> None:
        self.hop, self.rate_hz = hop, rate_hz
        self.position = 0
        """Samples taken: the rack's own clock."""
        self.revision = 0
        """Of the newest order that is in force."""
        self.orders: deque[Order] = deque()
        self.discarded: deque[ChainRun] = deque()
        """Chains no longer heard: their end may be slow, and is not the hop loop's work."""
        n_history = 1 << (round(2 * HISTORY_S * rate_hz) - 1).bit_length()
        self._history = np.zeros((N_STEMS, 2, -(-n_history // hop) * hop), np.float32)
        self._lines = [_Line(ChainRun(stem)) for stem in range(N_STEMS)]
        self.tell: TellOf = _nobody
        self.enter: Enter = _nowhere
        self.on_order: Callable[[], None] = _nothing
        """Called once an order is in force."""

    @property
    def chains(self) -> list[ChainRun]:
        """The chains that are heard, or will be when a fade is over."""
        return [line.chain for line in self._lines]

    @property
    def latency_samples(self) -> int:
        """That of the slowest chain."""
        return max(line.chain.latency_samples for line in self._lines)

    def restart(self) -> None:
        """Begin at another place of the music: what has not come out never will."""
        for line in self._lines:
            line.restart(self.position)

    def push(self, stems: np.ndarray) -> Iterator[np.ndarray]:
        """Give the hops that are whole now, in order: usually one."""
        while self.orders:
            self._carry_out(self.orders.popleft(), stems)
        at = self.position % self._history.shape[2]
        self._history[:, :, at : at + self.hop] = stems
        self.position += self.hop
        for line, x in zip(self._lines, stems, strict=True):
            line.add(line.chain.process(x, self.tell, self.enter))
        while all(line.ready.shape[1] >= self.hop for line in self._lines):
            yield np.stack([line.ready[:, : self.hop] for line in self._lines])
            for line in self._lines:
                line.ready = line.ready[:, self.hop :]

    def history(self, stem: int, start: int, stop: int) -> np.ndarray:
        """Return a stem before its effects, (2, stop - start); silence from before the beginning.

        Thread: any, for the last HISTORY_S.
        """
        return self._history[stem][:, np.arange(start, stop) % self._history.shape[2]]

    def _carry_out(self, order: Order, stems: np.ndarray) -> None:
        """Bring an order into force; `stems` is the hop that comes next."""
        for move in order.moves:
            move()
        olds = {}
        for stem, chain in order.chains.items():
            line = self._lines[stem]
            # Where the exchange before is not over, its last hop leads on: the chain between was never heard.
            is_over = line.old is None
            olds[stem] = line.chain.process(stems[stem], self.tell, self.enter) if is_over else line.old
            self.discarded.append(line.chain)
            line.chain = chain
        self.revision = order.revision
        self.on_order()  # before the new chains run: whoever is told knows them by name
        for stem, old in olds.items():
            self._exchange(order, stem, old)

    def _exchange(self, order: Order, stem: int, old: np.ndarray) -> None:
        line, chain, tail = self._lines[stem], order.chains[stem], order.tails[stem]
        for start in range(order.heard_until, self.position, self.hop):
            piece = self.history(stem, start, start + self.hop)
            tail = np.concatenate([tail, chain.process(piece, self.tell, self.enter)], axis=1)
        line.exchange(old, tail, self.position)


EMPTY = np.empty((2, 0), np.float32)


def _nobody(kind: str, stem: str, insert: str, why: str) -> None:
    """Hear what happens where nobody wants to know."""


def _nowhere(stem: int, place: int) -> None:
    """Hear where the hop is where nobody wants to know."""


def _nothing() -> None:
    """Hear of an order where nobody wants to know."""
