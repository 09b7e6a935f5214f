"""The budget against a simulation that knows nothing of its formula."""

import random

import pytest

from stemrack.latency.budget import Budget, budget_rows, worker_time_samples
from stemrack.rt.block import FADE_SAMPLES
from stemrack.rt.pipeline import grid_hop, live_latency_samples

BLOCKS = (32, 64, 100, 128, 256, 441, 512, 1024)


def least_time(sizes, hop, latency, delay):
    """Simulate: when is each slot's last input there, and when are its stems wanted first?  In samples."""
    there, ready, least = 0, {}, None
    slots = 0
    for n in sizes:
        p = there
        there += n  # the callback writes its block first
        while (slots + 1) * hop + latency <= there:
            ready[slots] = there
            slots += 1
        wanted = p - delay + n + FADE_SAMPLES  # all before this
        for slot in range(max(0, p - delay) // hop, -(-wanted // hop) if wanted > 0 else 0):
            time = there - ready.get(slot, 10**9)
            least = time if least is None else min(least, time)
    return least


def budget_of(block, **more):
    return Budget(rate_hz=44_100, hop=512, block_samples=block, separator_samples=512, **more)


@pytest.mark.parametrize("block", BLOCKS)
def test_stems_are_always_in_time_and_the_time_is_what_is_said(block):
    budget = budget_of(block)
    simulated = least_time([block] * (200_000 // block), 512, 512, budget.delay_samples)
    assert simulated == worker_time_samples(budget)
    assert simulated >= 0


@pytest.mark.parametrize("block", BLOCKS)
def test_time_for_effects_is_time_for_the_worker(block):
    budget = budget_of(block, effects_samples=512, effects_allowance_samples=512)
    simulated = least_time([block] * (200_000 // block), 512, 1024, budget.delay_samples)
    assert simulated == worker_time_samples(budget)
    # the callback comes once a block: the time is whole blocks
    assert simulated >= worker_time_samples(budget_of(block, effects_samples=512)) + 512 // block * block
    assert budget.delay_samples == budget_of(block).delay_samples + 1024


def test_changing_blocks():
    budget = budget_of(0, largest_block=2048)
    chance = random.Random(1)
    sizes = [chance.randrange(1, budget.largest_block + 1) for _ in range(4_000)]
    assert least_time(sizes, 512, 512, budget.delay_samples) >= worker_time_samples(budget) >= 0


@pytest.mark.parametrize("block", BLOCKS)
def test_the_worker_has_a_hop_less_the_cross_fade_and_the_delay_is_no_longer_than_that_takes(block):
    budget = budget_of(block)
    assert worker_time_samples(budget) >= 512 - FADE_SAMPLES
    shorter = least_time([block] * (200_000 // block), 512, 512, budget.delay_samples - 1)
    if budget.allowance > max(512, block + FADE_SAMPLES):
        assert shorter < 512 - FADE_SAMPLES


def test_figures_of_the_live_profile():
    budget = budget_of(256, window_ms=23.2)
    assert (budget.delay_samples, budget.total_samples) == (256 + 512 + 640, 256 + 1408)
    assert [row[:2] for row in budget_rows(budget)] == [
        ("block until it is whole", "256"),
        ("block against hop", "256"),
        ("separation", "512"),
        ("worker and cross-fade", "640"),
        ("device and converters", "unknown"),
    ]
    assert budget.as_dict()["total_ms"] == pytest.approx(37.732)
    assert budget_of(256, allowance_samples=2_000).delay_samples == 256 + 512 + 2_000


def least_time_of_slots(sizes, slots, hop, latency, delay):
    """As `least_time`, with a separator whose hops are not those of the slots that its stems are put into."""
    there, ready, least, slot = 0, {}, None, 0
    for n in sizes:
        p = there
        there += n
        pushed = there // slots * slots
        out = pushed // hop * hop - latency
        while (slot + 1) * slots <= out:
            ready[slot] = there
            slot += 1
        wanted = p - delay + n + FADE_SAMPLES
        for k in range(max(0, p - delay) // slots, -(-wanted // slots) if wanted > 0 else 0):
            time = there - ready.get(k, 10**9)
            least = time if least is None else min(least, time)
    return least


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("slots", "hop", "latency"), [(512, 1024, 3072), (512, 128, 128), (128, 512, 512)])
def test_a_separator_in_slots_of_another_hop(block, slots, hop, latency):
    grid = grid_hop(hop, 44_100, slots)
    budget = Budget(
        rate_hz=44_100,
        hop=max(hop, slots),
        grid_samples=grid,
        block_samples=block,
        separator_samples=live_latency_samples(hop, latency, 44_100, grid),
    )
    simulated = least_time_of_slots([block] * (200_000 // block), slots, hop, latency, budget.delay_samples)
    assert simulated == worker_time_samples(budget)
    assert simulated >= max(hop, slots) - FADE_SAMPLES


@pytest.mark.parametrize("block", BLOCKS)
def test_slots_of_half_a_hop_cost_no_latency(block):
    """A club profile in slots of 512 waits as long as it would in slots of its own hop."""
    own = Budget(rate_hz=44_100, hop=1024, block_samples=block, separator_samples=3072)
    grid = grid_hop(1024, 44_100, 512)
    latency = live_latency_samples(1024, 3072, 44_100, grid)
    cut = Budget(rate_hz=44_100, hop=1024, grid_samples=grid, block_samples=block, separator_samples=latency)
    assert cut.delay_samples == own.delay_samples


def test_changing_blocks_in_slots_of_half_a_hop():
    budget = Budget(
        rate_hz=44_100,
        hop=1024,
        grid_samples=1024,
        block_samples=0,
        largest_block=2048,
        separator_samples=3072,
    )
    chance = random.Random(1)
    sizes = [chance.randrange(1, 2049) for _ in range(4_000)]
    simulated = least_time_of_slots(sizes, 512, 1024, 3072, budget.delay_samples)
    assert simulated >= worker_time_samples(budget) >= 1024
