"""An output device chosen by a client, on a PulseAudio server of our own."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_separator import HOP, OneStem
from live_node import LEVEL, RATE_HZ, calling, write_steady
from processes import until
from pulse_server import PulseServer, missing_for_pulse

from stemrack.rt.audio import DeviceChoice
from stemrack.rt.control.auth import Gate, new_tokens
from stemrack.rt.control.messages import Error, Get, Set
from stemrack.rt.control.node import EngineNode, NodeSettings
from stemrack.rt.control.server import ServerSettings
from stemrack.rt.control.service import ControlService
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.recording import RecordSettings
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(bool(missing_for_pulse()), reason=missing_for_pulse() or "PulseAudio is there"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc"),
]


def plan_for(resolved, delay_samples):
    return StreamPlan(rate_hz=RATE_HZ, delay_samples=delay_samples, start_ramp_samples=441)


def test_another_output_is_opened_and_a_missing_one_is_not(monkeypatch, tmp_path):
    with PulseServer({"stemrack_a": RATE_HZ, "stemrack_b": RATE_HZ}) as pulse:
        for key, value in pulse.environment.items():
            monkeypatch.setenv(key, value)
        devices = DeviceChoice(
            input=None, output="stemrack_a", rate_hz=RATE_HZ, block_samples=512, latency="high"
        )
        settings = EngineSettings(
            hop=HOP,
            worker=WorkerSettings(load=OneStem),
            devices=devices,
            plan_for=partial(plan_for, delay_samples=12_000),
            input_file=write_steady(tmp_path / "steady.wav"),
        )
        with Engine(settings) as engine:
            engine.start()
            tokens = new_tokens()
            node = EngineNode(
                engine,
                NodeSettings(
                    name="test",
                    tokens=tokens,
                    recording=RecordSettings(folder=tmp_path),
                    profile="live",
                    latency_ms=float,
                    ramp_ms=10.0,
                    outputs=("stemrack_a", "stemrack_b", "stemrack_gone"),
                ),
            )
            service = ControlService(node, ServerSettings(port=0, gate=Gate.around("127.0.0.1")), {})
            address = service.start()
            try:
                with calling(address, tokens.by_role["admin"]) as caller:
                    assert caller.session.values["device/output"] == "stemrack_a"
                    said = caller.ask(Set, path="device/output", value="stemrack_b")
                    assert said.values == {"device/output": "stemrack_b"}
                    with pulse.record("stemrack_b") as recording:
                        until(lambda: np.abs(recording.samples[:, -1_000:]).max(initial=0.0) > 0.9 * LEVEL)
                    said = caller.ask(Set, path="device/output", value="stemrack_gone")
                    assert isinstance(said, Error)
                    assert (said.code, said.path) == (401, "device/output")
                    assert "stemrack_gone" in said.message
                    values = caller.ask(Get, paths=("device/output",)).values
                    assert values == {"device/output": "stemrack_b"}
                    with pulse.record("stemrack_b") as recording:
                        until(lambda: np.abs(recording.samples[:, -1_000:]).max(initial=0.0) > 0.9 * LEVEL)
            finally:
                service.stop()
