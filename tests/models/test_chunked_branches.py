"""The published classes, small, as branches of one stream: contract, whole track, convergence, facts."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from contract import check_streaming

from stemrack.models.chunked import Chunked
from stemrack.models.chunked_branches import demucs_branch, unet_branch, unet_grid_frames, xumx_branch
from stemrack.models.demucs import Demucs
from stemrack.models.errors import SpecError
from stemrack.models.network_configs import DemucsConfig, UnetConfig, XumxConfig
from stemrack.models.unet import Unet
from stemrack.models.whole_track import DemucsTrack, SpectralTrack
from stemrack.models.xumx import Xumx

HOP = 8192


def unet(n_out_bins=2049, n_in_bins=40):
    torch.manual_seed(1)
    sizes = UnetConfig(
        n_in_bins=n_in_bins,
        n_out_bins=n_out_bins,
        growth=3,
        layers=(2, 2),
        heads=2,
        attention_width=4,
        attention_channels=6,
    )
    return Unet(sizes).eval()


def demucs(depth=3):
    torch.manual_seed(2)
    net = Demucs(DemucsConfig(channels=4, depth=depth)).eval()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "lstm.weight" in name:
                value.mul_(2.0)
    return net


def xumx():
    torch.manual_seed(3)
    return Xumx(XumxConfig(n_in_bins=40, hidden=8, n_layers=2)).eval()


def song(n, seed=0):
    return 0.3 * torch.randn(1, 2, n, generator=torch.Generator().manual_seed(seed))


def make_input(batch, n, rng):
    return torch.tensor(0.3 * rng.standard_normal((batch, 2, n)), dtype=torch.float32)


def branches(hop, look_ahead):
    common = {"hop_samples": hop, "look_ahead_samples": look_ahead}
    return {
        "xumx": xumx_branch(xumx(), **common),
        "unet": unet_branch(unet(), **common, context_samples=HOP),
        "demucs": demucs_branch(demucs(), **common, context_samples=HOP, lead_samples=2050),
    }


@pytest.mark.parametrize("kind", ["xumx", "unet", "demucs"])
def test_branches_of_one_hop_have_one_latency(kind):
    branch = branches(HOP, 4096)[kind]
    assert (branch.hop, branch.latency_samples, branch.ratio) == (HOP, 4096, 1)


def test_unet_branch_streams():
    branch = unet_branch(unet(), hop_samples=HOP, look_ahead_samples=4096, context_samples=0)
    check_streaming(branch, make_input, n_hops=3, atol=3e-5)


def test_demucs_branch_streams():
    branch = demucs_branch(
        demucs(), hop_samples=256, look_ahead_samples=300, context_samples=468, lead_samples=350
    )
    check_streaming(branch, make_input, n_hops=8, atol=3e-6)


def whole_answers(x):
    return {
        "xumx": SpectralTrack(xumx(), n_in_bins=40)(x),
        "unet": SpectralTrack(unet())(x),
        "demucs": DemucsTrack(demucs(), lead_samples=2050)(x),
    }


@torch.no_grad()
def test_look_ahead_over_the_file_gives_the_whole_track():
    x = song(4 * HOP)
    whole = whole_answers(x)
    for kind, branch in branches(HOP, 5 * HOP).items():
        torch.testing.assert_close(branch(x), whole[kind], rtol=0, atol=2e-5, msg=kind)
        state = branch.init_state(1)
        y = torch.cat([branch.step(x, state)[0], branch.flush(state)], dim=-1)
        torch.testing.assert_close(y[..., branch.latency_samples :], whole[kind], rtol=0, atol=2e-5, msg=kind)


def assert_closer(errors):
    for once, twice in pairwise(errors):
        assert twice <= 1.05 * once + 1e-7, errors
    assert errors[-1] < 2e-6 < errors[0], errors


@torch.no_grad()
def test_unet_masks_come_closer_with_more_look_ahead():
    net = unet(n_out_bins=48)
    x = torch.randn(1, 2, 48, 128, generator=torch.Generator().manual_seed(4)).abs()
    whole, errors = net(x), []
    for look_ahead in (2, 4, 8, 16, 32, 64, 128):
        sizes = {"hop": 8, "context": 16 - look_ahead % 8, "look_ahead": look_ahead, "grid": 8, "trim_end": 2}
        y = Chunked(net, **sizes, channels=(2, 48), out_channels=(4, 2, 48))(x)
        errors.append(float((y - whole).square().mean().sqrt()))
    assert_closer(errors)


def test_unet_masks_stream():
    sizes = {"hop": 8, "context": 12, "look_ahead": 4, "grid": 8, "trim_end": 2}
    chunked = Chunked(unet(n_out_bins=48), **sizes, channels=(2, 48), out_channels=(4, 2, 48))

    def magnitudes(batch, n, rng):
        return torch.tensor(abs(rng.standard_normal((batch, 2, 48, n))), dtype=torch.float32)

    check_streaming(chunked, magnitudes, n_hops=8, atol=2e-6)


@torch.no_grad()
def test_unet_moved_by_its_grid_answers_the_same():
    net = unet(n_out_bins=48)
    assert unet_grid_frames(net) == 8
    assert unet_grid_frames(Unet(UnetConfig(growth=1))) == 128
    x = torch.randn(1, 2, 48, 192, generator=torch.Generator().manual_seed(5)).abs()
    whole = net(x)
    on, off = net(x[..., 8:])[..., 88:96], net(x[..., 3:])[..., 93:101]
    torch.testing.assert_close(on, whole[..., 96:104], rtol=0, atol=1e-6)
    assert float((off - whole[..., 96:104]).abs().max()) > 1e-5


@torch.no_grad()
def test_demucs_comes_closer_with_more_look_ahead():
    net, x = demucs(), song(2048)
    whole, errors = DemucsTrack(net, lead_samples=0)(x), []
    for look_ahead in (64, 128, 256, 512, 1024, 2048):
        branch = demucs_branch(
            net, hop_samples=64, look_ahead_samples=look_ahead, context_samples=512, lead_samples=0
        )
        errors.append(float((branch(x) - whole).square().mean().sqrt()))
    assert_closer(errors)


@torch.no_grad()
def test_spectral_branches_come_closer_with_more_look_ahead():
    x = song(8 * HOP)
    whole = whole_answers(x)
    errors = {"xumx": [], "unet": []}
    for look_ahead in (HOP // 2, HOP, 2 * HOP, 4 * HOP, 8 * HOP, 16 * HOP):
        made = branches(HOP, look_ahead)
        for kind, row in errors.items():
            row.append(float((made[kind](x) - whole[kind]).square().mean().sqrt()))
    assert_closer(errors["xumx"])
    assert_closer(errors["unet"])


def test_published_sizes_fit_one_studio_stream():
    """64 frames a hop and as many ahead: what each window is, and that none refuses."""
    hop, ahead = 64 * 1024, 64 * 1024
    with torch.device("meta"):
        u, d = Unet(), Demucs()
        x = Xumx()
    made = xumx_branch(x, hop_samples=hop, look_ahead_samples=ahead)
    assert (made.hop, made.latency_samples, made.look_ahead) == (hop, ahead, 61)
    made = unet_branch(u, hop_samples=hop, look_ahead_samples=ahead, grid_frames=64)
    assert (made.window_units, made.context, made.latency_samples) == (512 * 1024, 384 * 1024, ahead)
    made = demucs_branch(d, hop_samples=hop, look_ahead_samples=ahead)
    assert (made.window_units - 441_000 < 2048, made.latency_samples, made.grid) == (True, ahead, 2048)
    assert (made.context + ahead - 22_050) % 2048 == 0


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(SpecError, match="the look-ahead 3072 or more"):
        xumx_branch(xumx(), hop_samples=1024, look_ahead_samples=2048)
    with pytest.raises(SpecError, match="hop 1024 is off the grid of 8192"):
        unet_branch(unet(), hop_samples=1024, look_ahead_samples=8192)
    with pytest.raises(SpecError, match="take 3072 or more"):
        unet_branch(unet(), hop_samples=HOP, look_ahead_samples=1024)
    with pytest.raises(SpecError, match="take 2047 or more"):
        demucs_branch(demucs(depth=6), hop_samples=2048, look_ahead_samples=1024)
