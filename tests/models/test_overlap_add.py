"""The numba kernels frame and overlap-add as the torch modules do, for any sequence of steps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from contract import check_streaming
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import SIGNALS

from stemrack.models.overlap_add import frame_into, frame_tail, overlap_add_into, overlap_tail
from stemrack.models.stft import Istft, Stft
from stemrack.models.windows import WindowPair

LIVE = WindowPair()
SMALL = WindowPair(analysis_samples=48, synthesis_samples=24, hop=6)


class RoundTrip:
    """The CPU path's analysis and synthesis around numpy's FFT; one stem, no batch."""

    ratio = Fraction(1)

    def __init__(self, pair: WindowPair) -> None:
        self.pair, self.hop, self.latency_samples = pair, pair.hop, pair.latency_samples
        self.analysis = pair.analysis.astype(np.float32)
        self.synthesis = pair.synthesis.astype(np.float32)

    def init_state(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        p = self.pair
        return frame_tail(2, p.analysis_samples, p.hop), overlap_tail(1, 2, p.synthesis_samples, p.hop)

    def step(self, x: np.ndarray, state):
        k, p = x.shape[-1] // self.hop, self.pair
        frames = np.empty((2, k, p.analysis_samples), dtype=np.float32)
        frame_into(x, state[0], self.analysis, frames)
        back = np.fft.irfft(np.fft.rfft(frames), n=p.analysis_samples).astype(np.float32)[None]
        out = np.empty((1, 2, k * self.hop), dtype=np.float32)
        overlap_add_into(back[..., -p.synthesis_samples :], self.synthesis, state[1], out)
        return out[0], state

    def forward(self, x: np.ndarray) -> np.ndarray:
        return Istft(self.pair)(Stft(self.pair)(torch.from_numpy(x)[None]))[0].numpy()

    def flush(self, state) -> np.ndarray:
        return state[1][0].copy()


def make_input(batch: int, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, n)).astype(np.float32)


@pytest.mark.parametrize("pair", [LIVE, SMALL], ids=["live", "small"])
def test_kernels_stream_and_equal_torch(pair: WindowPair):
    check_streaming(RoundTrip(pair), make_input, n_hops=15, rtol=2e-6, batched=False)


@given(splits=st.lists(st.integers(1, 12), min_size=1, max_size=8), n_tail=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_any_steps_give_the_bits_of_one_step(splits: list[int], n_tail: int):
    hop = 5
    n_window = n_tail + hop
    rng = np.random.default_rng(n_tail)
    k = sum(splits)
    x = rng.standard_normal((2, k * hop)).astype(np.float32)
    window = rng.standard_normal(n_window).astype(np.float32)
    heard = np.concatenate([np.zeros((2, n_tail), np.float32), x], axis=-1)
    want_frames = np.stack([heard[:, i * hop : i * hop + n_window] * window for i in range(k)], axis=1)

    tail, parts, begun, sums = frame_tail(2, n_window, hop), [], overlap_tail(1, 2, n_window, hop), []
    start = 0
    for n in splits:
        frames = np.empty((2, n, n_window), dtype=np.float32)
        frame_into(x[:, start : start + n * hop], tail, window, frames)
        out = np.empty((1, 2, n * hop), dtype=np.float32)
        overlap_add_into(frames[None], window, begun, out)
        parts.append(frames)
        sums.append(out[0])
        start += n * hop
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), want_frames)
    np.testing.assert_array_equal(tail, heard[:, heard.shape[-1] - n_tail :])
    # Brute force in float64; the kernel adds oldest first in float32.
    total = np.zeros((2, k * hop + n_tail))
    for i in range(k):
        total[:, i * hop : i * hop + n_window] += want_frames[:, i].astype(np.float64) * window
    got = np.concatenate([*sums, begun[0]], axis=-1)
    np.testing.assert_allclose(got, total, atol=1e-4)


@pytest.mark.parametrize("name", SIGNALS)
def test_round_trip_of_every_signal(name: str):
    x = SIGNALS[name](20 * LIVE.hop)
    trip = RoundTrip(LIVE)
    y, _ = trip.step(x, trip.init_state(1))
    loudest = float(np.abs(x).max())
    # Below the smallest normal number, 1.2e-38, the grid itself is the error.
    np.testing.assert_allclose(y[:, 512:], x[:, :-512], atol=2e-6 * loudest + 1e-38)


def test_silence_leaves_no_tail():
    trip = RoundTrip(SMALL)
    state = trip.init_state(1)
    trip.step(make_input(1, 60, np.random.default_rng(0)), state)
    trip.step(np.zeros((2, 120), dtype=np.float32), state)
    assert not state[0].any()
    assert not state[1].any()
