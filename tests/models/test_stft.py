"""Windows overlap-add to one, frames are where they are said to be, and both directions stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import check_streaming
from signals import SIGNALS, impulse, noise, tone_on_bin

from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.stft import Istft, Stft
from stemrack.models.windows import WindowPair

LIVE = WindowPair()
CLUB = WindowPair(analysis_samples=4096, synthesis_samples=4096, hop=1024)
SMALL = WindowPair(analysis_samples=48, synthesis_samples=24, hop=6)
TINY = WindowPair(analysis_samples=6, synthesis_samples=4, hop=2)
PAIRS = pytest.mark.parametrize("pair", [LIVE, CLUB, SMALL, TINY], ids=["live", "club", "small", "tiny"])


def frames_of(batch: int, n: int, rng: np.random.Generator, pair: WindowPair) -> torch.Tensor:
    shape = (batch, 2, pair.n_bins, n)
    return torch.from_numpy(rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).to(torch.complex64)


@PAIRS
def test_product_overlap_adds_to_one(pair: WindowPair):
    product = pair.analysis[-pair.synthesis_samples :] * pair.synthesis
    total = product.reshape(-1, pair.hop).sum(axis=0)
    np.testing.assert_allclose(total, 1.0, atol=1e-12, rtol=0)
    assert pair.analysis.min() >= 0
    assert pair.synthesis.min() >= 0


def test_live_windows_by_hand():
    assert LIVE.latency_samples == 512
    assert LIVE.n_bins == 2049
    assert LIVE.analysis.shape == (4096,)
    assert LIVE.analysis[3584] == 1.0  # the top, one half synthesis window before the end
    assert LIVE.analysis[1792] == pytest.approx(np.sqrt(0.5))  # half-way up a rise of 3584
    assert LIVE.analysis[3840] == pytest.approx(np.sqrt(0.5))  # half-way down a fall of 512
    # Full-scale sine on a bin: half the sum of 3584 and 512 samples at a mean of 2 / pi.
    assert LIVE.sine_magnitude == pytest.approx(4096 / np.pi, rel=1e-3)


def test_equal_lengths_give_square_root_hann():
    hann = np.sin(np.pi * np.arange(4096) / 4096)
    np.testing.assert_allclose(CLUB.analysis, hann, atol=1e-12)
    np.testing.assert_allclose(CLUB.synthesis, hann / 2, atol=1e-12)
    assert CLUB.latency_samples == 3072


def test_windows_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        LIVE.analysis[0] = 1.0


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((4096, 1024, 500), "divide both"),
        ((4096, 1024, 1024), "two hops"),
        ((4100, 1024, 512), "divide both"),
        ((512, 1024, 512), "at least as long"),
        ((4096, 1024, 0), "two hops"),
        ((9, 9, 3), "must be even"),
    ],
)
def test_impossible_windows_are_refused(sizes: tuple[int, int, int], text: str):
    with pytest.raises(SpecError, match=text):
        WindowPair(analysis_samples=sizes[0], synthesis_samples=sizes[1], hop=sizes[2])


@PAIRS
def test_forward_equals_numpy_frame_by_frame(pair: WindowPair):
    x = noise(12 * pair.hop)
    got = Stft(pair)(torch.from_numpy(x)[None])[0].numpy()
    padded = np.pad(x.astype(np.float64), ((0, 0), (pair.analysis_samples - pair.hop, 0)))
    for t in range(12):
        frame = padded[:, t * pair.hop : t * pair.hop + pair.analysis_samples]
        want = np.fft.rfft(frame * pair.analysis)
        np.testing.assert_allclose(got[..., t], want, atol=1e-6 * pair.analysis_samples)


def test_sine_magnitude_is_that_of_a_sine():
    X = Stft(LIVE)(torch.from_numpy(tone_on_bin(20 * 512))[None])
    assert X[0, 0, 100, -1].abs().item() == pytest.approx(LIVE.sine_magnitude, rel=1e-4)


@PAIRS
@pytest.mark.parametrize("name", SIGNALS)
def test_inverse_of_forward_is_the_signal(pair: WindowPair, name: str):
    x = torch.from_numpy(SIGNALS[name](16 * pair.hop))[None]
    y = Istft(pair)(Stft(pair)(x))
    assert y.shape == x.shape
    body = x.shape[-1] - pair.latency_samples
    loudest = float(x.abs().max())
    # Below the smallest normal number, 1.2e-38, the grid itself is the error.
    torch.testing.assert_close(y[..., :body], x[..., :body], atol=2e-6 * loudest + 1e-38, rtol=0)


@PAIRS
def test_stepped_impulse_arrives_after_the_latency(pair: WindowPair):
    at = 3 * pair.hop + 1
    x = torch.from_numpy(impulse(16 * pair.hop, at))[None]
    stft, istft = Stft(pair), Istft(pair)
    heard, tail = stft.init_state(1), istft.init_state(1)
    out = torch.cat(
        [istft.step(stft.step(hop, heard)[0], tail)[0] for hop in x.split(pair.hop, dim=-1)], dim=-1
    )
    assert int(out[0, 0].abs().argmax()) == at + pair.latency_samples
    assert out[0, 0].abs().max().item() == pytest.approx(1.0, abs=1e-5)


@PAIRS
def test_stft_streams(pair: WindowPair):
    def make(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((batch, 2, n)).astype(np.float32))

    check_streaming(Stft(pair), make, n_hops=15, rtol=1e-6)


@PAIRS
def test_istft_streams(pair: WindowPair):
    def make(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
        return frames_of(batch, n, rng, pair)

    check_streaming(Istft(pair), make, n_hops=15, rtol=1e-6)


def test_double_precision_is_exact_to_rounding():
    x = torch.from_numpy(noise(20 * 512, level=1.0).astype(np.float64))[None]
    y = Istft(LIVE, dtype=torch.float64)(Stft(LIVE, dtype=torch.float64)(x))
    torch.testing.assert_close(y[..., :-512], x[..., :-512], atol=1e-12, rtol=0)


def test_leading_axes_are_free():
    x = torch.from_numpy(noise(8 * 6, n_channels=24)).reshape(2, 4, 3, -1)
    stft, istft = Stft(SMALL, channels=(4, 3)), Istft(SMALL, channels=(4, 3))
    X = stft(x)
    assert X.shape == (2, 4, 3, SMALL.n_bins, 8)
    torch.testing.assert_close(X[1, 2, 1], stft(x[1, 2, 1]), atol=0, rtol=0)
    y, _ = istft.step(stft.step(x, stft.init_state(2))[0], istft.init_state(2))
    want = istft(X)[..., : -SMALL.latency_samples]
    torch.testing.assert_close(y[..., SMALL.latency_samples :], want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 5])
def test_fewer_frames_than_overlaps(n_frames: int):
    frames = frames_of(1, n_frames, np.random.default_rng(0), SMALL)
    istft = Istft(SMALL)
    y, state = istft.step(frames, istft.init_state(1))
    want = torch.cat([y, istft.flush(state)], dim=-1)[..., SMALL.latency_samples :]
    torch.testing.assert_close(istft(frames), want, atol=1e-6, rtol=0)


def test_gradients_pass_through_both():
    x = torch.from_numpy(noise(10 * 6)).double()[None].requires_grad_()
    y = Istft(SMALL, dtype=torch.float64)(Stft(SMALL, dtype=torch.float64)(x))
    y[..., : -SMALL.latency_samples].sum().backward()
    assert x.grad is not None
    # The round trip is the identity, so the gradient of the sum is 1 where the sum looks.
    torch.testing.assert_close(x.grad[..., : -SMALL.latency_samples], torch.ones(1, 2, 60 - 18).double())


def test_broken_steps_are_refused():
    stft, istft = Stft(SMALL), Istft(SMALL)
    with pytest.raises(StreamingError, match="whole hops of 6"):
        stft.step(torch.zeros(1, 2, 7), stft.init_state(1))
    with pytest.raises(StreamingError, match="whole hops of 6"):
        stft(torch.zeros(1, 2, 0))
    with pytest.raises(StreamingError, match="leading axes"):
        stft.step(torch.zeros(1, 1, 6), stft.init_state(1))
    with pytest.raises(StreamingError, match="bins"):
        istft(torch.zeros(1, 2, 24, 3, dtype=torch.complex64))
