"""Re-sung voices: the measured pitch is the melody's, syllables are found, time is bent, not lost."""

import numpy as np
import pytest
from train_material import cents, phrase, pitch_hz, vowel

from stemrack.models.errors import DataError
from stemrack.models.stems import MODEL_RATE_HZ
from stemrack.models.train import singing
from stemrack.models.train.leadsheets import Chord, MelodyNote, Sheet
from stemrack.models.train.singing import SungNote

FRAME = int(singing.FRAME_S * MODEL_RATE_HZ)


@pytest.fixture(scope="module")
def spoken():
    return singing.analyse(phrase(140.0, 5))


def sheet(keys=(60, 64, 67, 95, 60), tempo_bpm=120.0):
    notes = tuple(MelodyNote(start_beat=i, length_beats=1.0, key=k) for i, k in enumerate(keys))
    return Sheet(
        name="s",
        tempo_bpm=tempo_bpm,
        beats_per_bar=4.0,
        melody=notes,
        chords=(Chord(start_beat=0.0, length_beats=8.0, root=0),),
        length_beats=8.0,
    )


def test_syllables_are_the_voiced_runs(spoken):
    parts = singing.syllables(spoken)
    assert len(parts) == 5
    for i, part in enumerate(parts):
        assert part.onset <= part.start < part.stop
        # Syllable i sounds from 0.4 i to 0.4 i + 0.3 seconds.
        assert 0.4 * i - 0.03 < part.start * singing.FRAME_S < 0.4 * i + 0.06
        assert 0.4 * i + 0.2 < part.stop * singing.FRAME_S < 0.4 * i + 0.34


def test_a_run_is_cut_where_its_level_dips():
    x = vowel(150.0, 0.5)
    x[len(x) // 2 - 1200 : len(x) // 2 + 1200] *= 0.2
    assert len(singing.syllables(singing.analyse(x))) == 2
    assert len(singing.syllables(singing.analyse(vowel(150.0, 0.5)))) == 1


def test_measured_pitch_is_the_melodys_within_30_cents(spoken):
    keys = [45.0, 52.0, 49.5, 57.0, 48.0]
    notes = [SungNote(start_s=0.6 * i + 1.0, seconds=0.55, key=k) for i, k in enumerate(keys)]
    x = singing.sing(spoken, notes, np.random.default_rng(0), vibrato_cents=0.0)
    for i, key in enumerate(keys):
        centre = int((0.6 * i + 0.32) * MODEL_RATE_HZ)
        f0_hz = pitch_hz(x[centre - 4000 : centre + 4000])
        assert abs(cents(f0_hz, 440.0 * 2 ** ((key - 69.0) / 12.0))) < 30.0


def test_vibrato_goes_round_the_note():
    take = singing.analyse(vowel(200.0, 0.5))
    note = [SungNote(start_s=0.0, seconds=1.5, key=57.0)]
    x = singing.sing(take, note, np.random.default_rng(0), vibrato_cents=80.0, drift_cents=0.0)
    starts = range(int(0.8 * MODEL_RATE_HZ), int(1.35 * MODEL_RATE_HZ), 2000)
    away = np.array([cents(pitch_hz(x[s : s + 2400]), 220.0) for s in starts])
    assert 40.0 < away.max() < 95.0
    assert -95.0 < away.min() < -40.0


def test_rests_are_silent_and_notes_sound(spoken):
    notes = [SungNote(start_s=s, seconds=0.4, key=50.0) for s in (0.0, 1.0)]
    x = singing.sing(spoken, notes, np.random.default_rng(0))
    level = [
        np.sqrt(np.mean(x[int(s * MODEL_RATE_HZ) :][: MODEL_RATE_HZ // 5] ** 2)) for s in (0.1, 0.6, 1.1)
    ]
    assert level[1] < 1e-3 * min(level[0], level[2])


@pytest.mark.parametrize("n", [20, 61, 400])
def test_a_syllable_fills_any_length_from_its_own_frames(n):
    part = singing.Syllable(onset=10, start=16, stop=60)
    frames = singing._frames_of(part, min(6, n // 3), n, np.random.default_rng(0))
    assert len(frames) == n
    assert frames.min() >= 10
    assert frames.max() < 60
    assert frames[-1] == (59 if n > 50 else 56)


def test_held_vowels_move_frame_by_frame():
    frames = singing._frames_of(singing.Syllable(0, 0, 50), 0, 600, np.random.default_rng(0))
    assert np.abs(np.diff(frames)).max() <= 1


def test_a_second_voice_is_shifted_and_as_long():
    x = vowel(200.0, 0.5)
    y = singing.shift_key(x, 4.0)
    assert y.shape == x.shape
    assert abs(cents(pitch_hz(y[6000:16000]), 200.0) - 400.0) < 15.0


def test_voices_that_cannot_be_sung_are_refused():
    noise = 0.01 * np.random.default_rng(0).standard_normal(22_050)
    with pytest.raises(DataError, match="no vowels"):
        singing.sing(
            singing.analyse(noise), [SungNote(start_s=0, seconds=1, key=60)], np.random.default_rng(0)
        )
    for x in (np.zeros((2, 9000)), np.zeros(100)):
        with pytest.raises(DataError, match="shape"):
            singing.analyse(x)


def test_a_melody_is_centred_folded_and_in_time():
    notes = singing.melody(sheet(), np.random.default_rng(0), seconds=30.0, centre_key=50.0)
    assert [n.start_s for n in notes] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    keys = [n.key for n in notes]
    assert keys[:3] == [46, 50, 53]
    # 95 lies 31 semitones above the median: two octaves down it is within 14 of the centre.
    assert keys[3] == 50 + 31 - 24
    assert all(0.42 <= n.seconds <= 0.5 for n in notes)
    assert len(singing.melody(sheet(), np.random.default_rng(0), seconds=1.2, centre_key=50.0)) == 3
    assert singing.melody(sheet(()), np.random.default_rng(0), seconds=9.0, centre_key=50.0) == []
