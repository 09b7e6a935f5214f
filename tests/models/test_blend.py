"""Shares of the blend: the paper's table, what is left of it for fewer networks, and the fit."""

import numpy as np
import pytest

from stemrack.models.blend import PAPER, best_shares, blend_table, checked_table
from stemrack.models.errors import SpecError


def test_the_papers_columns_sum_to_one():
    for table in PAPER.values():
        np.testing.assert_allclose(np.sum(table, axis=0), 1.0)


def test_a_table_of_its_own_comes_before_one_cut_down():
    own = ((0.9, 0.9, 0.9, 0.9), (0.1, 0.1, 0.1, 0.1))
    assert blend_table(["xumx", "unet"], {("xumx", "unet"): own}) == own
    assert blend_table(["unet", "demucs"]) == PAPER[("unet", "demucs")]
    cut = blend_table(["xumx", "unet"])
    np.testing.assert_allclose(cut, [(0.5, 0.1 / 0.27, 0.0, 1 / 3), (0.5, 0.17 / 0.27, 1.0, 2 / 3)])


def test_a_stem_of_which_nothing_is_left_is_shared_evenly():
    table = {("xumx", "unet", "demucs"): ((0.0,) * 4, (0.0,) * 4, (1.0,) * 4)}
    assert blend_table(["xumx", "unet"], table) == ((0.5,) * 4, (0.5,) * 4)
    assert blend_table(["other"]) == ((1.0,) * 4,)


@pytest.mark.parametrize("seed", range(8))
def test_the_fit_is_no_worse_than_any_point_of_a_fine_grid(seed):
    rng = np.random.default_rng(seed)
    s = rng.standard_normal(200)
    y = s + rng.standard_normal((3, 200)) * rng.uniform(0.2, 2.0, (3, 1)) + rng.uniform(-1, 1) * s
    P, t = y @ y.T, y @ s
    w = best_shares(P, t)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1.0)
    found = w @ P @ w - 2 * t @ w
    grid = [(a / 50, b / 50, (50 - a - b) / 50) for a in range(51) for b in range(51 - a)]
    least = min(np.array(g) @ P @ np.array(g) - 2 * t @ np.array(g) for g in grid)
    assert found <= least + 1e-9 * abs(least)


def test_independent_errors_are_weighted_by_their_inverse_power():
    rng = np.random.default_rng(1)
    s = rng.standard_normal(400_000)
    y = np.stack([s + rng.standard_normal(s.size), s + 2 * rng.standard_normal(s.size)])
    np.testing.assert_allclose(best_shares(y @ y.T, y @ s), [0.8, 0.2], atol=0.01)


@pytest.mark.parametrize(
    "rows",
    [
        {"drums": [1, 0]},
        {"drums": [1, 0], "bass": [0.5, 0.4], "other": [1, 0], "vocals": [1, 0]},
        {"drums": [1, 0], "bass": [1.5, -0.5], "other": [1, 0], "vocals": [1, 0]},
        {"drums": [1, 0], "bass": [1], "other": [1, 0], "vocals": [1, 0]},
    ],
)
def test_wrong_tables_are_said(rows):
    with pytest.raises(SpecError, match=r"mine\.toml"):
        checked_table(("xumx", "unet"), rows, "mine.toml")
