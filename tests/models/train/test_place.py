"""Places: what is not there is said, and two processes train one network."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_profile import write_small_profile

from stemrack.models.errors import SpecError
from stemrack.models.train.place import SINGLE, find_place
from stemrack.models.train.shards import write_shard


def test_one_process_in_single_precision_needs_no_fabric(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    place = find_place("cpu", SINGLE)
    assert (place.device.type, place.rank, place.n_ranks, place.fabric) == ("cpu", 0, 1, None)
    with pytest.raises(SpecError, match="lightning-fabric"):
        find_place("cpu", "bf16-mixed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA: nothing to refuse")
def test_a_missing_device_is_said():
    with pytest.raises(SpecError, match="no CUDA device"):
        find_place("cuda", SINGLE)


def test_fabric_gives_the_gradients_of_plain_torch():
    x = torch.randn(3, 4)
    gradients = []
    for precision in (SINGLE, "64-true"):
        torch.manual_seed(0)
        network = torch.nn.Linear(4, 2)
        place = find_place("cpu", precision)
        called, _ = place.set_up(network, torch.optim.SGD(network.parameters(), lr=0.1))
        place.backward(called(x.double() if place.fabric else x).square().sum())
        gradients.append(network.weight.grad.float())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_torchrun_trains_in_two_processes(tmp_path: Path):
    """Takes about ten seconds: two interpreters import torch."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        stems = {
            n: 0.1 * rng.standard_normal((2, 40_000)).astype(np.float32) for n in ("drums", "bass", "other")
        }
        write_shard(tmp_path / "shards", f"s{split}", stems, pool="songs", split=split, sources=("a",))
        voice = {"vocals": 0.1 * rng.standard_normal((2, 40_000)).astype(np.float32)}
        write_shard(tmp_path / "shards", f"v{split}", voice, pool="voices", split=split, sources=("b",))
    toml = write_small_profile(tmp_path)[1]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29611",
    ]
    command += ["-m", "stemrack.models.train.fit", "--shards", str(tmp_path / "shards")]
    command += ["--out", str(tmp_path / "run"), "--profile", str(toml), "--steps", "4", "--batch", "2"]
    command += ["--seconds", "0.3", "--validate-steps", "4", "--device", "cpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert sum(row.startswith("train") for row in rows) == 4, "one process writes, not two"
    assert json.loads((tmp_path / "run" / "best.json").read_text())["steps"] == 4
    assert all(np.isfinite(v).all() for v in load_file(tmp_path / "run" / "best.safetensors").values())
