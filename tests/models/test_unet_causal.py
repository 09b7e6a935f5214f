"""The causal U-Net: the streaming contract, its masks, its cost and its export."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from contract import check_streaming
from unet_reference import used

from stemrack.models.errors import SpecError
from stemrack.models.network_configs import UnetConfig
from stemrack.models.unet_causal import CausalUnet

TINY: dict[str, Any] = {
    "causal": True,
    "head": "softmax",
    "n_in_bins": 63,
    "n_out_bins": 21,
    "growth": 2,
    "layers": (2, 1),
    "heads": 2,
    "attention_width": 3,
    "attention_channels": 4,
    "attention_frames": 3,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "bands strided": {
        "first_channels": 4,
        "first_stride": 2,
        "n_positions": 2,
        "time_kernel": 2,
        "attention_kernel": 1,
        "up_channels": (3,),
        "end_channels": 3,
        "growth": (2, 3),
    },
}


def _network(**sizes: Any) -> CausalUnet:
    torch.manual_seed(6)
    c = UnetConfig(**{**TINY, **sizes})
    network = used(CausalUnet(c), (2, 1, c.n_in_bins, 9))
    assert isinstance(network, CausalUnet)
    network.standardise(torch.linspace(-1, 1, c.n_in_bins), torch.linspace(0.5, 2, c.n_in_bins))
    return network


def _features(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((batch, 1, 63, n)).astype(np.float32))


def multiply_adds(network: CausalUnet) -> int:
    """Return the multiply-adds of one frame: convolutions, and the attention's two products."""
    count: Counter[str] = Counter()

    def note(module: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        places = given[0] if isinstance(module, torch.nn.ConvTranspose2d) else made
        count["convolutions"] += weight.numel() * places.shape[2] * places.shape[3]

    c = network.config
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        network.advance(torch.zeros(1, 1, c.n_in_bins, 1), network.init_state(1))
    for hook in hooks:
        hook.remove()
    queries = c.attention_layers * network.bins[-1] * c.heads * c.attention_width
    return count["convolutions"] + 2 * queries * network.bins[-1] * c.attention_frames


@pytest.mark.parametrize("name", VARIANTS)
def test_causal_network_streams(name: str):
    check_streaming(_network(**VARIANTS[name]), _features, n_hops=26, atol=2e-6)


@pytest.mark.parametrize("n_bands", [21, 22, 23, 24, 26])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_band_has_a_mask_of_its_own(n_bands: int, stride: int):
    sizes = {"n_in_bins": 3 * n_bands, "n_out_bins": n_bands, "first_channels": 3, "first_stride": stride}
    network = _network(**sizes)
    with torch.no_grad():
        masks = network(torch.randn(2, 1, 3 * n_bands, 6))
    assert masks.shape == (2, 4, 2, n_bands, 6)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 2, n_bands, 6))
    assert (masks.std(dim=4) > 0).all(), "a band whose mask does not follow its input"


def test_features_are_laid_out_one_after_the_other_and_standardised():
    """Value f * bands + b is feature f of band b: (x - mean) / deviation of each."""
    network = _network()
    x = torch.randn(1, 1, 63, 2)
    got = network._features(x)
    for feature, band in ((0, 0), (1, 4), (2, 20)):
        i = 21 * feature + band
        want = (x[0, 0, i] - torch.linspace(-1, 1, 63)[i]) / torch.linspace(0.5, 2, 63)[i]
        torch.testing.assert_close(got[0, feature, :, band], want)


def test_advance_leaves_the_state_it_was_given():
    network = _network()
    with torch.no_grad():
        _, state = network.advance(torch.randn(1, 1, 63, 4), network.init_state(1))
        before = [s.clone() for s in state]
        _, after = network.advance(torch.randn(1, 1, 63, 2), state)
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))
    assert [a.shape for a in after] == [s.shape for s in network.init_state(1)]


def test_all_parameters_learn():
    network = _network(**VARIANTS["bands strided"]).train()
    x = torch.randn(2, 1, 63, 12)
    (network(x)[:, 0] - torch.rand(2, 2, 21, 12)).square().mean().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still


def test_multiply_adds_are_those_counted_by_hand():
    """21 bands, growth 2, layers (2, 1), no attention: each convolution's weights times its outputs."""
    network = _network(attention_layers=0, up_channels=(3,), end_channels=3)
    down0 = 21 * 9 * (3 * 4 + 2 * 2 + (3 + 4) * 4 + 2 * 2)  # 3 + 8 = 11 channels leave
    down1 = 10 * 9 * (11 * 2 + (11 + 2) * 2)  # 15 leave
    up0 = 5 * 9 * (15 * 4 + 2 * 2 + (15 + 4) * 4 + 2 * 2) + 5 * 3 * 23 * 3
    end = 10 * 3 * (3 + 11) * 3 + 21 * 3 * (3 + 3) * 8
    assert multiply_adds(network) == down0 + down1 + up0 + end


class _Advance(torch.nn.Module):
    """`advance` with the state as arguments of its own."""

    def __init__(self, network: CausalUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, after = self.network.advance(x, list(state))
        return (y, *after)


@pytest.mark.parametrize("n_frames", [1, 32])
def test_export_agrees_with_torch(n_frames: int, tmp_path: Path):
    network = _network(layers=(1, 1), attention_layers=1, n_positions=1)
    state = network.init_state(1)
    names = [f"s{i}" for i in range(len(state))]
    program = torch.onnx.export(
        _Advance(network).eval(),
        (torch.randn(1, 1, 63, n_frames), *state),
        dynamo=True,
        input_names=["x", *names],
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.save(str(tmp_path / "unet.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "unet.onnx", providers=["CPUExecutionProvider"])
    carried = [s.numpy() for s in state]
    for _ in range(5):
        x = torch.randn(1, 1, 63, n_frames)
        y, *carried = session.run(None, {"x": x.numpy(), **dict(zip(names, carried, strict=True))})
        with torch.no_grad():
            want, state = network.advance(x, state)
        np.testing.assert_allclose(y, want.numpy(), atol=1e-6)
        for a, b in zip(carried, state, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-5)


def test_what_cannot_work_is_refused():
    with pytest.raises(SpecError, match="published variant"):
        CausalUnet(UnetConfig())
    with pytest.raises(SpecError, match="features per band"):
        UnetConfig(**{**TINY, "n_in_bins": 64})
    with pytest.raises(SpecError, match="time_kernel"):
        UnetConfig(**{**TINY, "time_kernel": 1})
