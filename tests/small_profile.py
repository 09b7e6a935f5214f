"""A small profile with random weights on disk: what tests separate with."""

from collections.abc import Sequence
from pathlib import Path

import torch

from stemrack.models.bundles import new_network, write_weights
from stemrack.models.profiles import SPECTRAL, Profile, load_profile

TOML = """
name = "small"
fast = ["xumx", "demucs"]
[windows]
analysis_samples = 1024
synthesis_samples = 256
hop = 128
phases = 2
[bands]
share = 0.05
top_bin = 372
[wiener]
forget_s = 0.5
"""
NETWORKS = {
    "xumx": """
[xumx]
weights = "small-xumx"
hidden = 12
n_layers = 2
dropout = 0.0
""",
    "unet": """
[unet]
weights = "small-unet"
growth = 4
layers = [2, 2]
heads = 2
attention_width = 4
attention_channels = 8
attention_layers = 1
attention_frames = 3
end_channels = 4
dropout = 0.0
""",
    "demucs": """
[demucs]
weights = "small-demucs"
channels = 8
depth = 3
n_lstm_layers = 1
look_ahead_samples = 64
""",
}


def write_small_profile(folder: Path, kinds: Sequence[str] = ("xumx",)) -> tuple[Profile, Path, Path]:
    """Write profile and weights to `folder`; return the profile, its file, the first network's weights."""
    toml = folder / "small.toml"
    toml.write_text(TOML + "".join(NETWORKS[kind] for kind in kinds))
    profile = load_profile(str(toml))
    for member in profile.members:
        torch.manual_seed(11)
        network = new_network(member)
        if member.kind in SPECTRAL:
            n_in = member.config.n_in_bins
            with torch.no_grad():
                for _ in range(3):  # running statistics that are not the initial ones
                    network(torch.randn(2, 1, n_in, 9))
            network.standardise(torch.linspace(0, 2, n_in), torch.linspace(0.5, 1.5, n_in))
        if member.kind == "xumx":
            with torch.no_grad():  # masks far from even, so that mistakes show
                network.output_scale.mul_(3.0)
        manifest = {"profile": "small", "network": member.kind}
        write_weights(folder / f"{member.weights}.safetensors", network, manifest)
    return profile, toml, folder / f"{profile.members[0].weights}.safetensors"
