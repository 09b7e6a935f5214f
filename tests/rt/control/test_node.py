"""A node with an engine on the virtual clock behind the real port: what is asked is what is heard."""

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_device import delay_for
from fake_separator import HOP, LATENCY, OneStem
from processes import until
from websockets.asyncio.client import connect

from stemrack.models.stems import STEMS
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.control.auth import Gate, new_tokens
from stemrack.rt.control.codec import JSON, Codec
from stemrack.rt.control.messages import (
    Error,
    Event,
    Get,
    Identify,
    Meters,
    RecallScene,
    Reply,
    Set,
    StoreScene,
    Subscriptions,
)
from stemrack.rt.control.node import EngineNode, NodeSettings, load_scenes, save_scenes
from stemrack.rt.control.protocol import ClientSession
from stemrack.rt.control.server import ServerSettings
from stemrack.rt.control.service import ControlService
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.errors import ConfigError, EngineStateError
from stemrack.rt.recording import RecordSettings
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc")

BLOCK = 256
RATE_HZ = 44_100
DELAY = delay_for(HOP, LATENCY, (BLOCK,)) + 2 * HOP
LEVEL = 0.25


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """A file of one value: what is heard of it is the gain."""
    path = tmp_path_factory.mktemp("song") / "steady.wav"
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

    async def _answer(self, request_id):
        return await self._until(lambda m: isinstance(m, Reply | Error) and m.id == request_id)

    async def _until(self, fits):
        while True:
            for out in self.session.outgoing:
                await self._connection.send(out)
            self.session.outgoing.clear()
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
        connection = await connect(address.url().replace("http", "ws"), subprotocols=[JSON], compression=None)
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
def node_on(steady, folder, **changes):
    """An engine, its node, and the port it listens on."""
    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=OneStem),
        devices=DeviceChoice(input=None, output=None, block_samples=BLOCK),
        plan_for=lambda resolved: StreamPlan(rate_hz=RATE_HZ, delay_samples=DELAY, start_ramp_samples=0),
        input_file=steady,
    )
    listeners = []
    with Engine(settings, lambda event: [tell(event) for tell in listeners]) as engine:
        engine.start()
        tokens = new_tokens()
        shown = {"latency_ms": 37.7, "ramp_ms": 10.0, "profile": "live", "name": "stemrack test"} | changes
        recording = RecordSettings(folder=folder / "takes", container="wav", subtype="float32")
        node = EngineNode(
            engine,
            NodeSettings(tokens=tokens, recording=recording, scene_file=folder / "scenes.json", **shown),
        )
        listeners.append(node.note)
        service = ControlService(node, ServerSettings(port=0, gate=Gate.around("127.0.0.1")), {})
        address = service.start()
        try:
            yield engine, node, address, tokens
        finally:
            service.stop()


@pytest.fixture(scope="module")
def running(steady, tmp_path_factory):
    with node_on(steady, tmp_path_factory.mktemp("node")) as parts:
        until(lambda: not parts[0].counters()["is_dry"])
        yield parts


def heard_gain(engine, n=2_048):
    """The gain of the newest samples, once they are all of one value."""

    def newest():
        end = engine.record_position
        return engine.block.record[0, np.arange(end - n, end) % engine.block.record.shape[1]]

    until(lambda: np.ptp(newest()) == 0.0)
    return float(newest()[-1]) / LEVEL


def test_a_fader_moved_over_the_port_is_heard(running):
    engine, _, address, tokens = running
    with calling(address, tokens.by_role["operator"]) as caller:
        reply = caller.ask(Set, path="stem/vocals/gain_db", value=-20.0)
        assert reply.values == {"stem/vocals/gain_db": -20.0}
        assert caller.session.values["stem/vocals/gain_db"] == -20.0
        time.sleep(0.1)
        assert heard_gain(engine) == pytest.approx(0.1, rel=1e-6)
        caller.ask(Set, path="stem/vocals/gain_db", value=-120.0)
        time.sleep(0.1)
        assert heard_gain(engine) == 0.0
        caller.ask(Set, path="stem/vocals/gain_db", value=0.0)
        time.sleep(0.1)
        assert heard_gain(engine) == pytest.approx(1.0, rel=1e-6)


def test_scenes_fade_and_are_kept_on_disk(running):
    engine, node, address, tokens = running
    with calling(address, tokens.by_role["operator"]) as caller:
        caller.ask(StoreScene, name="all")
        caller.ask(Set, path="stem/vocals/mute", value=True)
        caller.ask(StoreScene, name="karaoke")
        caller.ask(RecallScene, name="all")
        time.sleep(0.1)
        assert heard_gain(engine) == pytest.approx(1.0, rel=1e-6)
        begin = engine.record_position
        caller.ask(RecallScene, name="karaoke", fade_ms=400.0)
        time.sleep(0.7)
        ring = engine.block.record
        faded = ring[0, np.arange(begin, engine.record_position) % ring.shape[1]] / LEVEL
        steps = np.diff(faded)
        assert steps.min() == pytest.approx(-1.0 / (0.4 * RATE_HZ), rel=1e-2)
        assert steps.max() <= 1e-7
        assert faded[-1] == 0.0
        assert caller.session.values["scenes"] == "all\nkaraoke"
        caller.ask(RecallScene, name="all")
    path = node._settings.scene_file
    until(lambda: path.exists() and set(load_scenes(path)) == {"all", "karaoke"})
    assert load_scenes(path)["karaoke"]["stem/vocals/mute"] is True


def test_a_recording_is_started_and_stopped_from_afar(running):
    engine, node, address, tokens = running
    with calling(address, tokens.by_role["operator"], events=True) as caller:
        assert caller.ask(Set, path="recording/active", value=True).values == {"recording/active": True}
        assert engine.is_recording
        time.sleep(0.3)
        assert caller.ask(Set, path="recording/active", value=False).values == {"recording/active": False}
        kinds = [m.kind for m in caller.heard if isinstance(m, Event)]
        assert "recording-started" in kinds
    takes = list(node._settings.recording.folder.glob("*/mix.wav"))
    assert len(takes) == 1
    assert soundfile.info(takes[0]).frames > 0.2 * RATE_HZ


def test_levels_are_the_clients_own(running):
    _, _, address, tokens = running
    with (
        calling(address, tokens.by_role["viewer"], meters_hz=60.0) as fast,
        calling(address, tokens.by_role["viewer"], meters_hz=5.0) as slow,
    ):
        for caller in (fast, slow):
            frames = [caller.wait_for(Meters) for _ in range(3)]
            assert frames[-1].position > frames[0].position
            assert frames[-1].levels["main"][0] == pytest.approx(20 * np.log10(LEVEL), abs=0.01)
            assert set(frames[-1].levels) == {"input", "main", *STEMS, "cue"}


def test_what_may_not_be_is_refused_with_a_reason(running):
    engine, _, address, tokens = running
    with calling(address, tokens.by_role["viewer"]) as caller:
        said = caller.ask(Set, path="stem/vocals/gain_db", value=-3.0)
        assert (said.code, said.path) == (203, "stem/vocals/gain_db")
    with calling(address, tokens.by_role["operator"]) as caller:
        assert caller.ask(Set, path="device/output", value="elsewhere").code == 203
        assert caller.ask(Set, path="engine/latency_ms", value=1.0).code == 303
    with calling(address, tokens.by_role["admin"]) as caller:
        assert caller.ask(Set, path="device/output", value="elsewhere").code == 302
        values = caller.ask(Get).values
    assert values["engine/state"] == "wet"
    assert values["engine/latency_ms"] == 37.7
    assert values["engine/rate_hz"] == RATE_HZ
    assert engine.audio.state == "running"


def test_what_happens_to_the_engine_is_told(running):
    engine, _, address, tokens = running
    with calling(address, tokens.by_role["viewer"], events=True) as caller:
        os.kill(engine.worker.pid, signal.SIGKILL)
        kinds = set()
        while not {"worker-died", "worker-ready", "fallback"} <= kinds:
            kinds.add(caller.wait_for(Event).kind)
        until(lambda: caller.ask(Get, paths=("engine/state",)).values["engine/state"] == "wet")


def test_a_taken_port_is_said(running, steady, tmp_path):
    engine, _, address, tokens = running
    settings = NodeSettings(
        name="second", tokens=tokens, recording=RecordSettings(), profile="live", latency_ms=0.0, ramp_ms=10.0
    )
    service = ControlService(EngineNode(engine, settings), ServerSettings(port=address.port), {})
    with pytest.raises(EngineStateError, match=f"port {address.port} of 127.0.0.1 cannot be used"):
        service.start()
    service.stop()


def test_scene_files_that_are_none(tmp_path):
    path = tmp_path / "scenes.json"
    assert load_scenes(path) == {}
    for text in ("{", "[]", '{"a": 3}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="holds no scenes"):
            load_scenes(path)
    save_scenes(path, {"a": {"stem/drums/gain_db": -3.0}})
    assert load_scenes(path) == {"a": {"stem/drums/gain_db": -3.0}}
    assert [p.name for p in tmp_path.iterdir()] == ["scenes.json"]
