"""Losses: the band error is exact, and the combination loss is what its formula says."""

import numpy as np
import pytest
import torch

from stemrack.models.band_features import band_spread
from stemrack.models.bands import proportional_bands
from stemrack.models.train.losses import (
    band_errors,
    band_loss,
    band_sums,
    danna_loss,
    spread_parts,
    stack_sums,
    stem_combinations,
)

LAYOUT = proportional_bands(65, 0.1, 50)


def _batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    S = torch.randn(3, 4, 2, 5, 65, dtype=torch.complex64, generator=g)
    groups = torch.eye(4).repeat(3, 1, 1)
    groups[1] = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    S[1, 2:] = 0
    masks = torch.softmax(torch.randn(3, 4, 2, LAYOUT.n_bands, 5, generator=g), dim=1)
    return S, groups, masks


def test_band_errors_equal_the_error_bin_by_bin():
    S, groups, masks = _batch()
    spread = band_spread(masks.transpose(-1, -2), LAYOUT)
    M = torch.einsum("bgj,bjctf->bgctf", groups, spread)
    X = S.sum(1)
    direct = (M * X[:, None] - S).abs().square().sum((2, 3, 4))
    known = groups.amax(2) > 0
    exact = band_errors(masks, band_sums(S, groups, LAYOUT))
    torch.testing.assert_close(exact[known], direct[known], rtol=1e-4, atol=1e-3)


def test_band_loss_is_zero_for_perfect_masks_and_one_for_a_silent_answer():
    S = torch.zeros(1, 4, 2, 5, 65, dtype=torch.complex64)
    S[0, 0, :, :, :10], S[0, 1, :, :, 10:20], S[0, 2, :, :, 20:40], S[0, 3, :, :, 40:] = 1.0, 1j, 2.0, -1.0
    groups = torch.eye(4)[None]
    layout = proportional_bands(65, 0.001)
    perfect = torch.zeros(1, 4, 2, layout.n_bands, 5)
    for stem, span in enumerate((slice(0, 10), slice(10, 20), slice(20, 40), slice(40, 65))):
        perfect[:, stem, :, span] = 1.0
    sums = band_sums(S, groups, layout)
    assert float(band_loss(perfect, sums)) == pytest.approx(0.0, abs=1e-5)
    assert float(band_loss(torch.zeros_like(perfect), sums)) == pytest.approx(1.0, abs=1e-4)


def test_unknown_splits_do_not_matter_only_their_sum():
    S, groups, masks = _batch()
    other = masks.clone()
    other[1, 0], other[1, 2] = (
        masks[1, 2],
        masks[1, 0],
    )  # drums and other change places in a song that knows the sum
    sums = band_sums(S, groups, LAYOUT)
    torch.testing.assert_close(band_errors(other, sums)[1], band_errors(masks, sums)[1], rtol=1e-4, atol=1e-3)


def test_stacked_sums_are_the_sums_of_the_batch():
    S, groups, _ = _batch()
    whole = band_sums(S, groups, LAYOUT)
    rows = stack_sums([band_sums(S[i : i + 1], groups[i : i + 1], LAYOUT) for i in range(3)])
    torch.testing.assert_close(rows.cross, whole.cross)
    torch.testing.assert_close(rows.features, whole.features)


def test_silent_parts_left_out_change_nothing():
    S, groups, masks = _batch()
    S[2, 1] = 0
    places = torch.tensor([0, 2, 3])
    whole = band_sums(S[2:], groups[2:], LAYOUT)
    spread = spread_parts(band_sums(S[2:, places], groups[2:, places], LAYOUT), groups[2], places)
    torch.testing.assert_close(band_errors(masks[2:], spread), band_errors(masks[2:], whole))
    torch.testing.assert_close(spread.features, whole.features)


def test_combinations_are_the_fourteen():
    assert len(set(stem_combinations())) == 14
    assert all(1 <= len(c) <= 3 for c in stem_combinations())


def test_danna_loss_written_out_for_one_combination():
    g = torch.Generator().manual_seed(2)
    S = torch.randn(1, 4, 2, 6, 5, dtype=torch.complex64, generator=g)
    s = torch.randn(1, 4, 2, 40, generator=g)
    assert float(danna_loss(S, S, s, s)) == pytest.approx(0.0, abs=1e-5)
    Y, y = S.clone(), s.clone()
    Y[:, 0] += 0.5  # the seven combinations with drums are off by 0.5 everywhere
    assert float(danna_loss(Y, S, y, s, time_weight=0.0)) == pytest.approx(0.25 * 7 / 14, rel=1e-4)
    y[:, 0] *= -1
    values = []
    for c in stem_combinations():
        target, estimate = s[0, list(c)].sum(0).numpy(), y[0, list(c)].sum(0).numpy()
        x = s[0].sum(0).numpy()
        own, rest = (target**2).sum(), ((x - target) ** 2).sum()

        def cosine(a: np.ndarray, b: np.ndarray) -> float:
            return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))

        a = own / (own + rest)
        values.append(1 - a * cosine(estimate, target) - (1 - a) * cosine(x - estimate, x - target))
    expected = 10 * np.mean(values)
    assert float(danna_loss(S, S, y, s)) == pytest.approx(expected, rel=1e-4)
