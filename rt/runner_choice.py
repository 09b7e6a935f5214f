"""Which engine runs the networks, and why: what was asked for, what there is, what has failed.

Nothing here imports torch unless there is an NVIDIA GPU and a build of torch that knows CUDA: on the CPU
path a worker is back in seconds because it never does.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ConfigError

CUDA = "cuda"
CPU = "cpu"
"""The CPU's own choice for each network: 8 bits for X-UMX, ONNX Runtime for the others."""

DRIVERS = ("libcuda.so.1", "nvcuda.dll")
DEATHS_IN_A_ROW = 2
"""After so many, whatever they said, a worker that separated on CUDA is started on the CPU."""

Available = Callable[[], tuple[bool, str]]


def available() -> tuple[bool, str]:
    """Return whether CUDA can be used, and with what, or why not: the cheap questions first."""
    n_gpus = count_gpus()
    if n_gpus is None:
        return False, "there is no NVIDIA driver"
    if n_gpus == 0:
        return False, "the NVIDIA driver shows no GPU"
    build = torch_build()
    if build is None:
        return False, "there is an NVIDIA GPU, but torch is not installed: pip install torch"
    if not build:
        return False, "there is an NVIDIA GPU, but this build of torch is for the CPU alone"
    return first_kernel()


def count_gpus() -> int | None:
    """Return the number of GPUs that the NVIDIA driver shows this process; None without a driver."""
    for name in DRIVERS:
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
        return count.value
    return None


def torch_build() -> str | None:
    """Return the CUDA version that torch is built for, '' for none, None if torch is not installed.

    Read from its version file: importing it takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    version = Path(spec.origin).with_name("version.py")
    return cuda_of(version.read_text()) if version.is_file() else ""


def cuda_of(version_text: str) -> str:
    """Return the CUDA version that torch's version file names, '' for none.

    >>> cuda_of("__version__ = '2.13.0+cu130'\\ncuda: Optional[str] = '13.0'\\nhip: Optional[str] = None\\n")
    '13.0'
    >>> cuda_of("cuda: Optional[str] = None")
    ''
    """
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", version_text, re.MULTILINE)
    return found[1] if found else ""


def first_kernel() -> tuple[bool, str]:
    """Return whether torch runs a kernel on the GPU, and the GPU's name, or what it complained of."""
    import torch

    if not torch.cuda.is_available():
        return False, "torch finds no usable NVIDIA GPU: is the driver older than its CUDA?"
    try:
        torch.ones(1, device=CUDA).add_(1.0).item()
        name = torch.cuda.get_device_name()
    except RuntimeError as error:  # a GPU that this build has no code for, one without free memory
        return False, f"torch cannot use the GPU: {str(error).strip().splitlines()[0]}"
    return True, name


def choose_runner(asked: str, available: Available = available) -> tuple[str, str]:
    """Return the runner to use, and the reason in words.

    asked: 'auto' takes CUDA where there is one, the CPU otherwise; any other runner stays as it is.
    available: asked only where the answer matters.
    Raises: ConfigError when CUDA is asked for and cannot be used.

    >>> choose_runner("auto", lambda: (False, "there is no NVIDIA driver"))
    ('cpu', 'there is no NVIDIA driver')
    >>> choose_runner("onnx-cpu")
    ('onnx-cpu', 'asked for')
    """
    if asked not in ("auto", CUDA):
        return asked, "asked for"
    usable, why = available()
    if usable:
        return CUDA, why if asked == "auto" else f"asked for; {why}"
    if asked == CUDA:
        raise ConfigError(f"runner 'cuda' cannot be used: {why}; --runner auto takes the CPU")
    return CPU, why


@dataclass(frozen=True, slots=True)
class RunnerPlan:
    """What the next worker is to run on.

    asked: the user's wish. gave_up: why CUDA is no longer tried; empty while it may be.
    """

    asked: str = "auto"
    gave_up: str = ""

    @property
    def next_runner(self) -> str:
        """The runner that the next worker is told to choose from."""
        return CPU if self.gave_up else self.asked

    def after_failure(self, *, ran: str, said: str, hung: bool = False, in_a_row: int = 1) -> RunnerPlan:
        """Return the plan after a worker's death.

        ran: the runner it had chosen, empty if it died before. said: its last words. hung: it was killed
        since it gave no sign of life. in_a_row: deaths without a healthy life between, this one counted.
        CUDA is given up at once when it was at fault, else only when the worker dies again.

        >>> plan = RunnerPlan("auto").after_failure(ran="cuda", said="CudaError: the GPU is lost")
        >>> plan.next_runner, plan.gave_up
        ('cpu', 'CudaError: the GPU is lost')
        """
        # One that died before it had chosen may have died of the asking.
        tried_cuda = CUDA in (ran, self.asked) or "CudaError" in said or (self.asked, ran) == ("auto", "")
        if self.gave_up or not tried_cuda:
            return self
        if "CudaError" in said:
            return replace(self, gave_up=said)
        if hung:
            return replace(self, gave_up="the worker hung while it used the GPU")
        if in_a_row >= DEATHS_IN_A_ROW:
            return replace(self, gave_up=f"the worker died {in_a_row} times in a row while it used the GPU")
        return self
