"""Our Open-Unmix against the `openunmix` package: names, sizes, outputs, in both forms of recurrence."""

import pytest
import torch
from published_files import open_unmix

from stemrack.models.errors import SpecError, WeightsError
from stemrack.models.official.open_unmix import OneStem, OpenUnmix, UmxConfig, joined
from stemrack.models.stems import STEMS


@pytest.mark.parametrize("directions", [1, 2])
@torch.no_grad()
def test_one_stem_gives_the_packages_output(directions):
    theirs = open_unmix(1, unidirectional=directions == 1, nb_layers=3)
    ours = OneStem(UmxConfig(n_in_bins=20, n_out_bins=33, hidden=8, n_layers=3, directions=directions)).eval()
    assert ours.load_state_dict(theirs.state_dict()).missing_keys == []
    x = 4 * torch.rand(2, 2, 33, 11, generator=torch.Generator().manual_seed(1))
    expected = theirs(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x) * x, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_stems_are_in_our_order_and_keep_apart():
    config = UmxConfig(n_in_bins=5, n_out_bins=6, hidden=4, n_layers=1)
    network = OpenUnmix(config).eval()
    x = torch.rand(1, 2, 6, 3)
    before = network(x)
    network.get_parameter("other.output_mean").add_(1.0)
    changed = (network(x) - before).abs().amax((0, 2, 3, 4)) > 0
    assert changed.tolist() == [stem == "other" for stem in STEMS]


def test_joined_needs_all_four():
    parts = {stem: {"a": torch.full((1,), i)} for i, stem in enumerate(STEMS)}
    assert {name: int(value) for name, value in joined(parts).items()} == {
        "drums.a": 0,
        "bass.a": 1,
        "other.a": 2,
        "vocals.a": 3,
    }
    del parts["bass"]
    with pytest.raises(WeightsError, match="a file for each of drums, bass, other, vocals"):
        joined(parts)


@pytest.mark.parametrize("sizes", [{"hidden": 3}, {"n_in_bins": 3000}, {"n_layers": 0}, {"n_channels": 0}])
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(SpecError, match="Open-Unmix needs"):
        UmxConfig(**sizes)
