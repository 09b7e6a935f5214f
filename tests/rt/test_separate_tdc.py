"""The profile `acapella`: equal to the published procedure frame by frame, and a stream like any other."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import signals
import torch
from contract import check_streaming

from stemrack.models import tdc
from stemrack.models.errors import ModelError, WeightsError
from stemrack.models.official.tensor_files import write_tensors
from stemrack.models.runners import exported, tdc_export
from stemrack.models.runners.tdc_export import load_tdc_network
from stemrack.models.stems import STEMS
from stemrack.models.tdc import TdcVocals
from stemrack.rt.errors import ConfigError
from stemrack.rt.separate_tdc import TdcProfile, TdcSeparator, TorchFrames, load_tdc_separator

HOP = 1024
PUBLISHED = os.environ.get("STEMRACK_TDC_WEIGHTS")


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A file for a network of fewer levels, which the module then stands for; exports run in this process.

    A full one takes minutes to export where processors are busy.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tdc, "N_LEVELS", 2)
        patch.setattr(exported, "subprocess", SimpleNamespace(run=export_here))
        torch.manual_seed(0)
        network = TdcVocals()
        for name, value in network.named_buffers():  # statistics that a normalisation cannot hide behind
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            if name.endswith("running_mean"):
                value.normal_(0.0, 0.1)
        tensors = {name: v for name, v in network.state_dict().items() if v.is_floating_point()}
        path = tmp_path_factory.mktemp("tdc") / "tdc-vocals.safetensors"
        write_tensors(path, {name: value.contiguous() for name, value in tensors.items()})
        yield path


def export_here(command, **_):
    tdc_export.main(*command[3:])
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture(
    scope="module",
    params=[
        "random",
        pytest.param(
            "published",
            marks=pytest.mark.skipif(not PUBLISHED, reason="STEMRACK_TDC_WEIGHTS names no file of weights"),
        ),
    ],
)
def weights(request):
    if request.param == "published":
        return Path(str(PUBLISHED))
    return request.getfixturevalue("random_weights")


@pytest.fixture(scope="module")
def separator(weights, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_tdc_separator(weights, n_threads=1)


def vocals(y):
    return y[STEMS.index("vocals")]


def published(weights, x):
    """Vocals by the whole-signal procedure."""
    return load_tdc_network(weights).separate(torch.from_numpy(x)[None])[0].numpy()


def music(n_hops):
    x = 0.3 * signals.tone(n_hops * HOP, 0.01) + 0.2 * signals.sweep(n_hops * HOP)
    x += signals.noise(n_hops * HOP, 3, 0.05)
    x[1] *= 0.6
    return x.astype(np.float32)


class OneFrame:
    """A runner in the network's place: what it says of a frame is a function of the frame."""

    name = "none"

    def __init__(self, answer):
        self.answer = answer

    def init_state(self):
        return np.zeros(0, np.float32)

    def step(self, x, state):
        return self.answer(x)


def test_sizes():
    profile = TdcProfile()
    assert (profile.hop, profile.latency_samples) == (1024, 1024)
    assert profile.window_latency_ms == pytest.approx(46.44, abs=0.01)


def test_contract(separator: TdcSeparator):
    def hops(batch, n, rng):
        return (0.1 * rng.standard_normal((2, n))).astype(np.float32)

    check_streaming(separator, hops, n_hops=4, atol=1e-5, batched=False)


def test_steps_equal_the_published_procedure(separator, weights):
    x = music(9)
    want = published(weights, x)
    assert np.abs(want).max() > 1e-3
    y, _ = separator.step(x, separator.init_state())
    np.testing.assert_allclose(vocals(y)[:, HOP:], want[:, :-HOP], atol=1e-5)
    np.testing.assert_allclose(vocals(separator.forward(x)), want, atol=1e-5)


def test_torch_says_the_same(separator, weights):
    x = music(4)
    reference = TdcSeparator(TorchFrames(weights))
    want, _ = reference.run(x, reference.init_state())
    y, _ = separator.run(x, separator.init_state())
    np.testing.assert_allclose(y, want, atol=1e-5)


def test_the_rest_is_other_and_two_stems_are_silent(separator):
    x = music(4)
    y = separator.forward(x)
    np.testing.assert_allclose(y.sum(0), x, atol=1e-6)
    assert not y[STEMS.index("drums")].any()
    assert not y[STEMS.index("bass")].any()
    assert np.abs(y[STEMS.index("other")]).max() > 1e-3


def test_silence_gives_silence(separator):
    state = separator.init_state()
    separator.step(music(2), state)
    y, _ = separator.step(signals.silence(6 * HOP), state)
    assert not y[..., 2 * HOP :].any()


def test_framing_gives_the_mixture_back_after_the_latency():
    """With the network replaced by the identity, to rounding; halved, it is half everywhere."""
    x = music(6)
    whole = TdcSeparator(OneFrame(lambda parts: parts))
    np.testing.assert_allclose(vocals(whole.forward(x)), x, atol=1e-6)
    y, _ = whole.step(x, whole.init_state())
    np.testing.assert_allclose(vocals(y)[:, HOP:], x[:, :-HOP], atol=1e-6)
    half = TdcSeparator(OneFrame(lambda parts: 0.5 * parts))
    np.testing.assert_allclose(half.forward(x)[STEMS.index("other")], 0.5 * x, atol=1e-6)


def test_parts_are_left_and_right_real_and_imaginary():
    seen = []
    t = np.arange(4 * HOP) / 2048
    x = np.stack([np.cos(2 * np.pi * 100 * t), np.sin(2 * np.pi * 300 * t)]).astype(np.float32)
    TdcSeparator(OneFrame(lambda parts: seen.append(parts.copy()) or parts)).forward(x)
    parts = seen[2][0]  # a frame well inside, on bins 100 and 300
    assert parts.shape == (4, 1025)
    assert parts[0, 100] == pytest.approx(512, rel=1e-3)  # half the window's sum, 0.5 * 2048 / 2
    assert abs(parts[1, 100]) < 1
    assert abs(parts[2, 300]) < 1
    assert parts[3, 300] == pytest.approx(-512, rel=1e-3)


def test_stages_end_in_their_order():
    separator = TdcSeparator(OneFrame(lambda parts: parts))
    heard = []
    separator.on_stage = heard.append
    separator.step(music(2), separator.init_state())
    assert tuple(heard) == separator.stages * 2


def test_a_second_load_uses_the_cached_graph(random_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def export(command, **_):
        calls.append(command)
        Path(command[-1]).write_bytes(b"no graph")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(exported, "subprocess", SimpleNamespace(run=export))
    for _ in range(2):
        with pytest.raises(ModelError, match="no ONNX graph"):
            load_tdc_separator(random_weights)
    assert len(calls) == 1


class TestRefusals:
    def test_runner_and_batch(self, random_weights):
        with pytest.raises(ConfigError, match="acapella"):
            load_tdc_separator(random_weights, "int8-cpu")
        with pytest.raises(ConfigError, match="one stream per state"):
            TdcSeparator(OneFrame(lambda parts: parts)).init_state(2)

    @pytest.mark.parametrize("runner", ["onnx-cpu", "torch-cpu"])
    def test_no_weights(self, tmp_path, runner):
        with pytest.raises(WeightsError, match=r"none\.safetensors"):
            load_tdc_separator(tmp_path / "none.safetensors", runner)

    def test_weights_of_another_network(self, tmp_path):
        write_tensors(tmp_path / "other.safetensors", {"weight": torch.zeros(3)})
        with pytest.raises(WeightsError, match="another network's"):
            load_tdc_separator(tmp_path / "other.safetensors", "torch-cpu")

    def test_an_export_that_fails_says_why(self, tmp_path):
        """The program in a process of its own, as it is in use."""
        (tmp_path / "bad.safetensors").write_bytes(b"nothing")
        command = [sys.executable, "-m", tdc_export.__name__, str(tmp_path / "bad.safetensors"), "x.onnx"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1
        assert "cannot be read as safetensors" in done.stderr.splitlines()[-1]
        assert not (tmp_path / "x.onnx").exists()
