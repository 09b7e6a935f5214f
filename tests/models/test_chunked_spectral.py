"""Published networks as streams of samples: X-UMX with its carry, U-Net and Demucs over windows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from contract import check_streaming

from stemrack.models.chunked import Chunked
from stemrack.models.chunked_spectral import ChunkedSpectral
from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.network_configs import XumxConfig
from stemrack.models.whole_track import SpectralTrack
from stemrack.models.xumx import Xumx

SMALL = XumxConfig(n_in_bins=40, n_out_bins=2049, hidden=16, n_layers=2)


def network(config=SMALL):
    torch.manual_seed(7)
    net = Xumx(config).eval()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "lstm.weight" in name:
                value.mul_(2.0)
            if name == "output_means":
                value.fill_(0.3)
    return net


def song(n, seed=0):
    return 0.3 * torch.randn(1, 2, n, generator=torch.Generator().manual_seed(seed))


def make_input(batch, n, rng):
    return torch.tensor(0.3 * rng.standard_normal((batch, 2, n)), dtype=torch.float32)


@pytest.mark.parametrize(("hop", "look_ahead", "forget_s", "n_hops"), [(1, 0, None, 7), (2, 3, 0.3, 5)])
def test_streams(hop, look_ahead, forget_s, n_hops):
    chunked = ChunkedSpectral(network(), hop_frames=hop, look_ahead_frames=look_ahead, forget_s=forget_s)
    assert chunked.latency_samples == 1024 * look_ahead + 3072
    check_streaming(chunked, make_input, n_hops=n_hops, atol=3e-5)


@torch.no_grad()
@pytest.mark.parametrize("n_hops", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("hop", [1, 3])
def test_look_ahead_over_the_file_gives_the_whole_track(hop, n_hops):
    net, n = network(), n_hops * hop
    x = song(n * 1024)
    whole = SpectralTrack(net, n_in_bins=40)(x)
    for look_ahead in (n, n + 7):
        chunked = ChunkedSpectral(net, hop_frames=hop, look_ahead_frames=look_ahead)
        torch.testing.assert_close(chunked(x), whole, rtol=0, atol=2e-5)
        state = chunked.init_state(1)
        y = torch.cat([chunked.step(x, state)[0], chunked.flush(state)], dim=-1)
        torch.testing.assert_close(y[..., chunked.latency_samples :], whole, rtol=0, atol=2e-5)


@torch.no_grad()
def test_short_tracks_step_as_they_go_whole():
    net = network()
    for n_hops in (1, 2, 3):
        for hop, look_ahead in ((1, 0), (1, 1), (2, 0), (3, 2)):
            x = song(n_hops * hop * 1024)
            chunked = ChunkedSpectral(net, hop_frames=hop, look_ahead_frames=look_ahead)
            state = chunked.init_state(1)
            y = torch.cat([chunked.step(x, state)[0], chunked.flush(state)], dim=-1)
            torch.testing.assert_close(y[..., chunked.latency_samples :], chunked(x), rtol=0, atol=2e-5)


@torch.no_grad()
def test_more_look_ahead_comes_closer_to_the_whole_track():
    net, x = network(), song(64 * 1024)
    whole = SpectralTrack(net, n_in_bins=40)(x)
    errors = []
    for look_ahead in (1, 2, 4, 8, 16, 32, 64):
        y = ChunkedSpectral(net, hop_frames=2, look_ahead_frames=look_ahead)(x)
        errors.append(float((y - whole).square().mean().sqrt()))
    for once, twice in pairwise(errors):
        assert twice <= 1.05 * once + 1e-7, errors
    assert errors[0] > 1e-3
    assert errors[-1] < 1e-5


@torch.no_grad()
def test_loud_music_is_scaled_as_in_the_whole_track():
    net, x = network(), 40.0 * song(8 * 1024)
    whole = SpectralTrack(net, n_in_bins=40)(x)
    y = ChunkedSpectral(net, hop_frames=2, look_ahead_frames=8)(x)
    torch.testing.assert_close(y, whole, rtol=0, atol=1e-3)


@torch.no_grad()
def test_wiener_sums_forget_what_they_are_told_to():
    """A short memory filters as if other masks had never been; a long one does not."""
    net = network()
    masks = torch.rand(1, 4, 2, 2049, 4, generator=torch.Generator().manual_seed(2))
    X = torch.randn(1, 2, 2049, 20, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    fresh = ChunkedSpectral(net, hop_frames=4, look_ahead_frames=0)
    want = fresh._filtered(X[..., 16:], masks, 4, fresh._init_sums(1))
    for forget_s, same in ((0.002, True), (None, False)):
        chunked = ChunkedSpectral(net, hop_frames=4, look_ahead_frames=0, forget_s=forget_s)
        sums = chunked._init_sums(1)
        for start in range(0, 16, 4):
            chunked._filtered(X[..., start : start + 4], masks.flip(1), 4, sums)
        got = chunked._filtered(X[..., 16:], masks, 4, sums)
        assert (float((got - want).abs().max()) < 1e-4) == same


def test_windows_of_the_whole_procedure_stream_too():
    """The other composition: STFT, network, Wiener and inverse over each window of samples."""
    track = SpectralTrack(network(), n_in_bins=40)
    chunked = Chunked(track, hop=2048, context=4096, look_ahead=3072, grid=1024)
    check_streaming(chunked, make_input, n_hops=4, atol=3e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(SpecError, match="bidirectional"):
        ChunkedSpectral(network(XumxConfig(directions=1, hidden=8)), hop_frames=1, look_ahead_frames=0)
    with pytest.raises(SpecError, match="hop 0"):
        ChunkedSpectral(network(), hop_frames=0, look_ahead_frames=0)
    chunked = ChunkedSpectral(network(), hop_frames=2, look_ahead_frames=1)
    with pytest.raises(StreamingError, match="1024 samples are not whole hops of 2048"):
        chunked(song(1024))
    with pytest.raises(StreamingError, match="not of the state"):
        chunked.step(torch.zeros(2, 2, 2048), chunked.init_state(1))
    silence = chunked.flush(chunked.init_state(2))
    assert silence.shape == (2, 4, 2, 4096)
    assert not silence.any()
