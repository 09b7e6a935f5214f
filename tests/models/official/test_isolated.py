"""The process of its own: foreign code does not run, and time, memory and crashes stay in it."""

import io
import os
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from published_files import randomise, shell

from stemrack.models.errors import WeightsError
from stemrack.models.network_configs import XumxConfig
from stemrack.models.official import isolated
from stemrack.models.official.catalogue import Kind
from stemrack.models.official.isolated import Bounds, convert
from stemrack.models.official.tensor_files import read_tensors
from stemrack.models.xumx import Xumx


class RunsCode:
    """Writes a file wherever it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def small_tensors():
    return dict(
        randomise(Xumx(XumxConfig(n_in_bins=20, n_out_bins=33, hidden=8, n_layers=1)), 1).state_dict()
    )


def test_converts_in_another_process(tmp_path):
    tensors = small_tensors()
    torch.save(OrderedDict(tensors), tmp_path / "a.pth")
    answer = convert(Kind.xumx, {"": tmp_path / "a.pth"}, tmp_path / "a.safetensors")
    assert (answer["form"], answer["architecture"]["hidden"]) == ("state dict", 8)
    found = read_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in found.items())
    assert len(found) == answer["tensors"] == len([v for v in tensors.values() if v.is_floating_point()])


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_does_not_run(tmp_path, legacy):
    content = small_tensors() | {"hook": RunsCode(tmp_path / "ran")}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"a\.pth holds more than tensors, which is not read .*mkdir"):
        convert(Kind.xumx, {"": tmp_path / "a.pth"}, tmp_path / "a.safetensors")
    assert not (tmp_path / "ran").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file of this test carries no code"


class Endless(torch.nn.Module):
    """A scripted module that never finishes loading."""

    def __init__(self):
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(1))

    @torch.jit.export
    def __getstate__(self):
        return (self.x, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.x = state[0]
        self.training = state[1]
        n = 0
        while n >= 0:
            n = (n + 1) % 1_000_003

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.x


def script(module, path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    path.write_bytes(buffer.getvalue())


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_never_loads_is_given_up(tmp_path):
    script(Endless(), tmp_path / "a.pth")
    files = {"": tmp_path / "a.pth"}
    with pytest.raises(WeightsError, match=r"a\.pth: not converted within 2 s"):
        convert(Kind.xumx, files, tmp_path / "a.safetensors", Bounds(time_s=2.0))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of processor time")
@pytest.mark.filterwarnings("ignore")
def test_processor_time_is_bounded(tmp_path):
    script(Endless(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"was lost \(exit code -({signal.SIGKILL:d}|{signal.SIGXCPU:d})"):
        convert(Kind.xumx, {"": tmp_path / "a.pth"}, tmp_path / "a.safetensors", Bounds(cpu_s=2))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts allocations on Linux alone")
@pytest.mark.filterwarnings("ignore")
def test_memory_is_bounded(tmp_path):
    script(shell(small_tensors() | {"many": torch.zeros(60_000_000)}), tmp_path / "a.pth")
    bounds = Bounds(memory_bytes=-5 * (tmp_path / "a.pth").stat().st_size)
    with pytest.raises(WeightsError, match=r"memory|was lost"):
        convert(Kind.xumx, {"": tmp_path / "a.pth"}, tmp_path / "a.safetensors", bounds)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: No such file"):
        convert(Kind.xumx, {"": tmp_path / "none.pth"}, tmp_path / "out")


def answering(monkeypatch, code):
    """Put a child of one's own in the place of the conversion: what it does with its order is `code`."""

    def run(command, **options):
        return subprocess_run(
            [sys.executable, "-c", f"import json, sys\norder = json.load(sys.stdin)\n{code}"], **options
        )

    subprocess_run = subprocess.run
    monkeypatch.setattr(isolated.subprocess, "run", run)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("open(order['answer'], 'w').write('{')", "was lost .exit code 0: it said nothing"),
        ("open(order['answer'], 'w').write('[' * 100_000)", "was lost"),
        ("open(order['answer'], 'w').write('[1]')", "was lost"),
        ("open(order['answer'], 'w').write('{\"form\": 1}')", "was lost"),
        ("print('bad \\x1b[2J news'); sys.exit(3)", r"exit code 3: bad  \[2J news"),
        ("json.dump({'error': 'no\\x1b]0;\\nway'}, open(order['answer'], 'w'))", r"^no \]0; way$"),
        (
            "json.dump({'form': '', 'architecture': {}, 'tensors': 1, 'left_out': []},"
            " open(order['answer'], 'w'))",
            "the conversion wrote nothing",
        ),
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(tmp_path, monkeypatch, code, words):
    (tmp_path / "a.pth").write_bytes(b"x")
    answering(monkeypatch, code)
    with pytest.raises(WeightsError, match=words):
        convert(Kind.xumx, {"": tmp_path / "a.pth"}, tmp_path / "out")


def test_the_child_sees_little_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setenv("STEMRACK_TOKEN", "secret")
    answering(monkeypatch, "import os; print(sorted(os.environ), os.getcwd()); sys.exit(1)")
    with pytest.raises(WeightsError) as caught:
        convert(Kind.xumx, {"": tmp_path / "a.pth"}, tmp_path / "out")
    assert "OMP_NUM_THREADS" in str(caught.value)
    assert "STEMRACK" not in str(caught.value)
    assert "HOME" not in str(caught.value)
    assert str(Path.cwd()) not in str(caught.value)
