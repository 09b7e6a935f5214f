"""Floods and silence over real sockets: memory and time stay bounded, others notice nothing."""

import asyncio
import socket
import time
from collections import Counter
from threading import Thread

import pytest
from control_node import TOKENS, FakeNode
from control_wire import CONT, PING, PONG, Wire, eventually, joined, under_attack
from websockets.asyncio.client import connect

from stemrack.rt.control import protocol, server
from stemrack.rt.control.codec import JSON, Codec
from stemrack.rt.control.messages import CloseCode, Identify, Meters, Subscriptions
from stemrack.rt.control.protocol import ClientSession

pytestmark = pytest.mark.realtime

SOON_S = 5.0


# -- floods -------------------------------------------------------------------------------------------------


def test_a_flood_of_fragments(caplog):
    """A message in endless parts, with and without content, is bounded in both ways."""
    with under_attack(caplog) as running:
        for part in (b"", b"x" * 1_000):
            with joined(running) as wire:
                wire.put(wire.frame(b'"', fin=False))
                pieces = Thread(target=_pour, args=(wire, wire.frame(part, CONT, fin=False) * 100))
                pieces.start()
                assert wire.close_code() == 1009
                wire.socket.close()
                pieces.join()
        assert eventually(lambda: running.counted["refused_too_big"] == 2)


def _pour(wire, data, limit_s=SOON_S):
    """Send without an end, until it no longer goes."""
    until_s = time.monotonic() + limit_s
    try:
        while time.monotonic() < until_s:
            wire.put(data)
    except OSError:
        return


def most_buffered(running, meanwhile, limit_s):
    """Return the most bytes that waited in the server for any one client while something was done."""
    most = 0
    work = Thread(target=meanwhile)
    work.start()
    until_s = time.monotonic() + limit_s
    while work.is_alive() and time.monotonic() < until_s:
        most = max(most, _most_waiting(running))
        time.sleep(0.02)
    work.join()
    return most


@pytest.mark.parametrize("knows_token", [True, False])
def test_a_flood_of_pings_is_not_answered_into_memory(caplog, knows_token):
    """Each ping has a pong, which waits in the server if it is not read: so the server stops to read."""
    with under_attack(caplog) as running:
        wire = Wire(running.port, receive_buffer=4_096).open()
        with wire:
            if knows_token:
                wire.identify()
            wire.socket.settimeout(0.5)
            flood = wire.frame(b"x" * 125, PING) * 500
            most = most_buffered(running, lambda: _pour(wire, flood, 3.0), 10.0)
        assert most < 1_000_000, f"{most} bytes of pongs wait"


def test_pings_are_answered(caplog):
    with under_attack(caplog) as running, joined(running) as wire:
        for n in range(2_000):
            wire.put(wire.frame(b"%d" % n, PING))
            if n % 100 == 99:
                pongs = [wire.next_frame() for _ in range(100)]
                assert pongs == [(PONG, b"%d" % i) for i in range(n - 99, n + 1)]


def test_a_burst_of_requests_is_answered_to_the_last(caplog):
    """Within the burst all are carried out; what is over the limit is told so, not cut off."""
    n = 3_000
    with under_attack(caplog) as running, joined(running) as wire:
        requests = b"".join(wire.frame(b'{"type":"ping","id":%d}' % i) for i in range(n))
        sender = Thread(target=wire.put, args=(requests,))
        sender.start()
        kinds = Counter(wire.next_message("reply", "error")["type"] for _ in range(n))
        sender.join()
        assert kinds["reply"] >= protocol.REQUESTS_BURST
        assert kinds["reply"] + kinds["error"] == n


def test_a_flood_of_requests_does_not_hold_others_up(caplog):
    """Who asks for everything, as fast as it goes, and reads nothing is cut off; memory stays bounded."""
    with under_attack(caplog) as running, joined(running, TOKENS["viewer"]) as other:
        with Wire(running.port, receive_buffer=4_096) as wire:
            wire.open()
            wire.identify(TOKENS["viewer"])
            flood = wire.frame(b'{"type":"describe","id":1}') * 500
            wire.socket.settimeout(2.0)
            slowest_s = 0.0
            pouring = Thread(target=_pour, args=(wire, flood, 4.0))
            pouring.start()
            while pouring.is_alive():
                began_s = time.monotonic()
                other.say({"type": "ping", "id": 5})
                assert other.next_message("reply")["id"] == 5
                slowest_s = max(slowest_s, time.monotonic() - began_s)
                time.sleep(0.01)
            waiting = running.call(lambda: max(len(p.session._replies) for p in running.server._peers))
            assert waiting < 500, "requests are read although their answers are not"
        assert slowest_s < 1.0


# -- silence ------------------------------------------------------------------------------------------------

HALVES = (
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr",
)


def test_half_open_handshakes(caplog, monkeypatch):
    """Of 500 the newest are kept, up to the limit of time; who is serious gets in at once."""
    monkeypatch.setattr(server, "OPEN_LIMIT_S", 1.5)
    n = 500
    with under_attack(caplog) as running:
        before = running.counted
        wires = []
        for i in range(n):
            wires.append(Wire(running.port))
            wires[-1].put(HALVES[i % len(HALVES)])
        began_s = time.monotonic()
        with joined(running), joined(running):
            assert time.monotonic() - began_s < 1.0
        assert len(running.server._strangers) <= server.MAX_STRANGERS
        counted = running.counted - before
        assert 0 < counted["refused_stranger"] <= n - server.MAX_STRANGERS + 2, "others by the limit of time"
        assert eventually(lambda: (running.counted - before)["refused_half_open"] == n)
        assert not running.server._strangers
        assert all(wire.is_gone() for wire in wires)
        assert not running.call(lambda: running.server._peers)


def test_a_request_that_drips(caplog, monkeypatch):
    """The time for a handshake is one for all of it, not for each byte."""
    monkeypatch.setattr(server, "OPEN_LIMIT_S", 0.5)
    with under_attack(caplog) as running, Wire(running.port) as wire:
        dripping = Thread(target=_drip, args=(wire, wire.upgrade()))
        dripping.start()
        assert eventually(lambda: running.counted["refused_half_open"] == 1)
        dripping.join()


def _drip(wire, data):
    try:
        for byte in data:
            wire.put(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        return


def test_who_does_not_identify_is_sent_away(caplog, monkeypatch):
    monkeypatch.setattr(server, "IDENTIFY_LIMIT_S", 0.4)
    monkeypatch.setattr(protocol, "IDENTIFY_LIMIT_S", 0.4)
    with under_attack(caplog) as running, joined(running) as other:
        with Wire(running.port) as silent, Wire(running.port) as chatty:
            silent.open()
            chatty.open()
            chatty.say({"type": "ping", "id": 1})
            assert silent.next_message()["type"] == "hello"
            assert silent.close_code() == CloseCode.NOT_IDENTIFIED_IN_TIME
            assert chatty.next_message("error")["name"] == "not_identified"
            assert chatty.close_code() == CloseCode.NOT_IDENTIFIED_IN_TIME
        assert running.counted["refused_unidentified"] == 2
        other.say({"type": "ping", "id": 2})
        assert other.next_message("reply")["id"] == 2


def test_many_who_do_not_identify(caplog, monkeypatch):
    """They make room for each other, not for those who have identified."""
    n = 300
    with under_attack(caplog) as running, joined(running) as other:
        wires = [Wire(running.port).open() for _ in range(n)]
        assert len(running.server._strangers) == server.MAX_STRANGERS
        assert eventually(lambda: len(running.server._peers) <= server.MAX_STRANGERS + 1)
        assert running.counted["refused_stranger"] == n - server.MAX_STRANGERS
        with joined(running):
            other.say({"type": "ping", "id": 2})
            assert other.next_message("reply")["id"] == 2
        for wire in wires:
            wire.socket.close()


def test_more_clients_than_places(caplog):
    """Who is refused takes no place, even while he does not go; who leaves makes room."""
    with under_attack(caplog, max_clients=3) as running:
        inside = [joined(running) for _ in range(3)]
        refused = []
        for _ in range(4):
            refused.append(Wire(running.port).open())
            refused[-1].identify()
            assert refused[-1].close_code() == CloseCode.TOO_MANY_CLIENTS  # and does not close
        assert running.counted["refused_too_many"] == 4
        assert running.counted["closed_too_many_clients"] == 4
        inside.pop().socket.close()
        assert eventually(lambda: running.server._n_clients == 2)
        with joined(running):
            assert running.server._n_clients == 3
        for wire in inside + refused:
            wire.socket.close()


# -- who does not read --------------------------------------------------------------------------------------


class Crowd:
    """Clients that follow the state, in an event loop in this thread; a gap would raise."""

    def __init__(self, running, n, meters_hz):
        self.running, self.n, self.meters_hz = running, n, meters_hz
        self.sessions, self.n_meters = [], Counter()

    async def follow(self, number):
        wanted = Subscriptions(meters_hz=self.meters_hz if number % 4 == 0 else 0.0)
        session = ClientSession(
            Codec(JSON), Identify(versions=(1, 1), token=TOKENS["viewer"], subscribe=wanted)
        )
        self.sessions.append(session)
        async with connect(self.running.url, subprotocols=[JSON], compression=None) as socket:
            while True:
                message = session.receive(await socket.recv())
                self.n_meters[number] += isinstance(message, Meters)
                while session.outgoing:
                    await socket.send(session.outgoing.pop(0))

    async def see(self, work, limit_s=30.0):
        """Follow until all have reached the revision that work in another thread ends with."""
        tasks = [asyncio.create_task(self.follow(number)) for number in range(self.n)]
        async with asyncio.timeout(limit_s):
            while len(self.sessions) < self.n or not all(s.is_ready for s in self.sessions):
                await asyncio.sleep(0.01)
            goal = await asyncio.to_thread(work)
            while any(s.revision < goal for s in self.sessions) and not any(t.done() for t in tasks):
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}, ends


def test_a_client_that_never_reads(caplog, monkeypatch):
    """It is cut off; 20 others miss no change and get their meters; what waits for it is bounded."""
    monkeypatch.setattr(server, "SEND_LIMIT_S", 1.0)
    n_sets, most = 1_500, {"buffered": 0}
    with under_attack(caplog) as running:
        crowd = Crowd(running, 20, 60.0)
        lazy, late = (joined(running, subscribe={"meters_hz": 60.0}) for _ in range(2))
        for wire in (lazy, late):
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)

        def work():
            for wire in (lazy, late):
                wire.put(wire.frame(b'{"type":"get","id":1}') * 400)
            with joined(running) as mover:
                for i in range(n_sets):
                    value = -60.0 + i % 60
                    mover.say({"type": "set", "id": i, "path": "stem/drums/gain_db", "value": value})
                    if i % 50 == 49:
                        time.sleep(0.1)
                        most["buffered"] = max(most["buffered"], _most_waiting(running))
                while (reply := mover.next_message("reply", "error")).get("id") != n_sets - 1:
                    assert reply["type"] == "reply", reply
                return reply["revision"]

        asyncio.run(crowd.see(work))
        assert {s.revision for s in crowd.sessions} == {running.node.board.revision}
        assert all(s.values == running.node.board.values for s in crowd.sessions)
        assert all(crowd.n_meters[number] > 60 for number in range(0, 20, 4))
        assert eventually(lambda: running.counted["closed_too_slow"] == 2)
        assert most["buffered"] < 200_000
        assert eventually(lambda: not running.server._peers), "it was hung up on"
        lazy.socket.close()
        late.socket.close()


def test_a_client_that_reads_again_is_told_why(caplog, monkeypatch):
    """The close code waits behind what it did not read; then it can resume without a loss."""
    monkeypatch.setattr(server, "SEND_LIMIT_S", 0.3)
    with under_attack(caplog) as running, Wire(running.port, receive_buffer=4_096) as wire:
        wire.open()
        wire.identify()
        wire.put(wire.frame(b'{"type":"get","id":1}') * 400)
        assert eventually(lambda: running.counted["closed_too_slow"] == 1)
        assert wire.close_code() == CloseCode.TOO_SLOW


def test_a_client_that_is_too_far_behind(caplog, monkeypatch):
    """More changes than are kept happen while it does not read: it is told, and gets a snapshot anew."""
    node = FakeNode(history=50)
    with under_attack(caplog, node=node) as running, Wire(running.port, receive_buffer=4_096) as wire:
        wire.open()
        wire.identify()
        wire.next_message("snapshot")
        wire.put(wire.frame(b'{"type":"get","id":1}') * 400)
        assert eventually(lambda: _most_waiting(running) > server.WRITE_LIMIT_BYTES)
        for i in range(100):
            running.call(lambda: node.board.change({"master/gain_db": -1.0 - i}, "node"))  # noqa: B023
        assert wire.close_code() == CloseCode.TOO_SLOW
        with Wire(running.port) as again:
            again.open()
            again.identify(resume={"epoch": "e1", "revision": 1})
            assert again.next_message("welcome")["resumed"] is False
            assert again.next_message("snapshot")["revision"] == node.board.revision


def _most_waiting(running):
    def look():
        transports = [p.connection.transport for p in running.server._peers]
        return max((t.get_write_buffer_size() for t in transports), default=0)

    return running.call(look)
