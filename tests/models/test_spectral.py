"""The separator in torch keeps the contract, and the CPU path gives the same stems."""

from pathlib import Path

import numpy as np
import pytest
import signals
import torch
from contract import check_streaming
from small_profile import write_small_profile

from stemrack.models.bundles import load_xumx
from stemrack.models.spectral import SpectralSeparator
from stemrack.rt.separate import load_separator


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpectralSeparator, Path, Path]:
    profile, toml, weights = write_small_profile(tmp_path_factory.mktemp("profile"))
    return SpectralSeparator(profile, load_xumx(profile, weights)), toml, weights


def test_contract(written):
    def noise(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy((0.1 * rng.standard_normal((batch, 2, n))).astype(np.float32))

    with torch.no_grad():
        check_streaming(written[0], noise, n_hops=24, atol=1e-5)


def test_the_cpu_path_gives_the_same_stems(written):
    torch_separator, toml, weights = written
    x = 0.4 * signals.sweep(128 * 100) + signals.noise(128 * 100, level=0.05)
    x[1] *= 0.5
    with torch.no_grad():
        state = torch_separator.init_state(1)
        reference = torch_separator.step(torch.from_numpy(x)[None], state)[0][0].numpy()
    cpu = load_separator(str(toml), "onnx-cpu", weights)
    y, _ = cpu.run(x, cpu.init_state())
    assert np.abs(reference).max() > 0.1
    np.testing.assert_allclose(y, reference, atol=1e-4)
