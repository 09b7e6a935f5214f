"""Streaming bundles on disk, built for tests: delays and gains in the shape of public causal networks."""

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GAINS = (0.4, 0.3, 0.2, 0.1)
"""Of drums, bass, vocals, other, in the graph's order."""


class GraphBuilder:
    """A graph that delays the mixture and splits it by fixed gains; more states go round beside it."""

    def __init__(self, hop, delay=64, n_more=1, gains=GAINS, first="past_audio"):
        self.hop, self.delay, self.gains, self.first = hop, delay, gains, first
        self.nodes, self.constants = [], []
        self.inputs = [helper.make_tensor_value_info("audio_chunk", TensorProto.FLOAT, [1, 2, hop])]
        shape = [1, len(gains), 2, hop]
        self.outputs = [helper.make_tensor_value_info("separated_chunk", TensorProto.FLOAT, shape)]
        self.state(first, [1, 2, delay])
        self.node("Concat", [first, "audio_chunk"], "line", axis=2)
        self.cut("line", 0, hop, "late")
        self.cut("line", hop, hop + delay, f"next_{first}")
        self.constant("gains", np.array(gains, np.float32).reshape(1, -1, 1, 1))
        self.constant("axis", np.array([1]))
        self.node("Unsqueeze", ["late", "axis"], "spread")
        self.node("Mul", ["spread", "gains"], "split")
        self.constant("half", np.float32(0.5))
        total = "split"
        for i in range(n_more):  # leaky sums of loudness, which turn the gains by less than one in a hundred
            name = f"fusion_{i}"
            self.state(name, [1, 1, 2])
            self.node("Mul", [name, "half"], f"{name}_old")
            self.node("ReduceMax", ["late"], f"{name}_peak", axes=[2], keepdims=1)
            self.node("Tanh", [f"{name}_peak"], f"{name}_small")
            self.node("Transpose", [f"{name}_small"], f"{name}_row", perm=[0, 2, 1])
            self.node("Mul", [f"{name}_row", "half"], f"{name}_new")
            self.node("Add", [f"{name}_old", f"{name}_new"], f"next_{name}")
            total = self._turned(total, name)
        self.last = total

    def _turned(self, total, name):
        self.constant(f"{name}_weight", np.float32(0.01))
        self.constant(f"{name}_shape", np.array([1, 1, 2, 1]))
        self.node("Reshape", [f"next_{name}", f"{name}_shape"], f"{name}_column")
        self.node("Mul", [f"{name}_column", f"{name}_weight"], f"{name}_share")
        self.node("Mul", [total, f"{name}_share"], f"{name}_part")
        self.node("Add", [total, f"{name}_part"], f"{name}_turned")
        return f"{name}_turned"

    def node(self, kind, inputs, output, **attributes):
        """Add a node with one output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def constant(self, name, value):
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))

    def cut(self, name, start, stop, output):
        """Add a slice of time."""
        for part, value in (("start", start), ("stop", stop), ("axes", 2)):
            self.constant(f"{output}_{part}", np.array([value]))
        self.node("Slice", [name, *(f"{output}_{part}" for part in ("start", "stop", "axes"))], output)

    def state(self, name, shape, dtype=TensorProto.FLOAT):
        """Add an input and its output."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        self.outputs.append(helper.make_tensor_value_info(f"next_{name}", dtype, shape))

    def save(self, path):
        """Write the graph; its last node gives the stems."""
        self.node("Identity", [self.last], "separated_chunk")
        graph = helper.make_graph(self.nodes, "bundle", self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)


def write_manifest(folder, hop, latency_samples, /, name="little", more="", **changed):
    """Write the manifest of folder/model.onnx and return its path; `changed` keys are TOML values."""
    sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    keys = {
        "name": f'"{name}"',
        "file": '"model.onnx"',
        "sha256": f'"{sha256}"',
        "hop": hop,
        "latency_samples": latency_samples,
        "licence": '"MIT"',
        "url": '"https://example.org/model.onnx"',
    } | changed
    path = folder / f"{name}.bundle.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()) + more)
    return path


def write_bundle(folder, hop=128, delay=64, n_more=1, gains=GAINS, **changed):
    """Write a bundle below a folder and return its manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    GraphBuilder(hop, delay, n_more, gains).save(folder / "model.onnx")
    return write_manifest(folder, hop, delay, **changed)
