"""Bundles as separators: the streaming contract, and stems that are known by arithmetic."""

import numpy as np
import pytest
import signals
from bundle_files import GAINS, GraphBuilder, write_bundle, write_manifest
from contract import check_streaming

from stemrack.models.errors import SpecError
from stemrack.models.stems import STEMS
from stemrack.models.streaming_bundle import import_bundle
from stemrack.rt.errors import ConfigError
from stemrack.rt.pipeline import Pipeline
from stemrack.rt.separate_bundle import BundleSeparator, load_bundle_separator

NAMES = ("drums", "bass", "vocals", "other")


def by_name(y):
    return dict(zip(STEMS, y, strict=True))


def delayed(x, n):
    return np.concatenate([np.zeros((2, n), np.float32), x[:, : x.shape[1] - n]], axis=1)


@pytest.mark.parametrize(
    ("hop", "delay", "n_more"), [(128, 128, 7), (128, 64, 1), (512, 512, 7), (512, 700, 0)]
)
def test_contract(tmp_path, hop, delay, n_more):
    manifest = str(write_bundle(tmp_path, hop, delay, n_more, residual='"other"'))
    separator: BundleSeparator = load_bundle_separator(manifest)

    def hops(batch, n, rng):
        return (0.1 * rng.standard_normal((2, n))).astype(np.float32)

    check_streaming(separator, hops, atol=1e-6, batched=False)


def test_stems_come_in_our_order_delayed_by_the_latency(tmp_path):
    separator = load_bundle_separator(str(write_bundle(tmp_path, n_more=0)))
    x = signals.noise(8 * 128)
    y, _ = separator.step(x, separator.init_state())
    for name, gain in zip(NAMES, GAINS, strict=True):
        np.testing.assert_allclose(by_name(y)[name], gain * delayed(x, 64), atol=1e-7, err_msg=name)


def test_the_residual_is_the_mixture_minus_the_others_and_not_what_the_graph_says(tmp_path):
    path = write_bundle(tmp_path, n_more=0, gains=(0.4, 0.3, 0.2, 5.0), residual='"other"', name="rest")
    separator = load_bundle_separator(str(path))
    x = signals.noise(8 * 128)
    y, _ = separator.step(x, separator.init_state())
    np.testing.assert_allclose(by_name(y)["other"], 0.1 * delayed(x, 64), atol=1e-6)
    np.testing.assert_allclose(y.sum(0), delayed(x, 64), atol=1e-6)


def test_stems_that_the_graph_lacks_are_silent_or_the_residual(tmp_path):
    path = write_bundle(tmp_path, n_more=0, gains=(0.75,), stems='["vocals"]', residual='"bass"')
    separator = load_bundle_separator(str(path))
    x = signals.noise(8 * 128)
    got = by_name(separator.step(x, separator.init_state())[0])
    np.testing.assert_allclose(got["vocals"], 0.75 * delayed(x, 64), atol=1e-7)
    np.testing.assert_allclose(got["bass"], 0.25 * delayed(x, 64), atol=1e-6)
    assert not got["drums"].any()
    assert not got["other"].any()


def test_a_stream_starts_from_the_initial_values(tmp_path):
    GraphBuilder(128, n_more=0).save(tmp_path / "model.onnx")
    past = np.arange(128, dtype=np.float32).reshape(1, 2, 64)
    np.save(tmp_path / "past.npy", past)
    states = '[[states]]\ninput = "past_audio"\nshape = [1, 2, 64]\ninitial = "past.npy"\n'
    separator = load_bundle_separator(str(write_manifest(tmp_path, 128, 64, more=states)))
    for _ in range(2):
        y, _ = separator.step(signals.silence(256), separator.init_state())
        np.testing.assert_allclose(by_name(y)["drums"][:, :64], 0.4 * past[0], rtol=1e-6)
        assert not y[..., 64:].any()


def test_silence_gives_silence_and_an_impulse_comes_after_the_latency(tmp_path):
    separator = load_bundle_separator(str(write_bundle(tmp_path, 512, 700, 3)))
    y, _ = separator.step(signals.silence(4 * 512), separator.init_state())
    assert not y.any()
    y, _ = separator.run(signals.impulse(8 * 512, at=1000), separator.init_state())
    assert int(np.abs(y.sum(0)[0]).argmax()) == 1700


def test_flush_fills_the_window_with_silence(tmp_path):
    """A window of more than latency and hop costs steps, and changes nothing of what comes."""
    x = signals.noise(4 * 128)
    long = load_bundle_separator(str(write_bundle(tmp_path, window_samples=1024)))
    short = load_bundle_separator(str(write_bundle(tmp_path)))
    assert long.window_latency_ms == pytest.approx(1000 * 1024 / 44_100)
    assert short.window_latency_ms == pytest.approx(1000 * 192 / 44_100)
    np.testing.assert_array_equal(long.forward(x), short.forward(x))
    assert short.forward(x).shape == (4, 2, 512)
    steps = []
    long.on_stage = steps.append
    long.flush(long.init_state())
    assert steps == ["little"] * 7


def test_a_pipeline_takes_it_at_another_rate(tmp_path):
    separator = load_bundle_separator(str(write_bundle(tmp_path, residual='"other"')))
    pipeline = Pipeline(separator, rate_hz=48_000, n_channels=1, live=True)
    x = signals.noise(10_000, n_channels=1)
    y = np.concatenate([pipeline.push(x), pipeline.finish()], axis=-1)
    assert y.shape == (4, 1, 10_000)
    np.testing.assert_allclose(y.sum(0), x, atol=1e-5)


def test_an_installed_bundle_is_loaded_by_name_and_stands_for_a_profile(tmp_path):
    import_bundle(write_bundle(tmp_path / "given"), tmp_path / "home")
    separator = load_bundle_separator("bundle:little", tmp_path / "home", "onnx-cpu", n_threads=1)
    assert (separator.hop, separator.latency_samples) == (128, 64)
    assert (separator.profile.name, separator.profile.hop) == ("little", 128)
    assert separator.stages == ("little",)
    with pytest.raises(SpecError, match="no bundle 'other'"):
        load_bundle_separator("bundle:other", tmp_path / "home")


def test_other_runners_and_batches_are_refused(tmp_path):
    path = str(write_bundle(tmp_path))
    with pytest.raises(ConfigError, match="onnx-cpu"):
        load_bundle_separator(path, None, "torch-cpu")
    with pytest.raises(ConfigError, match="one stream per state"):
        load_bundle_separator(path).init_state(2)
