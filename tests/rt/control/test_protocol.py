"""The rules of a connection, one by one: handshake, resume, requests. No socket, no clock."""

import math

import pytest
from control_link import Link, codes, kinds, linked
from control_node import TOKENS, FakeNode

from stemrack.rt.control.codec import JSON, SUBPROTOCOLS, Codec, ProtocolError
from stemrack.rt.control.messages import (
    CloseCode,
    Delta,
    Deltas,
    Describe,
    Described,
    Error,
    ErrorCode,
    Event,
    Get,
    Hello,
    Identify,
    Ping,
    Reply,
    Resume,
    Set,
    Snapshot,
    Welcome,
)
from stemrack.rt.control.protocol import (
    IDENTIFY_LIMIT_S,
    Client,
    ClientSession,
    ServerSession,
    common_version,
    error_of,
)

TEXT = Codec(JSON)
VOCALS = "stem/vocals/gain_db"


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def link(node):
    return linked(node)


# -- handshake -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
def test_hello_identify_welcome_snapshot(node, subprotocol):
    link = Link(node, "c7", subprotocol=subprotocol, client="phone")
    assert link.pump() == [
        Hello(server="stemrack test", versions=(1, 1), epoch="e1", token=True),
        Welcome(version=1, client_id="c7", role="operator", revision=0, resumed=False),
        Snapshot(epoch="e1", revision=0, values=dict(node.board.values)),
    ]
    assert link.server.client == Client("c7", "operator", "phone")
    assert (link.client.client_id, link.client.role) == ("c7", "operator")
    assert link.client.server_name == "stemrack test"
    assert link.client.is_ready


def test_hello_waits_for_nothing_and_comes_once(node):
    session = ServerSession(node, TEXT, "c1", 0.0, needs_token=False)
    assert session.has_news(0.0)
    (frame,) = session.take(0.0)
    assert TEXT.decode_server(frame) == Hello(
        server="stemrack test", versions=(1, 1), epoch="e1", token=False
    )
    assert session.take(0.0) == []
    assert not session.has_news(0.0)


@pytest.mark.parametrize("role", TOKENS)
def test_the_token_gives_the_role(node, role):
    assert linked(node, token=TOKENS[role]).client.role == role


def test_a_wrong_token_closes(node):
    link = Link(node, token="nobody's")
    assert kinds(link.pump()) == ["Hello", "Error"]
    error = link.seen[-1]
    assert (error.code, error.path, error.name) == (ErrorCode.WRONG_TOKEN, "token", "wrong_token")
    assert link.server.close_code == CloseCode.WRONG_TOKEN
    assert link.server.has_wrong_token
    assert not link.server.is_identified


@pytest.mark.parametrize(
    ("theirs", "ours", "common"),
    [((1, 1), (1, 1), 1), ((1, 3), (1, 2), 2), ((2, 9), (1, 4), 4),
     ((2, 3), (1, 1), None), ((1, 1), (2, 3), None), ((3, 1), (1, 1), None)],
)  # fmt: skip
def test_common_version(theirs, ours, common):
    assert common_version(theirs, ours) == common


def test_no_common_version_closes(node):
    link = Link(node, versions=(2, 5))
    assert codes(link.pump()) == [ErrorCode.NO_COMMON_VERSION]
    assert link.seen[-1].message == "this node speaks versions 1 to 1: update the older side"
    assert link.server.close_code == CloseCode.NO_COMMON_VERSION
    assert not link.server.has_wrong_token


def test_a_newer_node_is_noticed_by_the_client():
    client = ClientSession(TEXT, Identify(versions=(1, 1)))
    hello = Hello(server="stemrack 9", versions=(2, 3), epoch="e1", token=False)
    with pytest.raises(ProtocolError, match="the node speaks versions 2 to 3: update the older side"):
        client.receive(TEXT.encode(hello))
    assert client.outgoing == []


def test_identify_comes_once(link):
    assert codes(link.ask(Identify(versions=(1, 1), token=TOKENS["admin"]))) == [ErrorCode.ALREADY_IDENTIFIED]
    assert link.server.client.role == "operator"
    assert link.server.close_code is None


@pytest.mark.parametrize(
    "message", [Ping(id=5), Get(id=5), Set(id=5, path=VOCALS, value=1.0), Describe(id=5)]
)
def test_identify_comes_first(node, message):
    link = Link(node)
    link.server.receive(TEXT.encode(message), 0.0)
    link.collect()
    said = [TEXT.decode_server(f) for f in link.on_the_way]
    assert kinds(said) == ["Hello", "Error"]
    assert (said[1].id, said[1].code) == (5, ErrorCode.NOT_IDENTIFIED)
    assert node.carried == []


def test_who_does_not_identify_is_sent_away(node):
    session = ServerSession(node, TEXT, "c1", 100.0, needs_token=True)
    session.tick(100.0 + IDENTIFY_LIMIT_S - 0.01)
    assert session.close_code is None
    session.tick(100.0 + IDENTIFY_LIMIT_S)
    assert session.close_code == CloseCode.NOT_IDENTIFIED_IN_TIME


def test_who_identified_may_stay(link):
    link.server.tick(1e9)
    assert link.server.close_code is None


def test_the_first_reason_to_close_stays(node):
    link = Link(node, token="wrong")
    link.pump()
    link.server.tick(1e9)
    assert link.server.close_code == CloseCode.WRONG_TOKEN


def test_nothing_is_taken_after_the_end(node):
    link = Link(node, token="wrong")
    link.pump()
    link.server.receive(TEXT.encode(Identify(versions=(1, 1), token=TOKENS["admin"])), 0.0)
    assert not link.server.is_identified
    assert link.server.take(0.0) == []


def test_nothing_of_the_state_is_told_to_strangers(node):
    session = ServerSession(node, TEXT, "c1", 0.0, needs_token=True)
    session.take(0.0)
    node.board.change({VOCALS: -3.0}, "c2")
    session.tell(Event(kind="xrun", time_s=0.0, facts={}))
    assert not session.has_news(1e6)
    assert session.take(1e6) == []
    assert session.due_s == math.inf


# -- resume --------------------------------------------------------------------------------------------------


def test_resume_brings_what_was_missed(node, link):
    node.board.change({VOCALS: -3.0}, "c2")
    node.board.change({VOCALS: -6.0}, "c2")
    again = Link(node, "c2", mirror=link.client)
    assert kinds(again.pump()) == ["Hello", "Welcome", "Deltas"]
    assert again.seen[1].resumed
    assert [d.values for d in again.seen[2].changes] == [{VOCALS: -3.0}, {VOCALS: -6.0}]
    assert again.client.values == node.board.values
    assert again.client.is_ready


def test_resume_without_anything_missed(node, link):
    again = Link(node, mirror=link.client)
    assert kinds(again.pump()) == ["Hello", "Welcome"]
    assert again.client.is_ready
    assert again.client.values == node.board.values


def test_a_mirror_is_not_ready_before_it_has_caught_up(node, link):
    node.board.change({VOCALS: -3.0}, "c2")
    again = Link(node, mirror=link.client)
    again.collect()
    again.down()
    again.up()
    assert not again.client.is_ready
    again.collect()
    again.down(1)
    assert not again.client.is_ready  # welcome, but no delta yet
    again.down(1)
    assert again.client.is_ready


@pytest.mark.parametrize(
    "resume",
    [Resume(epoch="e0", revision=0), Resume(epoch="e1", revision=1), Resume(epoch="e1", revision=-1),
     Resume(epoch="e1", revision=2**60)],
)  # fmt: skip
def test_what_cannot_be_resumed_gets_a_snapshot(node, resume):
    link = Link(node, resume=resume)
    assert kinds(link.pump()) == ["Hello", "Welcome", "Snapshot"]
    assert not link.seen[1].resumed
    assert link.client.values == node.board.values


def test_another_life_of_the_node_replaces_the_mirror(node, link):
    node.board.change({VOCALS: -3.0}, "c1")
    link.pump()
    newer = FakeNode(epoch="e2")
    again = Link(newer, mirror=link.client)
    again.pump()
    assert (again.client.epoch, again.client.revision) == ("e2", 0)
    assert again.client.values == newer.board.values


def test_a_mirror_of_another_life_is_not_ready_before_the_snapshot(link):
    again = Link(FakeNode(epoch="e2"), mirror=link.client)
    again.up()
    again.collect()
    again.down()
    again.up()
    again.collect()
    assert kinds(again.down(1)) == ["Welcome"]
    assert not again.client.is_ready
    assert kinds(again.down(1)) == ["Snapshot"]
    assert again.client.is_ready


# -- requests, replies, changes ------------------------------------------------------------------------------


def test_ping(link):
    assert link.ask(Ping(id=9)) == [Reply(id=9, revision=0)]


def test_a_change_comes_before_the_reply_that_speaks_of_it(link):
    said = link.ask(Set(id=4, path=VOCALS, value=-3.0))
    assert said == [
        Deltas(changes=(Delta(revision=1, origin="c1", values={VOCALS: -3.0}),)),
        Reply(id=4, revision=1, values={VOCALS: -3.0}),
    ]


def test_a_change_reaches_all_with_its_origin(node):
    links = [linked(node, f"c{i}") for i in range(3)]
    links[1].client.request(Set, path=VOCALS, value=-3.0)
    for link in (links[1], links[0], links[2]):
        link.pump()
    assert [link.seen[3].changes[0].origin for link in links] == ["c1"] * 3
    assert [link.client.values[VOCALS] for link in links] == [-3.0] * 3


def test_ids_of_a_client_are_counted(link):
    assert [link.client.request(Ping), link.client.request(Get, paths=(VOCALS,))] == [1, 2]
    assert [m.id for m in link.pump()] == [1, 2]


def test_an_error_carries_the_id_and_the_path(link):
    (error,) = link.ask(Set(id=6, path=VOCALS, value=13.0))
    assert error == Error(
        id=6, code=302, name="out_of_range", path=VOCALS, message="13 dB: must be -120 to 12 dB"
    )


def test_a_frame_that_is_no_message_is_answered(link):
    link.server.receive('{"type":"ping","id":8,"x":1}', 0.0)
    link.server.receive("nonsense", 0.0)
    first, second = link.pump()
    assert (first.id, first.code, first.path) == (8, ErrorCode.WRONG_FIELD, "x")
    assert (second.id, second.code) == (None, ErrorCode.MALFORMED)


def test_error_of():
    problem = ProtocolError(ErrorCode.FAILED, "no room", "recording/active", 3)
    assert error_of(problem) == Error(
        id=3, code=401, name="failed", path="recording/active", message="no room"
    )
    assert error_of(problem, 0).id == 0


def test_an_answer_may_come_later():
    node = FakeNode(holds=True)
    link = linked(node)
    assert link.ask(Set(id=1, path="recording/active", value=True)) == []
    assert link.ask(Ping(id=2)) == [Reply(id=2, revision=0)]
    node.changes[0][2](True, "")
    assert kinds(link.pump()) == ["Deltas", "Reply"]
    assert link.seen[-1] == Reply(id=1, revision=1, values={"recording/active": True})


def test_describe_gives_the_table(node, link):
    (described,) = link.ask(Describe(id=3))
    assert isinstance(described, Described)
    assert described.parameters == tuple(p.info for p in node.table)


def test_a_gap_in_the_revisions_is_noticed(link):
    late = Deltas(changes=(Delta(revision=2, origin="c2", values={VOCALS: -3.0}),))
    with pytest.raises(ProtocolError, match="revision 2 after 0: a change was lost"):
        link.client.receive(TEXT.encode(late))
    assert link.client.values[VOCALS] == 0.0


def test_a_parameter_that_is_gone_leaves_the_mirror(node, link):
    node.board.change({"extra": 1.0}, "node")
    link.pump()
    assert link.client.values["extra"] == 1.0
    node.board.change({"extra": None}, "node")
    link.pump()
    assert "extra" not in link.client.values
