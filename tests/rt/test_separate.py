"""The CPU path: the streaming contract, its two speeds, its two runners, and the sum of its stems."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import signals
from contract import check_streaming
from small_profile import write_small_profile

from stemrack.models.errors import WeightsError
from stemrack.rt.errors import ConfigError
from stemrack.rt.separate import PIECE_FRAMES, Separator, load_separator


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A profile and weights, and a cache for graphs that is empty at first: exporting one takes seconds."""
    _, toml, weights = write_small_profile(tmp_path_factory.mktemp("profile"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(weights.parent))
        yield str(toml), weights


@pytest.fixture(scope="module", params=["int8-cpu", "onnx-cpu", "torch-cpu"])
def separator(request: pytest.FixtureRequest, files: tuple[str, Path]) -> Separator:
    return load_separator(files[0], request.param, files[1])


def _music(n: int, seed: int = 0) -> np.ndarray:
    """Return tones, clicks and noise, different in the two channels."""
    x = 0.3 * signals.tone(n, 0.01) + 0.2 * signals.sweep(n) + signals.noise(n, seed, 0.05)
    x[:, ::1500] += 0.4
    return x.astype(np.float32)


def test_contract(separator: Separator):
    def hops(batch: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return (0.1 * rng.standard_normal((2, n))).astype(np.float32)

    check_streaming(separator, hops, n_hops=40, atol=1e-4, batched=False)


def test_live_and_fast_agree(separator: Separator):
    x = _music((PIECE_FRAMES * 2 + 3) * separator.hop)
    live_state, fast_state = separator.init_state(), separator.init_state()
    live, _ = separator.step(x, live_state)
    fast, _ = separator.run(x, fast_state)
    assert np.abs(live).max() > 0.1
    np.testing.assert_allclose(fast, live, atol=1e-5)


def test_runners_agree(files: tuple[str, Path]):
    x = _music(70 * 128)
    results = [
        s.run(x, s.init_state())[0]
        for s in (load_separator(files[0], r, files[1]) for r in ("onnx-cpu", "torch-cpu"))
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_eight_bits_stay_near_to_float(files: tuple[str, Path]):
    x = _music(300 * 128)
    reference, rounded = (load_separator(files[0], r, files[1]) for r in ("onnx-cpu", "int8-cpu"))
    (a, _), (b, _) = reference.run(x, reference.init_state()), rounded.run(x, rounded.init_state())
    assert 1e-8 < np.square(a - b).mean() / np.square(a).mean() < 1e-3


def test_stems_sum_to_the_delayed_mixture_and_differ(separator: Separator):
    x = _music(90 * separator.hop)
    y, _ = separator.run(x, separator.init_state())
    n = separator.latency_samples
    np.testing.assert_allclose(y.sum(0)[:, n:], x[:, :-n], atol=2e-3)
    assert min(np.abs(y[i] - y[j]).max() for i in range(4) for j in range(i)) > 1e-3


def test_an_impulse_comes_out_after_the_declared_latency(separator: Separator):
    x = signals.impulse(40 * separator.hop, at=3000)
    y = separator.run(x, separator.init_state())[0].sum(0)
    assert int(np.abs(y[0]).argmax()) == 3000 + separator.latency_samples


def test_silence_gives_silence(separator: Separator):
    y, _ = separator.step(signals.silence(8 * separator.hop), separator.init_state())
    assert np.abs(y).max() == 0.0


def test_a_second_load_uses_the_cached_graph(files: tuple[str, Path], monkeypatch):
    load_separator(files[0], "onnx-cpu", files[1])
    assert len(list((files[1].parent / "stemrack" / "onnx").glob("*.onnx"))) == 1
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("exported again"))
    load_separator(files[0], "onnx-cpu", files[1])


def test_what_cannot_be_loaded_is_said(files: tuple[str, Path], tmp_path):
    toml, weights = files
    with pytest.raises(ConfigError, match="onnx-cpu"):
        load_separator(toml, "abacus", weights)
    with pytest.raises(WeightsError, match="no weights at"):
        load_separator(toml, "torch-cpu", tmp_path / "none.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="safetensors"):
        load_separator(toml, "torch-cpu", damaged)
    damaged.with_suffix(".json").write_text('{"sha256": "0"}')
    with pytest.raises(WeightsError, match="manifest"):
        load_separator(toml, "torch-cpu", damaged)
    with pytest.raises(WeightsError, match="another network than this profile's 'xumx'"):
        load_separator("live:xumx", "torch-cpu", weights)
    with pytest.raises(ConfigError, match="one stream per state"):
        load_separator(toml, "torch-cpu", weights).init_state(2)
