"""What a bundle's graph must take and give: names, types and shapes, told apart without running it."""

import numpy as np
import onnx
import pytest
from bundle_files import GraphBuilder, write_manifest
from onnx import TensorProto, helper

from stemrack.models.bundle_graph import read_graph, states_of
from stemrack.models.errors import ModelError, SpecError, WeightsError
from stemrack.models.streaming_bundle import read_manifest


def states(folder, builder, **changed):
    builder.save(folder / "model.onnx")
    manifest = read_manifest(write_manifest(folder, 128, 64, **changed))
    return states_of(manifest, read_graph(manifest))


def test_states_are_taken_from_the_graph_by_their_names(tmp_path):
    found = states(tmp_path, GraphBuilder(128, n_more=7))
    assert [(s.input, s.output) for s in found][:2] == [
        ("past_audio", "next_past_audio"),
        ("fusion_0", "next_fusion_0"),
    ]
    assert len(found) == 8
    assert found[0].shape == (1, 2, 64)


def test_constants_that_are_listed_as_inputs_are_no_states(tmp_path):
    builder = GraphBuilder(128)
    builder.inputs.append(helper.make_tensor_value_info("half", TensorProto.FLOAT, []))
    assert len(states(tmp_path, builder)) == 2


def test_a_state_without_its_output_is_refused(tmp_path):
    builder = GraphBuilder(128)
    builder.outputs = [v for v in builder.outputs if v.name != "next_fusion_0"]
    with pytest.raises(SpecError, match="no output 'next_fusion_0'"):
        states(tmp_path, builder)


def test_a_state_that_the_manifest_forgets_is_refused(tmp_path):
    one = '[[states]]\ninput = "past_audio"\nshape = [1, 2, 64]\n'
    with pytest.raises(SpecError, match=r"fusion_0, next_fusion_0, named as no state"):
        states(tmp_path, GraphBuilder(128), more=one)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('input = "past"\nshape = [1, 2, 64]\n', "has no 'past'"),
        ('input = "past_audio"\noutput = "later"\nshape = [1, 2, 64]\n', "has no 'later'"),
        ('input = "past_audio"\nshape = [1, 2, 65]\n', r"shape \(1, 2, 64\), not \[1, 2, 65\]"),
        ('input = "past_audio"\nshape = [128]\n', r"shape \(1, 2, 64\), not \[128\]"),
    ],
)
def test_a_state_that_differs_from_the_manifest_is_refused(tmp_path, table, told):
    with pytest.raises(SpecError, match=told):
        states(tmp_path, GraphBuilder(128, n_more=0), more=f"[[states]]\n{table}")


@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_states_of_another_type_are_refused(tmp_path, dtype):
    builder = GraphBuilder(128)
    builder.state("counter", [1], dtype)
    with pytest.raises(ModelError, match="only float32 can run"):
        states(tmp_path, builder)


@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_sound_of_another_type_is_refused(tmp_path, where):
    builder = GraphBuilder(128)
    arrays = getattr(builder, where)
    shape = [d.dim_value for d in arrays[0].type.tensor_type.shape.dim]
    arrays[0] = helper.make_tensor_value_info(arrays[0].name, TensorProto.DOUBLE, shape)
    with pytest.raises(ModelError, match="is DOUBLE: only float32"):
        states(tmp_path, builder)


def test_an_open_state_is_refused_and_open_time_is_not(tmp_path):
    builder = GraphBuilder(128)
    builder.inputs[0] = helper.make_tensor_value_info("audio_chunk", TensorProto.FLOAT, ["batch", 2, "time"])
    assert len(states(tmp_path, builder)) == 2
    builder = GraphBuilder(128)
    builder.inputs[1] = helper.make_tensor_value_info("past_audio", TensorProto.FLOAT, ["batch", 2, 64])
    with pytest.raises(SpecError, match=r"open shape \(open, 2, 64\)"):
        states(tmp_path, builder)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"input": '"sound"'}, "no input 'sound': it has audio_chunk"),
        ({"output": '"stems"'}, "no output 'stems'"),
        ({"hop": 256}, r"input 'audio_chunk' has shape \(1, 2, 128\), not \(1, 2, 256\)"),
        ({"stems": '["vocals", "drums"]'}, r"output 'separated_chunk' has shape \(1, 4, 2, 128\)"),
    ],
)
def test_sound_that_differs_from_the_manifest_is_refused(tmp_path, changed, told):
    with pytest.raises(SpecError, match=told):
        states(tmp_path, GraphBuilder(128), **changed)


@pytest.mark.parametrize("content", [b"no graph", b"\x0a\xff\x01cut"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    manifest = read_manifest(write_manifest(tmp_path, 128, 64))
    with pytest.raises(WeightsError, match="cannot be read as an ONNX model"):
        read_graph(manifest)


@pytest.mark.parametrize("inside", ["graph", "branch"])
def test_weights_in_another_file_are_refused(tmp_path, inside):
    tensor = TensorProto(name="far", dims=[1], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    builder = GraphBuilder(128)
    if inside == "graph":
        builder.constants.append(tensor)
    else:
        value = helper.make_tensor_value_info("far", TensorProto.FLOAT, [1])
        branch = helper.make_graph([], "branch", [], [value], [tensor])
        builder.constant("always", np.array(True))
        builder.node("If", ["always"], "unused", then_branch=branch, else_branch=branch)
    path = tmp_path / "model.onnx"
    builder.node("Identity", [builder.last], "separated_chunk")
    graph = helper.make_graph(builder.nodes, "g", builder.inputs, builder.outputs, builder.constants)
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx.load(str(path), load_external_data=False).graph.node
    with pytest.raises(WeightsError, match="external_data=False"):
        read_graph(read_manifest(write_manifest(tmp_path, 128, 64)))
