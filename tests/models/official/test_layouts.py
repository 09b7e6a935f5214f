"""What each kind must hold: published sizes, sizes read off tensors, and what has none."""

import pytest
import torch

from stemrack.models.errors import WeightsError
from stemrack.models.official.catalogue import Kind
from stemrack.models.official.layouts import architecture_of, checked, fill, network_of

PUBLISHED = {
    Kind.xumx: (35_573_392, 118),
    Kind.unet: (15_676_652, 462),
    Kind.demucs: (191_928_152, None),
    Kind.umx: (4 * 8_893_348, None),
    Kind.tdc: (535_924, 716),
}


def on_meta(kind, architecture):
    with torch.device("meta"):
        return network_of(kind, architecture)


@pytest.mark.parametrize("kind", list(Kind))
def test_published_sizes(kind):
    network = on_meta(kind, {})
    n_parameters, n_tensors = PUBLISHED[kind]
    assert sum(p.numel() for p in network.parameters()) == n_parameters
    assert n_tensors in (None, len(network.state_dict()))


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        (Kind.xumx, {"n_in_channels": 1, "n_in_bins": 7, "n_out_channels": 1, "n_out_bins": 9, "hidden": 4}),
        (Kind.xumx, {"hidden": 6, "directions": 1, "n_layers": 2}),
        (Kind.umx, {"n_channels": 1, "n_in_bins": 7, "n_out_bins": 9, "hidden": 4, "n_layers": 1}),
        (Kind.umx, {"hidden": 1024, "directions": 1}),
        (Kind.demucs, {"channels": 6, "depth": 2, "n_channels": 1, "n_lstm_layers": 1}),
        (Kind.unet, {}),
        (Kind.tdc, {}),
    ],
)
def test_sizes_are_read_off_the_tensors(kind, architecture):
    network = on_meta(kind, architecture)
    found = architecture_of(kind, network.state_dict())
    assert {name: found[name] for name in architecture} == architecture
    assert on_meta(kind, found).state_dict().keys() == network.state_dict().keys()


def test_integers_in_place_of_weights_are_refused():
    sizes = {"n_in_bins": 7, "n_out_bins": 9, "hidden": 4, "n_layers": 1}
    tensors = network_of(Kind.umx, sizes).state_dict()
    tensors["drums.fc1.weight"] = tensors["drums.fc1.weight"].to(torch.int64)
    with pytest.raises(WeightsError, match=r"drums\.fc1\.weight is \(4, 14\) torch\.int64"):
        checked(Kind.umx, tensors, sizes)


def test_fill_refuses_what_is_missing_or_more():
    sizes = {"n_in_bins": 7, "n_out_bins": 9, "hidden": 4, "n_layers": 1}
    network = network_of(Kind.umx, sizes)
    tensors, left_out = checked(Kind.umx, network.state_dict(), sizes)
    assert left_out == []
    assert fill(network, tensors) is network
    with pytest.raises(WeightsError, match="1 tensors are another network's, first more"):
        fill(network, tensors | {"more": torch.zeros(1)})
    del tensors["bass.fc2.weight"]
    with pytest.raises(WeightsError, match=r"first bass\.fc2\.weight"):
        fill(network, tensors)


@pytest.mark.parametrize("sizes", [{"hidden": "x"}, {"unknown": 1}, {"hidden": 5}, {"directions": 0}])
def test_sizes_that_no_network_has(sizes):
    for kind in (Kind.xumx, Kind.umx):
        with pytest.raises(WeightsError, match=f"no {kind} network has such sizes"):
            on_meta(kind, sizes)
