"""Files of any rate and channel count become stereo at the model's rate, with pitch and length kept."""

import numpy as np
import pytest
import soundfile
from train_material import cents, pitch_hz, tone

from stemrack.models.errors import DataError
from stemrack.models.stems import MODEL_RATE_HZ
from stemrack.models.train.audio_files import duration_s, load_audio, replay, resample, rms_dbfs


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000])
def test_load_converts_to_the_models_rate(tmp_path, rate_hz):
    soundfile.write(tmp_path / "a.wav", tone(440.0, 0.5, rate_hz), rate_hz)
    x = load_audio(tmp_path / "a.wav")
    assert x.shape == (2, MODEL_RATE_HZ // 2)
    assert x.dtype == np.float32
    assert abs(cents(pitch_hz(x[0]), 440.0)) < 1.0
    assert np.array_equal(x[0], x[1])


def test_load_keeps_the_sides_apart_and_drops_further_channels(tmp_path):
    sides = np.stack([tone(300.0, 0.1), tone(500.0, 0.1), tone(700.0, 0.1)])
    soundfile.write(tmp_path / "a.wav", sides.T, MODEL_RATE_HZ, subtype="FLOAT")
    assert np.array_equal(load_audio(tmp_path / "a.wav"), sides[:2])


def test_unusable_files_are_named(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 44_100)
    soundfile.write(tmp_path / "nan.wav", np.full((9, 2), np.nan), 44_100, subtype="FLOAT")
    for name in ("text.wav", "missing.wav", "empty.wav", "nan.wav"):
        with pytest.raises(DataError, match=name):
            load_audio(tmp_path / name)
    with pytest.raises(DataError, match=r"text\.wav"):
        duration_s(tmp_path / "text.wav")


@pytest.mark.parametrize("factor", [0.68, 0.94, 1.06, 1.2])
def test_replay_moves_pitch_and_length_by_the_factor(factor):
    x = np.stack([tone(300.0, 0.6)] * 2)
    y = replay(x, factor)
    assert y.shape[1] == pytest.approx(x.shape[1] / factor, abs=2)
    assert abs(cents(pitch_hz(y[0]), 300.0 * factor)) < 1.0


def test_replay_refuses_a_factor_outside_its_range():
    with pytest.raises(DataError, match="5"):
        replay(np.zeros((2, 10), np.float32), 5.0)


def test_resample_at_equal_rates_changes_nothing():
    x = np.random.default_rng(0).standard_normal((2, 65)).astype(np.float32)
    assert np.array_equal(resample(x, 48_000, 48_000), x)


def test_level_of_the_sounding_part_ignores_pauses():
    sine = np.stack([tone(441.0, 1.0, gain=0.1)] * 2)
    paused = np.concatenate([sine, np.zeros((2, 3 * MODEL_RATE_HZ), np.float32)], axis=1)
    assert rms_dbfs(sine) == pytest.approx(-20.0 - 3.01, abs=0.02)
    assert rms_dbfs(paused) == pytest.approx(rms_dbfs(sine), abs=0.02)
    assert rms_dbfs(paused, active_only=False) == pytest.approx(rms_dbfs(sine) - 6.02, abs=0.02)
    assert rms_dbfs(np.zeros((2, 100), np.float32)) == -200.0
