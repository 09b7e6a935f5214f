"""Checkpoints with random weights, in the forms in which they are published: from the peers' own classes.

`asteroid` and `openunmix` import libraries at the top that their networks never call; where one is not
installed, an empty module takes its place. Danna-Sep is on no index: its layout of tensors is given to
modules without mathematics, which script to an archive with the same names.
"""

import importlib
import sys
import types

import pytest
import torch
from torch import nn

STEMS = ("drums", "bass", "other", "vocals")
ASTEROID_ORDER = ("bass", "drums", "vocals", "other")


class _Absent(types.ModuleType):
    """A module of which any name is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def peer(module, distribution):
    """Return a module of a peer's package; skip the test where that package is not installed."""
    if module in sys.modules:
        return sys.modules[module]
    stood_in = []
    try:
        while True:
            try:
                return importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name == distribution:
                    pytest.skip(f"{distribution} is not installed: pip install --no-deps {distribution}")
                stood_in.append(error.name)
                sys.modules[error.name] = _Absent(error.name)
                for name in [n for n in sys.modules if n.split(".")[0] == distribution]:
                    del sys.modules[name]
    finally:
        for name in stood_in:
            del sys.modules[name]


def randomise(network, seed):
    """Draw weights and statistics so that no layer hides behind its defaults; return it, ready to run."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("window") or not value.is_floating_point():
                continue
            if name.endswith("running_var") or "scale" in name:
                value.uniform_(0.5, 2.0, generator=generator)
            elif value.ndim == 1:
                value.normal_(0.0, 0.3, generator=generator)
            else:
                value.normal_(0.0, value[0].numel() ** -0.5, generator=generator)
    return network.eval()


def asteroid_xumx(seed=0, **sizes):
    """Return asteroid's X-UMX with random weights: small unless told otherwise."""
    module = peer("asteroid.models.x_umx", "asteroid")
    sizes = {"window_length": 64, "in_chan": 64, "n_hop": 16, "hidden_size": 8, "max_bin": 20} | sizes
    return randomise(module.BrokenXUMX(sources=list(ASTEROID_ORDER), **sizes), seed)


def asteroid_content(network):
    """Return what asteroid saves of a network: also its arguments, versions and data set."""
    return {
        "model_name": "XUMX",
        "model_args": network.get_model_args(),
        "state_dict": network.state_dict(),
        "infos": {"software_versions": {"torch_version": torch.__version__, "asteroid_version": "0.4.5"}},
        "dataset": "musdb18",
        "task": "enhancement",
        "licenses": [{}],
    }


def open_unmix(seed=0, **sizes):
    """Return openunmix's network of one stem with random weights: small unless told otherwise."""
    module = peer("openunmix.model", "openunmix")
    sizes = {"nb_bins": 33, "nb_channels": 2, "hidden_size": 8, "nb_layers": 2, "max_bin": 20} | sizes
    return randomise(module.OpenUnmix(**sizes), seed)


class _Shell(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def shell(tensors):
    """Return a module without mathematics whose state dict is `tensors`, for scripting."""
    root = _Shell()
    for path, value in tensors.items():
        *owners, name = path.split(".")
        module = root
        for owner in owners:
            if owner not in module._modules:
                module.add_module(owner, nn.Module())
            module = module._modules[owner]
        module.register_buffer(name, value)
    return root


class DannaXumx(nn.Module):
    """Danna-Sep's X-UMX as described, with the mathematics written for an exporter: for ONNX graphs."""

    def __init__(self, n_in_bins=20, n_out_bins=33, hidden=8, n_layers=3):
        super().__init__()
        self.n_in_bins, self.n_out_bins, self.hidden = n_in_bins, n_out_bins, hidden
        self.input_means = nn.Parameter(torch.zeros(4 * n_in_bins))
        self.input_scale = nn.Parameter(torch.ones(4 * n_in_bins))
        self.output_means = nn.Parameter(torch.zeros(4 * n_out_bins))
        self.output_scale = nn.Parameter(torch.ones(4 * n_out_bins))
        self.affine1 = nn.Sequential(
            nn.Conv1d(8 * n_in_bins, 4 * hidden, 1, groups=4, bias=False),
            nn.BatchNorm1d(4 * hidden),
            nn.Tanh(),
        )
        for name in ASTEROID_ORDER:
            self.add_module(
                f"{name}_lstm", nn.LSTM(hidden, hidden // 2, n_layers, bidirectional=True, dropout=0.4)
            )
        self.affine2 = nn.Sequential(
            nn.Conv1d(2 * hidden, 4 * hidden, 1, bias=False),
            nn.BatchNorm1d(4 * hidden),
            nn.ReLU(),
            nn.Conv1d(4 * hidden, 8 * n_out_bins, 1, groups=4, bias=False),
            nn.BatchNorm1d(8 * n_out_bins),
        )

    def forward(self, x):
        x = x[:, :, : self.n_in_bins].unsqueeze(1)
        x = (x + self.input_means.view(1, 4, 1, -1, 1)) * self.input_scale.view(1, 4, 1, -1, 1)
        cross = self.affine1(x.flatten(1, 3)).unflatten(1, (4, self.hidden)).mean(1)
        y = cross.permute(2, 0, 1)
        stacks = [self.bass_lstm(y)[0], self.drums_lstm(y)[0], self.vocals_lstm(y)[0], self.other_lstm(y)[0]]
        y = torch.stack(stacks).mean(0).permute(1, 2, 0)
        y = self.affine2(torch.cat([cross, y], dim=1)).unflatten(1, (4, 2, self.n_out_bins))
        y = y * self.output_scale.view(1, 4, 1, -1, 1) + self.output_means.view(1, 4, 1, -1, 1)
        return torch.relu(y)
