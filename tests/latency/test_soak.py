"""The soak's bookkeeping, the control, the probe and the report, with engines that cost nothing."""

from dataclasses import replace

import numpy as np
import pytest
from fake_device import LockStep, music
from fake_separator import HOP, FakeSeparator

from stemrack.latency import soak
from stemrack.latency.budget import Budget
from stemrack.latency.deadline import bench
from stemrack.latency.report import write_report
from stemrack.rt.atomics import store
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.block import CAPTURE_WRITE, RECORD_POSITION
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.measuring import control, probe
from stemrack.rt.stream import StreamPlan
from stemrack.rt.virtual import VirtualDevice
from stemrack.rt.worker import WorkerSettings

pytestmark = pytest.mark.realtime

SETTINGS = EngineSettings(
    hop=HOP,
    worker=WorkerSettings(load=FakeSeparator),
    devices=DeviceChoice(input=None, output=None),
    plan_for=lambda resolved: StreamPlan(rate_hz=44_100, delay_samples=4096, n_in_channels=0),
)


def spinning(median_s):
    worker = WorkerSettings(load=soak.SpinningSeparator(HOP, 512, median_s))
    devices = replace(SETTINGS.devices, function="control")
    return Engine(replace(SETTINGS, worker=worker, devices=devices))


@pytest.fixture(scope="module")
def series():
    options = soak.SoakOptions(minutes=4.0 / 60.0, slice_s=2.0, faults=("nan",), fault_s=0.5)
    return soak.soak(soak.Variant(lambda _: Engine(SETTINGS)), soak.Variant(spinning), options)


def test_both_sides_run_as_long_and_count_as_much(series):
    for one in series.values():
        assert one.seconds == pytest.approx(4.0, abs=1.0)
        assert one.counted["callbacks"] == pytest.approx(one.seconds * 44_100 / 256, rel=0.2)
        assert one.counted["hops"] == pytest.approx(one.seconds * 44_100 / HOP, rel=0.2)
        assert one.times_ms.size == pytest.approx(one.counted["hops"], abs=4)
        assert sum(late for late, _ in one.slices) == one.counted["late_hops"]
        assert sum(one.cpu.values()) > 0.0


def test_faults_reach_the_engine_and_not_the_control(series):
    assert series["engine"].counted["fallbacks"] > 0
    assert series["control"].counted["fallbacks"] == 0
    assert series["engine"].as_dict()["hop_ms"]["max"] >= series["engine"].as_dict()["hop_ms"]["p50"]


def test_control_spins_as_long_as_it_is_told():
    separator = soak.SpinningSeparator(HOP, 512, 0.004)
    report = bench({"spinning": separator}, 1.0)
    assert report.series[0].percentiles_ms()["p50"] == pytest.approx(4.0, rel=0.2)


def test_control_counts_what_the_real_callback_would_and_plays_nothing():
    counts = []
    for function in (None, control):
        engine = LockStep()
        if function:
            engine.device = VirtualDevice(engine.block, function)

        def work(at, engine=engine):
            engine.works = not 12_000 <= at < 20_000

        y = engine.play(music(30_000), before_block=work)
        counts.append(engine.counters["late_hops"])
    assert counts[0] == counts[1] > 5
    assert not y.any()


@pytest.mark.parametrize("block", [64, 256, 1000])
def test_probe_plays_once_and_hears_everything(block):
    engine = LockStep(n_out_channels=3)
    engine.device = VirtualDevice(engine.block, probe)
    sent = music(5_000)[0]
    engine.block.capture[0, :5_000] = sent
    store(engine.block.words, CAPTURE_WRITE, 5_000)
    played, heard = [], music(10_000, seed=8)
    for start in range(0, 10_000, block):
        played.append(engine.device.play(heard[:, start : start + block]))
    played = np.concatenate(played, axis=1)
    assert np.array_equal(played[:, :5_000], np.stack([sent] * 3))
    assert not played[:, 5_000:].any()
    assert np.array_equal(engine.block.record[0, :10_000], heard[0])
    assert engine.block.words[RECORD_POSITION] == 10_000


def test_streams_come_and_go_without_leaving_anything():
    with Engine(SETTINGS) as engine:
        facts = soak.cycles(engine, 5, lambda amount, what: None)
    assert facts["before"] == facts["after"]
    assert facts["cycles"] == 5


@pytest.mark.parametrize("name", ["page.html", "page.md"])
def test_report_holds_tables_and_plots(series, tmp_path, name):
    budget = Budget(rate_hz=44_100, hop=HOP, block_samples=256, separator_samples=512, window_ms=23.2)
    report = bench({"fake": FakeSeparator()}, 0.2)
    page = write_report(tmp_path / name, budget, report, series).read_text()
    assert "1664" in page
    assert "37.7 ms" in page
    assert "control of fake" in page
    if name.endswith("html"):
        assert page.count("data:image/png;base64,iVBOR") == 2
    else:
        assert (tmp_path / "page-hops.png").read_bytes().startswith(b"\x89PNG")
