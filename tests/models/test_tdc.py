"""The TDC network with random weights: size, frames kept apart, streaming, and what it refuses."""

from functools import cache

import pytest
import torch
from contract import check_streaming

from stemrack.models import tdc
from stemrack.models.errors import SpecError, WeightsError
from stemrack.models.tdc import HOP_SAMPLES, N_BINS, N_PARTS, TdcVocals, load_tdc


@cache
def network():
    torch.manual_seed(0)
    net = TdcVocals().eval()
    for name, value in net.named_buffers():  # statistics that a normalisation cannot hide behind
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        if name.endswith("running_mean"):
            value.normal_(0.0, 0.1)
    return net


def spectrum(n_frames, seed=0, batch=1):
    return torch.randn(batch, N_PARTS, N_BINS, n_frames, generator=torch.Generator().manual_seed(seed))


def test_size_and_names_are_the_published_networks():
    net = network()
    assert sum(p.numel() for p in net.parameters()) == 535_924
    tensors = net.state_dict()
    assert len(tensors) == 716
    assert tensors["encoders.3.H.4.0.weight"].shape == (24, 120, 3)
    assert tensors["decoders.7.H.4.0.weight"].shape == (24, 144, 3)
    assert tensors["final_conv.0.weight"].shape == (4, 24, 2, 1)


@torch.no_grad()
def test_a_frame_depends_on_itself_alone():
    x = spectrum(4)
    changed = x.clone()
    changed[..., 2] = float("nan")
    before, after = network()(x), network()(changed)
    torch.testing.assert_close(after[..., [0, 1, 3]], before[..., [0, 1, 3]], rtol=0, atol=1e-6)
    assert torch.isnan(after[..., 2]).any()


@torch.no_grad()
def test_pieces_leave_no_seam(monkeypatch):
    monkeypatch.setattr(tdc, "FRAMES_AT_ONCE", 2)
    x = spectrum(5)
    torch.testing.assert_close(network()(x), network().frames(x), rtol=0, atol=1e-5)


def test_streams(monkeypatch):
    monkeypatch.setattr(tdc, "N_BINS", 257)  # a quarter of the work; the network does not mind

    def make_input(batch, n_frames, rng):
        return torch.from_numpy(rng.standard_normal((batch, N_PARTS, 257, n_frames), dtype="f4"))

    check_streaming(network(), make_input, n_hops=3, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 1023, 1024, 5000])
def test_separate_keeps_the_length_and_is_linear_in_the_spectrum(n_samples, monkeypatch):
    """With the network replaced by the identity, analysis and synthesis give the signal back."""
    net = network()
    monkeypatch.setattr(net, "forward", lambda x: x)
    x = torch.randn(2, 2, n_samples, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.separate(x), x, rtol=0, atol=1e-5)


def test_channels_reach_the_network_as_left_and_right_real_and_imaginary(monkeypatch):
    net, seen = network(), []
    monkeypatch.setattr(net, "forward", lambda x: seen.append(x) or x)
    t = torch.arange(8 * HOP_SAMPLES) / 2048
    left, right = torch.cos(2 * torch.pi * 100 * t), torch.sin(2 * torch.pi * 300 * t)
    net.separate(torch.stack([left, right])[None])
    parts = seen[0][0, :, :, 3]  # a frame well inside, on bins 100 and 300
    assert parts[0, 100].item() == pytest.approx(512, rel=1e-3)  # half the window's sum, 0.5 * 2048 / 2
    assert abs(parts[1, 100].item()) < 1
    assert parts[3, 300].item() == pytest.approx(-512, rel=1e-3)
    assert parts[2, 100].abs().item() < 1


def test_mono_and_wrong_spectra_are_refused():
    with pytest.raises(SpecError, match="stereo"):
        network().separate(torch.zeros(1, 1, 5000))
    with pytest.raises(SpecError, match="1025"):
        network()(torch.zeros(1, 4, 1024, 3))


class TestLoading:
    def test_round_trip(self, tmp_path):
        torch.save(network().state_dict(), tmp_path / "tdc.pt")
        loaded = load_tdc(tmp_path / "tdc.pt")
        assert not loaded.training
        wanted = network().state_dict()
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, wanted[name]), name

    def test_missing_file(self, tmp_path):
        with pytest.raises(WeightsError, match="no such file"):
            load_tdc(tmp_path / "none.pt")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
    def test_damaged_file(self, tmp_path, content):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(WeightsError, match="TDC"):
            load_tdc(tmp_path / "bad.pt")

    @pytest.mark.parametrize("tensors", [{"weight": torch.zeros(3)}, [1, 2], {1: 2}])
    def test_weights_of_another_network(self, tmp_path, tensors):
        torch.save(tensors, tmp_path / "other.pt")
        with pytest.raises(WeightsError, match="TDC"):
            load_tdc(tmp_path / "other.pt")

    def test_code_in_the_file_is_not_run(self, tmp_path):
        torch.save(network(), tmp_path / "pickled.pt")  # a whole module, not tensors
        with pytest.raises(WeightsError, match="TDC"):
            load_tdc(tmp_path / "pickled.pt")
