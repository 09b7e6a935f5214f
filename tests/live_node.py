"""A live node for tests: engine on the virtual clock, state, and the real port; and a client to ask it."""

import asyncio
import time
from contextlib import contextmanager

import numpy as np
import soundfile
from fake_device import delay_for
from fake_separator import HOP, LATENCY, OneStem
from processes import until
from websockets.asyncio.client import connect

from stemrack.rt.audio import DeviceChoice
from stemrack.rt.control.auth import Gate, new_tokens
from stemrack.rt.control.codec import JSON, Codec
from stemrack.rt.control.messages import Error, Identify, Reply, Subscriptions
from stemrack.rt.control.node import EngineNode, NodeSettings
from stemrack.rt.control.protocol import ClientSession
from stemrack.rt.control.server import ServerSettings
from stemrack.rt.control.service import ControlService
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.recording import RecordSettings
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

BLOCK = 256
RATE_HZ = 44_100
DELAY = delay_for(HOP, LATENCY, (BLOCK,)) + 2 * HOP
LEVEL = 0.25


def write_steady(path):
    """A file of one value: what is heard of it is the gain."""
    soundfile.write(path, np.full((RATE_HZ * 2, 2), LEVEL), RATE_HZ, subtype="FLOAT")
    return path


class Caller:
    """A client in the test's own thread: one request at a time."""

    def __init__(self, loop, connection, session):
        self._loop, self._connection, self.session = loop, connection, session
        self.heard = []

    def ask(self, kind, **fields):
        """The reply to a request."""
        request_id = self.session.request(kind, **fields)
        return self._run(self._answer(request_id))

    def wait_for(self, kind):
        """The next message of a kind."""
        return self._run(self._until(lambda m: isinstance(m, kind)))

    def _run(self, coroutine):
        return self._loop.run_until_complete(asyncio.wait_for(coroutine, 20.0))

    def pour(self, kind, fields, period_s):
        """Replies to many requests, one sent every period_s whether or not those before are answered."""
        return self._loop.run_until_complete(asyncio.wait_for(self._pour(kind, fields, period_s), 120.0))

    async def _pour(self, kind, fields, period_s):
        sender = asyncio.create_task(self._send(kind, fields, period_s))
        replies = [await self._until(lambda m: isinstance(m, Reply | Error)) for _ in fields]
        await sender
        return replies

    async def _send(self, kind, fields, period_s):
        began = time.monotonic()
        for n, given in enumerate(fields):
            self.session.request(kind, **given)
            await self._send_all()
            await asyncio.sleep(max(0.0, began + (n + 1) * period_s - time.monotonic()))

    async def _answer(self, request_id):
        return await self._until(lambda m: isinstance(m, Reply | Error) and m.id == request_id)

    async def _send_all(self):
        while self.session.outgoing:
            await self._connection.send(self.session.outgoing.pop(0))

    async def _until(self, fits):
        while True:
            await self._send_all()
            message = self.session.receive(await self._connection.recv())
            self.heard.append(message)
            if fits(message):
                return message


@contextmanager
def calling(address, token, **subscribe):
    loop = asyncio.new_event_loop()
    identify = Identify(versions=(1, 1), client="test", token=token, subscribe=Subscriptions(**subscribe))
    session = ClientSession(Codec(JSON), identify)

    async def open_one():
        where = address.url().replace("http", "ws")
        connection = await connect(where, subprotocols=[JSON], compression=None, close_timeout=1.0)
        while not session.is_ready:
            session.receive(await connection.recv())
            for out in session.outgoing:
                await connection.send(out)
            session.outgoing.clear()
        return connection

    connection = loop.run_until_complete(asyncio.wait_for(open_one(), 20.0))
    try:
        yield Caller(loop, connection, session)
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


@contextmanager
def serving(engine, folder, listeners, pages=None, **changes):
    """The node of an engine that runs, its address and tokens."""
    tokens = new_tokens()
    shown = {
        "latency_ms": lambda: 37.7,
        "ramp_ms": 10.0,
        "profile": "live",
        "name": "stemrack test",
    } | changes
    recording = RecordSettings(folder=folder / "takes", container="wav", subtype="float32")
    node = EngineNode(
        engine,
        NodeSettings(tokens=tokens, recording=recording, scene_file=folder / "scenes.json", **shown),
    )
    listeners.append(node.note)
    service = ControlService(node, ServerSettings(port=0, gate=Gate.around("127.0.0.1")), pages or {})
    address = service.start()
    try:
        yield node, address, tokens
    finally:
        service.stop()


@contextmanager
def node_on(steady, folder, pages=None, *, waits=False, **changes):
    """An engine, its node, and its port; waits: the clock stops while the worker has a hop to do."""
    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=OneStem),
        devices=DeviceChoice(input=None, output=None, block_samples=BLOCK, waits=waits),
        plan_for=lambda resolved: StreamPlan(rate_hz=RATE_HZ, delay_samples=DELAY, start_ramp_samples=0),
        input_file=steady,
    )
    listeners = []
    with Engine(settings, lambda event: [tell(event) for tell in listeners]) as engine:
        engine.start()
        with serving(engine, folder, listeners, pages, **changes) as (node, address, tokens):
            yield engine, node, address, tokens


def heard_gain(engine, n=2_048):
    """The gain of the newest samples, once they are all of one value."""

    def newest():
        end = engine.record_position
        return engine.block.record[0, np.arange(end - n, end) % engine.block.record.shape[1]]

    until(lambda: np.ptp(newest()) == 0.0)
    return float(newest()[-1]) / LEVEL
