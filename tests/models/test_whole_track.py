"""Whole-track separation: the published STFT, Wiener and Demucs procedures, each against a peer."""

from __future__ import annotations

import norbert
import numpy as np
import pytest
import torch

from stemrack.models.demucs import Demucs
from stemrack.models.network_configs import DemucsConfig
from stemrack.models.whole_track import (
    LEAD_SAMPLES,
    LIMIT,
    PADDING_SAMPLES,
    DemucsTrack,
    SpectralTrack,
    centred_istft,
    centred_stft,
    mirrored,
)

WINDOW = torch.hann_window(4096)


def song(n, seed=0, batch=1):
    return 0.3 * torch.randn(batch, 2, n, generator=torch.Generator().manual_seed(seed))


def shares(magnitude):
    """Return masks that depend on the magnitude and are unlike each other."""
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0]).view(1, 4, 1, 1, 1)
    return torch.softmax(weights * torch.tanh(magnitude[:, None] / 20.0), dim=1)


@pytest.mark.parametrize("n", [2049, 4096, 10_000, 20_480])
def test_centred_stft_is_torchs(n):
    x = song(n)
    want = torch.stft(x[0], 4096, 1024, window=WINDOW, return_complex=True)
    torch.testing.assert_close(centred_stft(x)[0], want, rtol=0, atol=2e-4)


@pytest.mark.parametrize("n_frames", [3, 4, 12])
def test_centred_istft_is_torchs(n_frames):
    Y = torch.randn(2, 2049, n_frames, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    want = torch.istft(Y, 4096, 1024, window=WINDOW)
    torch.testing.assert_close(centred_istft(Y), want, rtol=0, atol=1e-5)


def test_a_short_signal_is_reflected_as_far_as_it_goes():
    y = mirrored(torch.tensor([[1.0, 2.0, 3.0]]))
    assert y.shape[-1] == 3 + 2 * 2048
    assert y[0, 2045:2054].tolist() == [0.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]


@torch.no_grad()
@pytest.mark.parametrize("frames_at_once", [None, 5])
def test_spectral_track_is_the_published_procedure(frames_at_once):
    x = song(9000) * torch.tensor([[[1.0], [0.5]]])
    padded = torch.nn.functional.pad(x, (0, PADDING_SAMPLES))
    X = torch.stft(padded[0], 4096, 1024, window=WINDOW, return_complex=True)
    V = shares(X.abs()[None])[0] * X.abs()
    Y = norbert.wiener(
        V.permute(3, 2, 1, 0).double().numpy(),
        X.permute(2, 1, 0).to(torch.complex128).numpy(),
        1,
        use_softmask=False,
    )
    Y = torch.tensor(np.ascontiguousarray(Y.transpose(3, 2, 1, 0)), dtype=torch.complex64)
    want = torch.istft(Y.flatten(0, 1), 4096, 1024, window=WINDOW)[:, :9000].unflatten(0, (4, 2))
    got = SpectralTrack(shares, frames_at_once=frames_at_once)(x)
    assert got.shape == (1, 4, 2, 9000)
    torch.testing.assert_close(got[0], want, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 100, 1024, 1025, 5000])
def test_stems_of_any_length_sum_to_the_mixture(n):
    x = song(n)
    y = SpectralTrack(shares)(x)
    assert y.shape == (1, 4, 2, n)
    torch.testing.assert_close(y.sum(1), x, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_network_sees_its_bins_alone():
    seen = []

    def network(magnitude):
        seen.append(tuple(magnitude.shape))
        return magnitude.new_full((1, 4, 2, 2049, magnitude.shape[-1]), 0.25)

    SpectralTrack(network, n_in_bins=1487)(song(5000))
    assert seen == [(1, 2, 1487, 6)]


def small_demucs():
    torch.manual_seed(2)
    return Demucs(DemucsConfig(channels=4, depth=3, kernel=8, stride=4)).eval()


@torch.no_grad()
def test_demucs_track_is_the_published_procedure():
    net, x = small_demucs(), song(3000)
    padded = torch.nn.functional.pad(x, (LEAD_SAMPLES, PADDING_SAMPLES))
    want = net(padded)[..., LEAD_SAMPLES:].clamp(-LIMIT, LIMIT)[..., :3000]
    got = DemucsTrack(net)(x)
    assert got.shape == (1, 4, 2, 3000)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6)


@torch.no_grad()
def test_demucs_track_is_limited_and_answers_a_single_sample():
    net = small_demucs()
    with torch.no_grad():
        net.decoder[-1][0].bias.fill_(50.0)
    assert float(DemucsTrack(net)(song(2000) * 10.0).abs().max()) == pytest.approx(LIMIT)
    assert DemucsTrack(net, lead_samples=0, padding_samples=0)(song(1)).shape == (1, 4, 2, 1)


@torch.no_grad()
def test_demucs_keeps_its_answer_when_moved_by_its_grid_and_lacks_no_more_than_trim_end():
    net = small_demucs()
    track = DemucsTrack(net, lead_samples=0, padding_samples=0)
    assert (track.grid, track.trim_end) == (32, 31)
    for n in range(2000, 2070):
        assert 0 <= n - net.valid_length(n) <= track.trim_end
    published = DemucsTrack(Demucs(DemucsConfig(channels=2)))
    assert (published.grid, published.trim_end) == (2048, 2047)
