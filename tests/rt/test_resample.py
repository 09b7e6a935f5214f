"""The streaming rate converter: length, time alignment, and that cutting changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.rt.resample import RateConverter, converted_length

RATES = [8_000, 11_025, 22_050, 48_000, 96_000, 192_000]


def convert(x, from_hz, to_hz, cuts, n_total=None):
    converter = RateConverter(from_hz, to_hz, x.shape[0])
    parts = [converter.push(part) for part in np.split(x, cuts, axis=1)]
    return np.concatenate([*parts, converter.finish(n_total)], axis=1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n", [0, 1, 2, 63, 480, 512, 8193])
def test_length_is_the_rounded_up_ratio_in_both_directions(rate, n):
    x = np.ones((2, n), np.float32)
    for pair in [(rate, 44_100), (44_100, rate)]:
        wanted = converted_length(n, *pair)
        assert convert(x, *pair, []).shape == (2, wanted)
        assert convert(x, *pair, [n // 2], wanted + 3).shape == (2, wanted + 3)
        assert convert(x, *pair, [], max(0, wanted - 1)).shape == (2, max(0, wanted - 1))


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_time_and_level(rate):
    n = rate // 2
    tone = np.sin(2 * np.pi * 997 * np.arange(n) / rate).astype(np.float32)[None]
    y = convert(tone, rate, 44_100, [n // 3])
    wanted = np.sin(2 * np.pi * 997 * np.arange(y.shape[1]) / 44_100)
    middle = slice(3_000, -3_000)
    assert np.abs(y[0, middle] - wanted[middle]).max() < 2e-5  # 20 bits; a shift of 1/1000 sample: 1.4e-4


@given(
    st.sampled_from(RATES),
    st.lists(st.integers(0, 3_000), max_size=6),
    st.integers(1, 8),
)
@settings(max_examples=25, deadline=None)
def test_cutting_the_input_changes_no_sample(rate, cuts, n_channels):
    x = np.random.default_rng(7).standard_normal((n_channels, 3_000)).astype(np.float32)
    whole = convert(x, rate, 44_100, [])
    np.testing.assert_array_equal(convert(x, rate, 44_100, sorted(cuts)), whole)


def test_held_samples_counts_what_is_inside():
    converter = RateConverter(48_000, 44_100, 1)
    ready = converter.push(np.zeros((1, 4_800), np.float32)).shape[1]
    assert converter.held_samples == 4_410 - ready
    assert converter.finish().shape[1] == 4_410 - ready
    assert converter.held_samples == 0


def test_misuse_is_refused():
    converter = RateConverter(48_000, 44_100, 2)
    with pytest.raises(ValueError, match=r"expected \(2, sample\)"):
        converter.push(np.zeros((1, 5), np.float32))
    converter.push(np.zeros((2, 48_000), np.float32))
    with pytest.raises(ValueError, match="are out already"):
        converter.finish(7)
    with pytest.raises(ValueError, match="finished"):
        converter.push(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="positive"):
        RateConverter(0, 44_100, 1)
