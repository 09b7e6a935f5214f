"""The ensemble in torch keeps the contract for any set of networks, and the CPU path gives the same stems."""

from pathlib import Path

import numpy as np
import pytest
import signals
import torch
from contract import check_streaming
from small_profile import write_small_profile

from stemrack.models.bundles import find_weights, load_network
from stemrack.models.danna import Ensemble
from stemrack.models.profiles import load_profile
from stemrack.rt.separate import load_separator

SETS = ("xumx", "demucs", "unet+demucs", "xumx+unet", "xumx+unet+demucs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("profile")
    write_small_profile(where, ("xumx", "unet", "demucs"))
    return where


def _ensemble(folder: Path, kinds: str) -> Ensemble:
    profile = load_profile(f"{folder / 'small.toml'}:{kinds}")
    paths = find_weights(profile, folder)
    return Ensemble(profile, {m.kind: load_network(m, paths[m.kind]) for m in profile.members})


@pytest.mark.parametrize("kinds", SETS)
def test_contract(folder, kinds):
    def noise(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy((0.1 * rng.standard_normal((batch, 2, n))).astype(np.float32))

    with torch.no_grad():
        check_streaming(_ensemble(folder, kinds), noise, n_hops=24, atol=1e-5)


def _mixture(n_hops: int) -> np.ndarray:
    x = 0.4 * signals.sweep(128 * n_hops) + signals.noise(128 * n_hops, level=0.05)
    x[1] *= 0.5
    return x


@pytest.mark.parametrize("kinds", SETS)
def test_the_cpu_path_gives_the_same_stems(folder, kinds):
    x = _mixture(100)
    ensemble = _ensemble(folder, kinds)
    with torch.no_grad():
        reference = ensemble.step(torch.from_numpy(x)[None], ensemble.init_state(1))[0][0].numpy()
    cpu = load_separator(f"{folder / 'small.toml'}:{kinds}", "torch-cpu", folder)
    assert np.abs(reference).max() > 0.05
    np.testing.assert_allclose(cpu.run(x, cpu.init_state())[0], reference, atol=1e-4)
    np.testing.assert_allclose(cpu.step(x, cpu.init_state())[0], reference, atol=1e-4)


def test_onnx_agrees_with_torch_over_two_thousand_hops(folder):
    """All three networks, state carried; the error stays below 1e-4 of the loudest sample."""
    x = _mixture(2000)
    profile = str(folder / "small.toml")
    reference = load_separator(profile, "torch-cpu", folder)
    runner = load_separator(profile, "onnx-cpu", folder)
    y, state = np.empty((4, 2, x.shape[1]), np.float32), runner.init_state()
    for start in range(0, x.shape[1], 128):
        y[..., start : start + 128] = runner.step(x[:, start : start + 128], state)[0]
    wanted = reference.run(x, reference.init_state())[0]
    assert np.abs(y - wanted).max() < 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(runner.run(x, runner.init_state())[0], y, atol=1e-4 * np.abs(y).max())


def test_the_shares_are_those_of_the_profile(folder):
    """A blend is the sum of its networks alone, each with its share, stem by stem."""
    x = torch.from_numpy(_mixture(40))[None]
    with torch.no_grad():
        whole = _ensemble(folder, "xumx+unet+demucs")(x)
        alone = [_ensemble(folder, kind)(x) for kind in ("xumx", "unet", "demucs")]
    profile = load_profile(str(folder / "small.toml"))
    shares = torch.tensor(profile.blend).view(3, 1, 4, 1, 1)
    torch.testing.assert_close(whole, (torch.stack(alone) * shares).sum(0), atol=1e-5, rtol=1e-4)
    assert load_profile(f"{folder / 'small.toml'}:fast").kinds == ("xumx", "demucs")
