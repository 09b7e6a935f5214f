"""Arrangements: the right notes at the right time in the right part, whatever the seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.train.arrange import Band, arrange_sheet, arrange_song, family_of, perform
from stemrack.models.train.leadsheets import Chord, MelodyNote, Sheet
from stemrack.models.train.notes import MidiSong, Note, Track
from stemrack.models.train.patterns import bass_line, comping, generic_drums, riff_line, solo_line, voicing
from stemrack.models.train.rhythms import BASS, COMPING, read_bass_hits, read_hits
from stemrack.models.train.styles import STYLES, looped, made_up_sheet


def sheet_of(*kinds, bar=4.0):
    chords = tuple(
        Chord(start_beat=i * bar, length_beats=bar, root=root, kind=kind)
        for i, (root, kind) in enumerate(kinds)
    )
    return Sheet(
        name="t",
        tempo_bpm=None,
        beats_per_bar=bar,
        melody=(MelodyNote(start_beat=1.0, length_beats=1.0, key=60),),
        chords=chords,
        length_beats=bar * len(kinds),
    )


def rng(seed=0):
    return np.random.default_rng(seed)


def test_every_pattern_lies_inside_its_bar():
    for bars in COMPING.values():
        for bar in bars:
            assert all(0 <= at < 4 and length > 0 and 0 < v < 128 for at, length, v in read_hits(bar))
    for bars in BASS.values():
        for bar in bars:
            for at, length, velocity, name in read_bass_hits(bar):
                assert 0 <= at < 4
                assert length > 0
                assert 0 < velocity < 128
                assert name in "1235678a"


def test_every_style_names_what_exists():
    for style in STYLES:
        assert set(style.bass.split()) <= {*BASS, "riff"}
        assert {layer.split(":")[1] for layer in style.comping.split()} <= {*COMPING, "arpeggio", "riff"}


@pytest.mark.parametrize("pattern", sorted(BASS))
@pytest.mark.parametrize("seed", range(3))
def test_bass_lines_start_chords_on_chord_tones_one_note_at_a_time(pattern, seed):
    sheet = sheet_of((0, "major"), (9, "minor"), (5, "dominant"), (7, "power"))
    line = bass_line(sheet, pattern, rng(seed))
    starts = [n.start for n in line]
    assert starts == sorted(starts)
    assert all(a.start + a.length <= b.start + 1e-9 for a, b in itertools.pairwise(line))
    assert all(26 <= n.key <= 52 for n in line)
    for chord in sheet.chords:  # every chord is begun by its root, on a bar where the pattern rests as well
        first = next(n for n in line if n.start >= chord.start_beat)
        assert first.start == chord.start_beat
        assert first.key % 12 == chord.root


@pytest.mark.parametrize("how", sorted({*COMPING, "arpeggio"} - {"boogie"}))
@pytest.mark.parametrize("family", ["distorted", "clean", "piano", "organ", "brass"])
def test_accompaniment_plays_only_tones_of_its_chord(how, family):
    sheet = sheet_of((0, "major"), (2, "minor-seventh"), (7, "dominant"))
    notes = comping(sheet, family, how, rng(1))
    assert notes
    for note in notes:
        chord = sheet.chord_at(note.start)
        assert (note.key - chord.root) % 12 in {t % 12 for t in chord.tones}


def test_guitars_strum_and_keyboards_do_not():
    sheet = sheet_of((0, "major"))
    strummed = [n.start for n in comping(sheet, "acoustic", "pad", rng())]
    together = [n.start for n in comping(sheet, "organ", "pad", rng())]
    assert len(set(strummed)) == len(strummed) >= 5
    assert len(set(together)) == 1


def test_power_chords_have_no_third():
    chord = Chord(start_beat=0, length_beats=4, root=4, kind="major")
    assert {(key - 4) % 12 for key in voicing(chord, "distorted", rng())} == {0, 7}


def test_a_riff_is_played_in_unison_by_generators_of_one_seed():
    sheet = sheet_of((0, "minor"), (5, "minor"))
    low, high = (riff_line(sheet, rng(7), low=low) for low in (28, 40))
    assert [n.start for n in low] == [n.start for n in high]
    assert {b.key - a.key for a, b in zip(low, high, strict=True)} == {12}


def test_perform_swings_offbeats_and_scatters_little():
    notes = [Note(start=i / 2, length=0.5, key=60, velocity=64) for i in range(400)]
    played = perform(notes, rng(), beat_s=0.5, swing=0.15, jitter_s=0.0)
    assert [played[i].start for i in range(4)] == pytest.approx([0.0, 0.325, 0.5, 0.825])
    loose = perform(notes, rng(), beat_s=0.5, jitter_s=0.008)
    errors = np.array([p.start - i * 0.25 for i, p in enumerate(loose)])[1:]
    assert 0.006 < errors.std() < 0.009
    assert np.abs(errors).max() <= 0.02 + 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), style=st.sampled_from(STYLES), seconds=st.floats(5, 30))
def test_any_song_has_drums_and_bass_inside_its_length(seed, style, seconds):
    tempo_bpm = float(rng(seed).uniform(*style.tempo_bpm))
    n_beats = seconds * tempo_bpm / 60
    sheet = looped(made_up_sheet(rng(seed), 8), n_beats, keys=3)
    band = Band(style=style, tempo_bpm=tempo_bpm, drums=())
    parts = arrange_sheet(sheet, band, rng(seed))
    assert parts == arrange_sheet(sheet, band, rng(seed))
    assert {"drums", "bass", "other"} == {part.stem for part in parts}
    for part in parts:
        assert -1 <= part.pan <= 1
        for note in part.notes:
            assert 0 <= note.start < seconds + 0.2
            assert note.length > 0
            assert 1 <= note.velocity <= 127
            assert 20 <= note.key <= 110


def test_looped_repeats_whole_bars_and_transposes():
    sheet = looped(sheet_of((0, "major"), (7, "major")), 20.0, keys=2)
    assert [(c.start_beat, c.root) for c in sheet.chords] == [(0, 2), (4, 9), (8, 2), (12, 9), (16, 2)]
    assert [(n.start_beat, n.key) for n in sheet.melody] == [(1.0, 62), (9.0, 62), (17.0, 62)]


def test_a_plain_beat_in_three_stays_in_three():
    starts = [n.start for n in generic_drums(rng(2), 12.0, 3.0, "pop") if n.key == 36]
    assert {0.0, 3.0, 6.0, 9.0} <= set(starts)
    assert max(n.start for n in generic_drums(rng(2), 12.0, 3.0, "pop")) < 12.0


def test_a_solo_rests_between_phrases():
    notes = solo_line(sheet_of(*[(0, "minor")] * 16), rng(3), low=60)
    gaps = [b.start - (a.start + a.length) for a, b in itertools.pairwise(notes)]
    assert max(gaps) > 0.5
    assert {(n.key - 60) % 12 for n in notes} <= {0, 2, 3, 4, 5, 7, 9, 10}


@pytest.mark.parametrize(
    ("program", "family"), [(0, "piano"), (4, "electric_piano"), (25, "acoustic"), (29, "distorted"),
                            (39, "bass"), (40, "strings"), (56, "brass"), (73, "flute"), (119, None)]
)  # fmt: skip
def test_families_of_general_midi(program, family):
    assert family_of(program) == family


def test_a_midi_song_keeps_drum_keys_and_moves_the_rest_together():
    def track(program, key, is_drums=False):
        notes = tuple(Note(start=i * 0.5, length=0.4, key=key, velocity=90) for i in range(100))
        return Track(program=program, is_drums=is_drums, notes=notes)

    song = MidiSong(
        name="t", tracks=(track(0, 38, True), track(33, 36), track(0, 60), track(120, 60)), length_s=50.0
    )
    parts = arrange_song(song, rng(4), seconds_max=20.0)
    assert [part.stem for part in parts] == ["drums", "bass", "other"]  # the noise program is left out
    keys = [{n.key for n in part.notes} for part in parts]
    assert keys[0] == {38}
    assert keys[1].pop() - 36 == keys[2].pop() - 60
    assert all(0 <= n.start < 20.1 for part in parts for n in part.notes)
    high = MidiSong(name="t", tracks=(track(33, 62),), length_s=50.0)
    assert max(n.key for n in arrange_song(high, rng(4), seconds_max=20.0)[0].notes) < 60
