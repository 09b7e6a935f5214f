"""A small profile with random weights on disk: what tests separate with."""

from pathlib import Path

import torch

from stemrack.models.bundles import write_weights
from stemrack.models.profiles import Profile, load_profile
from stemrack.models.xumx import Xumx

TOML = """
name = "small"
weights = "small"
[windows]
analysis_samples = 1024
synthesis_samples = 256
hop = 128
[bands]
share = 0.05
top_bin = 372
[xumx]
hidden = 12
n_layers = 2
dropout = 0.0
phases = 2
[wiener]
forget_s = 0.5
"""


def write_small_profile(folder: Path) -> tuple[Profile, Path, Path]:
    """Write profile and weights below `folder`; return the profile, its file and the weights' file."""
    toml, weights = folder / "small.toml", folder / "small.safetensors"
    toml.write_text(TOML)
    profile = load_profile(str(toml))
    torch.manual_seed(11)
    network = Xumx(profile.xumx)
    n_in = profile.xumx.n_in_bins
    for _ in range(3):  # running statistics that are not the initial ones
        network(torch.randn(2, 1, n_in, 9))
    network.standardise(torch.linspace(0, 2, n_in), torch.linspace(0.5, 1.5, n_in))
    with torch.no_grad():  # masks far from even, so that mistakes show
        network.output_scale.mul_(3.0)
    write_weights(weights, network, {"profile": "small"})
    return profile, toml, weights
