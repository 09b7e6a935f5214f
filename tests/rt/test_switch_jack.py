"""A change between two profiles with real networks, on a real audio server, while a constant is played."""

import os
import signal
import time

import numpy as np
import pytest
from jack_server import JackServer, missing_for_jack
from jack_tap import JackTap
from processes import until
from small_profile import write_small_profile

from stemrack.rt.app_live import engine_settings, overridden
from stemrack.rt.app_profile import ProfileDesk
from stemrack.rt.engine import Engine

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(bool(missing_for_jack()), reason=missing_for_jack() or "JACK is there"),
]

PERIOD = 256
LEVEL = 0.25
SECONDS = 60
N_TAKES = 4


def two_profiles(folder):
    """The same network behind windows of hops of 128 and of 256, the latter with four times the latency."""
    _, near, _ = write_small_profile(folder)
    text = near.read_text()
    far = folder / "far.toml"
    windows = text.replace('name = "small"', 'name = "far"').replace("hop = 128", "hop = 256")
    far.write_text(windows.replace("synthesis_samples = 256", "synthesis_samples = 768"))
    return str(near), str(far)


def take(engine, profiles, server, near, far):
    """What is heard of a constant through both changes, and the counters; None where a period was lost."""
    with JackTap(server, np.full((2, SECONDS * server.rate_hz), LEVEL, np.float32), 2, SECONDS) as tap:
        tap.connect()
        tap.run()
        until(lambda: tap.position > 3 * engine.plan.delay_samples + PERIOD)
        first, before, n_events = tap.position, engine.counters(), len(engine.events)
        delays = [engine.plan.delay_samples]
        for profile in (far, near):
            profiles.change(profile)
            delays.append(engine.plan.delay_samples)
            time.sleep(0.3)
        last, after = tap.position, engine.counters()
        disturbed = tap.n_xruns or tap.gaps or tap.n_lost or after["xruns"] != before["xruns"]
        heard = tap.recorded[:, first:last]
    kinds = [e.kind for e in list(engine.events)[n_events:] if e.kind.startswith("profile")]
    assert kinds == ["profile-changing", "profile-changed"] * 2
    assert delays[1] > delays[0] == delays[2]
    return None if disturbed else (heard, before, after)


def test_a_constant_stays_a_constant_up_and_down(tmp_path, monkeypatch):
    near, far = two_profiles(tmp_path)
    with JackServer(period=PERIOD) as jack:
        for key, value in jack.environment.items():
            monkeypatch.setenv(key, value)
        config = overridden(
            None,
            {
                "engine.profile": near,
                "engine.weights": str(tmp_path),
                "engine.allowance_samples": 4_096,  # this test is not about a busy machine
                "device.input": "system",
                "device.output": "system",
            },
        )
        with Engine(engine_settings(config)) as engine:
            engine.start()
            profiles = ProfileDesk(config, engine, engine_settings)
            for _ in range(N_TAKES):
                taken = take(engine, profiles, jack, near, far)
                if taken is not None:
                    break
                engine.stop_stream()  # a tap that went has left the ports alone
                engine.start_stream()
            os.kill(engine.worker.pid, signal.SIGKILL)
            until(lambda: engine.worker.n_restarts == 1 and engine.worker.state == "ready")
            until(lambda: not engine.counters()["is_dry"])
    if taken is None:
        pytest.skip(f"JACK lost a period in each of {N_TAKES} takes: the machine is too busy for this test")
    heard, before, after = taken
    assert heard.shape[1] > jack.rate_hz
    assert np.abs(heard - LEVEL).max() <= 1e-6
    assert after["late_hops"] == before["late_hops"]
    assert after["fallbacks"] == before["fallbacks"]
