"""The server over real sockets: handshake, state for all, events, meters, TLS, and its end."""

import asyncio
import logging
import shutil
import ssl
import subprocess
import time

import pytest
from control_node import INDEX, TOKENS, FakeNode, start_server
from control_wire import CLOSE, JSON, MSGPACK, TEXT, Wire, eventually, joined, under_attack

from stemrack.rt.control import server
from stemrack.rt.control.auth import Gate, Tokens
from stemrack.rt.control.board import Board
from stemrack.rt.control.messages import CloseCode
from stemrack.rt.control.server import ControlServer, ServerSettings
from stemrack.rt.errors import ConfigError, EngineStateError

GAIN = "stem/vocals/gain_db"


# -- the handshake ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [None, "", "chat", "stemrack.v2", "STEMRACK.V1", "chat, stemrack.v9"])
def test_without_a_known_subprotocol_nobody_talks(caplog, offered):
    with under_attack(caplog) as running:
        with Wire(running.port) as wire:
            wire.put(wire.upgrade(subprotocol=offered))
            status, _, body = wire.answer()
        assert status == 400
        if offered:
            assert b"ask for a subprotocol: stemrack.v1 or stemrack.v1.msgpack" in body
            assert running.counted["refused_subprotocol"] == 1
        assert running.counted["http_400"] == 1


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (JSON, JSON),
        (MSGPACK, MSGPACK),
        (f"{JSON}, {MSGPACK}", JSON),
        (f"{MSGPACK}, {JSON}", MSGPACK),
        (f"chat,{MSGPACK}", MSGPACK),
        (("chat", MSGPACK), MSGPACK),
    ],
)
def test_the_client_s_first_known_subprotocol_is_taken(offered, taken):
    with start_server() as running, Wire(running.port) as wire:
        wire.put(wire.upgrade(subprotocol=offered))
        status, headers = wire.answer_head()
        assert (status, headers["sec-websocket-protocol"]) == (101, taken)
        assert (wire.next_frame()[0] == TEXT) == (taken == JSON)


def test_any_path_speaks_the_protocol():
    with start_server() as running, Wire(running.port) as wire:
        assert wire.open(path="/any/where?x=1").next_message()["type"] == "hello"


def test_upgrades_that_are_none(caplog):
    with under_attack(caplog) as running:
        for headers, status in (
            ({"method": "POST"}, 405),
            ({"Upgrade": "h2c"}, 426),
            ({"Upgrade": None}, 426),
            ({"Sec_WebSocket_Version": "12"}, 400),
            ({"Sec_WebSocket_Key": "short"}, 400),
            ({"Sec_WebSocket_Key": None}, 400),
        ):
            with Wire(running.port) as wire:
                wire.put(wire.upgrade(**headers))
                assert wire.answer()[0] == status, headers


def test_where_no_token_is_needed_all_get_in():
    node = FakeNode(tokens=Tokens({}, "operator"))
    with start_server(node, needs_token=False) as running, Wire(running.port) as wire:
        wire.open()
        wire.identify("")
        assert wire.next_message()["token"] is False
        assert wire.next_message()["role"] == "operator"


# -- state --------------------------------------------------------------------------------------------------


def test_a_change_reaches_all_with_its_origin():
    with start_server() as running, joined(running) as one, joined(running) as two:
        one.say({"type": "set", "id": 3, "path": GAIN, "value": -6, "ramp_ms": 250})
        delta = {"revision": 1, "origin": "c1", "values": {GAIN: -6.0}, "ramp_ms": 250.0}
        for wire in (one, two):
            assert wire.next_message() == {"type": "deltas", "changes": [delta]}
        assert one.next_message() == {"type": "reply", "id": 3, "revision": 1, "values": {GAIN: -6.0}}
        assert running.node.mixers[-1].vocals.gain_db == -6.0


def test_changes_are_packed_in_order_and_none_is_lost():
    n = 1_000
    with start_server() as running, joined(running) as mover, joined(running, TOKENS["viewer"]) as other:
        frames = [
            mover.frame(b'{"type":"set","id":%d,"path":"%s","value":%d}' % (i, GAIN.encode(), -1 - i % 50))
            for i in range(n)
        ]
        mover.put(b"".join(frames))
        revisions, n_frames = [], 0
        while len(revisions) < n:
            revisions += [d["revision"] for d in other.next_message("deltas")["changes"]]
            n_frames += 1
        assert revisions == list(range(1, n + 1))
        assert n_frames < n / 5


def test_a_reply_that_comes_late():
    """A change of structure is answered when it is done; the loop is woken for it."""
    node = FakeNode(holds=True)
    with start_server(node) as running, joined(running) as wire:
        wire.say({"type": "set", "id": 4, "path": "recording/active", "value": True})
        wire.say({"type": "ping", "id": 5})
        assert wire.next_message() == {"type": "reply", "id": 5, "revision": 0}
        path, value, done = node.changes.pop()
        assert (path, value) == ("recording/active", True)
        running.call(lambda: done(True, ""))
        assert wire.next_message()["changes"][0]["values"] == {"recording/active": True}
        assert wire.next_message()["id"] == 4


@pytest.mark.parametrize(
    ("resume", "resumed"),
    [
        ({"epoch": "e1", "revision": 2}, True),
        ({"epoch": "e1", "revision": 5}, True),
        ({"epoch": "e1", "revision": 0}, False),
        ({"epoch": "e1", "revision": 6}, False),
        ({"epoch": "e1", "revision": -1}, False),
        ({"epoch": "e1", "revision": -(2**60)}, False),
        ({"epoch": "e0", "revision": 2}, False),
    ],
)
def test_resuming(resume, resumed):
    """Three changes are kept: who knows more than that gets what it missed, all others get everything."""
    node = FakeNode(history=3)
    with start_server(node) as running, Wire(running.port) as wire:
        for i in range(5):
            running.call(lambda i=i: node.board.change({GAIN: -1.0 - i}, "node"))
        wire.open()
        wire.identify(resume=resume)
        wire.next_message()
        assert wire.next_message()["resumed"] is resumed
        wire.say({"type": "ping", "id": 1})
        follows = wire.next_message()
        if not resumed:
            assert (follows["type"], follows["revision"], follows["values"][GAIN]) == ("snapshot", 5, -5.0)
        elif resume["revision"] < 5:
            assert [d["revision"] for d in follows["changes"]] == [3, 4, 5]
        else:
            assert follows == {"type": "reply", "id": 1, "revision": 5}


def test_events_go_to_who_wants_them():
    with start_server() as running, joined(running) as untold:
        told = joined(running, subscribe={"events": True})
        running.call(lambda: running.node.say("xrun", n=2))
        event = told.next_message()
        assert (event["type"], event["kind"], event["facts"]) == ("event", "xrun", {"n": 2})
        untold.say({"type": "ping", "id": 1})
        assert untold.next_message()["type"] == "reply"
        told.socket.close()


def test_meters_come_at_the_rate_that_was_asked_for():
    with start_server() as running, joined(running) as wire:
        wire.say({"type": "subscribe", "id": 1, "subscribe": {"meters_hz": 50, "counters_hz": 5}})
        assert wire.next_message()["id"] == 1
        began_s, kinds = time.monotonic(), []
        while time.monotonic() - began_s < 1.0:
            kinds.append(wire.next_message()["type"])
        assert 30 <= kinds.count("meters") <= 55
        assert 3 <= kinds.count("counters") <= 7
        wire.say({"type": "subscribe", "id": 2, "subscribe": {}})
        while wire.next_message()["type"] != "reply":
            pass
        time.sleep(0.1)
        wire.say({"type": "ping", "id": 3})
        assert wire.next_message()["id"] == 3


def test_the_node_hears_of_who_has_gone():
    with start_server() as running:
        joined(running, subscribe={"meters_hz": 60}).socket.close()
        assert eventually(lambda: running.node.forgotten == ["c1"])


def test_ends_are_counted_where_they_are_odd(caplog):
    """A close with 1000 or 1001 is none; another code, or none at all, is."""
    with under_attack(caplog) as running:
        assert eventually(lambda: len(running.node.forgotten) == 2)
        before = running.counted["closed_oddly"]
        for code in (1000, 1001):
            with joined(running) as wire:
                wire.put(wire.frame(code.to_bytes(2, "big"), CLOSE))
                assert wire.close_code() == code
        assert eventually(lambda: len(running.node.forgotten) == 4)
        assert running.counted["closed_oddly"] == before
        with joined(running) as wire:
            wire.put(wire.frame((1002).to_bytes(2, "big"), CLOSE))
            assert wire.close_code() == 1002
        joined(running).socket.close()
        assert eventually(lambda: running.counted["closed_oddly"] == before + 2)
        assert running.counted["refused_malformed"] == 0


# -- start, TLS and end -------------------------------------------------------------------------------------


def test_a_taken_port():
    with start_server() as running:
        other = ControlServer(FakeNode(), ServerSettings(port=running.port), {}, lambda counted: "")
        with pytest.raises(EngineStateError, match=f"port {running.port} of 127.0.0.1 cannot be used"):
            asyncio.run(other.start())
        asyncio.run(other.stop())  # is nothing


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", *options, *names, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_tls(caplog, certificate):
    """Page and protocol are encrypted; who does not speak TLS, or not to its end, is nobody's trouble."""
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with start_server(tls=certificate) as running:
        caplog.set_level(logging.INFO)
        with Wire(running.port, tls=trusting) as wire:
            assert wire.get("/")[2] == INDEX["/index.html"].body
        silent = [Wire(running.port) for _ in range(100)]
        with Wire(running.port) as plain:
            plain.put(plain.head("/"))
            assert plain.is_gone()
        host = f"localhost:{running.port}"
        with Wire(running.port, tls=trusting) as wire:
            wire.open(Host=host, Origin=f"https://{host}")
            wire.identify()
            wire.next_message("snapshot")
            wire.say({"type": "set", "id": 3, "path": GAIN, "value": -6})
            assert wire.next_message("reply")["values"] == {GAIN: -6.0}
        for wire in silent:
            wire.socket.close()
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_wrong_files_for_tls(certificate, tmp_path):
    (tmp_path / "text").write_text("no key", encoding="utf-8")
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", certificate[1], "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    cert, key = certificate
    for files in ((cert, tmp_path / "none"), (key, cert), (cert, tmp_path / "text"), (cert, locked)):
        wrong = ControlServer(FakeNode(), ServerSettings(port=0, tls=files), {}, lambda counted: "")
        with pytest.raises(ConfigError, match=r"no certificate and its key .*: name others, or none"):
            asyncio.run(wrong.start())


@pytest.mark.realtime
def test_the_end_is_told(monkeypatch):
    """To all clients, identified or not; half-open handshakes and who does not read hold nobody up."""
    monkeypatch.setattr(server, "CLOSE_LIMIT_S", 0.5)
    with start_server() as running:
        clients = [joined(running), joined(running), Wire(running.port).open()]
        half = [Wire(running.port) for _ in range(5)]
        lazy = Wire(running.port, receive_buffer=4_096).open()
        lazy.identify()
        lazy.put(lazy.frame(b'{"type":"get","id":1}') * 400)
        assert eventually(lambda: running.counted["frames_in"] > 50)
        clients[0].say({"type": "set", "id": 1, "path": GAIN, "value": -9})
        assert eventually(lambda: running.node.board.revision == 1)
        inside, node = running.server, running.node
        began_s = time.monotonic()
        running.stop()
        assert time.monotonic() - began_s < 2.0
        assert clients[1].next_message("deltas")["changes"][0]["values"] == {GAIN: -9.0}
        assert [wire.close_code() for wire in clients] == [CloseCode.STOPPING] * 3
        assert all(wire.is_gone() for wire in (*half, lazy))
        assert not inside._peers
        assert not inside._strangers
        assert running.call(lambda: len(asyncio.all_tasks())) == 1
        assert not node.board.on_change
        node.board.change({GAIN: -1.0}, "node")  # in no loop any more: nobody is woken
        running.start()
        with joined(running) as again:
            again.say({"type": "ping", "id": 1})
            assert again.next_message() == {"type": "reply", "id": 1, "revision": 2}


def test_a_fault_of_the_node_ends_one_connection_and_is_logged(caplog):
    """What only a bug can raise while sending or receiving: the client may come again, others stay."""

    class Faulty(FakeNode):
        def meters_for(self, client_id):
            raise ZeroDivisionError("in the meters")

        def carry_out(self, request, client, answer):
            if getattr(request, "paths", ()) == ("fault",):
                raise ZeroDivisionError("in a request")
            super().carry_out(request, client, answer)

    with start_server(Faulty()) as running, joined(running) as other:
        with joined(running, subscribe={"meters_hz": 60}) as wire:
            assert wire.is_gone()
        with joined(running) as wire:
            wire.say({"type": "get", "id": 1, "paths": ["fault"]})
            assert wire.is_gone()
        other.say({"type": "ping", "id": 1})
        assert other.next_message()["type"] == "reply"
        assert eventually(lambda: running.node.forgotten == ["c2", "c3"])
    logged = [r.exc_info[1] for r in caplog.records if r.levelno >= logging.ERROR]
    assert [str(e) for e in logged] == ["in the meters", "in a request"]


def test_a_server_for_other_machines_takes_addresses_and_its_names():
    gate = Gate.around("0.0.0.0", names=("desk.local",), origins=("https://show.example",))
    with start_server(host="127.0.0.1", gate=gate) as running:
        for host, origin, status in (
            ("192.168.1.7:8137", "http://192.168.1.7:8137", 200),
            ("DESK.local", "http://desk.local", 200),
            ("desk.local", "https://show.example", 200),
            ("other.local", None, 421),
            ("desk.local", "http://show.example", 403),
        ):
            with Wire(running.port) as wire:
                assert wire.get("/", Host=host, Origin=origin)[0] == status, (host, origin)


def test_history_is_not_the_server_s():
    """Two servers over one board are both told of changes."""
    node = FakeNode()
    assert isinstance(node.board, Board)
    with start_server(node) as one, start_server(node) as two:
        assert len(node.board.on_change) == 2
        two.stop()
        assert len(node.board.on_change) == 1
        with joined(one) as wire:
            one.call(lambda: node.board.change({GAIN: -2.0}, "node"))
            assert wire.next_message("deltas")["changes"][0]["origin"] == "node"
