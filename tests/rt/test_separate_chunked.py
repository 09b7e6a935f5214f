"""`studio` and `offline`: small networks of the published kinds, through the host's own pipeline."""

import numpy as np
import pytest
import torch
from contract import check_streaming

from stemrack.models.blend import blend_table
from stemrack.models.chunked_profile import ChunkedProfile, load_chunked_profile
from stemrack.models.demucs import Demucs
from stemrack.models.errors import ModelError, SpecError
from stemrack.models.network_configs import DemucsConfig, XumxConfig
from stemrack.models.xumx import Xumx
from stemrack.rt.errors import ConfigError
from stemrack.rt.pipeline import Pipeline
from stemrack.rt.profile_kinds import find_files, profile_facts
from stemrack.rt.separate import load_separator
from stemrack.rt.separate_chunked import ChunkedSeparator, WholeSeparator

HOP = 8192


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(3)
    xumx = Xumx(XumxConfig(hidden=8, n_layers=1))
    demucs = Demucs(DemucsConfig(channels=4, depth=6, n_lstm_layers=1))
    with torch.no_grad():
        for _ in range(2):
            xumx(torch.rand(1, 2, 1487, 7))
    return {"xumx": xumx.eval(), "demucs": demucs.eval()}


def _profile(**sizes: int) -> ChunkedProfile:
    return ChunkedProfile(name="small", models=(("xumx", "a"), ("demucs", "b")), **sizes)


def _noise(n: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(5).standard_normal((2, n))).astype(np.float32)


def test_contract(networks):
    separator = ChunkedSeparator(_profile(hop_samples=HOP, look_ahead_samples=HOP), networks)

    def noise(batch: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return (0.1 * rng.standard_normal((2, n))).astype(np.float32)

    check_streaming(separator, noise, n_hops=4, atol=1e-4, batched=False)


def test_pieces_through_the_pipeline_sum_to_the_mixture_and_keep_time(networks):
    separator = ChunkedSeparator(_profile(hop_samples=HOP, look_ahead_samples=HOP), networks)
    x = _noise(5 * HOP + 1234)
    whole = Pipeline(separator, rate_hz=44_100, n_channels=2)
    y = np.concatenate([whole.push(x), whole.finish()], axis=-1)
    live = Pipeline(separator, rate_hz=44_100, n_channels=2, live=True)
    parts = [live.push(x[:, i : i + 700]) for i in range(0, x.shape[1], 700)]
    z = np.concatenate([*parts, live.finish()], axis=-1)
    np.testing.assert_allclose(z, y, atol=1e-5)
    np.testing.assert_allclose(y.sum(0), x, atol=1e-6)
    assert np.abs(y[0] - y[1]).max() > 1e-3


def test_a_whole_track_is_the_blend_of_its_networks(networks):
    separator = WholeSeparator(_profile(), networks)
    x = _noise(3 * HOP + 77)
    alone = [
        WholeSeparator(ChunkedProfile(name="one", models=((kind, "a"),)), networks).run(x, None)[0]
        for kind in ("xumx", "demucs")
    ]
    shares = np.array(blend_table(("xumx", "demucs")))[:, :, None, None]
    y, _ = separator.run(x, None)
    np.testing.assert_allclose(y, (np.stack(alone) * shares).sum(0), atol=1e-6)
    pipeline = Pipeline(separator, rate_hz=44_100, n_channels=2)
    pieces = [pipeline.push(x[:, :HOP]), pipeline.push(x[:, HOP:])]
    assert [p.shape[-1] for p in pieces] == [0, 0]
    z = pipeline.finish()
    np.testing.assert_allclose(z.sum(0), x, atol=1e-6)
    residual = (x - y.sum(0)) / 4
    np.testing.assert_allclose(z, y + residual, atol=1e-6)
    with pytest.raises(ConfigError, match="needs the whole track"):
        separator.step(x[:, :1], None)


def test_facts_and_selection():
    studio = profile_facts("studio")
    assert (studio.hop, studio.latency_samples, studio.is_whole) == (65_536, 65_536, False)
    assert profile_facts("offline:xumx").is_whole
    assert load_chunked_profile("studio:fast").kinds == ("unet", "demucs")
    with pytest.raises(SpecError, match="has no 'tdc'"):
        load_chunked_profile("studio:tdc")


def test_models_that_are_not_installed_are_said(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMRACK_STATE", str(tmp_path))
    with pytest.raises(ModelError, match="danna-xumx"):
        load_separator("studio", "torch-cpu")
    with pytest.raises(ModelError, match="models pull tdc-vocals"):
        find_files("acapella", None)
