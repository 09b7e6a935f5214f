"""Lead sheets: JSON in, melody and chords out."""

import json

import pytest

from stemrack.models.errors import DataError
from stemrack.models.train.leadsheets import CHORD_TONES, Chord, load_sheet

ROW = {
    "title": "t",
    "tempo": None,
    "time": [[0.0, "6", "8"]],
    "melody": [[1.0, 2.0, 62, "lo"], [0.0, 1.0, 60, "hel-"], [3.0, 1.0, 64, None]],
    "chords": [[2.0, 19, "minor"], [0.0, 0, "major"]],
    "beats": 4.0,
}


def test_sheet_is_sorted_and_chords_last_until_the_next(tmp_path):
    path = tmp_path / "song.json"
    path.write_text(json.dumps(ROW))
    sheet = load_sheet(path)
    assert [(n.start_beat, n.key, n.syllable) for n in sheet.melody] == [
        (0.0, 60, "hel-"),
        (1.0, 62, "lo"),
        (3.0, 64, ""),
    ]
    assert [(c.start_beat, c.length_beats, c.root, c.tones) for c in sheet.chords] == [
        (0.0, 2.0, 0, (0, 4, 7)),
        (2.0, 2.0, 7, (0, 3, 7)),
    ]
    assert (sheet.name, sheet.tempo_bpm, sheet.beats_per_bar, sheet.length_beats) == ("song", None, 3.0, 4.0)
    assert sheet.has_words
    assert sheet.chord_at(1.99).root == 0
    assert sheet.chord_at(2.0).root == 7
    assert sheet.chord_at(-1.0) is None


def test_a_kind_that_is_not_in_the_table_counts_as_major():
    assert Chord(start_beat=0, length_beats=1, root=0, kind="Neapolitan").tones == CHORD_TONES["major"]


@pytest.mark.parametrize("text", ["", "[]", '{"melody": []}', '{"melody": [[1]], "chords": []}'])
def test_what_is_not_a_sheet_names_its_file(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"broken\.json"):
        load_sheet(path)
