"""Which engine runs the networks: what the machine is asked, in which order, what a failure changes."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from stemrack.rt import runner_choice
from stemrack.rt.errors import ConfigError
from stemrack.rt.runner_choice import RunnerPlan, available, choose_runner, cuda_of

GPU = (True, "an NVIDIA GPU")
NO_GPU = (False, "there is no NVIDIA driver")


def _machine(monkeypatch: pytest.MonkeyPatch, n_gpus: int | None, build: str | None, kernel: object = None):
    monkeypatch.setattr(runner_choice, "count_gpus", lambda: n_gpus)
    monkeypatch.setattr(runner_choice, "torch_build", lambda: build)
    monkeypatch.setattr(runner_choice, "first_kernel", kernel or (lambda: pytest.fail("imported torch")))


@pytest.mark.parametrize(
    ("n_gpus", "build", "told"),
    [
        (None, "13.0", "no NVIDIA driver"),
        (0, "13.0", "shows no GPU"),
        (1, None, "torch is not installed"),
        (1, "", "for the CPU alone"),
    ],
)
def test_what_is_missing_is_told_without_torch(monkeypatch: pytest.MonkeyPatch, n_gpus, build, told):
    _machine(monkeypatch, n_gpus, build)
    usable, why = available()
    assert not usable
    assert told in why


def test_torch_has_the_last_word(monkeypatch: pytest.MonkeyPatch):
    _machine(monkeypatch, 1, "13.0", lambda: (True, "Some GPU"))
    assert available() == (True, "Some GPU")
    _machine(monkeypatch, 1, "13.0", lambda: (False, "torch cannot use the GPU: no kernel image"))
    assert not available()[0]


def _driver(init: int, count: int) -> SimpleNamespace:
    def device_count(pointer: object) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = count  # pyright: ignore[reportArgumentType]
        return 0

    return SimpleNamespace(cuInit=lambda _: init, cuDeviceGetCount=device_count)


def test_the_driver_is_asked_for_gpus(monkeypatch: pytest.MonkeyPatch):
    def load(driver: SimpleNamespace | None):
        def cdll(name: str) -> SimpleNamespace:
            if driver is None or name != "libcuda.so.1":
                raise OSError("cannot open shared object file")
            return driver

        monkeypatch.setattr(ctypes, "CDLL", cdll)
        return runner_choice.count_gpus()

    assert load(None) is None
    assert load(_driver(0, 2)) == 2
    assert load(_driver(100, 1)) == 0  # CUDA_ERROR_NO_DEVICE: hidden from this process, say


def test_the_build_is_read_from_the_version_file():
    import torch

    assert runner_choice.torch_build() == (torch.version.cuda or "")
    assert cuda_of("cuda: Optional[str] = '12.8'") == "12.8"
    assert cuda_of('cuda = "12.8"') == "12.8"
    assert cuda_of("rocm: Optional[str] = '6.2'\ncuda: Optional[str] = None") == ""


def test_choosing_for_the_cpu_imports_no_torch():
    code = (
        "import sys; from stemrack.rt import runner_choice as c; c.count_gpus = lambda: 0;"
        "print(c.choose_runner('auto', c.available)[0], c.torch_build() is None, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["cpu", "False", "False"]


def test_auto_takes_cuda_where_there_is_one():
    assert choose_runner("auto", lambda: GPU) == ("cuda", "an NVIDIA GPU")
    assert choose_runner("auto", lambda: NO_GPU) == ("cpu", "there is no NVIDIA driver")
    assert choose_runner("cuda", lambda: GPU) == ("cuda", "asked for; an NVIDIA GPU")


def test_what_is_asked_for_stays_and_asks_the_machine_nothing():
    for name in ("cpu", "int8-cpu", "onnx-cpu", "torch-cpu"):
        assert choose_runner(name, lambda: pytest.fail("asked")) == (name, "asked for")


def test_cuda_that_cannot_be_used_is_refused():
    with pytest.raises(ConfigError, match="there is no NVIDIA driver; --runner auto"):
        choose_runner("cuda", lambda: NO_GPU)


SAID = "stemrack.models.runners.torch_cuda.CudaError: CUDA failed (an illegal memory access)"


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_a_failure_of_cuda_moves_to_the_cpu_and_stays_there(asked: str):
    plan = RunnerPlan(asked)
    assert plan.next_runner == asked
    after = plan.after_failure(ran="cuda", said=SAID)
    assert (after.next_runner, after.gave_up) == ("cpu", SAID)
    assert plan.next_runner == asked
    assert after.after_failure(ran="cpu", said="ValueError: other", in_a_row=2) == after


def test_a_hang_on_the_gpu_moves_at_once_and_a_death_the_second_time():
    plan = RunnerPlan("auto")
    assert "hung" in plan.after_failure(ran="cuda", said="", hung=True).gave_up
    once = plan.after_failure(ran="cuda", said="", in_a_row=1)  # killed by somebody: CUDA may be well
    assert once.next_runner == "auto"
    assert "2 times" in once.after_failure(ran="cuda", said="", in_a_row=2).gave_up


def test_a_worker_that_dies_before_it_has_chosen_is_taken_to_die_of_cuda():
    assert RunnerPlan("auto").after_failure(ran="", said="", hung=True).next_runner == "cpu"
    assert RunnerPlan("cuda").after_failure(ran="", said="", in_a_row=2).next_runner == "cpu"


@pytest.mark.parametrize("ran", ["cpu", "onnx-cpu"])
def test_deaths_on_the_cpu_change_nothing(ran: str):
    asked = "auto" if ran == "cpu" else ran
    plan = RunnerPlan(asked)
    for said, hung, in_a_row in (("RuntimeError: x", False, 1), ("", True, 3), ("", False, 4)):
        assert plan.after_failure(ran=ran, said=said, hung=hung, in_a_row=in_a_row) == plan
