"""The CUDA path: the streaming contract and the CPU path's stems; on the CPU device where there is no GPU."""

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
import torch
from contract import check_streaming
from small_profile import write_small_profile

from stemrack.models.errors import ModelError, WeightsError
from stemrack.models.runners.torch_hop import STAGES
from stemrack.rt.errors import ConfigError
from stemrack.rt.pipeline import Pipeline
from stemrack.rt.separate import load_separator
from stemrack.rt.separate_cuda import CudaSeparator, load_cuda_separator
from stemrack.rt.worker import warm_up

ALL = ("xumx", "unet", "demucs")
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of torch"
)
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("profile")
    return str(write_small_profile(folder, ALL)[1]), folder


@pytest.fixture(scope="module", params=DEVICES)
def separator(request: pytest.FixtureRequest, files: tuple[str, Path]) -> CudaSeparator:
    return load_cuda_separator(*files, device=request.param)


def _music(n: int, seed: int = 0) -> np.ndarray:
    x = 0.3 * signals.tone(n, 0.01) + 0.2 * signals.sweep(n) + signals.noise(n, seed, 0.05)
    x[:, ::1500] += 0.4
    return x.astype(np.float32)


def test_contract(separator: CudaSeparator):
    def hops(batch: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return (0.1 * rng.standard_normal((2, n))).astype(np.float32)

    check_streaming(separator, hops, n_hops=6, atol=1e-4, batched=False)


def test_it_gives_the_cpu_path_s_stems(files: tuple[str, Path], separator: CudaSeparator):
    x = _music(128 * 70)
    cpu = load_separator(files[0], "torch-cpu", files[1])
    assert (separator.hop, separator.latency_samples, separator.ratio) == (128, 128, Fraction(1))
    assert cpu.latency_samples == separator.latency_samples
    want, _ = cpu.run(x, cpu.init_state())
    got, _ = separator.run(x, separator.init_state())
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_a_pipeline_takes_it(separator: CudaSeparator):
    warm_up(separator)
    pipeline, x = Pipeline(separator, rate_hz=48000, n_channels=2, live=True), _music(2400)
    stems = np.concatenate([pipeline.push(x), pipeline.finish()], axis=-1)
    assert stems.shape == (4, 2, 2400)
    np.testing.assert_allclose(stems.sum(0), x, atol=1e-5)


def test_stages_are_told_while_somebody_measures(separator: CudaSeparator):
    heard: list[str] = []
    separator.on_stage = heard.append
    try:
        separator.step(_music(128), separator.init_state())
    finally:
        separator.on_stage = None
    separator.step(_music(128), separator.init_state())
    assert tuple(heard) == separator.stages == STAGES


def test_what_cannot_be_loaded_is_said(files: tuple[str, Path], separator: CudaSeparator, tmp_path: Path):
    with pytest.raises(ConfigError, match="one stream per state"):
        separator.init_state(2)
    with pytest.raises(WeightsError, match="no weights at"):
        load_cuda_separator(files[0], tmp_path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine or a torch without CUDA")
def test_without_cuda_the_remedy_is_told(files: tuple[str, Path]):
    with pytest.raises(ModelError, match="--runner auto"):
        load_cuda_separator(*files)


@needs_cuda
def test_two_thousand_hops_stay_with_the_cpu(files: tuple[str, Path], record_property: Any):
    x = _music(128 * 2000)
    cuda, cpu = load_cuda_separator(*files), load_separator(files[0], "onnx-cpu", files[1])
    state, reference, times_s = cuda.init_state(), cpu.init_state(), []
    for start in range(0, x.shape[1], 128):  # hop by hop, as it runs live
        hop = x[:, start : start + 128]
        began_s = time.perf_counter()
        got, _ = cuda.step(hop, state)
        times_s.append(time.perf_counter() - began_s)
        want, _ = cpu.step(hop, reference)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * max(0.1, np.abs(want).max()))
    assert cuda.runner.n_graphs == 2
    for q in (50, 99, 100):  # a figure for the report; a test asserts nothing about the clock
        record_property(f"hop_ms_p{q}", 1e3 * float(np.percentile(times_s, q)))


@needs_cuda
def test_no_hop_asks_the_driver_for_memory(files: tuple[str, Path]):
    # That waits for all that runs: it is what would make a late hop.
    separator, x = load_cuda_separator(*files), _music(128 * 200)
    state = separator.init_state()
    separator.step(x[:, :128], state)
    before = torch.cuda.memory_stats()["num_device_alloc"]
    for start in range(128, x.shape[1], 128):
        separator.step(x[:, start : start + 128], state)
    assert torch.cuda.memory_stats()["num_device_alloc"] == before
