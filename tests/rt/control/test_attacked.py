"""Everything hostile at once against the port of a node that plays: the sound does not change by a sample."""

import asyncio
import contextlib
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from live_node import LEVEL, calling, node_on, write_steady
from processes import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stemrack.rt.control.codec import JSON, Codec
from stemrack.rt.control.messages import Get, Identify

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc"),
]

SECONDS = 4.0


def half_open(port, stop):
    """Handshakes that never end, as many as there may be and more."""
    held = []
    while not stop.is_set():
        with contextlib.suppress(OSError):
            plug = socket.create_connection(("127.0.0.1", port), timeout=2.0)
            plug.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            held.append(plug)
        if len(held) > 300:
            held.pop(0).close()
        time.sleep(0.005)
    for plug in held:
        plug.close()


async def strangers(url, stop, counted):
    """Wrong tokens, foreign pages, frames too large, and clients that send without reading."""
    identify = Codec(JSON).encode(Identify(versions=(1, 1), token="wrong"))
    while not stop.is_set():
        for frame, headers in (
            (identify, {}),
            ("x" * 200_000, {}),
            (identify, {"Origin": "http://evil.example"}),
        ):
            try:
                async with connect(
                    url, subprotocols=[JSON], compression=None, additional_headers=headers
                ) as connection:
                    await connection.send(frame)
                    async for _ in connection:
                        pass
            except (ConnectionClosed, InvalidStatus, OSError):
                counted.append(1)
            else:
                counted.append(1)


async def flooding(url, token, stop):
    """A client with a token that asks for everything and reads nothing."""
    codec = Codec(JSON)
    while not stop.is_set():
        with contextlib.suppress(ConnectionClosed, OSError, TimeoutError):
            async with connect(url, subprotocols=[JSON], compression=None, close_timeout=0.1) as connection:
                await connection.send(codec.encode(Identify(versions=(1, 1), token=token)))
                for n in range(300):
                    await asyncio.wait_for(connection.send(codec.encode(Get(id=n))), 1.0)
                    await asyncio.sleep(0)


def test_attacks_leave_the_sound_alone(tmp_path):
    stop, counted = threading.Event(), []
    with node_on(write_steady(tmp_path / "steady.wav"), tmp_path) as (engine, _, address, tokens):
        until(lambda: not engine.counters()["is_dry"])
        time.sleep(0.5)
        url = address.url().replace("http", "ws")
        attackers = [
            threading.Thread(target=half_open, args=(address.port, stop)),
            threading.Thread(target=lambda: asyncio.run(strangers(url, stop, counted))),
            threading.Thread(target=lambda: asyncio.run(flooding(url, tokens.by_role["viewer"], stop))),
        ]
        begin = engine.record_position
        for attacker in attackers:
            attacker.start()
        try:
            time.sleep(SECONDS)
            with calling(address, tokens.by_role["operator"]) as caller:
                assert caller.ask(Get, paths=("engine/state",)).values["engine/state"] in ("wet", "dry")
        finally:
            stop.set()
            for attacker in attackers:
                attacker.join()
        ring = engine.block.record
        heard = ring[:2, np.arange(begin, engine.record_position) % ring.shape[1]]
    assert heard.shape[1] > SECONDS * 20_000
    assert len(counted) > 10
    assert np.abs(heard - LEVEL).max() < 1e-6
