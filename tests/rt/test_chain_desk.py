"""The node's side of the chains, with the words of the block written as a worker and a callback would."""

import threading
from dataclasses import replace
from multiprocessing import Pipe
from queue import Queue
from types import SimpleNamespace

import pytest
from effect_rig import fake_effect, neutral

from stemrack.rt.atomics import load, store
from stemrack.rt.block import (
    DELAY_SAMPLES,
    EFFECTS_ALLOWED,
    EFFECTS_REVISION,
    EFFECTS_SAMPLES,
    EFFECTS_WANTED,
    HOP,
    LARGEST_BLOCK,
    N_SLOTS,
    NEXT_DELAY,
    Geometry,
    make_block,
)
from stemrack.rt.chain_desk import ChainDesk, change_delay, is_settled
from stemrack.rt.chains import Chains, Insert
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.effect_table import EffectTable
from stemrack.rt.errors import EngineStateError
from stemrack.rt.rack_thread import Costs, Happened
from stemrack.rt.stream import StreamPlan

HOP_SAMPLES = 512
PLAN = StreamPlan(rate_hz=44100, delay_samples=2048)
PLUGIN = fake_effect("hostile", plugin="/nowhere/hostile.vst3")
TABLE = EffectTable([*BUILT_IN, PLUGIN])
EQ, ROOM = neutral("peak_filter"), neutral("reverb")
FOREIGN = Insert(name="hostile", effect="hostile", values=PLUGIN.defaults)
BEGINNING = Chains(drums=(EQ, FOREIGN), vocals=(ROOM,))
TOO_LATE = 1 << 20
LIMIT_S = 10.0
"""After which a test gives up waiting; none takes it unless it fails."""


@pytest.fixture
def block():
    block = make_block(Geometry.for_separator(HOP_SAMPLES))
    block.words[HOP], block.words[N_SLOTS], block.words[LARGEST_BLOCK] = HOP_SAMPLES, 128, 512
    block.words[DELAY_SAMPLES] = block.words[NEXT_DELAY] = PLAN.delay_samples
    return block


@pytest.fixture
def notes():
    return []


@pytest.fixture
def desk(block, notes):
    desk = ChainDesk(block, TABLE, {}, BEGINNING, lambda kind, facts: notes.append((kind, facts)))
    yield desk
    desk.stop()


@pytest.fixture
def audio():
    plans = []
    return SimpleNamespace(state="running", replan=plans.append, plans=plans)


def in_force(desk, block, revision, samples=0):
    """Have the worker say that chains are in force."""
    store(block.words, EFFECTS_SAMPLES, samples)
    store(block.words, EFFECTS_REVISION, revision)
    desk.poll(None)


def faded(block):
    """Have the callback be done with its fade."""
    store(block.words, DELAY_SAMPLES, load(block.words, NEXT_DELAY))


# -- the target ---------------------------------------------------------------------------------------------


def test_a_worker_begins_with_the_newest_target(desk):
    assert (desk.settings_now().chains, desk.settings_now().revision) == (BEGINNING, 1)
    desk.set_target(Chains())
    desk.set_target(Chains())
    assert (desk.settings_now().chains, desk.settings_now().revision) == (Chains(), 2)


def test_a_bypass_keeps_all_other_values_and_inserts(desk, notes):
    desk.bypass(["drums/peak_filter"], "it was slow")
    bypassed = replace(EQ, bypass=True)
    assert desk.target == replace(BEGINNING, drums=(bypassed, FOREIGN))
    facts = {"stem": "drums", "insert": "peak_filter", "why": "it was slow"}
    assert notes == [("insert-bypassed", facts)]


def test_inserts_that_are_gone_are_not_bypassed(desk, notes):
    desk.bypass(["drums/reverb", "bass/peak_filter"], "late news")
    assert (desk.target, notes, desk.settings_now().revision) == (BEGINNING, [], 1)


@pytest.mark.parametrize(
    ("suspects", "bypassed"),
    [
        (["drums/peak_filter", "drums/hostile"], ["hostile"]),
        (["drums/peak_filter"], ["peak_filter"]),
        (["drums/peak_filter", "vocals/reverb"], ["peak_filter", "reverb"]),
        (["drums/gone", "drums/hostile"], ["hostile"]),
        (["drums/gone"], []),
        ([""], []),
    ],
)
def test_of_several_suspects_the_plugins_are_blamed(desk, notes, suspects, bypassed):
    desk.blame(suspects, "the worker ended in it")
    assert [facts["insert"] for _, facts in notes] == bypassed
    assert [i.name for _, chain in desk.target for i in chain if i.bypass] == bypassed


def test_names_that_a_crash_has_spoilt_are_blamed_on_nobody(desk, notes):
    desk.blame(["dru\ufffd/peak_filter", "with_chain/x", "/", "x"], "the worker ended in it")
    assert (desk.target, notes) == (BEGINNING, [])


# -- what the worker says -----------------------------------------------------------------------------------


def test_what_a_worker_says_is_heard(desk, notes):
    ours, theirs = Pipe()
    theirs.send(Costs({"drums/peak_filter": (12.5, 40.0)}))
    theirs.send(Happened("insert-reset", "vocals", "reverb", "not finite"))
    theirs.send(Happened("insert-bypassed", "vocals", "reverb", "not finite, often"))
    desk.poll(ours)
    assert desk.costs == {"drums/peak_filter": (12.5, 40.0)}
    assert [kind for kind, _ in notes] == ["insert-reset", "insert-bypassed"]
    assert desk.target == replace(BEGINNING, vocals=(replace(ROOM, bypass=True),))


def test_a_worker_that_died_in_the_middle_of_a_word_is_no_error(desk):
    ours, theirs = Pipe()
    theirs.send_bytes(b"")  # no pickle: EOFError
    theirs.close()
    desk.poll(ours)
    assert desk.target == BEGINNING


def test_it_is_settled_once_the_newest_chains_are_heard_with_their_delay(desk, block):
    assert desk.is_settled
    desk.set_target(Chains())
    assert not desk.is_settled
    in_force(desk, block, 2)
    assert desk.is_settled
    store(block.words, NEXT_DELAY, 4096)
    assert not desk.is_settled
    faded(block)
    assert desk.is_settled


# -- sending ------------------------------------------------------------------------------------------------


class Stuck:
    """A pipe whose other end does not read."""

    def __init__(self):
        self.sent = Queue()
        self.go_on = threading.Event()

    def poll(self, _):
        return False

    def send(self, said):
        self.sent.put(said)
        self.go_on.wait(LIMIT_S)


class Dead(Stuck):
    def send(self, said):
        self.sent.put(said)
        raise BrokenPipeError


def test_a_new_target_goes_to_the_worker_with_its_revision(desk):
    pipe = Stuck()
    pipe.go_on.set()
    desk.start()
    desk.poll(pipe)
    assert pipe.sent.get(timeout=LIMIT_S) == (1, BEGINNING)
    desk.set_target(Chains())
    assert pipe.sent.get(timeout=LIMIT_S) == (2, Chains())


def test_a_worker_that_does_not_read_holds_up_nobody_and_gets_the_newest(desk):
    pipe = Stuck()
    desk.start()
    desk.poll(pipe)
    assert pipe.sent.get(timeout=LIMIT_S) == (1, BEGINNING)
    targets = [Chains(bass=(EQ,) * n) for n in range(1, 6)]
    setter = threading.Thread(target=lambda: [desk.set_target(t) for t in targets], daemon=True)
    setter.start()
    setter.join(LIMIT_S)
    assert not setter.is_alive()
    desk.poll(pipe)
    assert desk.target == targets[-1]
    pipe.go_on.set()
    assert pipe.sent.get(timeout=LIMIT_S) == (6, targets[-1])
    assert pipe.sent.empty()


def test_a_dead_pipe_is_no_error_and_the_next_one_gets_the_target(desk):
    dead, alive = Dead(), Stuck()
    alive.go_on.set()
    desk.start()
    desk.poll(dead)
    dead.sent.get(timeout=LIMIT_S)
    desk.set_target(Chains())
    dead.sent.get(timeout=LIMIT_S)
    desk.poll(alive)
    assert alive.sent.get(timeout=LIMIT_S) == (2, Chains())


# -- the delay ----------------------------------------------------------------------------------------------


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


def test_what_was_bypassed_meanwhile_stays_so_when_chains_are_refused(desk, block, audio):
    desk.set_target(replace(BEGINNING, bass=(neutral("pitch_shift"),)))
    desk.bypass(["drums/hostile"], "it was slow")
    store(block.words, EFFECTS_WANTED, TOO_LATE)
    desk.follow(PLAN, audio, HOP_SAMPLES)
    assert desk.target == replace(BEGINNING, drums=(EQ, replace(FOREIGN, bypass=True)))


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
    change_delay(block, room)
    assert (load(block.words, NEXT_DELAY), is_settled(block)) == (room, False)
    with pytest.raises(EngineStateError, match=f"there is room for {room}"):
        change_delay(block, room + 1)
