"""Effects: length, level and seed are kept; each does what its name says."""

import numpy as np
import pytest

from stemrack.models.errors import SpecError
from stemrack.models.stems import MODEL_RATE_HZ
from stemrack.models.train import effects


def music(seconds=1.0, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * MODEL_RATE_HZ)) / MODEL_RATE_HZ
    tones = [np.sin(2 * np.pi * f * t) * np.exp(-3 * (t % 0.25)) for f in (110, 440, 1760)]
    return (0.1 * np.sum(tones, axis=0) + 0.02 * rng.standard_normal((2, t.size))).astype(np.float32)


@pytest.mark.parametrize("kind", effects.KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_colour_keeps_length_and_level_and_follows_its_seed(kind, seed):
    x = music()
    before = x.copy()
    y = effects.colour(x, np.random.default_rng(seed), kind, codec_share=0.5)
    again = effects.colour(x, np.random.default_rng(seed), kind, codec_share=0.5)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    assert effects.rms(y) == pytest.approx(effects.rms(x), rel=1e-3)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(x, before)


def test_seeds_differ_and_silence_stays():
    x = music()
    y = [effects.colour(x, np.random.default_rng(seed), "other") for seed in range(3)]
    assert np.abs(y[0] - y[1]).max() > 1e-3
    assert np.abs(y[1] - y[2]).max() > 1e-3
    assert not effects.colour(np.zeros((2, 100), np.float32), np.random.default_rng(0), "bass").any()


@pytest.mark.parametrize(("kind", "shape"), [("violin", (2, 100)), ("bass", (1, 100)), ("bass", (100,))])
def test_wrong_kind_or_shape_is_refused(kind, shape):
    with pytest.raises(SpecError, match="colour"):
        effects.colour(np.ones(shape, np.float32), np.random.default_rng(0), kind)


def test_codec_stays_in_time():
    x = np.zeros((2, MODEL_RATE_HZ), np.float32)
    x[:, 20_000] = 1.0
    y = effects.codec(x, np.random.default_rng(0))
    assert np.abs(y).argmax(axis=1).tolist() == [20_000, 20_000]


def harmonics_db(x, frequency_hz):
    """Return the level of the third harmonic below the first, in decibels."""
    spectrum = np.abs(np.fft.rfft(x[0] * np.hanning(x.shape[1])))
    bins = [round(n * frequency_hz * x.shape[1] / MODEL_RATE_HZ) for n in (1, 3)]
    levels = [spectrum[b - 3 : b + 4].max() for b in bins]
    return 20 * np.log10(levels[1] / levels[0])


def test_drive_adds_harmonics():
    t = np.arange(MODEL_RATE_HZ) / MODEL_RATE_HZ
    x = np.tile(0.1 * np.sin(2 * np.pi * 300 * t), (2, 1)).astype(np.float32)
    clean, heavy = (harmonics_db(effects.amplify(x, np.random.default_rng(0), d), 300) for d in (0.0, 35.0))
    assert clean < -60
    assert heavy > -30
    assert harmonics_db(effects.saturate(x, 8.0), 300) > -20


def test_room_impulse_decays_by_sixty_decibels():
    h = effects.room_impulse(np.random.default_rng(0), 1.0)
    assert h.shape == (2, MODEL_RATE_HZ)
    early, late = (np.sqrt(np.mean(h[:, a:b] ** 2)) for a, b in ((6000, 8000), (40_000, 42_000)))
    # 34,000 samples later, of 44,100 for 60 dB.
    assert 20 * np.log10(early / late) == pytest.approx(60 * 34_000 / 44_100, abs=3.0)


def test_vibrato_moves_the_pitch_by_its_depth_at_most():
    t = np.arange(MODEL_RATE_HZ) / MODEL_RATE_HZ
    x = np.tile(np.sin(2 * np.pi * 440 * t), (2, 1)).astype(np.float32)
    y = effects.vibrato(x, np.random.default_rng(3))
    zero = np.flatnonzero(np.diff(np.signbit(y[0, 2000:])))
    # Eight periods at a time, so that a crossing's rounding to a sample costs 1.1 cents at most.
    cents = 1200 * np.log2(16 * MODEL_RATE_HZ / (2 * (zero[16:] - zero[:-16])) / 440)
    assert 3 < np.abs(cents).max() < 35


def test_widen_scales_the_side_only():
    x = music()
    mono = effects.widen(x, 0.0)
    np.testing.assert_allclose(mono[0], mono[1])
    np.testing.assert_allclose(effects.widen(x, 1.0), x, atol=1e-7)
    np.testing.assert_allclose(effects.widen(x, 2.0).mean(axis=0), x.mean(axis=0), atol=1e-7)
