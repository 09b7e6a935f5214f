"""The published U-Net: size, tensor names, quirks, and its way written out from its tensors."""

import pytest
import torch
from torch.nn import functional
from unet_reference import block_reference, d2_reference, used

from stemrack.models.errors import SpecError
from stemrack.models.network_configs import UnetConfig
from stemrack.models.unet import Unet

SMALL = UnetConfig(
    n_in_bins=37,
    n_out_bins=41,
    growth=2,
    layers=(3, 2, 2),
    heads=2,
    attention_width=3,
    attention_channels=5,
)


def _small() -> Unet:
    torch.manual_seed(4)
    network = used(Unet(SMALL), (2, 2, 41, 20))
    assert isinstance(network, Unet)
    return network


def _expected_shapes() -> dict[str, tuple[int, ...]]:
    """Return the published network's convolution weights, from the tables of channels."""
    shapes: dict[str, tuple[int, ...]] = {}

    def block(name: str, n_in: int, n_layers: int) -> None:
        for m in range(2):
            for i in range(n_layers):
                n = n_in + m * 12 * n_layers if i == 0 else 12
                shapes[f"{name}.d2_layers.{m}.conv_layers.{i}.weight"] = (12 * (n_layers - i), n, 3, 3)

    downs = [2, 122, 218, 290, 338, 386]
    for i, (n_in, n_layers) in enumerate(zip(downs, [5, 4, 3, 2, 2, 2], strict=True)):
        block(f"down_convs.{i}.0", n_in, n_layers)
    ups = [(690, 738, 386), (772, 820, 338), (676, 748, 290), (580, 676, 218), (436, 556, 122)]
    for j, ((n_in, n_mid, n_out), n_layers) in enumerate(zip(ups, [2, 2, 3, 4, 5], strict=True)):
        block(f"up_convs.{j}.0", n_in, n_layers)
        shapes[f"up_convs.{j}.1.weight"] = (n_mid, n_out, 3, 3)
    for i, n_in in ((0, 434), (3, 256)):
        shapes[f"attn.{i}.qkv_conv.weight"] = (384, n_in, 3, 3)
        shapes[f"attn.{i}.out_conv.weight"] = (256, 128, 3, 3)
    return shapes | {"end.0.weight": (244, 122, 5, 5), "end.3.weight": (8, 122, 3, 3)}


def test_published_network_has_its_published_size_and_tensor_names():
    with torch.device("meta"):
        network = Unet()
    tensors = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 15_676_652
    assert sum(b.numel() for b in network.buffers()) == 5_684
    assert len(tensors) == 462
    convs = {name: tuple(t.shape) for name, t in tensors.items() if t.ndim == 4}
    assert convs == _expected_shapes()
    rest = {name for name, t in tensors.items() if t.ndim < 4}
    norms = [f"down_convs.{i}.0.d2_layers.{m}.bn_layers.{j}.0" for i, m, j in _norms([5, 4, 3, 2, 2, 2])]
    norms += [f"up_convs.{i}.0.d2_layers.{m}.bn_layers.{j}.0" for i, m, j in _norms([2, 2, 3, 4, 5])]
    norms += [f"up_convs.{i}.2" for i in range(5)] + ["attn.1", "attn.4", "end.1"]
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    biases = {"attn.0.qkv_conv.bias", "attn.3.qkv_conv.bias", "end.3.bias"}
    assert rest == {f"{name}.{part}" for name in norms for part in parts} | biases


def _norms(layers: list[int]) -> list[tuple[int, int, int]]:
    return [(i, m, j) for i, n in enumerate(layers) for m in range(2) for j in range(n)]


def test_published_network_drops_channels_in_its_three_deepest_decoder_levels():
    with torch.device("meta"):
        network = Unet()
    dropped = {n: m.p for n, m in network.named_modules() if isinstance(m, torch.nn.Dropout2d)}
    assert dropped == {"up_convs.0.4": 0.4, "up_convs.1.4": 0.4, "up_convs.2.4": 0.4}


def _written_out(network: Unet, x: torch.Tensor) -> torch.Tensor:
    """Return the small network's masks step by step, for a number of frames that needs no padding."""

    def d3(level: torch.nn.Module, y: torch.Tensor) -> torch.Tensor:
        for d2 in level[0].d2_layers:  # type: ignore[index]
            y = torch.cat([y, d2_reference(d2, y, None)], dim=1)
        return y

    n_frames = x.shape[3]
    y, skips = x[:, :, :37], []
    for level in network.down_convs:
        y = functional.avg_pool2d(d3(level, y), 2)
        skips.append(y)
    z = y
    for i in (0, 3):
        z = torch.relu(network.attn[i + 1](block_reference(network.attn[i], z)))
    y = torch.cat([y, z], dim=1)
    for level, skip in zip(network.up_convs, (skips[1], skips[0]), strict=True):
        y = functional.conv_transpose2d(d3(level, y), level[1].weight, stride=2, padding=1)
        y = torch.relu(level[2](y))
        whole = torch.zeros(1, y.shape[1], *skip.shape[2:])
        whole[:, :, : y.shape[2], : y.shape[3]] = y
        y = torch.cat([whole, skip], dim=1)
    y = functional.conv_transpose2d(y, network.end[0].weight, stride=2, padding=2)
    y = functional.conv2d(
        torch.relu(network.end[1](y)), network.end[3].weight, network.end[3].bias, padding=2, dilation=2
    )
    masks = torch.full((1, 4, 2, 41, n_frames), 0.25)
    for stem in range(4):
        masks[:, stem, :, : y.shape[2], : y.shape[3]] = torch.sigmoid(y[:, 2 * stem : 2 * stem + 2])
    return masks


@pytest.mark.parametrize("n_frames", [8, 21, 26])
def test_small_published_network_equals_its_way_written_out(n_frames: int):
    network, x = _small(), torch.rand(1, 2, 41, n_frames)
    with torch.no_grad():
        torch.testing.assert_close(network(x), _written_out(network, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_frames", [20, 21])
def test_masks_are_a_quarter_where_the_network_has_none(n_frames: int):
    with torch.no_grad():
        masks = _small()(torch.rand(1, 2, 41, n_frames))
    n_bins, n_made = 2 * (37 // 2) - 1, 2 * (n_frames // 2) - 1
    assert n_frames - n_made == (1 if n_frames % 2 == 0 else 2)
    edge = torch.ones(41, n_frames, dtype=torch.bool)
    edge[:n_bins, :n_made] = False
    assert (masks[..., edge] == 0.25).all()
    assert (masks[..., ~edge] != 0.25).float().mean() > 0.99


def test_published_size_has_no_mask_above_bin_1484():
    torch.manual_seed(5)
    with torch.no_grad():
        masks = Unet().eval()(torch.rand(1, 2, 2049, 64))
    assert masks.shape == (1, 4, 2, 2049, 64)
    assert (masks[..., 1485:, :] == 0.25).all()
    assert (masks[..., 63] == 0.25).all()
    assert (masks[..., :1485, :63] != 0.25).float().mean() > 0.99


@pytest.mark.parametrize("n_frames", [1, 5, 7])
def test_short_excerpts_are_taken_as_if_silence_followed(n_frames: int):
    network, x = _small(), torch.rand(2, 2, 41, n_frames)
    with torch.no_grad():
        masks = network(x)
        whole = network(functional.pad(x, (0, 8 - n_frames)))
    assert masks.shape == (2, 4, 2, 41, n_frames)
    torch.testing.assert_close(masks, whole[..., :n_frames], atol=0, rtol=0)


def test_what_cannot_work_is_refused():
    with pytest.raises(SpecError, match="CausalUnet"):
        Unet(UnetConfig(causal=True, n_in_bins=30, n_out_bins=10, head="softmax"))
    with pytest.raises(SpecError, match="takes a magnitude"):
        _small()(torch.zeros(1, 2, 40, 8))
    with pytest.raises(SpecError, match="head"):
        UnetConfig(head="softmax")
    with pytest.raises(SpecError, match="up_channels"):
        UnetConfig(up_channels=(4, 4))
    with pytest.raises(SpecError, match="first_stride"):
        UnetConfig(causal=True, n_in_bins=30, n_out_bins=10, head="softmax", first_stride=2)
