"""A client made of bare bytes, for what no library sends; a well-behaved one, to see that all is well."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from control_node import TOKENS, RunningServer, start_server

JSON, MSGPACK = "stemrack.v1", "stemrack.v1.msgpack"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMIT_S = 15.0


class Wire:
    """A TCP connection to a server, and the words of RFC 6455 spelled by hand.

    receive_buffer: of the system, in bytes; set before connecting, so that the window stays small;
    source: one of this machine's own addresses.
    """

    def __init__(
        self, port: int, receive_buffer: int = 0, tls: ssl.SSLContext | None = None, source: str = ""
    ) -> None:
        bare = socket.socket()
        if source:
            bare.bind((source, 0))
        if receive_buffer:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        bare.settimeout(LIMIT_S)
        bare.connect(("127.0.0.1", port))
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(bare, server_hostname="localhost") if tls else bare
        self.port, self._read = port, b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def put(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def head(self, path: str = "/", method: str = "GET", **headers: Any) -> bytes:
        """Return the head of a request. Host is right unless given; None: no such line; a tuple: several."""
        fields = {"Host": f"127.0.0.1:{self.port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in fields.items():
            values = value if isinstance(value, tuple) else (value,)
            lines += [f"{name}: {v}" for v in values if v is not None]
        return "\r\n".join([*lines, "", ""]).encode()

    def upgrade(self, path: str = "/", subprotocol: Any = JSON, **headers: Any) -> bytes:
        """Return the head of a websocket's handshake."""
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": key}
        fields |= {"Sec_WebSocket_Version": "13", "Sec_WebSocket_Protocol": subprotocol}
        return self.head(path, **(fields | headers))

    def get(self, *args: Any, **headers: Any) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (small letters) and body of the answer to a request."""
        self.put(self.head(*args, **headers))
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of what comes until the server closes; status 0: nothing came."""
        head, fields = self.answer_head()
        while data := self._receive():
            self._read += data
        return head, fields, self._read

    def answer_head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of an answer; the bytes after it wait to be read."""
        while b"\r\n\r\n" not in self._read:
            data = self._receive()
            if not data:
                assert not self._read, f"half an answer: {self._read!r}"
                return 0, {}
            self._read += data
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), {n.lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}

    def open(self, **headers: Any) -> Wire:
        """Shake hands; gives itself."""
        self.put(self.upgrade(**headers))
        status, _ = self.answer_head()
        assert status == 101, status
        return self

    def frame(self, payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0) -> bytes:
        """Return a masked frame; the mask is zero, which spares the work."""
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 65_536:
            length = bytes([0x80 | 126]) + struct.pack("!H", size)
        else:
            length = bytes([0x80 | 127]) + struct.pack("!Q", size)
        return bytes([(0x80 if fin else 0) | rsv | opcode]) + length + bytes(4) + payload

    def say(self, message: dict[str, Any], subprotocol: str = JSON) -> None:
        """Send a message."""
        if subprotocol == JSON:
            self.put(self.frame(msgspec.json.encode(message)))
        else:
            self.put(self.frame(msgspec.msgpack.encode(message), BINARY))

    def identify(self, token: str = TOKENS["admin"], **fields: Any) -> None:
        """Send `identify`."""
        self.say({"type": "identify", "versions": [1, 1], "token": token, **fields})

    def next_frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame; (-1, b'') once the connection is gone."""
        while True:
            if (cut := _cut(self._read)) is not None:
                opcode, payload, self._read = cut
                return opcode, payload
            data = self._receive()
            if not data:
                return -1, b""
            self._read += data

    def next_message(self, *kinds: str) -> dict[str, Any]:
        """Return the next JSON message, or the next of some kinds."""
        while True:
            opcode, payload = self.next_frame()
            if opcode in (TEXT, BINARY):
                message = (msgspec.json if opcode == TEXT else msgspec.msgpack).decode(payload)
                if not kinds or message["type"] in kinds:
                    return message
            else:
                assert opcode in (PING, PONG), f"closed: {opcode} {payload!r}"

    def close_code(self) -> int | None:
        """Return the code with which the server closes, whatever comes before; None if it just hangs up."""
        while True:
            opcode, payload = self.next_frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0]
            if opcode == -1:
                return None

    def is_gone(self) -> bool:
        """Return whether the server has hung up, after waiting for it."""
        while self._receive():
            pass
        return True

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except ConnectionError:
            return b""


def _cut(data: bytes) -> tuple[int, bytes, bytes] | None:
    if len(data) < 2:
        return None
    size, start = data[1] & 0x7F, 2
    if size == 126:
        size, start = (struct.unpack("!H", data[2:4])[0] if len(data) >= 4 else 1 << 60), 4
    elif size == 127:
        size, start = (struct.unpack("!Q", data[2:10])[0] if len(data) >= 10 else 1 << 60), 10
    if len(data) < start + size:
        return None
    return data[0] & 0x0F, data[start : start + size], data[start + size :]


def joined(running: RunningServer, token: str = TOKENS["admin"], **fields: Any) -> Wire:
    """Return a client that has its snapshot."""
    wire = Wire(running.port).open()
    wire.identify(token, **fields)
    assert wire.next_message()["type"] == "hello"
    assert wire.next_message()["type"] == "welcome"
    wire.next_message("snapshot")
    return wire


def check_serves(running: RunningServer, gain_db: float) -> None:
    """Check that a well-behaved client gets in, moves a fader, and that another one sees it."""
    with joined(running) as mover, joined(running, TOKENS["viewer"]) as watcher:
        mover.say({"type": "set", "id": 7, "path": "stem/vocals/gain_db", "value": gain_db})
        reply = mover.next_message("reply", "error")
        assert reply["values"] == {"stem/vocals/gain_db": gain_db}
        deltas = watcher.next_message("deltas")
        assert deltas["changes"][-1]["values"] == {"stem/vocals/gain_db": gain_db}
        assert deltas["changes"][-1]["revision"] == reply["revision"]


def eventually(holds: Callable[[], Any], limit_s: float = 5.0) -> bool:
    """Wait until something holds; gives whether it does."""
    until_s = time.monotonic() + limit_s
    while not (held := holds()) and time.monotonic() < until_s:
        time.sleep(0.01)
    return bool(held)


@contextmanager
def under_attack(caplog: Any, **settings: Any) -> Iterator[RunningServer]:
    """Give a server; afterwards it must serve as before, have nobody left, and have logged no trouble."""
    troubles: list[dict[str, Any]] = []
    caplog.set_level(logging.INFO)
    with start_server(**settings) as running:
        running.loop.set_exception_handler(lambda loop, context: troubles.append(context))
        check_serves(running, -3.0)
        yield running
        check_serves(running, -5.0)
        inside = running.server
        assert inside is not None
        assert eventually(lambda: not inside._peers), "connections are left behind"
        assert eventually(lambda: not inside._strangers), "strangers are left behind"
        assert eventually(lambda: running.call(lambda: len(asyncio.all_tasks())) == 1), "tasks are left"
        assert len(running.node.forgotten) == inside._n_opened
        assert inside._n_delayed == 0
    assert not troubles
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
