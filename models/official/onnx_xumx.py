"""X-UMX as an ONNX graph: weights taken out by the graph's structure, then proved by running both.

An exporter may fold a batch normalisation into the convolution before it, and gives folded values new
names, so nothing is found by name: convolutions and recurrences are found in the order in which they
run, and what scales the input and the output by which nodes stand before and after them. A guess that is
wrong cannot pass, because the outputs of the graph and of our network are compared.

ONNX keeps the gates of an LSTM as input, output, forget, cell; torch as input, forget, cell, output.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)

from ..errors import WeightsError
from ..stems import N_STEMS, STEMS

EPS = 1e-5
"""Of torch's batch normalisation: a folded one is written as one that only adds."""
TOLERANCE = 1e-4
"""Of the comparison, relative to the largest mask: other orders of summation in float32."""
TRIED_FRAMES = 9
REFUSALS = (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
    RuntimeError,
    ValueError,
    IndexError,
)
"""What ONNX Runtime raises, whose errors have no base of their own, and its Python layer."""
MOVERS = {"Identity", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice", "Concat"}
"""Operators that move values and do not change them."""
DEEPEST = 16
"""Operators in a row that are looked through."""


class _Graph:
    """An ONNX graph with its constants as arrays."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.opsets = {given.domain: given.version for given in model.opset_import}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.constants: dict[str, np.ndarray] = {}
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise WeightsError("keeps its weights in another file, which is not read")
            self.constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)

    def constant(self, name: str, depth: int = 0) -> np.ndarray | None:
        """Return the values of a name, through operators that only move them; None if they vary."""
        node = self.maker.get(name)
        if name not in self.constants and node is not None and node.op_type in MOVERS and depth < DEEPEST:
            values = [self.constant(given, depth + 1) if given else None for given in node.input]
            if all(value is not None or not given for value, given in zip(values, node.input, strict=True)):
                run = ReferenceEvaluator(node, opsets=self.opsets)
                feeds = {given: value for given, value in zip(node.input, values, strict=True) if given}
                self.constants[name] = np.asarray(next(iter(run.run(None, feeds))))
        return self.constants.get(name)

    def known(self, names: Iterable[str]) -> list[np.ndarray]:
        """Return those of the names that are constant."""
        return [value for value in map(self.constant, names) if value is not None]


def read_onnx(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in our layout; the graph and our network gave the same masks.

    Raises: WeightsError when the graph is not an X-UMX that is understood.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        graph = _Graph(model)
        arrays = _affine(graph) | _recurrent(graph)
    except (DecodeError, RuntimeError, ValueError, TypeError, LookupError, OSError) as error:
        raise WeightsError(f"cannot be read as an ONNX model ({error})") from error
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for name, v in arrays.items()
    }
    _prove(path, tensors)
    return tensors


def _affine(graph: _Graph) -> dict[str, np.ndarray]:
    convs = [i for i, node in enumerate(graph.nodes) if node.op_type == "Conv"]
    if len(convs) != 3:
        raise WeightsError(f"an X-UMX has 3 convolutions, this graph {len(convs)}: not understood")
    result: dict[str, np.ndarray] = {}
    for index, ours in zip(
        convs,
        (("affine1.0", "affine1.1"), ("affine2.0", "affine2.1"), ("affine2.3", "affine2.4")),
        strict=True,
    ):
        node = graph.nodes[index]
        values = graph.known(node.input[1:])
        if not values or len(values) < len(node.input) - 1 or values[0].ndim != 3 or values[0].shape[2] != 1:
            raise WeightsError("a convolution of the graph is none of X-UMX: not understood")
        result[f"{ours[0]}.weight"] = values[0]
        norm = _normalisation(graph, node.output[0])
        if norm is None:
            norm = _added(values[1] if len(values) > 1 else np.zeros(values[0].shape[0]))
        elif len(values) > 1:
            norm["running_mean"] = norm["running_mean"] - values[1]
        result |= {f"{ours[1]}.{part}": value for part, value in norm.items()}
    n_in = result["affine1.0.weight"].shape[1]
    result |= _scaling(graph, graph.nodes[: convs[0]], "input", n_in)
    result |= _scaling(
        graph, graph.nodes[convs[-1] + 1 :], "output", result["affine2.3.weight"].shape[0] // N_STEMS
    )
    return result


def _normalisation(graph: _Graph, name: str) -> dict[str, np.ndarray] | None:
    """Return the batch normalisation that takes `name`, if one does, with torch's own epsilon."""
    for node in graph.nodes:
        if node.op_type == "BatchNormalization" and node.input[0] == name:
            values = graph.known(node.input[1:5])
            if len(values) != 4:
                raise WeightsError("a normalisation of the graph varies: not understood")
            eps = next((a.f for a in node.attribute if a.name == "epsilon"), EPS)
            weight, bias, mean, variance = (np.asarray(v, dtype=np.float64) for v in values)
            return {
                "weight": weight,
                "bias": bias,
                "running_mean": mean,
                "running_var": variance + (eps - EPS),
            }
    return None


def _added(bias: np.ndarray) -> dict[str, np.ndarray]:
    """Return a batch normalisation that only adds: what is left of one that was folded."""
    ones = np.ones(bias.shape[0])
    return {"weight": ones, "bias": bias, "running_mean": 0.0 * ones, "running_var": (1.0 - EPS) * ones}


def _scaling(graph: _Graph, nodes: list[onnx.NodeProto], which: str, n: int) -> dict[str, np.ndarray]:
    """Return means and scale: what is added and multiplied to all stems' bins by `nodes`.

    The bins are those of one channel, so their number divides `n`, the values per stem.
    """
    found: dict[str, np.ndarray] = {}
    for node in nodes:
        if node.op_type in ("Add", "Mul"):
            values = graph.known(node.input)
            if len(values) == 1 and values[0].size > N_STEMS and N_STEMS * n % values[0].size == 0:
                found.setdefault(node.op_type, values[0].reshape(-1))
    if (
        found.keys() != {"Add", "Mul"}
        or found["Add"].size != found["Mul"].size
        or found["Add"].size % N_STEMS
    ):
        raise WeightsError(f"the {which} of the graph is not scaled per stem and bin: not understood")
    return {f"{which}_means": found["Add"], f"{which}_scale": found["Mul"]}


def _recurrent(graph: _Graph) -> dict[str, np.ndarray]:
    """Return the stacks; which stem has which does not matter, because their outputs are averaged."""
    layers = [node for node in graph.nodes if node.op_type == "LSTM"]
    stacks: list[list[onnx.NodeProto]] = []
    for node in layers:
        before = _lstm_before(graph, node.input[0])
        for stack in stacks:
            if before is not None and stack[-1].output[0] == before.output[0]:
                stack.append(node)
                break
        else:
            stacks.append([node])
    if len(stacks) != N_STEMS or len({len(stack) for stack in stacks}) != 1:
        raise WeightsError(f"an X-UMX has {N_STEMS} equal stacks of LSTMs: this graph is not understood")
    result: dict[str, np.ndarray] = {}
    for stem, stack in zip(STEMS, stacks, strict=True):
        for index, node in enumerate(stack):
            result |= _lstm(graph, node, f"{stem}_lstm.", index)
    return result


def _lstm_before(graph: _Graph, name: str) -> onnx.NodeProto | None:
    """Return the LSTM whose output comes to `name` through changes of shape alone."""
    for _ in range(DEEPEST):
        node = graph.maker.get(name)
        if node is None or node.op_type == "LSTM":
            return node
        if node.op_type not in MOVERS:
            return None
        name = node.input[0]
    return None


def _lstm(graph: _Graph, node: onnx.NodeProto, prefix: str, index: int) -> dict[str, np.ndarray]:
    values = graph.known(node.input[1:4])
    if [value.ndim for value in values] != [3, 3, 2]:
        raise WeightsError("an LSTM of the graph has no constant weights and biases: not understood")
    weights, recurrent, biases = values
    if weights.shape[0] not in (1, 2):
        raise WeightsError(f"an LSTM of the graph has {weights.shape[0]} directions: not understood")
    result = {}
    for direction, end in zip(range(weights.shape[0]), ("", "_reverse"), strict=False):
        input_bias, hidden_bias = np.split(biases[direction], 2)
        for kind, value in (
            ("weight_ih", weights[direction]),
            ("weight_hh", recurrent[direction]),
            ("bias_ih", input_bias),
            ("bias_hh", hidden_bias),
        ):
            i, o, f, c = np.split(value, 4)
            result[f"{prefix}{kind}_l{index}{end}"] = np.concatenate([i, f, c, o])
    return result


def _prove(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Raise WeightsError unless the graph and our network give the same masks for the same noise."""
    from .catalogue import Kind
    from .layouts import architecture_of, checked, fill, network_of

    sizes = architecture_of(Kind.xumx, tensors)
    network = fill(network_of(Kind.xumx, sizes), checked(Kind.xumx, tensors, sizes)[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    shape = [1, sizes["n_in_channels"], sizes["n_out_bins"], TRIED_FRAMES]
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        if len(session.get_inputs()) == 1 and isinstance(given.shape[-1], int):
            shape[-1] = min(given.shape[-1], 4096)
        noise = np.random.default_rng(1).gamma(1.0, 1.0, shape).astype(np.float32)
        theirs = np.asarray(session.run(None, {given.name: noise})[0])
    except REFUSALS as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"its graph does not run on a magnitude {tuple(shape)} ({first[:200]})") from error
    with torch.no_grad():
        ours = network(torch.from_numpy(noise[:, :, : sizes["n_in_bins"]])).numpy()
    if theirs.shape != ours.shape:
        raise WeightsError(f"its graph gives masks {theirs.shape}, an X-UMX gives {ours.shape}")
    difference = float(np.abs(theirs - ours).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        raise WeightsError(
            f"its graph and an X-UMX with its weights give masks that differ by {difference:.2g}: "
            "this graph is not understood; import the TorchScript file instead"
        )
