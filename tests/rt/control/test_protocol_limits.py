"""What a client may ask for and how much: rates of meters, events, and the limits. No socket, no clock."""

import math

import pytest
from control_link import codes, kinds, linked
from control_node import FakeNode

from stemrack.rt.control.codec import JSON, MSGPACK, Codec
from stemrack.rt.control.messages import (
    Adjust,
    Batch,
    CloseCode,
    Counters,
    Describe,
    Error,
    ErrorCode,
    Event,
    Meters,
    Ping,
    Reply,
    Set,
    Subscribe,
    Subscriptions,
)
from stemrack.rt.control.protocol import (
    DESCRIBE_PRICE,
    EFFECTS_PRICE,
    ERRORS_IN_A_ROW,
    REFUSALS_IN_A_ROW,
    REQUESTS_BURST,
    WAITING_EVENTS,
    WAITING_REPLIES,
    ServerSession,
)

TEXT = Codec(JSON)
VOCALS = "stem/vocals/gain_db"


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def link(node):
    return linked(node)


# -- subscriptions -------------------------------------------------------------------------------------------


def subscribe(link, now_s=0.0, **wanted):
    return link.ask(Subscribe(id=1, subscribe=Subscriptions(**wanted)), now_s)


def levels(link, now_s):
    return [m for m in link.pump(now_s) if isinstance(m, Meters)]


def test_nothing_but_state_without_a_subscription(node, link):
    link.server.tell(Event(kind="xrun", time_s=0.0, facts={}))
    assert link.server.due_s == math.inf
    assert not link.server.has_news(1e6)
    assert link.pump(1e6) == []


def test_meters_come_at_the_rate_that_was_asked_for(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=20.0))
    times_s = [i / 1000 for i in range(1010) if levels(link, i / 1000)]
    assert len(times_s) == 20
    assert times_s[0] == pytest.approx(0.05, abs=0.0011)


def test_meters_that_are_late_are_not_caught_up_with(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=10.0))
    assert link.server.due_s == pytest.approx(0.1)
    assert len(levels(link, 5.0)) == 1
    assert len(levels(link, 5.05)) == 0
    assert link.server.due_s == pytest.approx(5.1)


def test_meters_keep_their_grid_if_they_are_a_little_late(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=10.0))
    assert len(levels(link, 0.15)) == 1
    assert link.server.due_s == pytest.approx(0.2)


def test_no_meters_while_there_is_no_sound(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=10.0))
    node.makes_sound = False
    assert levels(link, 1.0) == []
    assert link.server.due_s == pytest.approx(1.1)


def test_counters_come_at_a_rate_of_their_own(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=10.0, counters_hz=1.0))
    node.counts["xruns"] = 3
    said = link.pump(1.0)
    assert kinds(said) == ["Meters", "Counters"]
    assert said[1] == Counters(values={"xruns": 3, "late_hops": 0, "fallbacks": 0})
    assert kinds(link.pump(1.1)) == ["Meters"]


def test_counters_without_meters(node):
    link = linked(node, subscribe=Subscriptions(counters_hz=2.0))
    assert link.server.due_s == 0.5
    assert kinds(link.pump(0.5)) == ["Counters"]


def test_the_smallest_rate_is_as_good_as_none(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=5e-324))
    assert link.server.due_s == math.inf
    assert levels(link, 1e9) == []


def test_events_come_to_those_who_want_them(node):
    link = linked(node, subscribe=Subscriptions(events=True))
    event = Event(kind="xrun", time_s=1.0, facts={"n": 2.0})
    link.server.tell(event)
    assert link.server.has_news(0.0)
    assert link.pump() == [event]


def test_the_oldest_events_are_dropped(node):
    link = linked(node, subscribe=Subscriptions(events=True))
    for i in range(WAITING_EVENTS + 5):
        link.server.tell(Event(kind="xrun", time_s=float(i), facts={}))
    assert [m.time_s for m in link.pump()] == [float(i) for i in range(5, WAITING_EVENTS + 5)]


def test_a_subscription_replaces_the_one_before(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=10.0, events=True))
    link.server.tell(Event(kind="xrun", time_s=0.0, facts={}))
    assert subscribe(link, counters_hz=1.0) == [Reply(id=1, revision=0)]
    assert kinds(link.pump(10.0)) == ["Counters"]
    assert subscribe(link, events=True) == [Reply(id=1, revision=0)]
    assert link.server.subscriptions == Subscriptions(events=True)


def test_all_kinds_in_one_take_come_in_their_order(node):
    link = linked(node, subscribe=Subscriptions(meters_hz=1.0, counters_hz=1.0, events=True))
    link.server.tell(Event(kind="xrun", time_s=0.0, facts={}))
    said = link.ask(Set(id=1, path=VOCALS, value=-1.0), 5.0)
    assert kinds(said) == ["Deltas", "Reply", "Event", "Meters", "Counters"]


# -- limits --------------------------------------------------------------------------------------------------


def test_too_many_requests_are_refused_not_carried_out(node, link):
    for i in range(int(REQUESTS_BURST) + 10):
        link.server.receive(TEXT.encode(Adjust(id=i, path=VOCALS, by=-0.01)), 0.0)
        link.collect()
    link.down()
    refused = [m for m in link.seen if isinstance(m, Error)]
    assert len(refused) == 11  # identify was a request too
    assert codes(refused) == [ErrorCode.TOO_MANY_REQUESTS] * 11
    assert len(node.carried) == REQUESTS_BURST - 1
    assert link.server.close_code is None


@pytest.mark.parametrize(("effects", "price"), [(False, DESCRIBE_PRICE), (True, EFFECTS_PRICE)])
def test_what_asks_for_much_is_asked_for_seldom(node, link, effects, price):
    n_allowed = int(REQUESTS_BURST - 1) // price
    for i in range(n_allowed + 1):
        link.server.receive(TEXT.encode(Describe(id=i, effects=effects)), 0.0)
        link.collect()
    link.down()
    assert kinds(link.seen).count("Described") == n_allowed
    assert codes([m for m in link.seen if isinstance(m, Error)]) == [ErrorCode.TOO_MANY_REQUESTS]


def test_the_allowance_fills_with_time(node, link):
    frame = TEXT.encode(Ping(id=1))
    for _ in range(int(REQUESTS_BURST) + 10):
        link.server.receive(frame, 0.0)
        link.server.take(0.0)
    assert codes(link.ask(Ping(id=1), 0.0)) == [ErrorCode.TOO_MANY_REQUESTS]
    answers = [link.ask(Ping(id=1), 0.0105)[0] for _ in range(12)]
    assert kinds(answers) == ["Reply"] * 10 + ["Error"] * 2


def test_time_that_goes_back_takes_nothing_away(link):
    link.ask(Ping(id=1), 10.0)
    assert link.ask(Ping(id=1), 5.0) == [Reply(id=1, revision=0)]


def test_a_batch_costs_what_its_requests_cost(node, link):
    batch = TEXT.encode(Batch(id=1, requests=(Adjust(path=VOCALS, by=-0.01),) * 256))
    for _ in range(8):
        link.server.receive(batch, 0.0)
    assert kinds(link.pump()) == ["Deltas"] + ["Reply"] * 7 + ["Error"]
    assert len(node.carried) == 7


def test_who_does_not_stop_is_cut_off(link):
    frame = TEXT.encode(Ping(id=1))
    for i in range(int(REQUESTS_BURST) - 1 + REFUSALS_IN_A_ROW):
        assert link.server.close_code is None, i
        link.server.receive(frame, 0.0)
        link.server.take(0.0)
    assert link.server.close_code == CloseCode.TOO_MANY_REQUESTS


def test_a_good_request_ends_a_row_of_refusals(link):
    frame = TEXT.encode(Ping(id=1))
    for i in range(3 * REFUSALS_IN_A_ROW):
        link.server.receive(frame, i / 10_000)
        link.server.take(0.0)
    assert link.server.close_code is None


def test_too_many_bad_frames_close(link):
    for _ in range(ERRORS_IN_A_ROW):
        assert link.server.close_code is None
        link.server.receive("x", 0.0)
    assert link.server.close_code == CloseCode.TOO_MANY_ERRORS
    assert len(link.server.take(0.0)) == ERRORS_IN_A_ROW


def test_a_good_frame_ends_a_row_of_errors(link):
    for _ in range(3):
        for _ in range(ERRORS_IN_A_ROW - 1):
            link.server.receive("x", 0.0)
        link.ask(Ping(id=1))
    assert link.server.close_code is None


def test_bad_frames_of_strangers_close_too(node):
    session = ServerSession(node, TEXT, "c1", 0.0, needs_token=True)
    for _ in range(ERRORS_IN_A_ROW):
        session.receive("x", 0.0)
    assert session.close_code == CloseCode.TOO_MANY_ERRORS


def test_who_asks_and_does_not_read_is_cut_off(link):
    frame = TEXT.encode(Ping(id=1))
    for i in range(WAITING_REPLIES):
        link.server.receive(frame, i / 1000)
    assert link.server.close_code is None
    link.server.receive(frame, 9.0)
    assert link.server.close_code == CloseCode.TOO_SLOW
    assert len(link.server.take(9.0)) == WAITING_REPLIES


def test_replies_over_the_limit_keep_the_first_reason(link):
    frame = TEXT.encode(Ping(id=1))
    for i in range(WAITING_REPLIES - ERRORS_IN_A_ROW + 1):
        link.server.receive(frame, i / 1000)
    for _ in range(ERRORS_IN_A_ROW):
        link.server.receive("x", 9.0)
    assert link.server.close_code == CloseCode.TOO_MANY_ERRORS


def test_who_is_too_far_behind_is_cut_off():
    node = FakeNode(history=5)
    slow, quick = linked(node, "c1"), linked(node, "c2")
    for i in range(6):
        node.board.change({VOCALS: -1.0 - i}, "c2")
        quick.pump()
    slow.collect()
    assert slow.on_the_way == []
    assert slow.server.close_code == CloseCode.TOO_SLOW
    assert quick.server.close_code is None
    assert quick.client.values == node.board.values


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
def test_other_kinds_of_frames_are_errors(node, subprotocol):
    link = linked(node, subprotocol=subprotocol)
    link.server.receive(b"{}" if subprotocol == JSON else "{}", 0.0)
    assert codes(link.pump()) == [ErrorCode.WRONG_ENCODING]
