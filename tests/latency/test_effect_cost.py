"""What effects cost, on a clock that only moves when it is told to; and that every insert is counted."""

import json
import multiprocessing
import time

import numpy as np
import pytest
from effect_rig import stems_of
from vst3_plugins import hostile_plugins

from stemrack.latency.effect_cost import (
    CONTROL,
    EFFECT_HEADS,
    INSERT_HEADS,
    EffectCost,
    TimedChains,
    effect_costs,
    effect_rows,
    insert_rows,
)
from stemrack.rt.chains import Chains, chain_of
from stemrack.rt.effect_builtin import BUILT_IN, SILENT_IN_STREAMS, with_impulses
from stemrack.rt.effect_table import Effect, EffectTable
from stemrack.rt.preset_sound import HOP, PresetSound

TABLE = with_impulses(EffectTable(e for e in BUILT_IN if e.key not in SILENT_IN_STREAMS), ())
HOP_US = 1e6 * HOP / 44_100
NOISE = (0.1 * np.random.default_rng(4).standard_normal((2, 5 * HOP))).astype(np.float32)


class Ticking:
    """A clock on which every look at it takes some time."""

    def __init__(self, tick_us):
        self.now_s, self.tick_s = 0.0, 1e-6 * tick_us

    def __call__(self):
        self.now_s += self.tick_s
        return self.now_s


def sound(**lines):
    chains = Chains(**{stem: chain_of(TABLE, line) for stem, line in lines.items()})
    return PresetSound(chains=chains, table=TABLE)


def test_every_insert_is_timed_in_every_hop():
    timed = TimedChains(sound(drums="gain gain-2", vocals="brickwall_limiter"), HOP, clock=Ticking(7.0))
    timed.push(stems_of(5))
    timed.push(stems_of(1))
    names = ["drums/gain", "drums/gain-2", "vocals/brickwall_limiter"]
    assert {name: len(times) for name, times in timed.times_us.items()} == dict.fromkeys(names, 6)
    for times in timed.times_us.values():
        np.testing.assert_allclose(times, 7.0)  # one look at the clock further on
    assert timed.bypassed == {}
    timed.forget(4)
    assert [len(times) for times in timed.times_us.values()] == [4, 4, 4]
    rows = insert_rows(timed.times_us, timed.hop_us)
    assert rows[0] == ("drums/gain", "7", "7", "7", "7", f"{100 * 7 / HOP_US:.2f} %")
    assert all(len(row) == len(INSERT_HEADS) for row in rows)


def test_every_effect_has_a_row_and_the_dearest_is_first():
    heard = []
    costs = effect_costs(
        TABLE, 0.2, NOISE, impulses={}, on_progress=lambda key, seconds: heard.append((key, seconds))
    )
    n_hops = round(0.2 * 44_100 / HOP)
    assert {cost.key for cost in costs} == {effect.key for effect in TABLE} | {CONTROL}
    assert costs[-1].key == CONTROL
    assert [len(cost.times_us) for cost in costs] == [n_hops] * len(costs)
    assert not [cost.key for cost in costs if cost.failed]
    medians = [np.median(cost.times_us) for cost in costs[:-1]]
    assert medians == sorted(medians, reverse=True)
    assert min(medians) > 0
    assert np.median(costs[-1].times_us) >= np.median(medians)
    assert [key for key, seconds in heard if seconds] == [effect.key for effect in TABLE]
    rows = effect_rows(costs)
    assert [row[0] for row in rows] == [cost.key for cost in costs]
    assert all(len(row) == len(EFFECT_HEADS) for row in rows)
    shown = json.loads(json.dumps([cost.as_dict() for cost in costs]))
    assert all(set(one["insert_us"]) == {"p50", "p99", "p99.9", "max"} for one in shown)
    assert {one["n_hops"] for one in shown} == {n_hops}


def test_a_plugin_that_crashes_takes_only_its_row():
    plugins = [
        Effect(key=path.stem, title=path.stem, doc="", plugin=str(path))
        for name, path in hostile_plugins().items()
        if name in ("LoadCrash", "Latent")
    ]
    costs = effect_costs(EffectTable([*plugins, TABLE["gain"]]), 0.1, NOISE, impulses={})
    found = {cost.key: cost for cost in costs}
    assert set(found) == {"LoadCrash", "Latent", "gain", CONTROL}
    assert (found["LoadCrash"].failed, found["LoadCrash"].times_us) == ("crashed", [])
    assert len(found["Latent"].times_us) == len(found["gain"].times_us) == 9
    assert [row[0] for row in effect_rows(costs) if "Latent" in row[0]] == ["Latent (plugin)"]
    assert not [row for row in effect_rows(costs) if "LoadCrash" in row[0]]
    assert found["LoadCrash"].as_dict() == {
        "effect": "LoadCrash",
        "plugin": True,
        "n_hops": 0,
        "failed": "crashed",
    }


def test_no_process_ends_that_was_there_before():
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600.0,))
    bystander.start()
    table = EffectTable([Effect(key="Gone", title="Gone", doc="", plugin="gone.vst3")])
    try:
        effect_costs(table, 0.1, NOISE, impulses={})
        assert multiprocessing.active_children() == [bystander]
    finally:
        bystander.kill()
        bystander.join()


def test_what_cannot_be_loaded_is_said():
    table = EffectTable([Effect(key="Gone", title="Gone", doc="", plugin="gone.vst3")])
    (cost, _) = effect_costs(table, 0.1, NOISE, impulses={})
    assert cost.failed.startswith("Gone cannot be loaded")
    assert (cost.times_us, cost.share) == ([], 0.0)
    assert EffectCost(key="a", hop_us=100.0, times_us=[10.0, 20.0]).share == pytest.approx(0.15)
    with pytest.raises(ValueError, match="less than a hop"):
        effect_costs(table, 0.001, NOISE, impulses={})
