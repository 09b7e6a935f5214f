"""The engine on a real audio server: transparency, latency, stems on eight channels, a server that dies."""

import gc
import os
import time
from contextlib import contextmanager

import numpy as np
import pytest
from fake_device import music
from fake_separator import HOP, LATENCY, FakeSeparator
from jack_server import JackServer, missing_for_jack
from jack_tap import JackTap
from processes import children_of, open_things, until

from stemrack.latency.budget import Budget
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.pipeline import live_latency_samples
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(bool(missing_for_jack()), reason=missing_for_jack() or "JACK is there"),
]

PERIOD = 256
EXTRA = 2 * HOP
"""Allowance beyond a hop: these tests are not about a busy machine."""
PAIRS = {"drums": (0, 1), "bass": (2, 3), "other": (4, 5), "vocals": (6, 7)}


@pytest.fixture
def jack(request, monkeypatch):
    with JackServer(period=PERIOD, **getattr(request, "param", {})) as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        yield server


def budget_for(resolved):
    latency = live_latency_samples(HOP, LATENCY, resolved.rate_hz, HOP)
    return Budget(
        rate_hz=resolved.rate_hz,
        hop=HOP,
        block_samples=resolved.block_samples,
        largest_block=resolved.largest_block,
        separator_samples=latency,
        allowance_samples=HOP + EXTRA,
    )


@contextmanager
def on_jack(bus_channels=None, device="system", block=0):
    buses = bus_channels or {"main": (0, 1)}

    def plan_for(resolved):
        return StreamPlan(
            rate_hz=resolved.rate_hz,
            delay_samples=budget_for(resolved).delay_samples,
            n_out_channels=max(map(max, buses.values())) + 1,
            bus_channels=buses,
            start_ramp_samples=0,
        )

    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=FakeSeparator),
        devices=DeviceChoice(input=device, output=device, block_samples=block),
        plan_for=plan_for,
    )
    with Engine(settings) as engine:
        engine.start()
        yield engine


def through(engine, server, x, n_outputs=2):
    """What comes back for x; again, if the machine made JACK lose a period meanwhile."""
    for _ in range(8):
        seconds = x.shape[1] / server.rate_hz + 0.3
        before = engine.counters()
        with JackTap(server, x, n_outputs, seconds) as tap:
            tap.connect()
            tap.run()
            y = tap.wait()
            disturbed = tap.n_xruns or tap.gaps or tap.n_lost
        after = engine.counters()
        if not disturbed and after["xruns"] == before["xruns"] and after["late_hops"] == before["late_hops"]:
            return y
        engine.stop_stream()
        engine.start_stream()
    pytest.fail("eight takes, and JACK lost a period in each: the machine is too busy for this test")


@pytest.mark.parametrize(
    "jack", [{"rate_hz": 44_100}, {"rate_hz": 48_000}], indirect=True, ids=["44100", "48000"]
)
def test_open_faders_give_the_input_back_after_the_declared_delay(jack):
    x = music(jack.rate_hz * 2)
    with on_jack() as engine:
        y = through(engine, jack, x)
        assert engine.resolved.rate_hz == jack.rate_hz
        assert engine.resolved.block_samples == PERIOD  # found by the survey
        delay = PERIOD + engine.plan.delay_samples  # the loop through the tap costs a period
    n = x.shape[1] - 1_000
    assert np.abs(y[:, delay : delay + n] - x[:, :n]).max() <= 1e-6  # -120 dBFS
    assert not np.abs(y[:, : delay - 1]).max() > 1e-6


@pytest.mark.parametrize("block", [64, 100, 441, 1024])
def test_any_block_size_is_right(jack, block):
    """PortAudio cuts and joins JACK's periods for these; that adds latency of its own, a constant."""
    x = music(jack.rate_hz)
    with on_jack(block=block) as engine:
        y = through(engine, jack, x)
        least = engine.plan.delay_samples
    spectrum = np.fft.rfft(y[0], 1 << 18) * np.conj(np.fft.rfft(x[0], 1 << 18))
    delay = int(np.fft.irfft(spectrum).argmax())
    assert least <= delay <= least + 3 * PERIOD + 2 * block
    n = x.shape[1] - 1_000
    assert np.abs(y[:, delay : delay + n] - x[:, :n]).max() <= 1e-6


def test_every_stem_on_its_own_pair(jack):
    x = music(jack.rate_hz) * 0.5
    with on_jack(PAIRS) as engine:
        y = through(engine, jack, x, 8)
        delay = PERIOD + engine.plan.delay_samples
    y = y[:, delay : delay + x.shape[1] - 1_000]
    total = y[0:2] + y[2:4] + y[4:6] + y[6:8]
    assert np.abs(total - x[:, : total.shape[1]]).max() <= 1e-6
    taps = FakeSeparator()._filters[0]
    drums = np.stack([np.convolve(row, taps)[: total.shape[1]] for row in x])
    assert np.abs(y[0:2] - drums)[:, HOP:].max() <= 1e-6


def test_a_server_that_dies_and_comes_back_is_taken_up_again(jack):
    with on_jack() as engine:
        jack.kill()
        killed = time.monotonic()
        until(lambda: any(e.kind == "device-lost" for e in engine.events))
        assert time.monotonic() - killed < 1.0 + 1.0  # noticed within 1 s; a second for a busy machine
        until(lambda: engine.audio.state == "waiting")
        time.sleep(2.0)  # the new process is ready and waits
        jack.restart()
        back, position = time.monotonic(), engine.record_position
        until(lambda: engine.record_position > position)
        assert time.monotonic() - back < 2.0 + 2.0
        x = music(jack.rate_hz)
        y = through(engine, jack, x)
        delay = PERIOD + engine.plan.delay_samples
        n = x.shape[1] - 1_000
        assert np.abs(y[:, delay : delay + n] - x[:, :n]).max() <= 1e-6
        assert engine.counters()["audio_restarts"] == 1


def test_start_and_stop_over_jack_leak_nothing(jack):
    with on_jack() as engine:
        for cycle in range(50):
            engine.stop_stream()
            engine.start_stream()
            if cycle == 9:
                gc.collect()
                before = open_things(), children_of(os.getpid())
                threads = len(os.listdir(f"/proc/{engine.audio.pid}/task"))
                handles = len(os.listdir(f"/proc/{engine.audio.pid}/fd"))
        assert (open_things(), children_of(os.getpid())) == before
        assert len(os.listdir(f"/proc/{engine.audio.pid}/task")) == threads
        assert len(os.listdir(f"/proc/{engine.audio.pid}/fd")) == handles
        assert engine.counters()["audio_restarts"] == 0
