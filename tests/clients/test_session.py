import asyncio
import time

import pytest
from control_node import TOKENS, FakeNode, start_server

from stemrack.clients import streams
from stemrack.clients.errors import ConnectionLost, RequestRefused
from stemrack.clients.session import Adjust, Delta, RecallScene, Session, Set, Snapshot, Subscriptions
from stemrack.rt.control import server as server_module
from stemrack.rt.control.codec import JSON, MSGPACK
from stemrack.rt.control.messages import Deltas

LIMIT_S = 30.0
GAIN, PAN, MUTE = "stem/vocals/gain_db", "stem/vocals/pan", "stem/vocals/mute"
DRY_WET = "stem/bass/fx/invert/dry_wet"


@pytest.fixture
def running():
    with start_server() as server:
        yield server


def with_session(running, work, role="operator", **options):
    """Return what a function of a session gives, in an event loop of its own."""

    async def talk():
        async with asyncio.timeout(LIMIT_S), Session(running.url, token=TOKENS[role], **options) as session:
            return await work(session)

    return asyncio.run(talk())


async def on(running, function):
    """Return what a function gives in the server's loop, without blocking this one."""
    return await asyncio.to_thread(running.call, function)


async def reached(session, revision):
    while session.revision < revision:
        await asyncio.sleep(0.01)


def fade(running, n):
    """Make n changes of the state that no client asked for."""

    def change():
        for _ in range(n):
            board = running.node.board
            board.change({GAIN: -1.0 - board.revision}, "midi")

    return change


# -- mirror and requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
def test_it_mirrors_the_state_and_says_who_it_is(running, encoding):
    async def work(session):
        assert session.values == running.node.board.values
        assert (session.role, session.client_id, session.epoch) == ("operator", "c1", "e1")
        assert (session.server_name, session.state) == ("stemrack test", "ready")
        assert await session.set(GAIN, -6) == -6.0
        assert session.values[GAIN] == -6.0
        assert session.revision == 1

    with_session(running, work, encoding=encoding)
    assert running.node.mixer.vocals.gain_db == -6.0


def test_a_change_reaches_others_with_its_origin_and_ramp(running):
    async def work(session):
        async with Session(running.url, token=TOKENS["operator"]) as other:
            changes = other.changes()
            await session.set(GAIN, -6.0, ramp_ms=500)
            assert await anext(changes) == Delta(
                revision=1, origin=session.client_id, values={GAIN: -6.0}, ramp_ms=500.0
            )
            assert other.values == session.values

    with_session(running, work)
    assert running.node.mixer.vocals.ramp_ms == 500.0


def test_every_request_does_what_it_says(running):
    async def work(session):
        assert await session.adjust(GAIN, -130.0) == -120.0
        assert await session.get(GAIN, PAN) == {GAIN: -120.0, PAN: 0.0}
        assert await session.get() == session.values
        steps = [Set(path=GAIN, value=-3.0), Adjust(path=PAN, by=0.5), Set(path=MUTE, value=True)]
        assert await session.batch(steps) == {GAIN: -3.0, PAN: 0.5, MUTE: True}
        await session.store_scene("loud", ["vocals"])
        assert session.values["scenes"] == "loud"
        await session.set(GAIN, 0.0)
        assert (await session.recall_scene("loud", fade_ms=100.0))[GAIN] == -3.0
        assert session.values[GAIN] == -3.0
        await session.batch([RecallScene(name="loud", stems=("vocals",))])
        await session.delete_scene("loud")
        assert session.values["scenes"] == ""
        table = await session.describe()
        assert (table[GAIN].highest, table[GAIN].unit) == (12.0, "dB")
        assert not any("/fx/" in path for path in table)
        asked = await session.batch(
            [Set(path="stem/bass/chain", value="invert"), Set(path=DRY_WET, value=0.5)]
        )
        assert asked == {"stem/bass/chain": "invert", DRY_WET: 0.5}
        assert session.values[DRY_WET] == 0.5
        assert (await session.describe())[DRY_WET].highest == 1.0
        assert (await session.effects())["invert"].doc == "Turns the sign round."
        await session.set("stem/bass/chain", "")
        assert DRY_WET not in session.values
        await session.learn(PAN)
        await session.unlearn(GAIN)
        assert 0.0 <= await session.ping() < LIMIT_S

    with_session(running, work)
    assert (running.node.learned, running.node.unlearned) == ([PAN], [GAIN])


def test_what_the_node_refuses_is_told_with_its_facts(running):
    async def work(session):
        with pytest.raises(
            RequestRefused, match=r"must be -120 to 12 dB \(error 302, out_of_range\)"
        ) as told:
            await session.set(GAIN, 13.0)
        assert (told.value.code, told.value.name, told.value.path) == (302, "out_of_range", GAIN)
        with pytest.raises(RequestRefused, match="request 1 of the batch"):
            await session.batch([Set(path=GAIN, value=-3.0), Set(path="no/such", value=1.0)])
        assert session.values[GAIN] == 0.0
        with pytest.raises(RequestRefused, match="admin is needed"):
            await session.set("engine/profile", "studio")

    with_session(running, work)


def test_requests_that_wait_together_get_their_own_answers(running):
    async def work(session):
        values = [-float(n) for n in range(100)]
        assert await asyncio.gather(*(session.set(GAIN, v) for v in values)) == values
        assert session.values[GAIN] == -99.0

    with_session(running, work)


def test_a_request_that_is_given_up_leaves_nothing_behind():
    async def work(session):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.set("engine/profile", "studio")
        assert not session._waiting
        await on(running, lambda: node.changes[0][2]("studio", ""))  # its answer comes nevertheless
        assert await session.set(GAIN, -1.0) == -1.0

    node = FakeNode(holds=True)
    with start_server(node) as running:
        with_session(running, work, role="admin")


# -- streams -----------------------------------------------------------------------------------------------


def test_meters_events_and_counters_come_when_asked_for(running):
    async def work(session):
        frame = await anext(session.meters(rate_hz=60.0))
        assert frame.levels["vocals"] == (-20.0, -20.0, -23.0, -23.0)
        events = session.events()
        waiting = asyncio.create_task(anext(events))
        while not next(iter(running.server._peers)).session.subscriptions.events:
            await asyncio.sleep(0.01)
        await on(running, lambda: running.node.say("xrun", n=2))
        event = await waiting
        assert (event.kind, event.facts) == ("xrun", {"n": 2})
        assert session.counters == {}
        await session.subscribe(counters_hz=60.0)
        while not session.counters:
            await asyncio.sleep(0.01)
        assert session.counters["xruns"] == 0
        wanted = next(iter(running.server._peers)).session.subscriptions
        assert wanted == Subscriptions(meters_hz=60.0, counters_hz=60.0, events=True)
        with pytest.raises(RequestRefused, match="meters_hz"):
            await session.subscribe(meters_hz=61.0)

    with_session(running, work)


def test_all_that_comes_is_in_one_stream_in_order(running):
    async def work(session):
        messages = session.messages()
        await session.set(GAIN, -1.0)
        await on(running, lambda: running.node.say("xrun"))
        assert isinstance(await anext(messages), Deltas)
        assert (await anext(messages)).kind == "xrun"

    with_session(running, work, subscribe=Subscriptions(events=True))


def test_a_slow_reader_of_changes_finds_the_whole_state_in_place_of_what_it_missed(running, monkeypatch):
    monkeypatch.setattr(streams, "WAITING_CHANGES", 100)

    async def work(session):
        changes = session.changes()
        await on(running, fade(running, 250))
        await reached(session, 250)
        got = [await anext(changes)]
        assert isinstance(got[0], Snapshot)
        state = dict(got[0].values)
        while got[-1].revision < 250:
            got.append(await anext(changes))
            state |= got[-1].values
        assert [g.revision for g in got] == list(range(got[0].revision, 251))
        assert state == running.node.board.values

    with_session(running, work)


def test_streams_end_when_the_session_is_closed(running):
    async def work(session):
        streams = [session.changes(), session.meters(), session.events(), session.messages()]
        waiting = [asyncio.create_task(anext(s, "end")) for s in streams[:1]]
        await asyncio.sleep(0)
        await session.close()
        assert [await w for w in waiting] == ["end"]
        assert [[m async for m in s] for s in streams] == [[], [], [], []]
        assert [c async for c in session.changes()] == []
        with pytest.raises(ConnectionLost, match="open another"):
            await session.set(GAIN, 0.0)
        with pytest.raises(ConnectionLost, match="is closed"):
            await session.ready()

    with_session(running, work)


def test_a_stream_that_nobody_holds_is_forgotten(running):
    async def work(session):
        for _ in range(10):
            session.changes()
        kept = session.changes()
        assert list(session._streams) == [kept]

    with_session(running, work)


# -- broken connections ------------------------------------------------------------------------------------


def test_after_a_break_it_goes_on_where_it_was_and_misses_nothing(running):
    async def work(session):
        changes = session.changes()
        await session.set(GAIN, -50.0)
        await asyncio.to_thread(running.stop)
        while session.state == "ready":
            await asyncio.sleep(0.01)
        assert "the node stops" in session.trouble or "stopping" in session.trouble
        assert session.values[GAIN] == -50.0
        await on(running, fade(running, 700))
        await asyncio.to_thread(running.start)
        await session.ready()
        assert session.trouble == ""
        assert session.values == running.node.board.values
        await session.set(PAN, 1.0)
        got = [await anext(changes) for _ in range(702)]
        assert [g.revision for g in got] == list(range(1, 703))
        assert all(isinstance(g, Delta) for g in got)

    with_session(running, work)


def test_another_life_of_the_node_begins_with_a_snapshot(running):
    async def work(session):
        changes = session.changes()
        await session.set(GAIN, -50.0)
        await asyncio.to_thread(running.restart, FakeNode(epoch="e2"))
        assert (await anext(changes)).revision == 1
        snapshot = await anext(changes)
        assert isinstance(snapshot, Snapshot)
        assert (snapshot.epoch, snapshot.revision, snapshot.values[GAIN]) == ("e2", 0, 0.0)
        await session.ready()
        assert (session.epoch, session.values[GAIN]) == ("e2", 0.0)
        assert await session.set(GAIN, -1.0) == -1.0

    with_session(running, work)


def test_who_was_away_for_longer_than_the_history_gets_a_snapshot():
    async def work(session):
        changes = session.changes()
        await asyncio.to_thread(running.stop)
        await on(running, fade(running, 11))
        await asyncio.to_thread(running.start)
        snapshot = await anext(changes)
        assert isinstance(snapshot, Snapshot)
        assert (snapshot.epoch, snapshot.revision) == ("e1", 11)

    with start_server(FakeNode(history=10)) as running:
        with_session(running, work)


def test_what_was_asked_when_the_connection_broke_fails():
    async def work(session):
        asked = asyncio.create_task(session.set("engine/profile", "studio"))
        while not node.changes:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(running.stop)
        with pytest.raises(ConnectionLost, match="no answer came before the connection broke"):
            await asked
        with pytest.raises(ConnectionLost, match="there is no connection now"):
            await session.set(GAIN, -1.0)
        await asyncio.to_thread(running.start)
        await session.ready()
        assert await session.set(GAIN, -1.0) == -1.0

    node = FakeNode(holds=True)
    with start_server(node) as running:
        with_session(running, work, role="admin")


def test_subscriptions_outlive_a_break(running):
    async def work(session):
        meters = session.meters(rate_hz=60.0)
        await anext(meters)
        await asyncio.to_thread(running.restart, FakeNode(epoch="e2"))
        running.node.level_db = -7.0
        while (await anext(meters)).levels["main"][0] != -7.0:
            pass

    with_session(running, work)


def test_streams_may_begin_while_there_is_no_connection(running):
    async def work(session):
        await asyncio.to_thread(running.stop)
        while session.state == "ready":
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(anext(session.meters()))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(running.start)
        assert (await waiting).levels["main"][0] == -20.0

    with_session(running, work)


def test_a_client_that_does_not_read_is_cut_off_and_comes_back_with_the_true_state(monkeypatch):
    monkeypatch.setattr(server_module, "SEND_LIMIT_S", 0.2)
    text = "x" * 20_000

    def flood():
        for n in range(2_000):
            running.node.board.change({"midi/ports": f"{n}{text}"}, "node")

    async def work(session):
        await on(running, flood)
        time.sleep(1.5)  # this loop stands still, as a phone that sleeps
        while "closed_too_slow" not in running.counted:
            await asyncio.sleep(0.05)
        while session.values != running.node.board.values:
            await asyncio.sleep(0.05)
        await session.ready()
        assert await session.set(GAIN, -1.0) == -1.0

    with start_server() as running:
        with_session(running, work)
