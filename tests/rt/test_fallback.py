"""Late stems: what is heard, in samples, against the promises of DESIGN 2."""

import itertools
import math

import numpy as np
import pytest
from fake_device import LockStep, music
from fake_separator import HOP, FakeSeparator, OneStem
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.rt.block import FADE_SAMPLES
from stemrack.rt.params import Fader, MixerState


class Inverted(OneStem):
    """Wet is the negative of dry: where the output lies between them is heard at once."""

    def _split(self, x, state):
        return -super()._split(x, state)


def play_with_gap(separator, blocks, first, last, n=40_000, x=None, state=None):
    """Play while the worker takes no turns for input positions first to last, and loses what it missed."""
    engine = LockStep(separator, blocks=blocks)
    if state:
        engine.writer.set_target(state)
    x = np.full((2, n), 0.5, np.float32) if x is None else x

    def work(at):
        engine.works = not first <= at < last

    return engine, engine.play(x, before_block=work)


def wet_of(engine, y):
    """Share of wet per input sample, where wet is -0.5 and dry 0.5."""
    return (0.5 - y[0, engine.delay :]) / 1.0


@pytest.mark.parametrize("blocks", [(32,), (100,), (256,), (441,), (1024,), (1, 7, 300, 1024, 64)], ids=str)
def test_stems_that_end_fade_to_dry_and_back_at_a_hop_border(monkeypatch, blocks):
    # the whole of FakeSeparator's pipeline makes stems sum to the mixture: take that away to hear wet and dry
    from stemrack.rt import pipeline

    monkeypatch.setattr(pipeline, "project_into", lambda s, x, w, out: None)
    engine, y = play_with_gap(Inverted(), blocks, 12_000, 25_000)
    wet = wet_of(engine, y)[HOP:]  # the stream's first hop comes out of a fresh separator
    assert wet.min() == pytest.approx(0.0, abs=1e-6)
    assert wet.max() == pytest.approx(1.0, abs=1e-6)
    steps = np.diff(wet)
    assert np.abs(steps).max() <= 1.0 / FADE_SAMPLES + 1e-6
    (starts,) = np.nonzero((steps[1:] != 0) & (steps[:-1] == 0))
    down, up = starts + 1 + HOP
    # it fades inside what it has: dry by the hop that was not there, and no earlier than a block before
    missing = -(-(down + FADE_SAMPLES) // HOP) * HOP
    assert down + FADE_SAMPLES <= missing <= down + FADE_SAMPLES + max(blocks)
    assert up % HOP == 0
    assert engine.counters["fallbacks"] == 1
    assert engine.counters["is_dry"] == 0
    n_dry = int(np.count_nonzero(wet < 1.0 - 1e-6))
    assert engine.counters["dry_samples"] == n_dry
    assert engine.counters["late_hops"] == pytest.approx(n_dry / HOP, abs=3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6), st.integers(16, 1100)
)
def test_the_sound_never_stops_whatever_the_worker_does(turns, block):
    """All faders open: wet and dry are the same, so nothing at all is heard of any fault."""
    engine = LockStep(FakeSeparator(), blocks=(block,))
    x = music(60_000)
    plan = [works for n_on, n_off in turns for works in [True] * n_on + [False] * n_off]
    calls = itertools.cycle(plan)

    def work(at):
        engine.works = next(calls)

    y = engine.play(x, before_block=work)
    assert np.abs(y[:, engine.delay :] - x[:, : x.shape[1] - engine.delay]).max() <= 2.0**-22


def test_dry_is_as_loud_as_the_loudest_stem_and_silence_stays_silence():
    x = np.full((2, 40_000), 0.5, np.float32)
    for state, wanted in [
        (
            MixerState(
                drums=Fader(gain_db=-20.0),
                bass=Fader(mute=True),
                other=Fader(mute=True),
                vocals=Fader(mute=True),
            ),
            0.05,
        ),
        (MixerState(**{s: Fader(mute=True) for s in ("drums", "bass", "other", "vocals")}), 0.0),
        (MixerState(vocals=Fader(solo=True, gain_db=-6.0), drums=Fader(gain_db=12.0)), 0.5 * 10 ** (-0.3)),
        (MixerState(master_db=-20.0), 0.05),
        (MixerState(master_db=-math.inf), 0.0),
    ]:
        engine, y = play_with_gap(OneStem(), (256,), 12_000, 40_000, x=x, state=state)
        assert engine.counters["is_dry"] == 1
        assert y[0, 20_000:30_000] == pytest.approx(wanted, abs=1e-6)


def test_dry_goes_to_other_where_there_is_no_main_pair():
    pairs = {"drums": (0, 1), "other": (2, 3)}
    engine = LockStep(OneStem(), n_out_channels=4, bus_channels=pairs)
    x = music(30_000)
    engine.works = False
    y = engine.play(x)
    assert not y[:2].any()
    late = engine.delay + HOP
    assert np.array_equal(y[2:, late + FADE_SAMPLES :], x[:, HOP + FADE_SAMPLES : x.shape[1] - engine.delay])


def test_no_hard_switch_is_heard():
    """Steps between samples stay what the music has: a hard switch of wet to dry would be 0.24 and more."""
    x = music(60_000)
    state = MixerState(vocals=Fader(gain_db=-40.0), drums=Fader(gain_db=-3.0))
    engine, y = play_with_gap(FakeSeparator(), (256,), 20_000, 40_000, x=x, state=state)
    calm, _ = play_with_gap(FakeSeparator(), (256,), 0, 0, x=x, state=state)
    natural = np.abs(np.diff(x)).max()
    assert engine.counters["fallbacks"] == 1
    assert np.abs(np.diff(y)).max() <= natural * 1.05 + 2.0 / FADE_SAMPLES
    assert calm.counters["fallbacks"] == 0


def test_recorded_stems_sum_to_the_mixture_also_while_dry():
    engine, _ = play_with_gap(FakeSeparator(), (256,), 12_000, 25_000, x=music(40_000))
    n = 30_000
    stems = engine.block.record[2:, engine.delay : engine.delay + n].reshape(4, 2, n)
    assert np.abs(stems.sum(axis=0) - music(40_000)[:, :n]).max() < 2.0**-21
