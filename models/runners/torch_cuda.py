"""The whole hop as one CUDA graph: sound in and stems out through pinned memory, all else resident.

    pinned hop -> device -> [ graph: analysis, networks, Wiener, synthesis ] -> device -> pinned stems

A graph repeats the kernels of the hop that it was recorded from, with the addresses of then. What the
host decided then is fixed in it: whose turn it was among phases (`layers.Interleaved`), how much of a
window was signal (`chunked.Chunked`). So there is one graph for every set of counters that comes round
again, and the host chooses by its own counters; the few hops before a window is full run eagerly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ..errors import ModelError
from ..stems import N_STEMS
from .torch_hop import STAGES, Ended, HopState, TorchHop

WARM_UP_HOPS = 3
"""Eager hops before a recording: libraries choose kernels, plan FFTs and allocate in their first ones."""

MOST_WARM_UP_HOPS = 1024
"""A module whose counters have not come round by then is not recorded: it runs eagerly."""

STAGED_HOPS = 64
"""Hops that cross over at once where many are given."""

CUDA_WORDS = ("cuda", "cudnn", "cublas", "cufft", "nvidia", "nvrtc")

Hop = Callable[[], None]
Record = Callable[[Hop], Hop]
"""Takes a hop on fixed buffers, gives what repeats it: its work on the device, not its host's counters."""


class CudaError(ModelError):
    """What CUDA could not do: no driver, no memory, a lost device."""


@contextlib.contextmanager
def cuda_errors() -> Iterator[None]:
    """Raise what CUDA complains of as a CudaError with its remedy; other errors pass as they are."""
    remedy = "run on the CPU with --runner auto, onnx-cpu or int8-cpu"
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CudaError(
            f"the GPU has too little free memory ({_first_line(error)}): close what else uses it, take a "
            f"smaller profile, or {remedy}"
        ) from error
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        if not any(word in str(error).lower() for word in CUDA_WORDS):
            raise
        raise CudaError(f"CUDA failed ({_first_line(error)}): {remedy}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".")


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 as float32 within, not with the 10 bits of mantissa of TF32; set back after.

    What is recorded into a graph within stays so. Thread: the settings are the process's.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class HostConstants(TorchFunctionMode):
    """Makes tensors of the host's numbers once: within, the second call for the same copies on the device.

    Networks write down a few constants in each step (widths of bands, powers of a decay). Copying them
    from the host's memory is not allowed while a graph is recorded.
    """

    MAKERS = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[Any, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the answer of `func`, from what was made before if it makes a tensor of numbers."""
        kwargs = kwargs or {}
        is_method = func is torch.Tensor.new_tensor
        data = args[int(is_method)] if func in self.MAKERS and len(args) > int(is_method) else None
        if data is None or isinstance(data, torch.Tensor):
            return func(*args, **kwargs)
        numbers = np.asarray(data)
        place = (args[0].dtype, str(args[0].device)) if is_method else ()
        given = tuple((name, str(value)) for name, value in sorted(kwargs.items()))
        key = (func.__name__, place, given, numbers.shape, numbers.dtype.str, numbers.tobytes())
        if key not in self._made:
            self._made[key] = func(*args, **kwargs)
        return self._made[key].clone()  # a copy: whoever asked for it may write into it


class TorchCuda(TorchHop):
    """Runs a streaming separation on an NVIDIA GPU, one recorded graph a hop.

    device: 'cpu' does the same without graph and pinned memory. record: how a hop is recorded; None:
    as a CUDA graph on CUDA, not at all elsewhere.
    Thread: one at a time.  Raises: CudaError, here and in every call.
    """

    name = "torch-cuda"

    def __init__(
        self, module: Any, device: str | torch.device = "cuda", *, record: Record | None = None
    ) -> None:
        with cuda_errors():
            super().__init__(module, device)
            self._on_cuda = self.device.type == "cuda"
            self._x = torch.zeros(1, 2, self.hop, device=self.device)
            self._y = torch.zeros(1, N_STEMS, 2, self.hop, device=self.device)
            n = STAGED_HOPS * self.hop
            self._staged_in = torch.zeros(2 * n, pin_memory=self._on_cuda)
            self._staged_out = torch.zeros(2 * N_STEMS * n, pin_memory=self._on_cuda)
            self._constants = HostConstants()
            self._recorded: dict[tuple[int, ...], tuple[Hop, torch.Tensor]] = {}
            if self._on_cuda:
                self._side = torch.cuda.Stream(self.device)
                self._pool = torch.cuda.graph_pool_handle()
                record = record or self._cuda_graph
            if record:
                with torch.no_grad(), full_precision(), self._constants:
                    self._prepare(record)

    @property
    def n_graphs(self) -> int:
        """Recorded hops; 0 where all run eagerly."""
        return len(self._recorded)

    def step(self, x: np.ndarray, state: HopState, ended: Ended | None = None) -> np.ndarray:
        """Return the stems of the next hops; updates the state.  Raises: StreamingError, CudaError."""
        with cuda_errors():
            return super().step(x, state, ended)

    def flush(self, state: HopState) -> np.ndarray:
        """Return the last `latency_samples` of the stems; the state stays as it is.  Raises: CudaError."""
        with cuda_errors(), full_precision():
            return super().flush(state)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops.  Raises: CudaError."""
        with cuda_errors(), full_precision():
            return super().forward(x)

    # a hop --------------------------------------------------------------------------------------------

    def _answer(self, x: np.ndarray, ended: Ended | None) -> np.ndarray:
        out = np.empty((N_STEMS, 2, x.shape[1]), np.float32)
        piece = STAGED_HOPS * self.hop
        for start in range(0, x.shape[1], piece):
            stop = min(start + piece, x.shape[1])
            self._piece(x[:, start:stop], out[:, :, start:stop], ended)
        return out

    def _piece(self, x: np.ndarray, out: np.ndarray, ended: Ended | None) -> None:
        """Write the stems of some hops; the host waits for the device once, at the end."""
        n, hop = x.shape[1], self.hop
        single = n == hop
        heard = self._x if single else torch.empty(1, 2, n, device=self.device)
        stems = self._y if single else torch.empty(1, N_STEMS, 2, n, device=self.device)
        staged = self._staged_in[: 2 * n].view(1, 2, n)
        staged.copy_(torch.from_numpy(np.ascontiguousarray(x))[None])
        heard.copy_(staged, non_blocking=True)
        self._told(ended, STAGES[0])
        for start in range(0, n, hop):
            if not single:
                self._x.copy_(heard[..., start : start + hop])
            self._hop()
            if not single:
                stems[..., start : start + hop].copy_(self._y)
        self._told(ended, STAGES[1])
        staged = self._staged_out[: 2 * N_STEMS * n].view(1, N_STEMS, 2, n)
        staged.copy_(stems, non_blocking=True)
        self._wait()
        out[:] = staged[0].numpy()
        self._told(ended, STAGES[2])

    def _hop(self) -> None:
        """Run the hop that the counters ask for, from `_x` to `_y`: recorded if it is, eagerly if not."""
        turns = self._memory.state.turns
        found = self._recorded.get(tuple(turns.tolist()))
        if found:
            replay, after = found
            replay()
            turns.copy_(after)
        else:
            with full_precision():
                self._eager()

    def _eager(self) -> None:
        y, _ = self.module.step(self._x, self._memory.tree)
        self._y.copy_(y)

    def _wait(self) -> None:
        if self._on_cuda:
            torch.cuda.current_stream(self.device).synchronize()

    # recording ----------------------------------------------------------------------------------------

    def _prepare(self, record: Record) -> None:
        """Warm up, then record a hop for each set of counters that comes round again."""
        turns = self._memory.state.turns
        self._x.copy_(0.1 * torch.randn(self._x.shape, generator=torch.Generator().manual_seed(1)))
        with self._on_side():
            orbit = self._orbit()
        for key in orbit:
            turns.copy_(torch.tensor(key, dtype=torch.int64))
            replay = record(self._eager)
            self._recorded[key] = (replay, turns.clone())
        self._memory.take(self._memory.fresh)
        self._x.zero_()
        self._wait()

    def _orbit(self) -> list[tuple[int, ...]]:
        """Return the sets of counters that come round, found by running; none if that takes too long."""
        turns = self._memory.state.turns
        keys = [tuple(turns.tolist())]
        for n_run in range(1, MOST_WARM_UP_HOPS + 1):
            self._eager()
            key = tuple(turns.tolist())
            if key in keys and n_run >= WARM_UP_HOPS:
                return list(dict.fromkeys(keys[keys.index(key) :]))
            keys.append(key)
        return []

    @contextlib.contextmanager
    def _on_side(self) -> Iterator[None]:
        """Run on the side stream, after what was asked for before and before what comes after."""
        if not self._on_cuda:
            yield
            return
        self._side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._side):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self._side)

    def _cuda_graph(self, hop: Hop) -> Hop:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._side, capture_error_mode="thread_local"):
            hop()
        return graph.replay
