"""Attacks over real sockets: each is refused and counted, others notice nothing, nothing is left behind."""

import hmac
import socket
import time
import zlib
from collections import Counter
from contextlib import ExitStack
from threading import Thread

import pytest
from control_node import TOKENS
from control_wire import BINARY, CLOSE, MSGPACK, TEXT, Wire, eventually, joined, under_attack

from stemrack.rt.control import protocol, server
from stemrack.rt.control.messages import CloseCode

pytestmark = pytest.mark.realtime

# -- where a request comes from -----------------------------------------------------------------------------

OWN = "127.0.0.1:{port}"
FOREIGN = [
    ({"Origin": "http://evil.example"}, 403, "origin"),
    ({"Origin": "null"}, 403, "origin"),
    ({"Origin": ""}, 403, "origin"),
    ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403, "origin"),
    ({"Origin": "http://127.0.0.1:{other}"}, 403, "origin"),
    ({"Origin": "http://evil@127.0.0.1:{port}"}, 403, "origin"),
    ({"Origin": "http://localhost:{port}"}, 403, "origin"),
    ({"Origin": ("http://127.0.0.1:{port}", "http://evil.example")}, 403, "origin"),
    ({"Origin": "file://"}, 403, "origin"),
    ({"Host": "evil.example:{port}"}, 421, "host"),
    ({"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}, 421, "host"),
    ({"Host": "localhost.evil.example:{port}"}, 421, "host"),
    ({"Host": "192.168.1.7:{port}"}, 421, "host"),
    ({"Host": "0.0.0.0:{port}"}, 421, "host"),
    ({"Host": ("127.0.0.1:{port}", "evil.example")}, 421, "host"),
    ({"Host": ("127.0.0.1:{port}", "127.0.0.1:{port}")}, 421, "host"),
    ({"Host": None}, 421, "host"),
    ({"Host": ""}, 421, "host"),
    ({"Host": "["}, 421, "host"),
]


@pytest.mark.parametrize("is_websocket", [True, False])
def test_other_sites_and_names_are_refused(caplog, is_websocket):
    """Origin and Host are checked before anything else, for the page as for the protocol."""
    with under_attack(caplog) as running:
        expected = Counter()
        for headers, status, why in FOREIGN:
            filled = {
                name: tuple(_fill(v, running.port) for v in value)
                if isinstance(value, tuple)
                else _fill(value, running.port)
                for name, value in headers.items()
            }
            with Wire(running.port) as wire:
                wire.put(wire.upgrade(**filled) if is_websocket else wire.head("/metrics", **filled))
                assert wire.answer()[0] == status, headers
            expected[f"refused_{why}"] += 1
        counted = running.counted
        assert {k: counted[k] for k in expected} == expected
        assert counted["frames_in"] == 3, "only the well-behaved were listened to"


def _fill(value, port):
    return value and value.format(port=port, other=port + 1)


def test_the_own_page_gets_in(caplog):
    """The same address as Host and Origin, also under the other own name and behind TLS of a proxy."""
    with under_attack(caplog) as running:
        for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
            for scheme in ("http", "https"):
                host = f"{name}:{running.port}"
                Wire(running.port).open(Host=host, Origin=f"{scheme}://{host}").socket.close()
        assert "refused_origin" not in running.counted
        assert "refused_host" not in running.counted


# -- tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "x", TOKENS["admin"][:-1], TOKENS["admin"] + "a", "ä" * 32, "\x00"])
def test_without_the_token_nobody_gets_in(caplog, token):
    with under_attack(caplog) as running, Wire(running.port) as wire:
        wire.open()
        wire.identify(token, resume={"epoch": "e1", "revision": 0})
        assert wire.next_message()["type"] == "hello"
        said = wire.next_message()
        assert (said["type"], said["name"], said["path"]) == ("error", "wrong_token", "token")
        assert wire.close_code() == CloseCode.WRONG_TOKEN
        assert running.counted["refused_token"] == 1
        assert running.counted["closed_wrong_token"] == 1


def test_a_connection_may_try_one_token_only(caplog):
    """The right one behind a wrong one is not looked at."""
    with under_attack(caplog) as running, Wire(running.port) as wire:
        wire.open()
        wire.identify("wrong")
        wire.identify()
        kinds = []
        while (frame := wire.next_frame())[0] == TEXT:
            kinds.append(frame[1][:30])
        assert [k[:15] for k in kinds] == [b'{"type":"hello"', b'{"type":"error"']
        assert frame[1][:2] == CloseCode.WRONG_TOKEN.to_bytes(2, "big")


def test_tokens_are_compared_in_constant_time(caplog, monkeypatch):
    """Each token that is tried is compared with each that is known, by hmac's comparison."""
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    with under_attack(caplog) as running:
        for token in ("wrong", TOKENS["viewer"]):
            compared.clear()
            with Wire(running.port) as wire:
                wire.open()
                wire.identify(token)
                wire.next_message("welcome", "error")
                assert compared == [(known.encode(), token.encode()) for known in TOKENS.values()]


def test_wrong_tokens_wait_longer_each_time(caplog):
    """From one address: 0, 0.1, 0.2 s ...; a right token meanwhile does not wait."""
    with under_attack(caplog) as running:
        took_s = []
        for _ in range(4):
            with Wire(running.port) as wire:
                wire.open()
                began_s = time.monotonic()
                wire.identify("wrong")
                assert wire.close_code() == CloseCode.WRONG_TOKEN
                took_s.append(time.monotonic() - began_s)
        for least_s, real_s in zip(server.FAILED_TOKEN_DELAYS_S, took_s, strict=False):
            assert real_s >= least_s * 0.9
        with Wire(running.port) as wrong:
            wrong.open()
            wrong.identify("wrong")  # waits for a second now
            eventually(lambda: running.server._n_delayed == 1)
            joined(running).socket.close()
            assert running.server._n_delayed == 1, "the right one came in while the wrong one still waited"
            assert wrong.close_code() == CloseCode.WRONG_TOKEN
        assert running.counted["refused_token"] == 5


def test_addresses_of_wrong_tokens_are_forgotten_before_they_fill_the_memory(caplog, monkeypatch):
    monkeypatch.setattr(server, "MAX_ADDRESSES", 3)
    with under_attack(caplog) as running:
        for i in range(5):
            with Wire(running.port, source=f"127.0.0.{i + 2}") as wire:
                wire.open()
                wire.identify("wrong")
                assert wire.close_code() == CloseCode.WRONG_TOKEN
            assert running.server._failures.total() == (1, 2, 3, 0, 1)[i]


def test_who_waits_for_a_wrong_token_is_not_counted_twice(caplog, monkeypatch):
    """The time to identify ends while the answer waits: the reason stays the token."""
    monkeypatch.setattr(server, "IDENTIFY_LIMIT_S", 0.2)
    monkeypatch.setattr(protocol, "IDENTIFY_LIMIT_S", 0.2)
    monkeypatch.setattr(server, "FAILED_TOKEN_DELAYS_S", (0.5,))
    with under_attack(caplog) as running, Wire(running.port) as wire:
        wire.open()
        wire.identify("wrong")
        assert wire.close_code() == CloseCode.WRONG_TOKEN
        assert running.counted["refused_unidentified"] == 0


def try_wrong_tokens(running, n):
    """Try wrong tokens without waiting for what the server says to them."""
    for i in range(n):
        with Wire(running.port) as wire:
            wire.open()
            wire.next_frame()  # hello
            wire.identify(f"{i:032}")
            wire.socket.shutdown(socket.SHUT_WR)
            wire.is_gone()


@pytest.mark.parametrize("n", [400, pytest.param(10_000, marks=pytest.mark.slow)], ids=["400", "10000"])
def test_many_wrong_tokens(caplog, n):
    """All places to wait are taken, more are turned away; all are counted; right tokens come in at once."""
    with under_attack(caplog) as running, ExitStack() as stack:
        patient = [stack.enter_context(Wire(running.port)).open() for _ in range(server.MAX_DELAYED + 10)]
        threads = [Thread(target=try_wrong_tokens, args=(running, n // 4)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for wire in patient:
            wire.identify("w" * 32)
        most_delayed, n_right = 0, 0
        while any(t.is_alive() for t in threads):
            began_s = time.monotonic()
            joined(running).socket.close()
            assert time.monotonic() - began_s < 1.0
            n_right += 1
            most_delayed = max(most_delayed, running.server._n_delayed)
            time.sleep(0.02)
        assert n_right >= 5
        assert most_delayed == server.MAX_DELAYED
        assert {wire.close_code() for wire in patient} == {CloseCode.WRONG_TOKEN}
        assert running.counted["refused_token"] == n + len(patient)


# -- frames -------------------------------------------------------------------------------------------------


def test_a_frame_of_10_mib_is_not_read(caplog):
    """Closed with 1009 as soon as its length is known; the bytes are not kept."""
    with under_attack(caplog) as running, joined(running) as wire:
        whole = wire.frame(b'"' + b"x" * (10 << 20) + b'"')
        wire.put(whole[:200_000])
        assert wire.close_code() == 1009
        wire.socket.close()
        assert eventually(lambda: running.counted["refused_too_big"] == 1)


def test_the_largest_frame_is_read(caplog):
    with under_attack(caplog) as running, joined(running) as wire:
        wire.put(wire.frame(b"x" * server.MAX_CLIENT_FRAME_BYTES))
        assert wire.next_message("error")["name"] == "malformed"
        wire.put(wire.frame(b"x" * (server.MAX_CLIENT_FRAME_BYTES + 1)))
        assert wire.close_code() == 1009


def test_nobody_gets_compression(caplog):
    offer = "permessage-deflate; client_max_window_bits"
    with under_attack(caplog) as running, Wire(running.port) as wire:
        wire.put(wire.upgrade(Sec_WebSocket_Extensions=offer))
        status, headers = wire.answer_head()
        assert status == 101
        assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize("rsv", [0x40, 0x20, 0x10])
def test_a_deflate_bomb_is_refused(caplog, rsv):
    """60 kB that would be 60 MB: a frame with a reserved bit ends the connection unread."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeezer.compress(b" " * 60_000_000) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < server.MAX_CLIENT_FRAME_BYTES
    with under_attack(caplog) as running, Wire(running.port) as wire:
        wire.open(Sec_WebSocket_Extensions="permessage-deflate")
        wire.put(wire.frame(bomb[:-4], rsv=rsv))
        assert wire.close_code() == 1002
        wire.socket.close()
        assert eventually(lambda: running.counted["refused_malformed"] == 1)


BROKEN = {
    "garbage": (b"\xff\x00" * 500, 1002),
    "unmasked": (b"\x81\x02{}", 1002),
    "unknown opcode": (b"\x83\x80" + bytes(4), 1002),
    "continuation of nothing": (b"\x80\x80" + bytes(4), 1002),
    "long ping": (bytes([0x89, 0xFE, 0, 200]) + bytes(204), 1002),
    "ping in parts": (b"\x09\x80" + bytes(4), 1002),
    "text in a text": (b"\x01\x81" + bytes(4) + b"{" + b"\x81\x81" + bytes(4) + b"}", 1002),
    "no text": (b"\x81\x82" + bytes(4) + b"\xff\xfe", 1007),
    "close code 5": (b"\x88\x82" + bytes(4) + b"\x00\x05", 1002),
    "close of one byte": (b"\x88\x81" + bytes(4) + b"\x03", 1002),
    "close with bad text": (b"\x88\x83" + bytes(4) + b"\x03\xe8\xff", 1007),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN.values(), ids=BROKEN)
def test_broken_frames_end_the_connection(caplog, sent, code):
    """Before and after `identify`; they are counted."""
    with under_attack(caplog) as running:
        for wire in (Wire(running.port).open(), joined(running)):
            with wire:
                wire.put(sent)
                assert wire.close_code() == code
        assert eventually(lambda: running.counted["refused_malformed"] == 2)


def test_garbage_before_the_upgrade(caplog):
    garbage = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 9_000)
    garbage += (
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nbroken\r\n\r\n",
        b"\xff\xfe / HTTP/1.1\r\n\r\n",
    )
    garbage += (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"GET /" + b"a" * 9_000)
    with under_attack(caplog) as running:
        before = running.counted["connections"]
        for data in garbage:
            with Wire(running.port) as wire:
                wire.put(data + b"\r\n\r\n")
                assert wire.answer()[0] in (0, 400, 414, 431), data[:20]
        assert eventually(lambda: running.counted["refused_half_open"] == len(garbage))
        assert running.counted["connections"] == before + len(garbage)


def test_text_for_bytes_and_bytes_for_text(caplog):
    with under_attack(caplog) as running:
        with joined(running) as wire:
            wire.put(wire.frame(b'{"type":"ping","id":1}', BINARY))
            assert wire.next_message()["name"] == "wrong_encoding"
            wire.say({"type": "ping", "id": 2})
            assert wire.next_message() == {"type": "reply", "id": 2, "revision": 1}
        with Wire(running.port) as wire:
            wire.open(subprotocol=MSGPACK)
            assert wire.next_frame()[0] == BINARY
            wire.identify()
            assert wire.next_message()["name"] == "wrong_encoding"
            wire.say({"type": "identify", "versions": [1, 1], "token": TOKENS["admin"]}, MSGPACK)
            assert wire.next_message()["type"] == "welcome"


def test_a_hundred_bad_frames_end_the_connection(caplog):
    with under_attack(caplog) as running, joined(running) as wire:
        wire.put(wire.frame(b"{") * 300)
        names = Counter()
        while (frame := wire.next_frame())[0] == TEXT:
            names[frame[1][:40]] += 1
        assert sum(names.values()) == protocol.ERRORS_IN_A_ROW
        assert frame[0] == CLOSE
        assert frame[1][:2] == CloseCode.TOO_MANY_ERRORS.to_bytes(2, "big")
