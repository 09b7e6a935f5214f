"""Whole-track Wiener is norbert's; the causal one tends to it; the kernel is the causal one, fast."""

from __future__ import annotations

import math
import time

import norbert
import numpy as np
import pytest
import torch
from contract import check_streaming

from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.wiener import Wiener, wiener_whole
from stemrack.models.wiener_kernels import (
    FLOOR,
    WienerState,
    forgetting_factor,
    stream_scale,
    wiener_frames,
)
from stemrack.models.windows import WindowPair

LIVE = WindowPair()
SMALL = WindowPair(analysis_samples=48, synthesis_samples=24, hop=6)
FULL_SCALE = SMALL.sine_magnitude


def spectrum(n_bins: int, n_frames: int, seed: int = 0, n_channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (n_channels, n_bins, n_frames)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def masks(n_bins: int, n_frames: int, seed: int = 0, n_channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    m = rng.gamma(0.3, size=(4, n_channels, n_bins, n_frames))
    return m / m.sum(axis=0)


def pans(X: np.ndarray, kind: str) -> np.ndarray:
    """Return the mixture with its channels alike, panned, one silent, or as they are."""
    left = X[0]
    made = {
        "wide": X,
        "mono": np.stack([left, left]),
        "panned": np.stack([0.9 * left, 0.3 * left]),
        "nearly mono": np.stack([left, left + 1e-5 * X[1]]),
        "left only": np.stack([left, 0 * left]),
    }
    return made[kind]


def by_norbert(X: np.ndarray, V: np.ndarray) -> np.ndarray:
    # norbert wants (frame, bin, channel, stem), and scales the mixture that it is given.
    y = norbert.wiener(V.transpose(3, 2, 1, 0).copy(), X.transpose(2, 1, 0).copy(), 1, use_softmask=False)
    return y.transpose(3, 2, 1, 0)


@pytest.mark.parametrize("kind", ["wide", "mono", "panned", "nearly mono", "left only"])
@pytest.mark.parametrize("level", [1e-4, 1.0, 40.0, 40.0 * 1300])
def test_whole_equals_norbert(kind: str, level: float):
    X = level * pans(spectrum(33, 20), kind)
    V = masks(33, 20) * np.abs(X)
    got = wiener_whole(torch.from_numpy(X)[None], torch.from_numpy(V)[None])[0].numpy()
    want = by_norbert(X, V)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())
    assert np.abs(want).max() > 0.1 * level


def test_whole_equals_norbert_in_mono_and_around_silence():
    X = spectrum(9, 12, n_channels=1)
    X[..., 4:8] = 0
    V = masks(9, 12, n_channels=1) * (np.abs(X) + 0.1)
    got = wiener_whole(torch.from_numpy(X)[None], torch.from_numpy(V)[None])[0].numpy()
    want = by_norbert(X, V)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())
    assert not got[..., 4:8].any()


def test_whole_of_silence_is_silence():
    y = wiener_whole(torch.zeros(2, 2, 5, 6, dtype=torch.complex128), torch.zeros(2, 4, 2, 5, 6).double())
    assert not y.any()


def test_rows_of_a_batch_are_scaled_apart():
    X = np.stack([spectrum(5, 8), 1000 * spectrum(5, 8, seed=2)])
    V = np.stack([masks(5, 8), masks(5, 8, seed=2)]) * np.abs(X)[:, None]
    got = wiener_whole(torch.from_numpy(X), torch.from_numpy(V))
    alone = wiener_whole(torch.from_numpy(X[:1]), torch.from_numpy(V[:1]))
    torch.testing.assert_close(got[:1], alone, atol=0, rtol=0)


def test_one_stem_at_one_bin_by_hand():
    # One stem that is the whole mixture: R = x x^H / v, Cxx = x x^H + r, so y = x |x|^2 / (|x|^2 + r).
    x = np.array([3.0 + 4.0j, 1.0 - 2.0j])
    X = x.reshape(1, 2, 1, 1)
    y = wiener_whole(torch.from_numpy(X), torch.from_numpy(np.abs(X))[:, None])
    power, r = 30.0, math.sqrt(np.finfo(float).eps)
    np.testing.assert_allclose(y.numpy().ravel(), x * power / (power + r), rtol=1e-7)


def test_gradient_is_finite_also_at_silence():
    X = torch.from_numpy(spectrum(5, 6)).to(torch.complex64)[None]
    X[..., 2] = 0
    mask = torch.from_numpy(masks(5, 6)).float()[None].requires_grad_()
    wiener_whole(X, mask * X.abs()[:, None]).abs().square().sum().backward()
    assert mask.grad is not None
    assert bool(mask.grad.isfinite().all())
    assert float(mask.grad.abs().max()) > 0.01


def test_gradient_equals_finite_differences():
    X = torch.from_numpy(spectrum(2, 3))[None]
    V = torch.from_numpy(masks(2, 3))[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: torch.view_as_real(wiener_whole(X, v)), (V,))


def test_wrong_shapes_are_refused():
    with pytest.raises(SpecError, match="are not"):
        wiener_whole(torch.zeros(1, 3, 5, 6).cfloat(), torch.zeros(1, 4, 3, 5, 6))
    causal = Wiener(SMALL, forget_s=1.0)
    with pytest.raises(StreamingError, match="want mask"):
        causal.step((torch.zeros(1, 2, 25, 1).cfloat(), torch.zeros(1, 4, 2, 24, 1)), causal.init_state(1))
    with pytest.raises(SpecError, match="forget_s"):
        forgetting_factor(0.0, 512)


def test_constants():
    assert forgetting_factor(math.inf, 512) == 1.0
    assert forgetting_factor(2.0, 441, 44_100) == pytest.approx(math.exp(-0.005))
    assert LIVE.sine_magnitude / stream_scale(LIVE) == pytest.approx(10.0)


def causal_input(batch: int, n: int, rng: np.random.Generator):
    shape = (batch, 2, SMALL.n_bins, n)
    X = FULL_SCALE * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    mask = rng.random((batch, 4, *shape[1:]))
    return torch.from_numpy(X).to(torch.complex64), torch.from_numpy(mask).float()


@pytest.mark.parametrize("forget_s", [0.001, 0.1, math.inf])
def test_causal_streams(forget_s: float):
    check_streaming(Wiener(SMALL, forget_s=forget_s), causal_input, n_hops=15, rtol=1e-6)


@pytest.mark.parametrize("kind", ["wide", "mono", "panned", "nearly mono", "left only"])
def test_causal_tends_to_the_whole_track(kind: str):
    # With infinite memory the sums at the last frame are those of the whole track. The loudest |X| is
    # full scale, so the regularisation is the same as well.
    X = pans(spectrum(25, 40), kind)
    X *= FULL_SCALE / np.abs(X).max()
    mask = masks(25, 40)
    tX, tm = torch.from_numpy(X)[None], torch.from_numpy(mask)[None]
    scale = stream_scale(SMALL)
    whole = wiener_whole(tX / scale, tm * tX[:, None].abs() / scale) * scale
    loudest = float(whole.abs().max())
    errors = []
    for forget_s in (0.001, 0.01, 0.1, 1.0, math.inf):
        last = Wiener(SMALL, forget_s=forget_s).forward((tX, tm))[..., -1]
        errors.append(float((last - whole[..., -1]).abs().max()) / loudest)
    assert errors[-1] < 1e-6
    if kind == "wide":
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > 0.01


@pytest.mark.parametrize("level", [1e-5, 1.0, 40.0])
def test_stems_sum_to_the_mixture_where_masks_do(level: float):
    # The sum is Cxx_0 (Cxx_0 + r)^-1 X: X itself but for r, which only the quietest bins can feel.
    X = level * FULL_SCALE * spectrum(25, 30)
    tX, tm = torch.from_numpy(X)[None], torch.from_numpy(masks(25, 30))[None]
    y = Wiener(SMALL, forget_s=1.0).forward((tX, tm)).sum(dim=1)
    error = float((y - tX).abs().max() / tX.abs().max())
    assert error < (1e-6 if level >= 1.0 else 1.0)
    assert float(y.abs().max()) <= 1.0001 * float(tX.abs().max())


def kernel_run(X: np.ndarray, mask: np.ndarray, decay: float, scale: float, splits: list[int]) -> np.ndarray:
    """Return the kernel's stems in the axis order of torch, (stem, channel, bin, frame)."""
    state = WienerState.fresh(n_bins=X.shape[1])
    out, start = [], 0
    for n in splits:
        piece = np.ascontiguousarray(X[..., start : start + n].swapaxes(-1, -2), dtype=np.complex64)
        m = np.ascontiguousarray(mask[..., start : start + n].swapaxes(-1, -2), dtype=np.float32)
        y = np.empty((4, *piece.shape), dtype=np.complex64)
        wiener_frames(piece, m, state.N, state.d, decay, scale, y)
        out.append(y.swapaxes(-1, -2))
        start += n
    return np.concatenate(out, axis=-1)


@pytest.mark.parametrize("kind", ["wide", "mono", "panned", "nearly mono", "left only"])
@pytest.mark.parametrize("level", [1e-5, 1.0, 40.0])
def test_kernel_equals_torch(kind: str, level: float):
    windows = WindowPair(analysis_samples=600, synthesis_samples=200, hop=100)  # 301 bins: three tiles
    X = (level * windows.sine_magnitude * pans(spectrum(301, 20), kind)).astype(np.complex64)
    X[..., 5:9] = 0
    mask = masks(301, 20).astype(np.float32)
    causal = Wiener(windows, forget_s=0.05)
    want = causal.forward((torch.from_numpy(X)[None], torch.from_numpy(mask)[None]))[0].numpy()
    got = kernel_run(X, mask, causal.decay, causal.scale, [1, 2, 7, 4, 1, 5])
    loudest = np.abs(want).max()
    assert loudest > (0.1 * level * windows.sine_magnitude if level >= 1.0 else 0.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * loudest)
    assert not got[..., 5:9].any()
    np.testing.assert_array_equal(got, kernel_run(X, mask, causal.decay, causal.scale, [20]))


def test_kernel_keeps_its_arrays_and_resets():
    state = WienerState.fresh(n_bins=7)
    N, d = state.N, state.d
    X = spectrum(7, 1).swapaxes(-1, -2).astype(np.complex64).copy()
    mask = np.full((4, 2, 1, 7), 0.25, dtype=np.float32)
    out = np.empty((4, 2, 1, 7), dtype=np.complex64)
    wiener_frames(X, mask, N, d, 0.9, 1.0, out)
    first = out.copy()
    # By hand: every stem a quarter of the mixture, so each sum is 1/16 of the mixture's own.
    np.testing.assert_allclose(d, np.tile((np.abs(X[:, 0]) ** 2).mean(axis=0) / 16, (4, 1)), rtol=1e-6)
    cross = X[0, 0] * X[1, 0].conj() / 16
    np.testing.assert_allclose(N[:, 2] + 1j * N[:, 3], np.tile(cross, (4, 1)), rtol=1e-5)
    assert state.N is N
    state.reset()
    assert not N.any()
    wiener_frames(X, mask, N, d, 0.9, 1.0, out)
    np.testing.assert_array_equal(out, first)


def decayed(n_hops: int) -> tuple[WienerState, np.ndarray, list[float]]:
    """Return state, last output and seconds per hop of silence after a second of noise."""
    state = WienerState.fresh(n_bins=2049)
    X = (LIVE.sine_magnitude * spectrum(2049, 1)).swapaxes(-1, -2).astype(np.complex64).copy()
    mask = masks(2049, 1).swapaxes(-1, -2).astype(np.float32).copy()
    out = np.empty((4, 2, 1, 2049), dtype=np.complex64)
    # A memory of 20 ms: 100 times as fast as the default, so 6 s of it are ten minutes.
    decay, scale = forgetting_factor(0.02, LIVE.hop), stream_scale(LIVE)
    for _ in range(10):
        wiener_frames(X, mask, state.N, state.d, decay, scale, out)
    seconds = []
    for _ in range(n_hops):
        start = time.perf_counter()
        wiener_frames(0 * X, mask, state.N, state.d, decay, scale, out)
        seconds.append(time.perf_counter() - start)
    return state, out, seconds


def test_silence_after_music_reaches_zero_not_denormals():
    state, out, seconds = decayed(517)
    assert not state.N.any()
    assert not state.d.any()
    assert not out.any()
    # Medians, because the machine is shared; denormals made this seven times slower.
    assert np.median(seconds[-100:]) < 3 * np.median(seconds[:50]) + 1e-4


def test_nothing_between_zero_and_the_floor():
    for n_hops in (20, 40, 60, 80):
        state, out, _ = decayed(n_hops)
        for values in (state.N, state.d, out.real, out.imag):
            small = np.abs(values[values != 0])
            assert small.size == 0 or small.min() >= FLOOR * (1 - 1e-6)


def test_denormal_mixture_gives_no_denormals():
    X = (1e-41 * spectrum(25, 3)).astype(np.complex64)
    got = kernel_run(X, masks(25, 3), 0.9, 1.0, [3])
    assert not got.any()
    y = Wiener(SMALL, forget_s=1.0).forward(
        (torch.from_numpy(X)[None], torch.from_numpy(masks(25, 3)).float()[None])
    )
    assert not y.any()


def test_a_hop_costs_a_small_part_of_its_time():
    # Measured 0.11 to 0.16 ms (minimum) for 4 stems and 2049 bins; a live hop lasts 11.6 ms.
    *_, seconds = decayed(200)
    print(f"wiener_frames: min {1e3 * min(seconds):.3f} ms, median {1e3 * np.median(seconds):.3f} ms a hop")
    assert min(seconds) < 1.5e-3
