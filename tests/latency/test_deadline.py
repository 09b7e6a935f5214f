"""The bench on a clock that only moves when it is told to: every figure is known beforehand."""

import json

import numpy as np
import pytest
import soundfile
from fake_separator import HOP, FakeSeparator
from small_profile import write_small_profile

from stemrack.latency.deadline import (
    BENCH_HEADS,
    INPUT_S,
    SLICE_S,
    STAGE_HEADS,
    WARM_UP_HOPS,
    bench,
    bench_file,
    bench_noise,
    bench_rows,
    draw_bench,
    stage_rows,
)
from stemrack.rt.chains import Chains, chain_of
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.errors import InputError
from stemrack.rt.preset_sound import PresetSound
from stemrack.rt.separate import load_separator

RATE_HZ = 44_100
HOP_MS = 1e3 * HOP / RATE_HZ
SHORT = np.random.default_rng(1).standard_normal((2, 7 * HOP)).astype(np.float32)
TICK_S = 2e-6
"""What looking at the clock takes, so that the control's waiting ends."""


class FakeClock:
    def __init__(self, oversleeps_s=0.0):
        self.now_s = 100.0
        self.oversleeps_s = oversleeps_s

    def __call__(self):
        self.now_s += TICK_S
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds + self.oversleeps_s


class Timed(FakeSeparator):
    """Takes the times it is given, in turn, after its warm-up hops, which take a second each."""

    def __init__(self, clock, times_ms):
        super().__init__()
        self.clock, self.times_ms, self.inputs = clock, times_ms, []

    def step(self, x, state):
        n = self.n_steps
        self.inputs.append(x.copy())
        late = n - WARM_UP_HOPS
        self.clock.now_s += 1.0 if late < 0 else self.times_ms[late % len(self.times_ms)] / 1e3
        return super().step(x, state)


class Staged(Timed):
    """Says what it is doing: half of its time is the network's."""

    on_stage = None

    def step(self, x, state):
        began = self.clock.now_s
        done = super().step(x, state)
        took, self.clock.now_s = self.clock.now_s - began, began
        for stage, share in (("analysis", 0.25), ("network", 0.5), ("synthesis", 0.25)):
            self.clock.now_s += share * took
            self.on_stage(stage)
        return done


def run(times_ms, n_hops, *, kind=Timed, oversleeps_s=0.0, **more):
    clock = FakeClock(oversleeps_s)
    separator = kind(clock, times_ms)
    seconds = n_hops * HOP / RATE_HZ
    report = bench({"fake": separator}, seconds, source=SHORT, clock=clock, sleep=clock.sleep, **more)
    return report, separator


def test_figures():
    times_ms = [4.0] * 98 + [20.0, 12.0]
    report, separator = run(times_ms, 200)
    measured, control = report.series
    assert (measured.name, control.name) == ("fake", "control of fake")
    np.testing.assert_allclose(measured.times_ms, [*times_ms, *times_ms], atol=0.011)
    figures = measured.percentiles_ms()
    assert figures["p50"] == pytest.approx(4.0, abs=0.02)
    assert figures["p99"] == pytest.approx(np.percentile(times_ms * 2, 99), abs=0.02)
    assert figures["max"] == pytest.approx(20.0, abs=0.02)
    assert measured.rtf == pytest.approx(4.24 / HOP_MS, rel=0.01)
    assert (measured.n_over, measured.n_late) == (4, 4)
    assert measured.deadline_ms == pytest.approx(HOP_MS)
    assert len(control.times_ms) == 200
    np.testing.assert_allclose(control.times_ms, 4.0, atol=0.05)
    assert separator.n_steps == 200 + WARM_UP_HOPS


def test_warm_up_is_left_out_and_the_input_goes_round():
    report, separator = run([3.0], 12)
    assert report.series[0].percentiles_ms()["max"] < 4.0
    assert not report.series[0].stage_ms
    for n, x in enumerate(separator.inputs):
        np.testing.assert_array_equal(x, SHORT[:, n % 7 * HOP : (n % 7 + 1) * HOP])


def test_every_slice_is_warmed_up_and_takes_turns_with_the_control():
    heard = []
    n = round(2.5 * SLICE_S * RATE_HZ / HOP)
    report, separator = run([3.0], n, on_progress=lambda name, seconds: heard.append((name, seconds)))
    assert [name for name, _ in heard] == ["fake", "control of fake"] * 3
    assert sum(seconds for _, seconds in heard) == pytest.approx(2 * n * HOP / RATE_HZ)
    assert separator.n_steps == n + 3 * WARM_UP_HOPS
    assert [len(times.times_ms) for times in report.series] == [n, n]


def test_stages():
    report, separator = run([4.0, 8.0], 50, kind=Staged)
    measured, control = report.series
    assert {stage: len(ms) for stage, ms in measured.stage_ms.items()} == dict.fromkeys(
        ("analysis", "network", "synthesis"), 50
    )
    assert measured.percentiles_ms("network")["max"] == pytest.approx(4.0, abs=0.02)
    rows = stage_rows(measured)
    assert [row[0] for row in rows] == ["analysis", "network", "synthesis"]
    assert [float(row[-1].split()[0]) for row in rows] == pytest.approx([25, 50, 25], abs=0.5)
    assert all(len(row) == len(STAGE_HEADS) for row in rows)
    assert control.stage_ms == {}
    assert separator.on_stage is None


def test_the_chains_of_a_preset_are_in_the_hop():
    chains = Chains(drums=chain_of(BUILT_IN, "gain reverb"), vocals=chain_of(BUILT_IN, "compressor"))
    n = round(1.2 * SLICE_S * RATE_HZ / HOP)  # two slices: two warm-ups to be forgotten
    report, separator = run([4.0], n, kind=Staged, sound=PresetSound(chains=chains, table=BUILT_IN))
    measured, control = report.series
    assert list(measured.stage_ms) == ["analysis", "network", "synthesis", "effects"]
    assert {len(ms) for ms in measured.stage_ms.values()} == {n}
    names = ["drums/gain", "drums/reverb", "vocals/compressor"]
    assert {name: len(us) for name, us in measured.chains.times_us.items()} == dict.fromkeys(names, n)
    np.testing.assert_allclose(measured.chains.times_us["drums/reverb"], 1e6 * TICK_S, rtol=1e-3)
    assert separator.n_steps == n + 2 * WARM_UP_HOPS
    shown = json.loads(json.dumps(report.as_dict()))["series"]
    assert list(shown[0]["insert_us"]) == names
    assert shown[0]["insert_us"]["drums/gain"]["n_hops"] == n
    assert shown[0]["insert_us"]["drums/gain"]["share"] == pytest.approx(TICK_S * RATE_HZ / HOP, rel=1e-3)
    assert shown[0]["insert_hop_us"] == pytest.approx(1e3 * HOP_MS)
    assert shown[0]["bypassed"] == {}
    assert control.chains is None
    assert "insert_us" not in shown[1]


def test_paced_hops_wait_until_they_are_due():
    report, _ = run([3.0], 40, paced=True)
    measured, control = report.series
    assert max(measured.lateness_ms) < 0.05
    assert max(control.lateness_ms) < 0.05
    assert (measured.n_over, measured.n_late) == (0, 0)


def test_paced_a_long_hop_makes_those_behind_it_late_until_they_have_caught_up():
    long_ms, short_ms = 30.0, 2.0
    report, _ = run([long_ms, *[short_ms] * 19], 20, paced=True)
    measured = report.series[0]
    assert measured.n_over == 1
    behind = [long_ms - HOP_MS]
    while behind[-1] > 0:
        behind.append(behind[-1] + short_ms - HOP_MS)
    np.testing.assert_allclose(measured.lateness_ms[1 : len(behind)], behind[:-1], atol=0.1)
    assert measured.lateness_ms[len(behind)] < 0.05
    assert measured.n_late == 1 + sum(late + short_ms > HOP_MS for late in behind[:-1])


def test_paced_a_machine_that_wakes_late_shows_in_the_control_too():
    report, _ = run([3.0], 40, paced=True, oversleeps_s=0.010)
    assert [times.n_over for times in report.series] == [0, 0]
    # 10 + 3 ms is late; the hop behind it is due by then, does not sleep, and so is in time
    assert [times.n_late for times in report.series] == [20, 20]
    assert report.series[0].as_dict()["max_lateness_ms"] == pytest.approx(10.0, abs=0.1)


def test_several_separators_and_what_is_shown(tmp_path):
    clock = FakeClock()
    separators = {"quick": Timed(clock, [2.0]), "slow": Staged(clock, [15.0])}
    report = bench(separators, 1.0, source=SHORT, clock=clock)
    names = ["quick", "control of quick", "slow", "control of slow"]
    rows = bench_rows(report)
    assert [row[0] for row in rows] == names
    assert all(len(row) == len(BENCH_HEADS) for row in rows)
    assert [float(row[1]) for row in rows] == pytest.approx([2, 2, 15, 15], abs=0.05)
    assert [row[6] for row in rows] == ["0", "0", "86", "86"]
    shown = json.loads(json.dumps(report.as_dict()))
    assert [series["name"] for series in shown["series"]] == names
    assert shown["series"][2]["stage_ms"]["network"]["p50"] == pytest.approx(7.5, abs=0.05)
    assert shown["series"][2]["n_over"] == shown["series"][2]["n_hops"] == 86
    assert shown["paced"] is False
    draw_bench(report, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_measured():
    with pytest.raises(ValueError, match="no separator"):
        bench({}, 1.0)
    for seconds, source in ((0.001, SHORT), (1.0, SHORT[:1]), (1.0, SHORT[:, :100])):
        with pytest.raises(ValueError, match="less than a hop"):
            bench({"fake": FakeSeparator()}, seconds, source=source)


def test_a_real_separator_tells_its_stages_and_gives_the_same_stems(tmp_path_factory):
    _, toml, weights = write_small_profile(tmp_path_factory.mktemp("profile"))
    separator = load_separator(str(toml), "torch-cpu", weights)
    x = SHORT[:, : 8 * separator.hop]
    quiet, _ = separator.step(x, separator.init_state())
    report = bench({"torch-cpu": separator}, 30 * separator.hop / RATE_HZ, source=SHORT)
    measured = report.series[0]
    assert separator.stages == ("analysis", "xumx", "xumx Wiener", "synthesis")
    assert tuple(measured.stage_ms) == separator.stages
    stages_ms = np.array([measured.stage_ms[stage] for stage in separator.stages])
    assert stages_ms.shape == (4, 30)
    assert (stages_ms >= 0).all()
    assert (stages_ms.sum(axis=0) <= measured.times_ms).all()
    heard = []
    separator.on_stage = heard.append
    loud, _ = separator.step(x, separator.init_state())
    np.testing.assert_array_equal(loud, quiet)
    assert heard == list(separator.stages) * 8


def test_noise_is_loud_and_quiet_and_wide():
    x = bench_noise(2.0)
    assert x.shape == (2, 2 * RATE_HZ)
    assert x.dtype == np.float32
    assert np.sqrt(np.mean(x.astype(np.float64) ** 2)) == pytest.approx(0.1, rel=1e-3)
    assert np.corrcoef(x)[0, 1] == pytest.approx(0.5, abs=0.1)
    begin, end = x[:, :2205], x[:, RATE_HZ // 2 - 2205 : RATE_HZ // 2]
    assert 10 < 20 * np.log10(begin.std() / end.std()) < 25
    np.testing.assert_array_equal(x, bench_noise(2.0))
    assert INPUT_S > 10


def test_files(tmp_path):
    stereo = (0.5 * np.random.default_rng(2).uniform(-1, 1, (2 * RATE_HZ, 2))).astype(np.float32)
    soundfile.write(tmp_path / "stereo.wav", stereo, RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(bench_file(tmp_path / "stereo.wav", 1.5), stereo[: round(1.5 * RATE_HZ)].T)
    soundfile.write(tmp_path / "mono.wav", stereo[:, 0], RATE_HZ, subtype="FLOAT")
    mono = bench_file(tmp_path / "mono.wav")
    assert mono.shape == (2, 2 * RATE_HZ)
    np.testing.assert_array_equal(mono[0], mono[1])
    soundfile.write(tmp_path / "short.wav", stereo[:500], RATE_HZ)
    with pytest.raises(InputError, match=r"short\.wav: is too short"):
        bench_file(tmp_path / "short.wav")
