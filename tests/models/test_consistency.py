"""Stems sum to the mixture to float32 rounding, in torch and in numba alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from signals import SIGNALS, noise

from stemrack.models.consistency import project
from stemrack.models.consistency_kernels import checked_weights, project_into
from stemrack.models.errors import SpecError


def stems_of(n: int, level: float = 1.0) -> np.ndarray:
    return np.stack([noise(n, seed, level) for seed in range(4)])


def test_by_hand():
    s = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1)
    x = torch.tensor([[14.0]])
    assert project(s, x).flatten().tolist() == [2.0, 3.0, 4.0, 5.0]
    given = project(s, x, torch.tensor([0.0, 0.5, 0.25, 0.25]))
    assert given.flatten().tolist() == [1.0, 4.0, 4.0, 5.0]


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("level", [1e-6, 0.1, 40.0])
def test_stems_sum_to_the_mixture(name: str, level: float):
    x, s = SIGNALS[name](1000), stems_of(1000, level)
    out = np.empty_like(s)
    project_into(s, x, checked_weights(), out)
    loudest = np.abs(out).max(axis=0).astype(np.float64)
    error = np.abs(out.astype(np.float64).sum(axis=0) - x)
    # Each of the four stems is rounded once: half a unit in the last place of its own size.
    assert (error <= 4 * 0.5 * 2.0**-23 * loudest + 1e-45 * 4).all()


def test_numba_equals_torch_to_the_bit():
    x, s = noise(4097, 9), stems_of(4097)
    w = checked_weights(np.array([0.1, 0.2, 0.3, 0.4]))
    out = np.empty_like(s)
    project_into(s, x, w, out)
    want = project(torch.from_numpy(s), torch.from_numpy(x), torch.from_numpy(w)).numpy()
    # The order of the float64 sum may differ: a rounding to float32 may flip in one of 1e8 samples.
    np.testing.assert_allclose(out, want, rtol=1.2e-7, atol=1e-12)
    project_into(s, x, w, s)
    np.testing.assert_array_equal(s, out)


def test_stems_that_already_sum_stay_as_they_are():
    x = noise(512)
    s = np.stack([x, np.zeros_like(x), x, -x])
    out = np.empty_like(s)
    project_into(s, x, checked_weights(), out)
    np.testing.assert_array_equal(out, s)


def test_leading_axes_and_gradient():
    s = torch.randn(3, 4, 2, 50, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 2, 50, dtype=torch.float64)
    y = project(s, x)
    torch.testing.assert_close(y.sum(dim=1), x, atol=1e-14, rtol=0)
    y[:, 0].sum().backward()
    assert s.grad is not None
    # d y_0 / d s_0 = 1 - 1/4, d y_0 / d s_j = -1/4.
    assert s.grad[0, :, 0, 0].tolist() == [0.75, -0.25, -0.25, -0.25]


@pytest.mark.parametrize("w", [[0.5, 0.5], [0.3, 0.3, 0.3, 0.3], [np.nan, 0.5, 0.25, 0.25]])
def test_wrong_shares_are_refused(w: list[float]):
    with pytest.raises(SpecError, match="sum to 1"):
        checked_weights(np.array(w))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(SpecError, match="do not fit"):
        project(torch.zeros(4, 2, 10), torch.zeros(2, 11))
