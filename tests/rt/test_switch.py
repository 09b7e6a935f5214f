"""A change of profile in one thread: two workers and the callback in turn, heard sample by sample."""

import numpy as np
import pytest
from fake_device import music
from share_separator import Shares, club, live, live_of_other_networks

from stemrack.latency.budget import Budget
from stemrack.rt import worker
from stemrack.rt.atomics import load, store
from stemrack.rt.block import (
    ACTIVE_WORKER,
    DELAY_FADE_SAMPLES,
    DELAY_SAMPLES,
    FADE_BEGIN,
    NOWHERE,
    POSITION,
    Geometry,
    make_block,
    slot_hop,
)
from stemrack.rt.meters import counters
from stemrack.rt.params import Fader, MixerState, ParameterWriter
from stemrack.rt.pipeline import grid_hop, live_latency_samples
from stemrack.rt.stream import StreamPlan, begin_stream
from stemrack.rt.switch import plan_hand_over
from stemrack.rt.virtual import VirtualDevice

BLOCKS = [(64,), (256,), (441,), (1024,), (1, 7, 300, 1024, 64, 513)]
ROUNDING = 2.0**-21
DRUMS_ALONE = MixerState(drums=Fader(solo=True))
SOLO_RAMP = 1_000
"""More samples than the faders' own ramp at the beginning takes."""


SWITCHES = {
    "up": (live, club),
    "down": (club, live),
    "same": (live, live_of_other_networks),
    "same, long": (club, lambda: Shares(1024, 3072, (0.25, 0.25, 0.25, 0.25))),
}


def budget_for(separator, blocks, slots, rate_hz=44_100):
    grid = grid_hop(separator.hop, rate_hz, slots)
    block = blocks[0] if len(blocks) == 1 else 0
    return Budget(
        rate_hz=rate_hz,
        hop=max(separator.hop, slots),
        grid_samples=grid,
        block_samples=block,
        largest_block=max(blocks),
        separator_samples=live_latency_samples(separator.hop, separator.latency_samples, rate_hz, grid),
    )


class Switching:
    """An engine whose second worker listens from the beginning, and takes over when `hand_over` is called."""

    def __init__(self, first, second, blocks, *, mixer=None, rate_hz=44_100, delays=None):
        slots = slot_hop(first.hop)
        self.block = make_block(Geometry(hop=slots))
        self.before, self.after = delays or (
            budget_for(separator, blocks, slots, rate_hz).delay_samples for separator in (first, second)
        )
        begin_stream(self.block, StreamPlan(rate_hz=rate_hz, delay_samples=self.before, start_ramp_samples=0))
        self.device = VirtualDevice(self.block)
        self.workers = [worker.HopLoop(self.block, s, k) for k, s in enumerate((first, second))]
        self.works = [True, True]
        self.writer = ParameterWriter(self.block, rate_hz)
        self.writer.set_target(mixer or MixerState())
        self.done = None
        self.counted = []
        self._blocks, self._turn = blocks, 0

    def hand_over(self):
        self.done = plan_hand_over(self.block, 1, self.after)

    def play(self, x, at=None, before_block=lambda position: None):
        """Return what is heard; the hand-over is decided before the block that holds position `at`."""
        outs, position = [], 0
        while position < x.shape[1]:
            n = min(self._blocks[self._turn % len(self._blocks)], x.shape[1] - position)
            self._turn += 1
            if at is not None and self.done is None and position + n > at:
                self.hand_over()
            before_block(position)
            outs.append(self.device.play(x[:, position : position + n]))
            for k, one in enumerate(self.workers):
                if self.works[k]:
                    one.poll()
            if self.workers[0].finished and load(self.block.words, ACTIVE_WORKER) == 0:
                store(self.block.words, ACTIVE_WORKER, 1)  # as the supervisor does once it is gone
            self.writer.poll()
            self.counted.append(counters(self.block))
            position += n
        return np.concatenate(outs, axis=1)

    def fade_share(self, n):
        """Share of the new delay at each output position."""
        q = np.arange(n)
        if self.before == self.after:
            return np.zeros(n)
        return np.clip((q - self.done.begin) / DELAY_FADE_SAMPLES, 0.0, 1.0)

    def expected(self, x, shares=(1.0, 1.0)):
        """The cross-fade of both paths; shares: of the one stem that is heard, before and after."""
        n = x.shape[1]
        y = np.arange(n)
        hop = slot_hop(self.workers[0]._separator.hop)
        known = np.clip((y - self.done.position + 0.5) / hop, 0.0, 1.0)
        stem = x * (shares[0] + known * (shares[1] - shares[0]))
        f = self.fade_share(n)
        old, new = (np.pad(stem, ((0, 0), (d, 0)))[:, :n] for d in (self.before, self.after))
        return (1.0 - f) * old + f * new

    def is_calm(self):
        found = counters(self.block)
        return {k: found[k] for k in ("late_hops", "fallbacks", "dry_samples", "bad_stem_samples", "is_dry")}


CALM = {"late_hops": 0, "fallbacks": 0, "dry_samples": 0, "bad_stem_samples": 0, "is_dry": 0}


@pytest.fixture
def puts(monkeypatch):
    """Stamps of all hops that were put, in order."""
    stamps = []
    put = worker.put_slot

    def noted(all_stamps, slots, stamp, stems):
        stamps.append(int(stamp))
        put(all_stamps, slots, stamp, stems)

    monkeypatch.setattr(worker, "put_slot", noted)
    return stamps


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("name", SWITCHES)
def test_open_faders_give_exactly_the_cross_fade_of_both_delays(name, blocks, puts):
    first, second = (make() for make in SWITCHES[name])
    engine = Switching(first, second, blocks)
    x = music(60_000)
    y = engine.play(x, at=20_000)
    assert np.abs(y - engine.expected(x)).max() <= ROUNDING
    assert engine.is_calm() == CALM
    assert load(engine.block.words, DELAY_SAMPLES) == engine.after
    assert engine.workers[0].finished
    assert not engine.workers[1].finished
    # no slot by two, none by nobody: the hop that is handed over too
    assert sorted(puts) == list(range(0, max(puts) + 1, 512))


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("name", SWITCHES)
def test_a_single_stem_is_faded_at_the_hop_and_with_the_delay(name, blocks):
    first, second = (make() for make in SWITCHES[name])
    engine = Switching(first, second, blocks, mixer=DRUMS_ALONE)
    x = music(60_000)
    y = engine.play(x, at=20_000)
    wanted = engine.expected(x, (first.shares[0], second.shares[0]))
    assert np.abs(y - wanted)[:, SOLO_RAMP:].max() <= ROUNDING
    assert engine.is_calm() == CALM


@pytest.mark.parametrize("name", SWITCHES)
def test_blocks_change_no_bit_of_a_switch(name):
    x, outs = music(50_000), []
    for blocks in ((64,), (1, 7, 300, 1024, 64, 513)):
        first, second = (make() for make in SWITCHES[name])
        delays = tuple(6_000 if s.hop == 512 else 9_000 for s in (first, second))
        engine = Switching(first, second, blocks, mixer=DRUMS_ALONE, delays=delays)
        begun = engine.play(x[:, :18_432])
        engine.hand_over()
        outs.append(np.concatenate([begun, engine.play(x[:, 18_432:])], axis=1))
        assert engine.is_calm() == CALM
    assert np.array_equal(*outs)


@pytest.mark.parametrize("name", ["up", "down"])
def test_a_constant_stays_a_constant(name):
    first, second = (make() for make in SWITCHES[name])
    engine = Switching(first, second, (256,))
    y = engine.play(np.full((2, 50_000), 0.3, np.float32), at=20_000)
    assert np.abs(y[:, engine.before + 1 :] - 0.3).max() < 1e-7


def test_counters_never_go_back_and_count_both():
    engine = Switching(live(), club(), (256,))
    engine.play(music(60_000), at=20_000)
    for name in engine.counted[0]:
        values = [c[name] for c in engine.counted]
        assert name == "is_dry" or values == sorted(values)
    ended = engine.done.position + 512 + 512  # what the old one left waits for its latency
    assert engine.counted[-1]["hops"] == pytest.approx(ended // 512 + 60_000 // 1024, abs=2)
    assert engine.counted[-1]["skipped_hops"] == 0


@pytest.mark.parametrize("name", ["up", "down", "same"])
def test_a_next_worker_that_is_late_leaves_the_mixture_until_it_comes(name):
    first, second = (make() for make in SWITCHES[name])
    engine = Switching(first, second, (256,))
    x = music(80_000)

    def hold(position):
        engine.works[1] = not 22_000 <= position < 36_000

    y = engine.play(x, at=20_000, before_block=hold)
    assert np.abs(y - engine.expected(x)).max() <= ROUNDING
    found = engine.is_calm()
    assert found["fallbacks"] >= 1
    assert found["late_hops"] >= 1
    assert found["is_dry"] == 0
    assert found["dry_samples"] > 5_000


@pytest.mark.parametrize("name", ["up", "down", "same"])
def test_a_worker_that_dies_before_it_hands_over_leaves_a_gap_of_stems_and_none_of_sound(name, puts):
    first, second = (make() for make in SWITCHES[name])
    engine = Switching(first, second, (256,))
    x = music(60_000)

    def kill(position):
        if engine.done and position > engine.done.position - 1_024:
            engine.works[0] = False

    y = engine.play(x, at=20_000, before_block=kill)
    assert np.abs(y - engine.expected(x)).max() <= ROUNDING
    assert engine.is_calm()["fallbacks"] >= 1
    assert engine.is_calm()["is_dry"] == 0
    assert engine.done.position in puts  # by the next one alone
    assert len(puts) == len(set(puts))


def test_a_next_worker_that_never_comes_leaves_the_mixture_at_its_delay():
    engine = Switching(live(), club(), (256,))
    x = music(60_000)

    def kill(position):
        engine.works[1] = position < 20_000

    y = engine.play(x, at=20_000, before_block=kill)
    assert np.abs(y - engine.expected(x)).max() <= ROUNDING
    assert engine.is_calm()["is_dry"] == 1


def test_a_stream_that_begins_anew_in_a_change_has_the_delay_of_its_plan():
    engine = Switching(live(), club(), (256,))
    x = music(60_000)
    engine.play(x[:, :22_016])
    engine.hand_over()
    while load(engine.block.words, FADE_BEGIN) == NOWHERE:
        engine.play(x[:, :256])
    begin_stream(engine.block, StreamPlan(rate_hz=44_100, delay_samples=engine.after, start_ramp_samples=0))
    origin = load(engine.block.words, POSITION)
    assert load(engine.block.words, FADE_BEGIN) == NOWHERE
    y = engine.play(x)
    assert np.abs(y[:, engine.after :] - x[:, : -engine.after]).max() <= ROUNDING
    assert origin % 512 == 0
    assert counters(engine.block)["is_dry"] == 0


@pytest.mark.parametrize("rate_hz", [48_000, 22_050])
@pytest.mark.parametrize("name", ["up", "down"])
def test_at_another_rate(name, rate_hz):
    first, second = (make() for make in SWITCHES[name])
    engine = Switching(first, second, (256,), rate_hz=rate_hz)
    x = music(70_000)
    y = engine.play(x, at=30_000)
    assert np.abs(y - engine.expected(x)).max() <= ROUNDING
    assert engine.is_calm() == CALM


def test_a_hand_over_is_planned_again_when_its_time_has_passed(monkeypatch):
    """The thread that decides is held up: what it thought of is over once the first word is stored."""
    from stemrack.rt import switch

    engine = Switching(live(), club(), (256,))
    engine.play(music(20_480))
    stores = []

    def held_up(words, index, value):
        store(words, index, value)
        stores.append(index)
        if len(stores) == 1:
            words[POSITION] += 10_000

    monkeypatch.setattr(switch, "store", held_up)
    engine.hand_over()
    assert engine.done.position > load(engine.block.words, POSITION)
    assert stores[0] == stores[1] == 124
