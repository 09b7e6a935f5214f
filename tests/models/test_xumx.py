"""X-UMX: the published network to its last parameter, and the causal one under the contract."""

import numpy as np
import pytest
import torch
from contract import check_streaming

from stemrack.models.errors import SpecError
from stemrack.models.network_configs import XumxConfig
from stemrack.models.xumx import Xumx

SMALL = XumxConfig(
    n_in_channels=1, n_in_bins=30, n_out_bins=10, hidden=8, n_layers=2, directions=1, head="softmax"
)


def _small() -> Xumx:
    torch.manual_seed(5)
    network = Xumx(SMALL)
    for _ in range(3):  # running statistics that are not the initial ones
        network(torch.randn(2, 1, 30, 9))
    network.standardise(torch.linspace(-1, 1, 30), torch.linspace(0.5, 2, 30))
    return network.eval()


def _features(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((batch, 1, 30, n)).astype(np.float32))


def test_causal_network_streams():
    check_streaming(_small(), _features, n_hops=40, atol=1e-6)


def test_softmax_masks_sum_to_one():
    masks = _small()(torch.randn(2, 1, 30, 5))
    assert masks.shape == (2, 4, 2, 10, 5)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 2, 10, 5))


def test_published_network_has_its_published_size_and_tensor_names():
    network = Xumx(XumxConfig())
    assert sum(p.numel() for p in network.parameters()) == 35_573_392
    assert sum(b.numel() for b in network.buffers()) == 40_979
    tensors = network.state_dict()
    assert len(tensors) == 118
    assert tensors["affine1.0.weight"].shape == (2048, 2974, 1)
    assert tensors["bass_lstm.weight_hh_l2_reverse"].shape == (1024, 256)
    assert tensors["affine2.3.weight"].shape == (16392, 512, 1)
    assert tensors["input_means"].shape == (5948,)


def test_published_form_written_out():
    """affine1 over four scaled copies, as published, equals the folded form that the class computes."""
    torch.manual_seed(0)
    config = XumxConfig(n_in_bins=6, n_out_bins=7, hidden=4, n_layers=1)
    network = Xumx(config).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn_like(p) * 0.5)
    x = torch.rand(2, 2, 6, 5)
    scaled = (x[:, None] + network.input_means.view(1, 4, 1, 6, 1)) * network.input_scale.view(1, 4, 1, 6, 1)
    cross = network.affine1(scaled.reshape(2, 4 * 2 * 6, 5)).unflatten(1, (4, 4)).mean(1)
    stacks = torch.stack([s(cross) for s in network.stacks]).mean(0)
    y = network.affine2(torch.cat([cross, stacks], 1)).unflatten(1, (4, 2, 7))
    scale, means = network.output_scale.view(1, 4, 1, 7, 1), network.output_means.view(1, 4, 1, 7, 1)
    torch.testing.assert_close(network(x), torch.relu(y * scale + means), atol=1e-5, rtol=1e-5)


def test_impossible_sizes_are_refused():
    with pytest.raises(SpecError, match="directions"):
        XumxConfig(directions=3)
    with pytest.raises(SpecError, match="head"):
        XumxConfig(head="sigmoid")
