"""Conversion: published forms give the peers' outputs, everything else is refused with its reason."""

import io
import json
import zipfile

import pytest
import torch
from published_files import DannaXumx, asteroid_content, asteroid_xumx, open_unmix, randomise, shell

from stemrack.models.demucs import Demucs
from stemrack.models.errors import WeightsError
from stemrack.models.network_configs import DemucsConfig, XumxConfig
from stemrack.models.official.catalogue import Kind
from stemrack.models.official.convert import convert
from stemrack.models.official.layouts import fill, network_of
from stemrack.models.official.tensor_files import read_tensors
from stemrack.models.stems import STEMS
from stemrack.models.tdc import N_BINS, N_PARTS, TdcVocals
from stemrack.models.xumx import Xumx

SMALL = XumxConfig(n_in_bins=20, n_out_bins=33, hidden=8, n_layers=2)


def converted(kind, *contents, form, tmp_path):
    """Convert saved files in this process, and return the network and the answer."""
    files = {stem if len(contents) > 1 else "": tmp_path / f"{i}.pth" for i, stem in enumerate(STEMS)}
    files = dict(list(files.items())[: len(contents)]) if len(contents) > 1 else {"": tmp_path / "0.pth"}
    for path, content in zip(files.values(), contents, strict=True):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
    out = tmp_path / "out.safetensors"
    order = {"kind": kind, "files": {k: str(v) for k, v in files.items()}, "out": str(out)}
    answer = convert(order)
    assert answer["form"] == form
    return fill(network_of(Kind(kind), answer["architecture"]), read_tensors(out)), answer


def scripted(module):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def magnitude(n_bins, n_frames=11, batch=1):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, 2, n_bins, n_frames, generator=generator) * 4


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_asteroid_network_gives_asteroids_masks(tmp_path, directions):
    theirs = asteroid_xumx(nb_layers=3, bidirectional=directions == 2)
    ours, answer = converted("xumx", asteroid_content(theirs), form="asteroid pickle", tmp_path=tmp_path)
    assert (
        answer["tensors"] == 4 + 3 + 3 * 4 + 4 * 3 * directions * 4
    )  # scaling, convolutions, norms, recurrence
    assert (ours.config.n_layers, ours.config.directions, ours.config.n_out_bins) == (3, directions, 33)
    x = magnitude(33, batch=2)
    masks = theirs.forward_masker(x.permute(3, 0, 1, 2).clone())  # (source, frame, batch, channel, bin)
    order = [theirs.sources.index(stem) for stem in STEMS]
    expected = masks[order].permute(2, 0, 3, 4, 1)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x[:, :, :20]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_open_unmix_gives_openunmixs_outputs(tmp_path):
    theirs = [open_unmix(seed) for seed in range(4)]
    contents = [net.state_dict() | {"sample_rate": torch.tensor(44_100.0)} for net in theirs]
    ours, answer = converted("umx", *contents, form="state dict", tmp_path=tmp_path)
    assert answer["left_out"] == [f"{stem}.sample_rate" for stem in sorted(STEMS)]
    x = magnitude(33, batch=2)
    expected = torch.stack([net(x) for net in theirs], dim=1)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x) * x[:, None], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_onnx_graph_gives_its_own_masks(tmp_path, folded):
    theirs = randomise(DannaXumx(), 3)
    path = tmp_path / "graph.onnx"
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        theirs,
        (magnitude(33),),
        str(path),
        dynamo=False,
        training=mode,
        do_constant_folding=folded,
        input_names=["magnitude"],
        dynamic_axes={"magnitude": {3: "frame"}},
    )
    ours, _ = converted("xumx", path.read_bytes(), form="ONNX", tmp_path=tmp_path)
    x = magnitude(33, n_frames=17)
    torch.testing.assert_close(ours(x[:, :, :20]), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_torchscript_gives_the_scripted_networks_tensors(tmp_path):
    theirs = randomise(Xumx(SMALL), 1)
    data = scripted(shell(theirs.state_dict()))
    ours, answer = converted("xumx", data, form="TorchScript", tmp_path=tmp_path)
    assert answer["architecture"]["hidden"] == 8
    x = magnitude(20)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_demucs_with_its_resamplers_filters(tmp_path):
    theirs = randomise(Demucs(DemucsConfig(channels=4, depth=3)), 1)
    tensors = dict(theirs.state_dict())
    tensors["up_sample.kernel"] = tensors.get("up_sample.kernel", torch.zeros(2, 1, 53))
    tensors["down_sample.kernel"] = tensors.get("down_sample.kernel", torch.zeros(1, 1, 104))
    ours, answer = converted("demucs", scripted(shell(tensors)), form="TorchScript", tmp_path=tmp_path)
    assert (answer["architecture"]["channels"], answer["architecture"]["depth"]) == (4, 3)
    x = torch.randn(1, 2, 2_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


@torch.no_grad()
def test_tdc(tmp_path):
    theirs = randomise(TdcVocals(), 1)
    ours, answer = converted("tdc", theirs.state_dict(), form="state dict", tmp_path=tmp_path)
    assert answer["left_out"] == []
    x = torch.randn(1, N_PARTS, N_BINS, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours(x), theirs(x))


@torch.no_grad()
def test_half_precision_becomes_float32(tmp_path):
    tensors = {name: value.half() for name, value in randomise(Xumx(SMALL), 1).state_dict().items()}
    ours, _ = converted("xumx", tensors, form="state dict", tmp_path=tmp_path)
    weight = ours.get_parameter("affine1.0.weight")
    assert weight.dtype == torch.float32
    assert torch.equal(weight, tensors["affine1.0.weight"].float())


def small_tensors():
    return dict(randomise(Xumx(SMALL), 1).state_dict())


def without(name):
    tensors = small_tensors()
    del tensors[name]
    return tensors


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without("affine2.4.running_var"), "1 tensors missing, first affine2.4.running_var"),
        (without("input_means"), "'input_means' is missing or misshapen"),
        (without("drums_lstm.weight_ih_l0"), "1 tensors missing, first drums_lstm.weight_ih_l0"),
        (small_tensors() | {"extra": torch.zeros(1)}, "more than a xumx network: 1 tensors, first extra"),
        (small_tensors() | {"output_scale": torch.zeros(131)}, r"output_scale is \(131,\)"),
        (small_tensors() | {"output_scale": torch.full((132,), torch.nan)}, "output_scale holds values"),
        (small_tensors() | {"input_means": torch.zeros(0)}, "missing or misshapen"),
        (small_tensors() | {"input_means": torch.zeros(())}, "missing or misshapen"),
        ({"state_dict": small_tensors()}, "holds a dict of state_dict, not a state dict"),
        ([1, 2], "holds list, not a state dict"),
        (b"", "is no checkpoint"),
        (b"\x80\x02garbage", "cannot be read as a checkpoint|holds more than tensors"),
        (b"\x08\x07garbage", "cannot be read as an ONNX model"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"RIFF....WAVE", "is no checkpoint"),
    ],
)
def test_refuses_what_is_not_the_network(tmp_path, content, words):
    with pytest.raises(WeightsError, match=words) as caught:
        converted("xumx", content, form="", tmp_path=tmp_path)
    assert str(caught.value).startswith("0.pth ")
    assert not (tmp_path / "out.safetensors").exists()


def test_refuses_another_kind(tmp_path):
    with pytest.raises(WeightsError, match="holds no demucs network"):
        converted("demucs", small_tensors(), form="", tmp_path=tmp_path)
    with pytest.raises(WeightsError, match="holds no unet network"):
        converted("unet", small_tensors(), form="", tmp_path=tmp_path)
    with pytest.raises(WeightsError, match="Open-Unmix needs a file for each"):
        converted("umx", small_tensors(), form="", tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["model_args"].update(sources=["vocals", "rest"]), "its sources are"),
        (lambda c: c["model_args"].update(spec_power=2), "to the power 2"),
        (lambda c: c.update(model_args=7), "its sources are None"),
        (lambda c: c.update(state_dict=7), "holds int, not a state dict"),
        (lambda c: c["state_dict"].pop("mean_scale.input_mean_bass"), "input_mean_bass is missing"),
        (lambda c: c["state_dict"].update(more=torch.zeros(1)), "more than an X-UMX: 1 tensors, first more"),
        (
            lambda c: c["state_dict"].update({"layer_enc.bass.enc.0.weight": torch.zeros(8, 3)}),
            "differ in shape",
        ),
    ],
)
def test_refuses_other_asteroid_models(tmp_path, change, words):
    content = asteroid_content(asteroid_xumx())
    change(content)
    with pytest.raises(WeightsError, match=words):
        converted("xumx", content, form="", tmp_path=tmp_path)


def archive_of(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_refuses_torchscript_that_was_damaged(tmp_path):
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(scripted(shell(small_tensors())))) as honest,
        zipfile.ZipFile(packed, "w") as damaged,
    ):
        for item in honest.infolist():
            damaged.writestr(item.filename, b"" if item.filename.endswith("data.pkl") else honest.read(item))
    with pytest.raises(WeightsError, match="cannot be loaded as TorchScript"):
        converted("xumx", packed.getvalue(), form="", tmp_path=tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_refuses_a_file_that_was_cut(tmp_path, share):
    data = archive_of(small_tensors())
    with pytest.raises(WeightsError):
        converted("xumx", data[: int(share * len(data))], form="", tmp_path=tmp_path)


def test_refuses_an_archive_that_unpacks_to_much_more(tmp_path):
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive_of(small_tensors()))) as honest,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for item in honest.infolist():
            packed.writestr(item.filename, honest.read(item))
        packed.writestr("archive/data/zeros", bytes(40 << 20))
    with pytest.raises(WeightsError, match=r"unpacks from \d+ to \d+ bytes"):
        converted("xumx", bomb.getvalue(), form="", tmp_path=tmp_path)


def onnx_with(tmp_path, change):
    import onnx

    path = tmp_path / "graph.onnx"
    torch.onnx.export(
        randomise(DannaXumx(), 3), (magnitude(33),), str(path), dynamo=False, input_names=["magnitude"]
    )
    model = onnx.load(str(path))
    change(model.graph)
    return model.SerializeToString()


def drop_tanh(graph):
    next(node for node in graph.node if node.op_type == "Tanh").op_type = "Sigmoid"


def external(graph):
    from onnx import TensorProto

    graph.initializer[0].data_location = TensorProto.EXTERNAL


def no_conv(graph):
    next(node for node in graph.node if node.op_type == "Conv").op_type = "ConvInteger"


def no_lstm(graph):
    next(node for node in graph.node if node.op_type == "LSTM").op_type = "GRU"


def other_scale(graph):
    next(node for node in graph.node if node.op_type == "Mul").op_type = "Div"


def scalar_output_scale(graph):
    """Leave the last multiplication, by output_scale, without its constant."""
    last = [node for node in graph.node if node.op_type == "Mul"][-1]
    last.op_type = "Sub"


def wide_conv(graph):
    from onnx import numpy_helper

    conv = next(node for node in graph.node if node.op_type == "Conv")
    weight = next(given for given in graph.initializer if given.name == conv.input[1])
    wider = numpy_helper.to_array(weight).repeat(3, axis=2)
    weight.CopyFrom(numpy_helper.from_array(wider, weight.name))


def unreadable_input(graph):
    graph.input[0].type.tensor_type.shape.dim[2].dim_value = 77


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (scalar_output_scale, "the output of the graph is not scaled"),
        (wide_conv, "a convolution of the graph is none of X-UMX"),
        (unreadable_input, "its graph does not run on a magnitude"),
        (drop_tanh, "give masks that differ by .*not understood"),
        (external, "keeps its weights in another file"),
        (no_conv, "3 convolutions, this graph 2"),
        (no_lstm, "4 equal stacks"),
        (other_scale, "the input of the graph is not scaled"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_refuses_a_graph_that_is_not_understood(tmp_path, change, words):
    with pytest.raises(WeightsError, match=words):
        converted("xumx", onnx_with(tmp_path, change), form="", tmp_path=tmp_path)


def test_answer_is_plain_json(tmp_path):
    _, answer = converted("xumx", small_tensors(), form="state dict", tmp_path=tmp_path)
    assert json.loads(json.dumps(answer)) == answer
