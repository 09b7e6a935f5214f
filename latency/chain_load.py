"""Edits of effect chains beside an engine that plays: bursts of other chains, and of other values."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..models.stems import STEMS
from ..rt.chains import Chains, chain_of, with_value
from ..rt.effect_table import EffectTable
from ..rt.engine import Engine
from ..rt.errors import EngineStateError

SPACINGS_S = (0.1, 0.01, 0.001)
"""Of the edits of a burst; the bursts take turns."""
PAUSE_S = 1.0
LINES = (
    "reverb peak_filter compressor",
    "gain",
    "highpass_filter delay",
    "",
    "chorus limiter",
    "peak_filter compressor reverb",
    "brickwall_limiter",
)
"""Chains that are set in turn: also a reordering, and one with latency."""


def edited(table: EffectTable, chains: Chains, n: int) -> Chains:
    """Return the chains after edit number n: another line for one stem, and another value in it."""
    stem = STEMS[n % len(STEMS)]
    chain = chain_of(table, LINES[n % len(LINES)], chains[stem])
    if chain and chain[0].effect == "gain":
        chain = (with_value(table, chain[0], "gain_db", float(-(n % 12))), *chain[1:])
    return chains.with_chain(stem, chain)


@contextmanager
def edits(engine: Engine, per_burst: int) -> Iterator[list[int]]:
    """Give the list of how many edits each burst made; bursts go on for as long as the context lasts."""
    ending, made = threading.Event(), []

    def work() -> None:
        n = 0
        while not ending.wait(PAUSE_S):
            spacing_s = SPACINGS_S[len(made) % len(SPACINGS_S)]
            due = time.monotonic()
            for _ in range(per_burst):
                with suppress(EngineStateError):  # it is being stopped
                    chains = engine.chains
                    engine.set_chains(edited(engine.effects.table, chains, n), chains)
                n, due = n + 1, due + spacing_s
                if ending.wait(max(0.0, due - time.monotonic())):
                    return
            made.append(per_burst)

    thread = threading.Thread(target=work, name="stemrack-edits", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        ending.set()
        thread.join()
