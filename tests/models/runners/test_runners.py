"""Runners: ONNX Runtime agrees with torch, hop by hop and in pieces, and phases keep their turns."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_profile import write_small_profile

from stemrack.models.bundles import load_network
from stemrack.models.errors import ModelError
from stemrack.models.layers import Interleaved
from stemrack.models.runners.exported import INT8, exported
from stemrack.models.runners.int8_cpu import Int8CpuRunner, load_packed, quantised
from stemrack.models.runners.int8_export import packed
from stemrack.models.runners.interleaved import InterleavedRunner
from stemrack.models.runners.onnx_cpu import OnnxCpuRunner
from stemrack.models.runners.step_graph import XumxStep
from stemrack.models.runners.torch_cpu import TorchCpuRunner


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    return write_small_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def network(files):
    profile, _, weights = files
    return load_network(profile.member("xumx"), weights)


@pytest.fixture(scope="module")
def graph(files) -> Path:
    _, toml, weights = files
    return exported(str(toml), "xumx", weights)


def _features(network, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((k, network.config.n_in_bins)).astype(np.float32)


def test_torch_runner_is_the_network(network):
    runner = TorchCpuRunner(network)
    features = _features(network, 9)
    state = runner.init_state()
    parts = [
        runner.step(features[:4], state),
        runner.step(features[4:5], state),
        runner.step(features[5:], state),
    ]
    with torch.no_grad():
        whole = network(torch.from_numpy(features.T.copy())[None, None])[0].transpose(-1, -2).numpy()
    np.testing.assert_allclose(np.concatenate(parts, axis=2), whole, atol=1e-6)


def test_onnx_agrees_with_torch_over_many_hops(network, graph):
    reference, runner = TorchCpuRunner(network), OnnxCpuRunner([graph])
    state, own = reference.init_state(), runner.init_state()
    worst = 0.0
    for k in [1] * 300 + [16, 1, 7, 64, 1]:
        features = _features(network, k, seed=k)
        worst = max(worst, float(np.abs(runner.step(features, own) - reference.step(features, state)).max()))
    assert worst < 2e-6


def test_int8_is_the_network_with_rounded_weights(network):
    """The rounded weights put back into the network give the runner's masks."""
    step = XumxStep(copy.deepcopy(network))
    rounded = packed(step)
    runner = Int8CpuRunner(rounded)
    with torch.no_grad():
        for name in ("encode", "cross", "head"):
            w, scale = getattr(rounded, name), getattr(rounded, f"{name}_scale")
            getattr(step, f"{name}_weight").copy_(torch.from_numpy(w * scale[..., None, :]))
        for s, stack in enumerate(step.network.stacks):
            for layer in range(network.config.n_layers):
                for ours, theirs in (("inward", "weight_ih"), ("again", "weight_hh")):
                    w = getattr(rounded, ours)[s, layer] * getattr(rounded, f"{ours}_scale")[s, layer]
                    stack.get_parameter(f"{theirs}_l{layer}").copy_(torch.from_numpy(w.T.copy()))
    state, hidden = runner.init_state(), [*step.initial()]
    worst = 0.0
    for k in [1] * 300 + [16, 1]:
        features = _features(network, k, seed=k)
        with torch.no_grad():
            masks, *hidden = step(torch.from_numpy(features), *hidden)
        worst = max(worst, float(np.abs(runner.step(features, state) - masks.numpy()).max()))
    assert worst < 5e-6


def test_int8_states_are_independent(network):
    runner = Int8CpuRunner(packed(XumxStep(network)))
    a, b = runner.init_state(), runner.init_state()
    first = runner.step(_features(network, 1, 1), a).copy()
    runner.step(_features(network, 1, 2), a)
    np.testing.assert_array_equal(runner.step(_features(network, 1, 1), b), first)


def test_rounding_is_to_the_nearest_of_255_values():
    weight = np.random.default_rng(0).standard_normal((3, 50, 20)).astype(np.float32)
    weight[1, :, 4] = 0.0
    w, scale = quantised(weight)
    assert w.dtype == np.int8
    assert np.abs(w).max(axis=1).tolist() == [[127] * 20, [127] * 4 + [0] + [127] * 15, [127] * 20]
    assert (np.abs(w * scale[:, None] - weight) <= 0.5001 * scale[:, None]).all()


def test_a_packed_file_is_made_once_and_a_broken_one_is_said(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, toml, weights = files
    path = exported(str(toml), "xumx", weights, INT8)
    assert load_packed(path).inward.dtype == np.int8
    assert exported(str(toml), "xumx", weights, INT8) == path
    path.write_bytes(b"broken")
    with pytest.raises(ModelError, match="is no packed network: delete it"):
        load_packed(path)


def test_onnx_states_are_independent_and_deterministic(network, graph):
    runner = OnnxCpuRunner([graph])
    a, b = runner.init_state(), runner.init_state()
    first = runner.step(_features(network, 1, 1), a).copy()
    runner.step(_features(network, 1, 2), a)
    np.testing.assert_array_equal(runner.step(_features(network, 1, 1), b), first)


def test_phases_take_turns_whatever_the_pieces(network):
    features = _features(network, 23)
    runner = InterleavedRunner(TorchCpuRunner(network), 3)
    with torch.no_grad():
        whole = Interleaved(network, 3)(torch.from_numpy(features.T.copy())[None, None])[0]
    state, parts, start = runner.init_state(), [], 0
    for k in (1, 1, 2, 5, 1, 6, 7):
        parts.append(runner.step(features[start : start + k], state).copy())
        start += k
    np.testing.assert_allclose(np.concatenate(parts, axis=2), whole.transpose(-1, -2).numpy(), atol=1e-6)


def test_the_graph_leaves_the_number_of_frames_open(graph):
    model = onnx.load(graph)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert model.graph.output[0].type.tensor_type.shape.dim[2].dim_param
    assert sum(node.op_type == "LSTM" for node in model.graph.node) == 8


def test_a_file_that_is_no_graph_is_said(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="no ONNX graph"):
        OnnxCpuRunner([path])


def test_what_the_export_says_is_passed_on(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, toml, _ = files
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"export of damaged\.safetensors \(onnx\) failed.*cannot be read"):
        exported(str(toml), "xumx", damaged)
    assert not list((tmp_path / "stemrack" / "onnx").glob("*.onnx"))
