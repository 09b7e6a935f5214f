"""Sampler: pitch, onset, velocity layers, choke, loops."""

import json

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.errors import DataError
from stemrack.models.stems import MODEL_RATE_HZ
from stemrack.models.train.notes import Note
from stemrack.models.train.sampler import Kit, Player, choke_ends, hold, load_instrument, repitch

SECOND = MODEL_RATE_HZ


def sine(frequency_hz, seconds=1.0, level=0.5):
    return level * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * SECOND)) / SECOND + 0.5)


def write(folder, sounds, **facts):
    """Write `sounds`, a list of (samples, region), as an instrument."""
    folder.mkdir(parents=True, exist_ok=True)
    regions = []
    for i, (x, region) in enumerate(sounds):
        soundfile.write(folder / f"{i}.wav", x, SECOND, subtype="FLOAT")
        regions.append({"file": f"{i}.wav", **region})
    row = {"kind": "melodic", "gm_programs": [27], "velocity_in_samples": False, **facts, "regions": regions}
    (folder / "instrument.json").write_text(json.dumps(row))
    return load_instrument(folder)


def region(key, low=None, high=None, **more):
    return {"key_low": low or key, "key_high": high or key, "key_root": key, **more}


def rng():
    return np.random.default_rng(1)


def frequency_of(x):
    """Return the frequency of a sine to a fraction of a cent: phase advance between two windows."""
    size, gap = 16384, 64
    window = np.hanning(size)
    a, b = (np.fft.rfft(window * x[at : at + size]) for at in (4096, 4096 + gap))
    bin_ = int(np.abs(a).argmax())
    expected = 2 * np.pi * bin_ * gap / size
    error = np.angle(b[bin_] * np.conj(a[bin_]) * np.exp(-1j * expected))
    return (expected + error) / gap * SECOND / (2 * np.pi)


@pytest.mark.parametrize("key", [50, 57, 60, 69, 75])
@pytest.mark.parametrize("cents", [0.0, -30.0])
def test_pitch_is_right_to_five_cents(tmp_path, key, cents):
    instrument = write(tmp_path / "a", [(sine(440.0, 2.0), region(69, 40, 80))])
    player = Player(instrument, rng(), detune_cents=cents)
    x = player.render([Note(start=0, length=1.0, key=key, velocity=100)], SECOND)
    wanted = 440.0 * 2 ** ((key - 69 + cents / 100) / 12)
    assert abs(1200 * np.log2(frequency_of(x[0]) / wanted)) < 5.0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2 * SECOND - 1), min_size=1, max_size=6, unique=True))
def test_notes_begin_at_their_sample(tmp_path_factory, starts):
    folder = tmp_path_factory.mktemp("click")
    click = np.zeros(32)
    click[0] = 0.5
    instrument = write(folder / "a", [(click, region(60))])
    notes = [Note(start=s / SECOND, length=0.01, key=60, velocity=100) for s in starts]
    x = Player(instrument, rng()).render(notes, 2 * SECOND)
    assert np.flatnonzero(np.abs(x[0]) > 0.1).tolist() == sorted(starts)


def test_velocity_chooses_the_layer_and_does_not_scale_recorded_dynamics_fully(tmp_path):
    sounds = [
        (np.full(100, 0.1), region(38, vel_low=1, vel_high=64)),
        (np.full(100, 0.8), region(38, vel_low=65, vel_high=127)),
    ]
    instrument = write(tmp_path / "a", sounds, kind="drums", velocity_in_samples=True)
    player = Player(instrument, rng())
    assert player.region_for(38, 64).vel_high == 64
    assert player.region_for(38, 65).vel_high == 127
    soft = player.render([Note(start=0, length=1, key=38, velocity=32)], 100).max()
    loud = player.render([Note(start=0, length=1, key=38, velocity=96)], 100).max()
    # At the middle of a layer the gain is one (within the rounding of the layer's middle).
    assert soft == pytest.approx(0.1, rel=0.01)
    assert loud == pytest.approx(0.8, rel=0.01)


def test_velocity_scales_samples_of_one_stroke(tmp_path):
    instrument = write(tmp_path / "a", [(np.full(100, 0.5), region(60))])
    player = Player(instrument, rng())
    levels = [player.render([Note(start=0, length=1, key=60, velocity=v)], 100).max() for v in (50, 100)]
    assert levels[1] == pytest.approx(0.5)
    assert levels[0] == pytest.approx(0.5 * 0.5**1.6, rel=1e-5)


def test_one_alternative_is_chosen_for_the_whole_song(tmp_path):
    sounds = [(np.full(10, 0.1 * (i + 1)), region(36, alt=i)) for i in range(4)]
    instrument = write(tmp_path / "a", sounds, kind="drums")
    chosen = set()
    for seed in range(20):
        player = Player(instrument, np.random.default_rng(seed))
        levels = {
            round(float(player.render([Note(start=0, length=1, key=36, velocity=100)], 10).max()), 3)
            for _ in range(3)
        }
        assert len(levels) == 1
        chosen |= levels
    assert len(chosen) > 1


def test_a_hat_ends_the_hat_before_it_and_nothing_else(tmp_path):
    sounds = [(np.full(SECOND, 0.4), region(key)) for key in (36, 42, 46)]
    instrument = write(tmp_path / "a", sounds, kind="drums")
    player = Player(instrument, rng())
    notes = [
        Note(start=0.0, length=0.1, key=46, velocity=100),
        Note(start=0.1, length=0.1, key=36, velocity=100),
        Note(start=0.5, length=0.1, key=42, velocity=100),
    ]
    alone = player.render(notes[:1], SECOND)[0]
    assert alone[int(0.9 * SECOND)] == pytest.approx(0.4)
    assert choke_ends(notes) == [0.5, None, None]
    x = player.render(notes, SECOND)[0]
    assert x[int(0.4 * SECOND)] == pytest.approx(0.8)  # open hat and kick
    assert x[int(0.55 * SECOND)] == pytest.approx(0.8)  # closed hat and kick: the open hat is gone
    assert not np.any(np.abs(np.diff(x[int(0.505 * SECOND) : int(0.52 * SECOND)])) > 0.01)  # faded, no click


def test_a_note_ends_with_its_length_and_release(tmp_path):
    instrument = write(tmp_path / "a", [(np.full(SECOND, 0.4), region(60))])
    player = Player(instrument, rng(), release_s=0.1)
    x = player.render([Note(start=0.0, length=0.5, key=60, velocity=100)], SECOND)[0]
    assert x[int(0.499 * SECOND)] == pytest.approx(0.4)
    assert 0.0 < x[int(0.55 * SECOND)] < 0.2
    assert np.all(x[int(0.601 * SECOND) :] == 0.0)


def test_sustained_tones_are_looped_without_a_gap(tmp_path):
    instrument = write(tmp_path / "a", [(sine(441.0, 1.0), region(69))], note="sustained tone: loop it")
    player = Player(instrument, rng())
    x = player.render([Note(start=0.0, length=4.0, key=69, velocity=100)], 4 * SECOND)[0]
    frames = x.reshape(-1, 2205)
    assert np.sqrt(np.mean(frames**2, axis=1)).min() > 0.2
    short = sine(441.0, 0.5)[None].repeat(2, 0).astype(np.float32)
    assert hold(short, 100).shape == short.shape
    assert hold(short, 2 * SECOND).shape == (2, 2 * SECOND)


def test_repitch_keeps_the_first_sample_and_scoops_from_below():
    x = sine(440.0, 2.0)[None].repeat(2, 0).astype(np.float32)
    y = repitch(x, 1.5)
    assert y.shape[1] == int((x.shape[1] - 1) / 1.5) + 1
    assert y[0, 0] == x[0, 0]
    assert repitch(x, 1.0) is x
    bent = repitch(x, 1.0, scoop=2.0)
    crossings = [np.sum(np.diff(np.signbit(z[0, :2205])) != 0) for z in (bent, x)]
    assert crossings[0] < crossings[1]  # lower at first
    assert abs(1200 * np.log2(frequency_of(bent[0, SECOND // 2 :]) / 440.0)) < 5.0  # then in tune


def test_a_kit_takes_missing_drums_from_the_next_folder_at_the_same_level(tmp_path):
    base = write(
        tmp_path / "base", [(np.full(10, 0.5), region(36)), (np.full(10, 0.5), region(38))], kind="drums"
    )
    donor = write(
        tmp_path / "donor", [(np.full(10, 0.1), region(38)), (np.full(10, 0.05), region(49))], kind="drums"
    )
    kit = Kit([Player(base, rng()), Player(donor, rng())])
    assert kit.choose(38) == (0, 38)
    assert kit.choose(35) == (0, 36)
    assert kit.choose(57) == (1, 49)
    assert kit.choose(56) is None
    crash = kit.render([Note(start=0, length=1, key=57, velocity=100)], 10)
    assert crash.max() == pytest.approx(0.5)  # half of the donor's snare, whose level becomes one
    limited = Player(donor, rng(), keys=frozenset({49}))
    assert Kit([limited]).choose(38) is None


def test_a_broken_instrument_is_named(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for text in ("", "[]", '{"kind": "melodic", "regions": []}', '{"kind": "melodic", "regions": [{}]}'):
        (folder / "instrument.json").write_text(text)
        with pytest.raises(DataError, match="odd"):
            load_instrument(folder)
