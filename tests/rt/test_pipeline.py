"""The pipeline: stems sum to the mixture, sample for sample, at every rate, channel count and length."""

import tracemalloc

import numpy as np
import pytest
from fake_separator import HOP, LATENCY, FakeSeparator, OneStem
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.rt.pipeline import Pipeline, live_latency_samples

RATES = [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000]
LENGTHS = [1, 2, HOP - 1, HOP, 2 * HOP, 3 * HOP + 1, 8_193]
MINUS_110_DBFS = 10 ** (-110 / 20)


def run_pipeline(x, rate, *, live=False, cuts=(), separator=None, piece_s=5.0):
    separator = separator or FakeSeparator()
    pipeline = Pipeline(separator, rate_hz=rate, n_channels=x.shape[0], live=live, piece_s=piece_s)
    parts = [pipeline.push(part) for part in np.split(x, list(cuts), axis=1)]
    out = np.concatenate([*parts, pipeline.finish()], axis=-1)
    assert (pipeline.n_in, pipeline.n_out) == (x.shape[1], x.shape[1])
    return out


def noise(n_channels, n, peak=1.0):
    x = np.random.default_rng(3).uniform(-peak, peak, (n_channels, n))
    return x.astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("live", [False, True])
def test_stems_sum_to_the_input_at_every_sample(rate, n_channels, live):
    for n in LENGTHS:
        x = noise(n_channels, n)
        stems = run_pipeline(x, rate, live=live, cuts=[n // 3])
        assert stems.shape == (4, n_channels, n)
        assert stems.dtype == np.float32
        assert np.abs(stems.astype(np.float64).sum(axis=0) - x).max() < MINUS_110_DBFS


def test_loud_input_sums_as_well():
    x = noise(2, 4_000, peak=40.0)
    stems = run_pipeline(x, 48_000)
    assert np.abs(stems.astype(np.float64).sum(axis=0) - x).max() < 40 * MINUS_110_DBFS


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("live", [False, True])
def test_stems_are_time_aligned(rate, live):
    """All of the mixture goes to one stem: what misalignment leaves goes to the others too."""
    n = rate // 4
    x = np.sin(2 * np.pi * 997 * np.arange(n) / rate).astype(np.float32)[None].repeat(2, axis=0)
    x *= np.hanning(n).astype(np.float32)
    stems = run_pipeline(x, rate, live=live, separator=OneStem())
    assert np.abs(stems[3] - x).max() < 2e-5
    assert np.abs(stems[:3]).max() < 1e-5


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_live_and_fast_agree(rate):
    x = noise(2, 3 * rate + 17)
    fast, live = FakeSeparator(), FakeSeparator()
    a = run_pipeline(x, rate, separator=fast, cuts=[70_000], piece_s=0.8)
    b = run_pipeline(x, rate, separator=live, cuts=[70_000], live=True)
    assert np.abs(a - b).max() < 1e-4
    assert fast.n_steps == 0
    assert fast.n_runs < 10
    assert live.n_runs == 0
    assert live.n_steps > 250


@given(st.sampled_from([44_100, 48_000]), st.booleans(), st.lists(st.integers(0, 5_000), max_size=5))
@settings(max_examples=20, deadline=None)
def test_cutting_the_input_changes_no_sample(rate, live, cuts):
    x = noise(2, 5_000)
    whole = run_pipeline(x, rate, live=live)
    np.testing.assert_array_equal(run_pipeline(x, rate, live=live, cuts=sorted(cuts)), whole)


def test_the_callers_buffer_may_be_used_again():
    x = noise(2, 4 * HOP)
    wanted = run_pipeline(x, 44_100, cuts=[HOP, 2 * HOP, 3 * HOP], live=True)
    pipeline = Pipeline(FakeSeparator(), rate_hz=44_100, n_channels=2, live=True)
    buffer = np.empty((2, HOP), np.float32)
    parts = []
    for start in range(0, 4 * HOP, HOP):
        buffer[:] = x[:, start : start + HOP]
        parts.append(pipeline.push(buffer))
        buffer[:] = np.nan
    parts.append(pipeline.finish())
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), wanted)


def test_live_output_comes_one_latency_late_and_no_later():
    pipeline = Pipeline(FakeSeparator(), rate_hz=44_100, n_channels=2, live=True)
    ready = [pipeline.push(noise(2, HOP)).shape[-1] for _ in range(4)]
    assert ready == [0, HOP, HOP, HOP]


def test_no_samples_give_no_samples():
    for rate in RATES:
        pipeline = Pipeline(FakeSeparator(), rate_hz=rate, n_channels=2)
        assert pipeline.finish().shape == (4, 2, 0)


def test_mono_gives_mono_stems():
    x = noise(1, 6_000)
    mono = run_pipeline(x, 44_100)
    stereo = run_pipeline(x.repeat(2, axis=0), 44_100)
    np.testing.assert_allclose(mono[:, 0], stereo.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_memory_does_not_grow_with_length(rate):
    """Sixteen seconds in blocks of 16 Ki samples: the second half needs no more than the first."""
    pipeline = Pipeline(OneStem(), rate_hz=rate, n_channels=2, piece_s=0.7)
    block = noise(2, 1 << 14)
    n_blocks = 8 * rate // (1 << 14)
    peaks = []
    tracemalloc.start()
    for _ in range(2):
        tracemalloc.reset_peak()
        for _ in range(n_blocks):
            pipeline.push(block)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < 1.02 * peaks[0]
    assert peaks[1] < 32e6


def test_misuse_is_refused():
    pipeline = Pipeline(FakeSeparator(), rate_hz=44_100, n_channels=2)
    with pytest.raises(ValueError, match=r"expected \(2, sample\)"):
        pipeline.push(np.zeros((1, 5), np.float32))
    pipeline.finish()
    with pytest.raises(ValueError, match="finished"):
        pipeline.push(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="finished"):
        pipeline.finish()
    with pytest.raises(ValueError, match="1 or 2 channels"):
        Pipeline(FakeSeparator(), rate_hz=44_100, n_channels=6)


@pytest.mark.parametrize("rate_hz", [32_000, 44_100, 48_000, 96_000])
def test_live_latency_is_what_a_real_separator_shows(rate_hz):
    """`pipeline._Counting` only keeps time; what works must not be later, nor noise than silence."""
    declared = live_latency_samples(HOP, LATENCY, rate_hz, HOP)
    pipeline = Pipeline(FakeSeparator(), rate_hz=rate_hz, n_channels=2, live=True)
    chance = np.random.default_rng(5)
    seen = 0
    for n_in in range(HOP, 12 * rate_hz, HOP):
        pipeline.push(chance.standard_normal((2, HOP)).astype(np.float32))
        seen = max(seen, n_in - pipeline.n_out // HOP * HOP)
    assert seen == declared
    assert declared == LATENCY or rate_hz != 44_100
