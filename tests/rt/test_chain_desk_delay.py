"""The delay that follows the latency of the effects, and chains for which there is no room."""

from dataclasses import replace

import pytest
from desk_rig import BEGINNING, EQ, FOREIGN, HOP_SAMPLES, PLAN, TABLE, TOO_LATE, faded, in_force
from effect_rig import neutral

from stemrack.rt.atomics import load, store
from stemrack.rt.block import (
    DELAY_SAMPLES,
    EFFECTS_ALLOWED,
    EFFECTS_SAMPLES,
    EFFECTS_WANTED,
    NEXT_DELAY,
)
from stemrack.rt.chain_desk import ChainDesk, change_delay, check_room, is_settled
from stemrack.rt.chains import Chains
from stemrack.rt.errors import EngineStateError


def test_without_a_change_of_latency_nothing_is_done(desk, block, audio, notes):
    assert desk.follow(PLAN, audio, HOP_SAMPLES) is PLAN
    assert (audio.plans, notes, load(block.words, NEXT_DELAY)) == ([], [], 2048)


def test_for_more_latency_the_delay_is_longer_before_it_is_allowed(desk, block, audio, notes):
    store(block.words, EFFECTS_WANTED, 220)
    plan = desk.follow(PLAN, audio, HOP_SAMPLES)
    assert plan.delay_samples == load(block.words, NEXT_DELAY) == 2048 + 512
    assert load(block.words, EFFECTS_ALLOWED) == 0
    assert desk.follow(plan, audio, HOP_SAMPLES) is plan
    assert load(block.words, EFFECTS_ALLOWED) == 0
    faded(block)
    assert desk.follow(plan, audio, HOP_SAMPLES) is plan
    assert load(block.words, EFFECTS_ALLOWED) == 512
    assert audio.plans == [plan]
    assert notes == [("delay-changed", {"effects_samples": 512, "delay_ms": round(2560 / 44.1, 1)})]


def raised(desk, block, audio, samples=1700):
    """Return the plan once so much latency is in force."""
    store(block.words, EFFECTS_WANTED, samples)
    plan = desk.follow(PLAN, audio, HOP_SAMPLES)
    faded(block)
    desk.follow(plan, audio, HOP_SAMPLES)
    store(block.words, EFFECTS_SAMPLES, samples)
    return plan


def test_for_less_latency_the_delay_follows_the_worker(desk, block, audio):
    plan = raised(desk, block, audio)
    store(block.words, EFFECTS_WANTED, 220)
    assert desk.follow(plan, audio, HOP_SAMPLES) is plan
    store(block.words, EFFECTS_SAMPLES, 220)
    shorter = desk.follow(plan, audio, HOP_SAMPLES)
    assert shorter.delay_samples == load(block.words, NEXT_DELAY) == 2048 + 512
    faded(block)
    assert desk.follow(shorter, audio, HOP_SAMPLES) is shorter
    assert load(block.words, EFFECTS_ALLOWED) == 512


def test_while_the_delay_gets_shorter_no_more_is_allowed_than_it_will_have(desk, block, audio):
    """Else the worker takes room that is just going, and its stems come late."""
    plan = raised(desk, block, audio)
    store(block.words, EFFECTS_WANTED, 0)
    store(block.words, EFFECTS_SAMPLES, 0)
    assert desk.follow(plan, audio, HOP_SAMPLES).delay_samples == 2048
    assert load(block.words, EFFECTS_ALLOWED) == 0


def test_hops_of_a_longer_separator_count(desk, block, audio):
    store(block.words, EFFECTS_WANTED, 220)
    assert desk.follow(PLAN, audio, 2048).delay_samples == 4096


def test_where_no_stream_runs_the_next_one_has_the_delay(desk, block, audio):
    audio.state = "waiting"
    store(block.words, EFFECTS_WANTED, 220)
    plan = desk.follow(PLAN, audio, HOP_SAMPLES)
    assert (plan.delay_samples, audio.plans) == (2560, [plan])
    assert load(block.words, NEXT_DELAY) == 2048


def test_a_stream_that_comes_back_with_the_delay_of_before_gets_that_of_now(desk, block, audio):
    """The audio process waits with the plan that there was when the device went."""
    audio.state = "waiting"
    store(block.words, EFFECTS_WANTED, 220)
    plan = desk.follow(PLAN, audio, HOP_SAMPLES)
    block.words[DELAY_SAMPLES] = block.words[NEXT_DELAY] = PLAN.delay_samples
    audio.state = "running"
    assert desk.follow(plan, audio, HOP_SAMPLES) is plan
    assert load(block.words, NEXT_DELAY) == 2560
    faded(block)
    assert desk.follow(plan, audio, HOP_SAMPLES) is plan
    assert load(block.words, EFFECTS_ALLOWED) == 512


def test_without_a_stream_too_there_must_be_room(desk, block, audio, notes):
    audio.state = "waiting"
    desk.set_target(Chains())
    store(block.words, EFFECTS_WANTED, TOO_LATE)
    assert desk.follow(PLAN, audio, HOP_SAMPLES) is PLAN
    assert (desk.target, audio.plans, [kind for kind, _ in notes]) == (BEGINNING, [], ["chain-refused"])


def test_before_a_stream_the_chains_there_are_have_room(desk, block):
    store(block.words, EFFECTS_WANTED, 220)
    desk.plan(desk.needed_samples(HOP_SAMPLES))
    assert desk.planned_samples == load(block.words, EFFECTS_ALLOWED) == 512
    desk.plan(desk.needed_samples(2048))
    assert desk.planned_samples == load(block.words, EFFECTS_ALLOWED) == 2048


def test_effects_get_time_of_which_no_latency_may_be_had(block, audio):
    desk = ChainDesk(block, TABLE, {}, BEGINNING, lambda kind, facts: None, allowance_samples=300)
    desk.plan(desk.needed_samples(HOP_SAMPLES))
    assert (desk.planned_samples, desk.planned_parts) == (300, (0, 300))
    block.words[DELAY_SAMPLES] = block.words[NEXT_DELAY] = PLAN.delay_samples + 300
    assert load(block.words, EFFECTS_ALLOWED) == 0
    store(block.words, EFFECTS_WANTED, 220)
    plan = desk.follow(replace(PLAN, delay_samples=PLAN.delay_samples + 300), audio, HOP_SAMPLES)
    assert plan.delay_samples == PLAN.delay_samples + 300 + 512
    assert desk.planned_parts == (512, 300)
    store(block.words, DELAY_SAMPLES, plan.delay_samples)  # the callback has faded to it
    desk.follow(plan, audio, HOP_SAMPLES)
    assert load(block.words, EFFECTS_ALLOWED) == 512


def test_without_effects_there_is_no_time_for_them(block, audio):
    desk = ChainDesk(block, TABLE, {}, Chains(), lambda kind, facts: None, allowance_samples=300)
    desk.plan(desk.needed_samples(HOP_SAMPLES))
    assert desk.planned_samples == 0
    desk.set_target(BEGINNING)
    plan = desk.follow(PLAN, audio, HOP_SAMPLES)
    assert plan.delay_samples == PLAN.delay_samples + 300
    store(block.words, DELAY_SAMPLES, plan.delay_samples)
    desk.set_target(Chains())
    assert desk.follow(plan, audio, HOP_SAMPLES) == PLAN


def test_chains_without_room_are_refused_and_the_accepted_ones_wanted_again(desk, block, audio, notes):
    desk.set_target(Chains())
    store(block.words, EFFECTS_WANTED, TOO_LATE)
    assert desk.follow(PLAN, audio, HOP_SAMPLES) is PLAN
    assert desk.target == BEGINNING
    assert (desk.settings_now().revision, desk.planned_samples) == (3, 0)
    kind, facts = notes[0]
    room = 128 * 512 - 512 - 2 * 512
    said = f"with these effects the delay is {TOO_LATE + 2048} samples, there is room for {room}"
    assert kind == "chain-refused"
    assert facts == {"why": f"{said}: take out what is that late"}
    assert load(block.words, NEXT_DELAY) == 2048
    desk.follow(PLAN, audio, HOP_SAMPLES)
    assert len(notes) == 1


def test_it_goes_back_to_the_chains_that_were_heard_last(desk, block, audio):
    """Edits come faster than they are heard."""
    heard = Chains(drums=(EQ,))
    desk.set_target(heard)
    desk.set_target(Chains(vocals=(neutral("pitch_shift"),)))
    in_force(desk, block, 2)
    store(block.words, EFFECTS_WANTED, TOO_LATE)
    desk.follow(PLAN, audio, HOP_SAMPLES)
    assert desk.target == heard


def test_what_was_bypassed_meanwhile_stays_so_when_chains_are_refused(desk, block, audio, notes):
    desk.set_target(replace(BEGINNING, bass=(neutral("pitch_shift"),)))
    desk.bypass(["drums/hostile"], "it was slow")
    store(block.words, EFFECTS_WANTED, TOO_LATE)
    desk.follow(PLAN, audio, HOP_SAMPLES)
    assert desk.target == replace(BEGINNING, drums=(EQ, replace(FOREIGN, bypass=True)))
    desk.follow(PLAN, audio, HOP_SAMPLES)  # the worker has not gone back yet
    assert [kind for kind, _ in notes] == ["insert-bypassed", "chain-refused"]


def test_chains_that_are_heard_are_what_is_gone_back_to(desk, block, audio):
    heard = Chains(drums=(EQ,))
    desk.set_target(heard)
    in_force(desk, block, 2)
    desk.set_target(Chains(vocals=(neutral("pitch_shift"),)))
    store(block.words, EFFECTS_WANTED, TOO_LATE)
    desk.follow(PLAN, audio, HOP_SAMPLES)
    assert desk.target == heard


def test_the_longest_delay_that_has_room_is_taken(block):
    room = block.delay_room
    check_room(block, room)
    change_delay(block, room)
    assert (load(block.words, NEXT_DELAY), is_settled(block)) == (room, False)
    with pytest.raises(EngineStateError, match=f"there is room for {room}"):
        check_room(block, room + 1)
