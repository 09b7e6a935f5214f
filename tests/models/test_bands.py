"""Bands: every bin in one band, sums exact, kernels equal to torch."""

import numpy as np
import pytest
import torch

from stemrack.models.band_features import band_features, band_spread, band_sum
from stemrack.models.band_kernels import features_into, spread_into
from stemrack.models.bands import BandLayout, proportional_bands
from stemrack.models.errors import SpecError


@pytest.mark.parametrize(
    ("n_bins", "share", "top"), [(2049, 0.01, 1487), (513, 0.05, 400), (65, 0.3, None), (7, 0.01, 7)]
)
def test_every_bin_is_in_one_band_and_widths_grow_with_frequency(n_bins, share, top):
    layout = proportional_bands(n_bins, share, top)
    assert layout.n_bins == n_bins
    assert layout.widths.sum() == n_bins
    starts = layout.starts
    for start, width in zip(starts[:-1], layout.widths, strict=True):
        if start < (top or n_bins) - width:
            assert width <= max(1, start * share + 1e-6), (start, width)


def test_sum_and_spread_are_what_the_band_of_each_bin_says():
    layout = BandLayout(runs=((3, 1), (2, 2), (1, 4)))
    band_of_bin = torch.tensor([0, 1, 2, 3, 3, 4, 4, 5, 5, 5, 5])
    x = torch.arange(11.0).repeat(2, 3, 1)
    expected = torch.zeros(2, 3, layout.n_bands).index_add_(2, band_of_bin, x)
    assert torch.equal(band_sum(x, layout), expected)
    assert torch.equal(band_spread(expected, layout), expected[..., band_of_bin])


def test_a_spectrum_of_another_size_is_refused():
    with pytest.raises(SpecError, match="covers 3 bins, the spectrum has 4"):
        band_sum(torch.zeros(4), BandLayout(runs=((3, 1),)))
    with pytest.raises(SpecError, match="count and a width"):
        BandLayout(runs=((0, 1),))


def test_features_of_known_spectra():
    layout = BandLayout(runs=((2, 1), (1, 2)))
    X = torch.zeros(2, 1, 4, dtype=torch.complex64)
    X[0, 0, 0] = 0.5  # left only
    X[:, 0, 2] = 0.3j  # the same in both channels
    features = band_features(X, layout)[0]
    left, right, correlation = features.unflatten(0, (3, 3))
    assert left[0] == pytest.approx(np.log1p(500.0), rel=1e-6)
    assert right[0] == 0.0
    assert correlation[0] == 0.0
    assert left[2] == pytest.approx(np.log1p(1000 * 0.3 / np.sqrt(2)), rel=1e-6)
    assert correlation[2] == pytest.approx(1.0, abs=1e-6)


def test_kernels_equal_torch():
    rng = np.random.default_rng(3)
    layout = proportional_bands(257, 0.03, 200)
    starts = layout.starts
    X = (rng.standard_normal((2, 5, 257)) + 1j * rng.standard_normal((2, 5, 257))).astype(np.complex64)
    X[:, 3] = 0.0
    out = np.empty((5, 3 * layout.n_bands), np.float32)
    features_into(X, starts, 0.25, out)
    expected = band_features(torch.from_numpy(X) * 0.25, layout).numpy()
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=2e-6)
    masks = rng.random((4, 2, 5, layout.n_bands), np.float32)
    spread = np.empty((4, 2, 5, 257), np.float32)
    spread_into(masks, starts, spread)
    np.testing.assert_array_equal(spread, band_spread(torch.from_numpy(masks), layout).numpy())
