"""The recorded hop: its logic with a recording that holds the counters still, and CUDA where there is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signals
import torch
from small_profile import write_small_profile
from torch.overrides import TorchFunctionMode

from stemrack.models.bundles import find_weights, load_network
from stemrack.models.chunked import Chunked
from stemrack.models.danna import Ensemble
from stemrack.models.errors import ModelError, StreamingError
from stemrack.models.runners import torch_cuda
from stemrack.models.runners.torch_cuda import (
    CudaError,
    HostConstants,
    TorchCuda,
    cuda_errors,
    full_precision,
)
from stemrack.models.runners.torch_hop import STAGES, TorchHop

ALL = ("xumx", "unet", "demucs")
HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="needs an NVIDIA GPU and a CUDA build of torch")


@pytest.fixture
def ensemble(tmp_path: Path) -> Ensemble:
    profile = write_small_profile(tmp_path, ALL)[0]
    paths = find_weights(profile, tmp_path)
    return Ensemble(profile, {m.kind: load_network(m, paths[m.kind]) for m in profile.members})


def _music(n: int, seed: int = 0) -> np.ndarray:
    return (0.3 * signals.sweep(n) + signals.noise(n, seed, 0.05)).astype(np.float32)


def frozen(hop: Callable[[], None]) -> Callable[[], None]:
    """Record as CUDA does: the host's counters move on, the device does nothing until the replay.

    A replay repeats the hop with the counters of the recording and moves none, right or wrong.
    """
    runner: Any = getattr(hop, "__self__")  # noqa: B009 - a Callable has no such attribute to a checker
    state = runner._memory.state
    counters, memory, y = state.turns.clone(), state.memory.clone(), runner._y.clone()
    hop()
    state.memory.copy_(memory)
    runner._y.copy_(y)

    def replay() -> None:
        now = state.turns.clone()
        state.turns.copy_(counters)
        hop()
        state.turns.copy_(now)

    return replay


def _in_steps(runner: TorchHop, x: np.ndarray, hops: tuple[int, ...]) -> np.ndarray:
    state, start, out = runner.init_state(), 0, []
    for n in hops:
        out.append(runner.step(x[:, start : start + n * runner.hop], state))
        start += n * runner.hop
    return np.concatenate(out, axis=-1)


def test_recorded_hops_equal_eager_ones_in_steps_of_any_size(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch_cuda, "STAGED_HOPS", 4)
    x, hops = _music(128 * 24), (1, 1, 3, 11, 2, 1, 5)
    recorded = TorchCuda(ensemble, "cpu", record=frozen)
    assert recorded.n_graphs == 2  # one a phase
    want = _in_steps(TorchHop(ensemble), x, hops)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(_in_steps(recorded, x, hops), want, atol=1e-5)
    np.testing.assert_allclose(_in_steps(TorchCuda(ensemble, "cpu"), x, hops), want, atol=1e-5)


def test_streams_in_different_phases_share_the_recordings(ensemble: Ensemble):
    recorded, x = TorchCuda(ensemble, "cpu", record=frozen), _music(128 * 7)
    want = TorchHop(ensemble).step(x, TorchHop(ensemble).init_state())
    one, two, got = recorded.init_state(), recorded.init_state(), []
    recorded.step(_music(128, 1), two)  # an odd number of hops ahead
    for i in range(0, x.shape[1], 128):
        got.append(recorded.step(x[:, i : i + 128], one))
        recorded.step(_music(128, i), two)
    np.testing.assert_allclose(np.concatenate(got, axis=-1), want, atol=1e-5)


def test_recording_leaves_no_trace_in_a_fresh_state(ensemble: Ensemble):
    recorded, plain = TorchCuda(ensemble, "cpu", record=frozen), TorchHop(ensemble)
    assert torch.equal(recorded.init_state().memory, plain.init_state().memory)
    assert recorded.init_state().turns.tolist() == [0, 0]
    silence = np.zeros((2, 128 * 8), np.float32)
    assert np.abs(recorded.step(silence, recorded.init_state())).max() < 1e-9


def _averaging(context: int) -> Chunked:
    """Return a chunked network whose answer needs its whole window."""

    def network(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(-1, keepdim=True))[:, None] * torch.arange(1.0, 5.0).view(4, 1, 1)

    return Chunked(network, hop=64, context=context, look_ahead=128)


def test_a_window_that_fills_is_recorded_once_it_is_full():
    x, hops = _music(64 * 20), (1,) * 12 + (8,)
    recorded = TorchCuda(_averaging(64 * 4), "cpu", record=frozen)
    assert recorded.n_graphs == 1
    np.testing.assert_allclose(
        _in_steps(recorded, x, hops), _in_steps(TorchHop(_averaging(64 * 4)), x, hops), atol=1e-6
    )


def test_counters_that_do_not_come_round_leave_the_hops_eager(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_cuda, "MOST_WARM_UP_HOPS", 8)
    x, hops = _music(64 * 20), (1, 19)
    runner = TorchCuda(_averaging(64 * 30), "cpu", record=lambda _: pytest.fail("recorded"))
    assert runner.n_graphs == 0
    np.testing.assert_allclose(
        _in_steps(runner, x, hops), _in_steps(TorchHop(_averaging(64 * 30)), x, hops), atol=1e-6
    )


class _Counting(TorchFunctionMode):
    """Counts the tensors that are made of the host's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func in HostConstants.MAKERS
        return func(*args, **(kwargs or {}))


def test_constants_cross_over_in_the_warm_up_alone(ensemble: Ensemble):
    counting, state = _Counting(), ensemble.init_state(1)
    x = torch.from_numpy(_music(128))[None]
    with torch.no_grad(), counting, HostConstants():
        ensemble.step(x, state)
        n_first = counting.n
        for _ in range(3):
            ensemble.step(x, state)
    assert n_first > 0
    assert counting.n == n_first


def test_a_constant_that_is_written_into_comes_new_again():
    with HostConstants():
        like = torch.zeros(1, dtype=torch.float64)
        first = like.new_tensor([1.0, 2.0]).mul_(5.0)
        assert like.new_tensor([1.0, 2.0]).tolist() == [1.0, 2.0]
        assert first.dtype == torch.float64
        assert torch.zeros(1).new_tensor([1.0, 2.0]).dtype == torch.float32
        assert torch.tensor([1, 2]).dtype == torch.int64
        assert torch.as_tensor(np.array([1, 2]), dtype=torch.float32).tolist() == [1.0, 2.0]
        assert torch.as_tensor(first) is first


def test_errors_of_cuda_say_what_to_do():
    cases: list[tuple[Exception, str]] = [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "too little free memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), "illegal memory access"),
        (RuntimeError("Found no NVIDIA driver on your system."), "no NVIDIA driver"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "CUDNN_STATUS"),
        (AssertionError("Torch not compiled with CUDA enabled"), "not compiled with CUDA"),
    ]
    for error, told in cases:
        with pytest.raises(CudaError, match=told) as caught, cuda_errors():
            raise error
        assert "--runner auto" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ModelError)


def test_other_errors_pass_as_they_are(ensemble: Ensemble):
    with pytest.raises(RuntimeError, match="size of tensor") as caught, cuda_errors():
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")
    assert not isinstance(caught.value, ModelError)
    runner = TorchCuda(ensemble, "cpu")
    with pytest.raises(StreamingError, match="whole hops of 128"):
        runner.step(np.zeros((2, 100), np.float32), runner.init_state())


@pytest.mark.skipif(HAS_CUDA, reason="needs a machine or a torch without CUDA")
def test_without_cuda_it_says_so(ensemble: Ensemble):
    with pytest.raises(CudaError, match="--runner auto"):
        TorchCuda(ensemble)


def test_full_precision_is_local():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert cudnn.allow_tf32
        with full_precision():
            assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
        assert (cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "medium")
    finally:
        torch.set_float32_matmul_precision(before)


def test_stages_are_told_in_order(ensemble: Ensemble):
    heard: list[str] = []
    runner = TorchCuda(ensemble, "cpu", record=frozen)
    runner.step(_music(128), runner.init_state(), heard.append)
    assert heard == list(STAGES)


@needs_cuda
def test_replay_equals_eager_on_cuda(ensemble: Ensemble):
    x = _music(128 * 300)
    graphs = TorchCuda(ensemble)
    assert graphs.n_graphs == 2
    got = _in_steps(graphs, x, (1,) * 150 + (3,) * 50)
    with full_precision():
        want = _in_steps(TorchHop(ensemble, "cuda"), x, (1,) * 300)
    np.testing.assert_allclose(got, want, atol=1e-5)


@needs_cuda
def test_a_state_that_is_put_back_gives_the_same_again_on_cuda(ensemble: Ensemble):
    runner, x = TorchCuda(ensemble), _music(128 * 21)
    state = runner.init_state()
    runner.step(x[:, : 128 * 11], state)
    other = runner.init_state()
    other.memory.copy_(state.memory)
    other.turns.copy_(state.turns)
    first = runner.step(x[:, 128 * 11 :], state)
    np.testing.assert_array_equal(runner.step(x[:, 128 * 11 :], other), first)


@needs_cuda
def test_a_full_window_is_recorded_on_cuda():
    class Averaging(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean(-1, keepdim=True))[:, None].repeat(1, 4, 1, 1)

    def module() -> Chunked:
        return Chunked(Averaging(), hop=64, context=256, look_ahead=128)

    x, hops = _music(64 * 20), (1,) * 20
    runner = TorchCuda(module())
    assert runner.n_graphs == 1
    np.testing.assert_allclose(_in_steps(runner, x, hops), _in_steps(TorchHop(module()), x, hops), atol=1e-5)
