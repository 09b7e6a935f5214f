"""Integer stems: their sum is right, no stem is a step away, and what does not fit is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemrack.rt.quantise import full_scale_gain, quantise_stems


@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 24]), st.floats(0.01, 1.0), st.integers(2, 4))
def test_integers_sum_to_the_rounded_sum(seed, bits, gain, n_stems):
    stems = np.random.default_rng(seed).uniform(-0.9, 0.9, (n_stems, 2, 50)).astype(np.float32)
    whole, n_saturated = quantise_stems(stems, gain, bits)
    assert n_saturated == 0
    shift = 0 if bits == 16 else 32 - bits
    steps = whole.astype(np.int64) >> shift
    exact = stems.astype(np.float64) * gain * 2 ** (bits - 1)
    np.testing.assert_array_equal(steps.sum(axis=0), np.rint(exact.sum(axis=0)))
    assert np.abs(steps - exact).max() < 1.0


@pytest.mark.parametrize("seed", range(20))
def test_stems_of_a_16_bit_mixture_sum_to_it_bit_for_bit(seed):
    rng = np.random.default_rng(seed)
    mixture = rng.integers(-32768, 32768, (2, 500)).astype(np.int16)
    parts = rng.uniform(-0.5, 0.5, (3, 2, 500)).astype(np.float32)
    last = (mixture / 32768.0 - parts.astype(np.float64).sum(axis=0)).astype(np.float32)
    keep = np.abs(last) < 0.99
    whole, n_saturated = quantise_stems(np.concatenate([parts, last[None]]) * keep, 1.0, 16)
    assert n_saturated == 0
    np.testing.assert_array_equal(whole.sum(axis=0, dtype=np.int64), mixture * keep)


def test_one_stem_is_rounded_to_the_nearest_step():
    stem = np.array([[[0.4, 0.6, -0.4, -0.6, 3.0]]]) / 32768.0
    assert quantise_stems(stem, 1.0, 16)[0].tolist() == [[[0, 1, 0, -1, 3]]]


def test_what_does_not_fit_saturates_and_is_counted():
    stem = np.array([[[1.0, -1.0, -1.5, 0.5]]])
    whole, n_saturated = quantise_stems(stem, 1.0, 16)
    assert whole.tolist() == [[[32767, -32768, -32768, 16384]]]
    assert n_saturated == 2
    assert quantise_stems(stem, 1.0, 24)[0].tolist() == [[[0x7FFFFF00, -(2**31), -(2**31), 2**30]]]


def test_the_gain_is_the_largest_that_fits():
    assert full_scale_gain(0.2, -1.0, 16) == 1.0
    assert full_scale_gain(0.0, 0.0, 16) == 1.0
    assert full_scale_gain(0.2, -2.0, 16) == 0.5
    gain = full_scale_gain(1.7, -1.2, 16)
    assert quantise_stems(np.full((1, 1, 1), 1.7), gain, 16)[0].tolist() == [[[32767]]]
    assert 1.7 * gain * 32768 == pytest.approx(32767, abs=1e-9)
