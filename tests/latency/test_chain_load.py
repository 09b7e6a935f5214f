import time
from types import SimpleNamespace

from stemrack.latency import chain_load
from stemrack.rt.chains import Chains, line_of
from stemrack.rt.effect_builtin import BUILT_IN


class FakeEngine:
    effects = SimpleNamespace(table=BUILT_IN)

    def __init__(self):
        self.chains = Chains()
        self.seen = []

    def set_chains(self, chains, seen):
        assert seen is self.chains
        self.chains = chains
        self.seen.append(chains)


def test_every_line_can_be_made_and_each_edit_changes_something():
    chains, seen = Chains(), []
    for n in range(2 * len(chain_load.LINES) * 4):
        after = chain_load.edited(BUILT_IN, chains, n)
        seen.append(after != chains)
        chains = after
    assert seen.count(True) >= len(seen) - 2
    assert {line_of(chain) for _, chain in chains} <= set(chain_load.LINES)


def test_bursts_take_turns_and_end_with_the_context(monkeypatch):
    monkeypatch.setattr(chain_load, "PAUSE_S", 0.01)
    monkeypatch.setattr(chain_load, "SPACINGS_S", (0.002, 0.001))
    engine = FakeEngine()
    with chain_load.edits(engine, 5) as made:
        stop = time.monotonic() + 20.0
        while len(made) < 3 and time.monotonic() < stop:
            time.sleep(0.005)
        assert made[:3] == [5, 5, 5]
    n = len(engine.seen)
    assert n >= 15
    time.sleep(0.05)
    assert len(engine.seen) == n
