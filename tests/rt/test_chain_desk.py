"""The node's side of the chains: what is wanted, said and sent; a worker's words are written by the test."""

import threading
from dataclasses import replace
from multiprocessing import Pipe
from queue import Queue
from types import SimpleNamespace

import pytest
from desk_rig import BEGINNING, EQ, FOREIGN, ROOM, faded, in_force

from stemrack.rt import chain_desk
from stemrack.rt.atomics import store
from stemrack.rt.block import EFFECTS_REVISION, NEXT_DELAY, WORKER_SHIFT
from stemrack.rt.chains import Chains
from stemrack.rt.control_log import ControlLog
from stemrack.rt.rack_thread import Costs, Happened

LIMIT_S = 10.0
"""After which a test gives up waiting; none takes it unless it fails."""


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


def test_an_edit_takes_back_no_bypass_that_its_maker_has_not_seen(desk):
    seen = desk.target
    louder = replace(EQ, values={**EQ.values, "gain_db": 3.0})
    desk.bypass(["drums/hostile", "drums/peak_filter"], "they were slow")
    desk.set_target(replace(seen, drums=(louder, FOREIGN), vocals=()), seen)
    assert desk.target == Chains(drums=(replace(louder, bypass=True), replace(FOREIGN, bypass=True)))
    seen = desk.target
    desk.set_target(replace(seen, drums=(louder, FOREIGN)), seen)
    assert desk.target == Chains(drums=(louder, FOREIGN))


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


def test_another_worker_has_to_say_itself_what_it_has_and_the_log_knows_it_already(desk, block):
    desk.log = ControlLog(rate_hz=44_100, delay_samples=2_048, start_ramp_samples=0)
    desk.set_target(Chains())
    in_force(desk, block, 2)
    assert desk.is_settled
    assert len(desk.log.chain_edits) == 1
    store(block.words, EFFECTS_REVISION, 0)
    ours, _theirs = Pipe()
    desk.poll(ours)
    assert not desk.is_settled
    store(block.words, EFFECTS_REVISION, 2)
    desk.poll(ours)
    assert desk.is_settled
    assert len(desk.log.chain_edits) == 1


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


def test_the_next_worker_gets_the_chains_of_now_before_it_takes_over(desk, block):
    """And those that are set meanwhile: two at least are sent here."""
    ours, theirs = Pipe()
    at = WORKER_SHIFT + EFFECTS_REVISION
    store(block.words, at, 1)
    desk.set_target(Chains(bass=(EQ,)))
    worker = SimpleNamespace(pipe=ours, which=1)
    waiting = threading.Thread(target=desk.bring_up_to_date, args=(worker,), daemon=True)
    waiting.start()
    assert theirs.poll(LIMIT_S)
    assert theirs.recv() == (2, Chains(bass=(EQ,)))
    desk.set_target(Chains())
    assert theirs.poll(LIMIT_S)
    assert theirs.recv() == (3, Chains())
    assert waiting.is_alive()
    store(block.words, at, 3)
    waiting.join(LIMIT_S)
    assert not waiting.is_alive()
    assert not theirs.poll(0)


def test_a_next_worker_without_room_for_the_chains_is_not_waited_for(desk, monkeypatch):
    monkeypatch.setattr(chain_desk, "UP_TO_DATE_LIMIT_S", 0.05)
    ours, theirs = Pipe()
    desk.bring_up_to_date(SimpleNamespace(pipe=ours, which=1))
    assert theirs.recv() == (1, BEGINNING)
    theirs.close()
    desk.bring_up_to_date(SimpleNamespace(pipe=ours, which=1))  # it has died


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
