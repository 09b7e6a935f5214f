"""An insert at work: constant delay, moves without clicks, and what must not be heard."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from effect_rig import HOP, RATE_HZ, Fake, fake_effect, insert_run, noise, played, sine, steepness

from stemrack.rt import inserts
from stemrack.rt.inserts import (
    MAX_RESETS,
    RAMP_S,
    RESET_SPAN_S,
    SETTLE_HOPS,
    SLOW_S,
    SLOW_SHARE,
    SUB_BLOCK,
    needs_rebuild,
    rise,
)

EFFECT = fake_effect()
BLEND_BOUND, RAMP_BOUND = 2.0, 3.0
"""Of the largest second difference of a sine of 110 Hz, against that of the steady ends."""


def wet_run(gain=2.0, *, held=0, twin=False, **values):
    """Return an insert whose effect makes it louder, and the fakes in it."""
    fakes = [Fake(EFFECT, {"gain": gain}, held=held) for _ in range(2 if twin else 1)]
    return insert_run(EFFECT, fakes[0], fakes[1] if twin else None, **values), fakes


def late(x, samples):
    return np.concatenate([np.zeros((2, samples), np.float32), x], axis=1)[:, : x.shape[1]]


def move(run, **changes):
    """Return what moves an insert to other values, as an order does."""
    before = run.insert
    own = {k: changes.pop(k) for k in ("bypass", "dry_wet") if k in changes}
    after = replace(before, values={**before.values, **changes}, **own)
    return run.move_to(before, after)


# -- delay, dry and wet -------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [0, 1, 220, 512, 1300])
@pytest.mark.parametrize("dry_wet", [0.0, 0.25, 1.0])
def test_dry_and_wet_are_the_same_sample_of_the_music(held, dry_wet):
    run, _ = wet_run(3.0, held=held, dry_wet=dry_wet)
    x = noise(8)
    y, told = played(run, x)
    np.testing.assert_allclose(y, late(x, held) * (1.0 + 2.0 * dry_wet), atol=1e-6)
    assert (run.latency_samples, told) == (held, [])


def test_one_that_begins_bypassed_is_a_wire_without_latency():
    run = insert_run(EFFECT, None, bypass=True)
    x = noise(3)
    y, _ = played(run, x)
    np.testing.assert_array_equal(y, x)
    assert run.latency_samples == 0


def test_one_that_gives_back_less_than_it_was_measured_to_gives_a_hop_for_a_hop():
    run, (fake,) = wet_run(1.0, held=100)
    fake.held = 300
    y, _ = played(run, noise(6))
    assert y.shape == (2, 6 * HOP)


@pytest.mark.parametrize("held", [0, 220, 1300])
def test_bypass_fades_to_dry_and_keeps_the_delay(held):
    run, (fake,) = wet_run(2.0, held=held)
    x = sine(30 * HOP)
    y, told = played(run, x, {15: lambda: move(run, bypass=True)()})
    np.testing.assert_allclose(y[:, : 15 * HOP], 2.0 * late(x, held)[:, : 15 * HOP], atol=1e-6)
    np.testing.assert_allclose(y[:, 16 * HOP :], late(x, held)[:, 16 * HOP :], atol=1e-6)
    assert steepness(y[:, 2000:]) <= BLEND_BOUND * steepness(2.0 * x)
    assert (fake.n_calls, run.latency_samples, told) == (16, held, [])


def test_a_bypassed_effect_that_changes_nothing_is_not_noticed():
    run, _ = wet_run(1.0, held=700)
    x = noise(20)
    y, _ = played(run, x, {9: lambda: move(run, bypass=True)()})
    np.testing.assert_array_equal(y, late(x, 700))


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.2, 0.7)])
def test_dry_wet_is_moved_without_a_step(shares):
    run, _ = wet_run(-1.0, held=220, dry_wet=shares[0])
    x = sine(20 * HOP)
    y, _ = played(run, x, {10: lambda: move(run, dry_wet=shares[1])()})
    assert steepness(y[:, 2000:]) <= BLEND_BOUND * steepness(x)
    np.testing.assert_allclose(y[:, 11 * HOP :], late(x, 220)[:, 11 * HOP :] * (1 - 2 * shares[1]), atol=1e-6)


def test_many_moves_of_dry_wet_one_a_hop_leave_no_step():
    run, _ = wet_run(-1.0)
    x = sine(40 * HOP)
    edits = {i: lambda i=i: move(run, dry_wet=float(i % 2))() for i in range(5, 35)}
    y, _ = played(run, x, edits)
    assert steepness(y) <= BLEND_BOUND * steepness(x)


# -- parameters ---------------------------------------------------------------------------------------------


def test_a_ramp_goes_in_small_steps_and_ends_at_the_value():
    run, fakes = wet_run(1.0, twin=True)
    played(run, noise(9), {2: lambda: move(run, ramped=3.0)()})
    n_steps = round(RAMP_S * RATE_HZ / SUB_BLOCK)
    for fake in fakes:
        steps = [value for name, value in fake.sets if name == "ramped"]
        np.testing.assert_allclose(steps, np.linspace(1.0, 3.0, n_steps + 1)[1:])
        assert steps[-1] == 3.0


def test_a_ramp_of_frequencies_goes_in_ratios():
    parameters = tuple(replace(p, is_log=True, lowest=1.0) for p in EFFECT.parameters)
    effect = replace(EFFECT, parameters=parameters)
    fake = Fake(effect)
    run = insert_run(effect, fake)
    played(run, noise(9), {1: lambda: move(run, ramped=4.0)()})
    steps = np.array([value for name, value in fake.sets if name == "ramped"])
    np.testing.assert_allclose(steps[1:] / steps[:-1], 4.0 ** (1.0 / len(steps)))


def test_a_ramp_that_is_moved_again_goes_on_from_where_it_is():
    run, (fake,) = wet_run(1.0)
    played(run, noise(12), {1: lambda: move(run, ramped=3.0)(), 3: lambda: move(run, ramped=0.0)()})
    steps = np.array([value for name, value in fake.sets if name == "ramped"])
    assert np.abs(np.diff(steps)).max() < 0.05
    assert steps[-1] == 0.0


def test_a_ramp_leaves_no_step():
    run, _ = wet_run(1.0)
    x = sine(30 * HOP)
    y, _ = played(run, x, {10: lambda: move(run, ramped=0.2)(), 16: lambda: move(run, ramped=1.0)()})
    steps = np.abs(np.diff(y[0])).max() / np.abs(np.diff(x[0])).max()
    assert steps < RAMP_BOUND


@pytest.mark.parametrize("held", [0, 220, 1300])
def test_a_blended_value_is_heard_from_the_twin_once_it_has_settled(held):
    run, (one, two) = wet_run(1.0, held=held, twin=True)
    x = noise(24)
    y, _ = played(run, x, {8: lambda: move(run, blended=3.0)()})
    expected = late(x, held)
    settled = 8 + SETTLE_HOPS
    np.testing.assert_allclose(y[:, : settled * HOP], expected[:, : settled * HOP], atol=1e-6)
    later = (settled + 1) * HOP + held
    np.testing.assert_allclose(y[:, later:], 3.0 * expected[:, later:], atol=1e-6)
    assert (one.gain, two.gain) == (3.0, 3.0)


def test_a_blend_leaves_no_step():
    run, _ = wet_run(1.0, held=220, twin=True)
    x = sine(40 * HOP)
    y, _ = played(run, x, {10: lambda: move(run, blended=0.0)(), 22: lambda: move(run, blended=1.0)()})
    assert steepness(y[:, 2000:]) <= BLEND_BOUND * steepness(x)


def test_moves_faster_than_they_settle_end_at_the_newest_in_both():
    run, (one, two) = wet_run(1.0, twin=True)
    edits = {i: lambda i=i: move(run, blended=i / 10.0)() for i in range(1, 31)}
    played(run, noise(30 + 3 * SETTLE_HOPS), edits)
    for fake in (one, two):
        assert [value for name, value in fake.sets if name == "blended"][-1] == 3.0
        assert fake.gain == 3.0


def test_ten_thousand_moves_end_at_the_newest_of_each_in_both():
    run, (one, two) = wet_run(1.0, held=220, twin=True)
    rng = np.random.default_rng(4)
    newest = {}

    def some_moves():
        for _ in range(100):
            name = str(rng.choice(["ramped", "blended", "gain"]))
            newest[name] = float(rng.uniform(0.0, 4.0))
            move(run, **{name: newest[name]})()

    y, told = played(run, noise(130), dict.fromkeys(range(100), some_moves))
    for fake in (one, two):
        ends = dict(fake.sets)
        assert {name: ends[name] for name in newest} == newest
    assert {name: run.insert.values[name] for name in newest} == newest
    assert np.isfinite(y).all()
    assert told == []


def test_a_move_to_the_same_value_sets_nothing():
    run, (fake,) = wet_run(1.0)
    before = len(fake.sets)
    played(run, noise(4), {1: lambda: move(run, ramped=1.0, blended=1.0, gain=1.0)()})
    assert len(fake.sets) == before


# -- what is not finite -------------------------------------------------------------------------------------


def broken_at(*calls, value=np.nan):
    """Return answers with some samples that are not finite in some calls."""

    def answers(call, y):
        if call in calls:
            y = y.copy()
            y[1, y.shape[1] // 2 :] = value
        return y

    return answers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("held", [0, 220, 1300])
def test_a_hop_that_is_not_finite_is_replaced_and_the_effect_is_reset(held, value):
    run, (fake,) = wet_run(2.0, held=held)
    fake.answers = broken_at(12, value=value)
    x = sine(24 * HOP)
    y, told = played(run, x)
    assert np.isfinite(y).all()
    assert (told, fake.n_resets, run.is_given_up) == (["insert-reset"], 1, False)
    step = np.abs(np.diff(y[:, 2000:], axis=1)).max()
    assert step <= BLEND_BOUND * np.abs(np.diff(2.0 * x, axis=1)).max()


@pytest.mark.parametrize("held", [0, 1, 220, 512, 1300])
def test_it_comes_back_aligned(held):
    run, (fake,) = wet_run(2.0, held=held)
    fake.answers = broken_at(12)
    x = noise(26)
    y, _ = played(run, x)
    after = (11 + 3) * HOP + held
    np.testing.assert_allclose(y[:, after:], 2.0 * late(x, held)[:, after:], atol=1e-6)
    heard = slice(11 * HOP + 128, 12 * HOP)
    np.testing.assert_allclose(y[:, heard], late(x, held)[:, heard], atol=1e-6)


@pytest.mark.parametrize("held", [0, 220, 1300])
def test_where_the_effect_changes_nothing_not_a_sample_is_lost(held):
    run, (fake,) = wet_run(1.0, held=held)
    fake.answers = broken_at(7, 15)
    x = noise(24)
    y, told = played(run, x)
    np.testing.assert_allclose(y, late(x, held), atol=1e-6)
    assert told == ["insert-reset"] * 2


def test_a_twin_is_reset_too_and_its_moves_are_not_lost():
    run, (one, two) = wet_run(1.0, held=220, twin=True)
    one.answers = broken_at(11)
    x = noise(30)
    y, _ = played(run, x, {9: lambda: move(run, blended=3.0)()})
    assert (one.n_resets, two.n_resets) == (1, 1)
    np.testing.assert_allclose(y[:, 20 * HOP :], 3.0 * late(x, 220)[:, 20 * HOP :], atol=1e-6)


@pytest.fixture
def clock(monkeypatch):
    """Calls that take what a test says; the machine's own time is not to be had."""
    now = SimpleNamespace(took_s=0.0)
    monkeypatch.setattr(inserts, "time", None)
    monkeypatch.setattr(inserts, "_Watch", lambda: SimpleNamespace(took_s=now.took_s))
    return now


def test_after_too_many_resets_it_is_given_up(clock):
    run, (fake,) = wet_run(2.0, held=220)
    fake.answers = broken_at(*range(3, 40, 3))
    x = noise(40)
    y, told = played(run, x)
    assert told == ["insert-reset"] * MAX_RESETS + ["insert-bypassed"]
    assert run.is_given_up
    n_calls = 3 * (MAX_RESETS + 1)
    assert (fake.n_calls, run.latency_samples) == (n_calls, 220)
    np.testing.assert_allclose(y[:, n_calls * HOP :], late(x, 220)[:, n_calls * HOP :], atol=1e-6)


def test_resets_far_apart_are_no_reason_to_give_up(clock):
    """Far apart in the sound: how fast a machine renders a file decides nothing."""
    run, (fake,) = wet_run(2.0)
    apart = int(np.ceil(1.01 * RESET_SPAN_S / MAX_RESETS * RATE_HZ / HOP))
    fake.answers = broken_at(*range(apart, 10 * apart + 1, apart))
    _, told = played(run, noise(10 * apart + 1))
    assert told == ["insert-reset"] * 10


def test_one_that_cannot_be_reset_is_given_up_at_once():
    effect = fake_effect(can_reset=False)
    fake = Fake(effect)
    fake.answers = broken_at(4)
    run = insert_run(effect, fake)
    x = noise(8)
    y, told = played(run, x)
    np.testing.assert_array_equal(y, x)
    assert (told, fake.n_resets, fake.n_calls) == (["insert-bypassed"], 0, 4)


def test_one_that_is_given_up_stays_dry_when_its_values_are_moved():
    run, _ = wet_run(2.0, dry_wet=0.5)
    run.give_up()
    x = noise(8)
    y, _ = played(run, x, {4: lambda: move(run, dry_wet=1.0, ramped=3.0)()})
    np.testing.assert_array_equal(y[:, HOP:], x[:, HOP:])


# -- what is slow -------------------------------------------------------------------------------------------


def test_one_that_takes_too_long_on_the_average_is_faded_to_dry_and_told_of(clock):
    run, (fake,) = wet_run(2.0, held=220)
    hop_s = HOP / RATE_HZ
    clock.took_s = 4.0 * SLOW_SHARE * hop_s
    n_expected = int(np.ceil(np.log(0.75) / np.log(1.0 - hop_s / SLOW_S)))
    x = sine((n_expected + 12) * HOP)
    y, told = played(run, x)
    assert (told, fake.n_calls) == (["insert-bypassed"], n_expected)
    assert run.worst_us == pytest.approx(1e6 * clock.took_s)
    assert steepness(y[:, 2000:]) <= BLEND_BOUND * steepness(2.0 * x)
    np.testing.assert_allclose(y[:, n_expected * HOP :], late(x, 220)[:, n_expected * HOP :], atol=1e-6)


def test_one_that_takes_nearly_as_long_as_it_may_is_left_alone(clock):
    run, (fake,) = wet_run(2.0)
    clock.took_s = 0.99 * SLOW_SHARE * HOP / RATE_HZ
    _, told = played(run, noise(1000))
    assert (told, fake.n_calls) == ([], 1000)
    assert run.mean_us == pytest.approx(1e6 * clock.took_s, rel=0.01)


def test_a_single_long_call_is_no_reason(clock):
    run, _ = wet_run(2.0)
    edits = {5: lambda: setattr(clock, "took_s", 0.2), 6: lambda: setattr(clock, "took_s", 0.001)}
    _, told = played(run, noise(100), edits)
    assert told == []


def test_the_watch_leaves_out_what_others_took(monkeypatch):
    taken, cpu_s, wall_s = iter([7, 8]), iter([1.0, 1.002]), iter([50.0, 50.3])
    monkeypatch.setattr(inserts, "_times_taken_away", lambda: next(taken))
    own = SimpleNamespace(thread_time=lambda: next(cpu_s), perf_counter=lambda: next(wall_s))
    monkeypatch.setattr(inserts, "time", own)
    assert inserts._Watch().took_s == pytest.approx(0.002)


def test_the_watch_counts_what_an_effect_sleeps(monkeypatch):
    wall_s = iter([50.0, 50.3])
    monkeypatch.setattr(inserts, "_times_taken_away", lambda: 7)
    own = SimpleNamespace(thread_time=lambda: 1.0, perf_counter=lambda: next(wall_s))
    monkeypatch.setattr(inserts, "time", own)
    assert inserts._Watch().took_s == pytest.approx(0.3)


# -- what must be made anew ---------------------------------------------------------------------------------


def test_only_what_no_ramp_leads_to_needs_a_rebuild():
    run, _ = wet_run()
    insert = run.insert
    moved = replace(insert, values={**insert.values, "ramped": 2.0, "blended": 2.0, "gain": 3.0}, dry_wet=0.3)
    assert not needs_rebuild(insert, moved, EFFECT)
    assert not needs_rebuild(insert, replace(insert, bypass=True), EFFECT)
    assert needs_rebuild(replace(insert, bypass=True), insert, EFFECT)
    assert needs_rebuild(insert, replace(insert, state="AAAA"), EFFECT)
    assert needs_rebuild(insert, replace(insert, name="other"), EFFECT)
    assert needs_rebuild(insert, replace(insert, values={**insert.values, "built": 2.0}), EFFECT)


def test_a_rise_has_level_ends_and_ends_at_one():
    up = rise(512)
    assert up[-1] == 1.0
    assert up[0] < 1e-4
    assert (np.diff(up) >= 0.0).all()
