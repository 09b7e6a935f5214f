"""A node with an engine on the virtual clock behind the real port: what is asked is what is heard."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from live_node import LEVEL, RATE_HZ, calling, heard_gain, node_on, write_steady
from processes import until

from stemrack.models.stems import STEMS
from stemrack.rt.control.messages import Event, Get, Meters, RecallScene, Set, StoreScene
from stemrack.rt.control.node import EngineNode, NodeSettings
from stemrack.rt.control.scene_file import load_scenes
from stemrack.rt.control.server import ServerSettings
from stemrack.rt.control.service import ControlService
from stemrack.rt.errors import EngineStateError
from stemrack.rt.presets import Preset
from stemrack.rt.recording import RecordSettings

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc"),
]


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    return write_steady(tmp_path_factory.mktemp("song") / "steady.wav")


chosen = []
"""Profiles that the node was asked for and would have changed to."""


@pytest.fixture(scope="module")
def running(steady, tmp_path_factory):
    presets = {"preset": Preset(name="preset", title="Preset")}
    more = {"presets": presets, "change_profile": chosen.append}
    with node_on(steady, tmp_path_factory.mktemp("node"), **more) as parts:
        until(lambda: not parts[0].counters()["is_dry"])
        yield parts


@pytest.fixture(scope="module")
def unhurried(steady, tmp_path_factory):
    """A node whose clock waits for its worker: on a busy machine too every sample is what it should be."""
    with node_on(steady, tmp_path_factory.mktemp("unhurried"), waits=True) as parts:
        until(lambda: not parts[0].counters()["is_dry"])
        yield parts


def test_a_fader_moved_over_the_port_is_heard(running):
    engine, _, address, tokens = running
    with calling(address, tokens.by_role["operator"]) as caller:
        reply = caller.ask(Set, path="stem/vocals/gain_db", value=-20.0)
        assert reply.values == {"stem/vocals/gain_db": -20.0}
        assert caller.session.values["stem/vocals/gain_db"] == -20.0
        until(lambda: heard_gain(engine) == pytest.approx(0.1, rel=1e-6))
        caller.ask(Set, path="stem/vocals/gain_db", value=-120.0)
        until(lambda: heard_gain(engine) == 0.0)
        caller.ask(Set, path="stem/vocals/gain_db", value=0.0)
        until(lambda: heard_gain(engine) == pytest.approx(1.0, rel=1e-6))


def test_scenes_fade_and_are_kept_on_disk(unhurried):
    engine, node, address, tokens = unhurried
    with calling(address, tokens.by_role["operator"]) as caller:
        caller.ask(StoreScene, name="all")
        caller.ask(Set, path="stem/vocals/mute", value=True)
        caller.ask(StoreScene, name="karaoke")
        caller.ask(RecallScene, name="all")
        until(lambda: heard_gain(engine) == pytest.approx(1.0, rel=1e-6))
        begin = engine.record_position
        caller.ask(RecallScene, name="karaoke", fade_ms=400.0)
        until(lambda: engine.record_position > begin + 0.7 * RATE_HZ)
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
    assert load_scenes(path)["karaoke"].values["stem/vocals/mute"] is True


def test_a_recording_is_started_and_stopped_from_afar(running):
    engine, node, address, tokens = running
    with calling(address, tokens.by_role["operator"], events=True) as caller:
        assert caller.ask(Set, path="recording/active", value=True).values == {"recording/active": True}
        assert engine.is_recording
        begin = engine.record_position
        until(lambda: engine.record_position > begin + 0.3 * RATE_HZ)
        assert caller.ask(Set, path="recording/active", value=False).values == {"recording/active": False}
        kinds = [m.kind for m in caller.heard if isinstance(m, Event)]
        assert "recording-started" in kinds
    takes = list(node._settings.recording.folder.glob("*/mix.wav"))
    assert len(takes) == 1
    assert soundfile.info(takes[0]).frames > 0.2 * RATE_HZ


def test_levels_are_the_clients_own(unhurried):
    _, _, address, tokens = unhurried
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


def test_the_present_profile_is_loaded_again_only_where_its_worker_was_given_up(running):
    engine, _, address, tokens = running
    with calling(address, tokens.by_role["admin"]) as caller:
        assert caller.ask(Set, path="engine/profile", value="live").values == {"engine/profile": "live"}
        assert chosen == []
        with engine._lock:  # else the supervisor's look at a worker that lives may be under way
            engine.worker.state, before = "failed", engine.worker.state
        assert caller.ask(Set, path="engine/profile", value="live").values == {"engine/profile": "live"}
        engine.worker.state = before
    assert chosen == ["live"]


def test_a_taken_port_is_said(running, steady, tmp_path):
    engine, _, address, tokens = running
    settings = NodeSettings(
        name="second",
        tokens=tokens,
        recording=RecordSettings(),
        profile="live",
        latency_ms=float,
        ramp_ms=10.0,
    )
    service = ControlService(EngineNode(engine, settings), ServerSettings(port=address.port), {})
    with pytest.raises(EngineStateError, match=f"port {address.port} of 127.0.0.1 cannot be used"):
        service.start()
    service.stop()


def test_chains_are_set_kept_in_scenes_and_bypassed_by_the_engine(running):
    engine, node, address, tokens = running
    line, wet = "stem/vocals/chain", "stem/vocals/fx/invert/dry_wet"
    with calling(address, tokens.by_role["operator"], events=True) as caller:
        assert caller.ask(Set, path=line, value="invert").values == {line: "invert"}
        caller.ask(Set, path=wet, value=0.25)
        assert [(i.name, i.dry_wet) for i in engine.chains.vocals] == [("invert", 0.25)]
        caller.ask(StoreScene, name="inverted")
        engine.effects.bypass(["vocals/invert"], "a test")
        until(lambda: caller.ask(Get, paths=(line,)) and caller.session.values[f"{wet[:-7]}bypass"])
        origins = {d.origin for m in caller.heard for d in getattr(m, "changes", ()) if len(d.values) == 1}
        assert "node" in origins
        assert caller.ask(RecallScene, name="preset").values[line] == ""
        assert engine.chains.vocals == ()
        assert caller.ask(StoreScene, name="preset").code == 303
        caller.ask(RecallScene, name="inverted")
        assert caller.session.values[wet] == 0.25
        assert caller.session.values[f"{wet[:-7]}bypass"] is False
        caller.ask(Set, path=line, value="")
    path = node._settings.scene_file
    until(lambda: "inverted" in load_scenes(path))
    assert load_scenes(path)["inverted"].chains["vocals"] == [{"effect": "invert", "dry_wet": 0.25}]
