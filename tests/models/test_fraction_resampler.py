"""Resampling by a fraction: against the formula written out, and against julius where it is there."""

from __future__ import annotations

import math

import pytest
import torch

from stemrack.models.fraction_resampler import FractionResampler


def slow(x: list[float], old: int, new: int) -> list[float]:
    """Return the resampled signal by one sum per output sample."""
    rate = min(old, new) * 0.945
    width = math.ceil(24 * old / rate)
    out = []
    for n in range(len(x) * new // old):
        start, phase = n // new * old, n % new
        top = below = 0.0
        for k in range(-width, width + old):
            t = (k / old - phase / new) * rate
            t = max(-24.0, min(24.0, t))
            tap = 1.0 if t == 0 else math.sin(math.pi * t) / (math.pi * t) * math.cos(math.pi * t / 48) ** 2
            top += tap * x[min(max(start + k, 0), len(x) - 1)]
            below += tap
        out.append(top / below)
    return out


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1), (2, 3)])
@pytest.mark.parametrize("n", [1, 63, 200])
def test_equals_the_formula(old, new, n):
    x = torch.randn(1, 2, n, generator=torch.Generator().manual_seed(n))
    y = FractionResampler(old, new)(x)
    want = torch.tensor([slow(row.tolist(), old, new) for row in x[0]])[None].reshape(1, 2, -1)
    torch.testing.assert_close(y, want, atol=2e-6, rtol=0)


def test_kernels_are_those_of_the_published_checkpoint_in_shape():
    assert FractionResampler(1, 2).kernel.shape == (2, 1, 53)
    assert FractionResampler(2, 1).kernel.shape == (1, 1, 104)
    assert FractionResampler(4, 2).kernel.shape == (1, 1, 104)


def test_up_and_down_again_keeps_a_tone():
    x = torch.sin(torch.arange(2000) * 0.5)[None, None]
    y = FractionResampler(2, 1)(FractionResampler(1, 2)(x))
    # 24 zeros of sinc leave a ripple of about 1e-3 in the passband.
    torch.testing.assert_close(y[..., 100:-100], x[..., 100:-100], atol=2e-3, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1)])
def test_equals_julius(old, new):
    julius = pytest.importorskip("julius", reason="the package julius is not installed")
    x = torch.randn(2, 3, 501, generator=torch.Generator().manual_seed(0))
    want = julius.ResampleFrac(old, new, zeros=24, rolloff=0.945)(x)
    torch.testing.assert_close(FractionResampler(old, new)(x), want, atol=1e-7, rtol=0)
