"""What a folder of material holds, whose it is, and who is held out."""

import json

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from train_material import Material, add_songs, tone

from stemrack.models.errors import DataError
from stemrack.models.train import material as m


def musdb(root, names, stems=("drums", "bass", "other", "vocals")):
    for name in names:
        for stem in ("mixture", *stems):
            path = root / name / f"{stem}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(200.0, 0.1), 44_100)
    return root


def test_rows_become_files_with_their_facts(tmp_path):
    made = Material(tmp_path)
    made.add("vocals_singing/set/a.wav", tone(200, 0.2), voice="ann", sex="f", floor_db=-3.0, doubt="hum")
    made.add("instrumental/pack/one.wav", tone(200, 0.1), artist="Bo", bpm=120)
    made.rows.append({"file": "vocals_singing/set/gone.wav", "category": "vocals_singing"})
    made.rows.append({"file": "vocals_singing/set/notes.txt", "category": "vocals_singing"})
    root = made.save()
    (voice,) = m.files_of(root, "vocals_singing")
    assert (voice.source, voice.voice, voice.sex, voice.doubt) == ("vocals_singing/set", "ann", "f", "hum")
    assert (voice.seconds, voice.floor_db, voice.maker) == (0.2, -3.0, "maker of vocals_singing/set/a.wav")
    (track,) = m.files_of(root, "instrumental")
    assert (track.source, track.maker, track.bpm) == ("instrumental/pack/one", "Bo", 120.0)


def test_a_voice_that_is_also_in_a_song_belongs_to_the_songs_maker(tmp_path):
    made = Material(tmp_path)
    made.add("vocals_singing/album/lead.wav", tone(200, 0.1), source="album", voice="lead")
    made.add("multitrack/song/vocals.wav", tone(200, 0.1), source="album")
    root = made.save()
    assert m.files_of(root, "vocals_singing")[0].maker == m.songs_of(root)[0].maker == "album"


def test_indexed_songs_name_a_possible_bass_in_other(tmp_path):
    made = Material(tmp_path)
    add_songs(made, 2)
    (tmp_path / "multitrack" / "unlisted").mkdir()
    soundfile.write(tmp_path / "multitrack" / "unlisted" / "drums.wav", tone(200, 0.1), 44_100)
    first, second = m.songs_of(made.save())
    assert [part for part, _ in first.stems] == ["drums", "bass+other"]
    assert [part for part, _ in second.stems] == ["drums", "bass", "other"]
    assert (first.source, first.maker, first.seconds) == ("multitrack/song_0", "composer 0", 1.0)


def test_musdb_layout_uses_the_training_half(tmp_path):
    root = musdb(tmp_path / "musdb", ["train/Ann - One", "train/Ann - Two", "test/Bo - Three"])
    songs = m.songs_of(root)
    assert [(s.name, s.maker) for s in songs] == [("Ann - One", "Ann"), ("Ann - Two", "Ann")]
    assert [part for part, _ in songs[0].stems] == ["drums", "bass", "other", "vocals"]
    assert songs[0].source == "musdb/train/Ann - One"
    assert songs[0].seconds == pytest.approx(0.1)


def test_unusable_material_is_named(tmp_path):
    with pytest.raises(DataError, match=r"bass\.wav"):
        m.songs_of(musdb(tmp_path / "a", ["T"], stems=("drums", "other", "vocals")))
    with pytest.raises(DataError, match="no folder"):
        m.read_rows(tmp_path / "nowhere")
    for text in ("{", "{}", '[{"path": 1}]'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(DataError, match=r"index\.json"):
            m.read_rows(tmp_path)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.floats(0.1, 50.0)), max_size=40),
    st.floats(0.0, 0.5),
    st.floats(0.0, 0.5),
    st.none() | st.integers(0, 5),
)
def test_held_out_makers_stay_within_every_limit(items, share, largest, at_most):
    held = m.held_out(items, share=share, largest=largest, at_most=at_most)
    total = sum(s for _, s in items)
    of = {name: sum(s for maker, s in items if maker == name) for name in held}
    assert sum(of.values()) <= share * total + 1e-9
    assert all(s <= largest * total + 1e-9 for s in of.values())
    assert at_most is None or sum(maker in held for maker, _ in items) <= at_most
    assert held == m.held_out(list(reversed(items)), share=share, largest=largest, at_most=at_most)


def test_attributions_find_folders_files_and_gaps(tmp_path):
    made = Material(tmp_path)
    for name in ("a", "b"):
        made.add(f"bass/thumb/{name}.wav", tone(80, 0.1), attribution="Thumb by Cy", licence="CC BY 4.0")
    made.add("instrumental/pack/one.wav", tone(200, 0.1), attribution="One by Bo", licence="CC0")
    root = made.save()
    (root / "midi" / "x").mkdir(parents=True)
    (root / "midi" / "x" / "LICENSE").write_text("BSD")
    assert m.attributions(root, ["bass/thumb", "midi/x", "instrumental/pack/one", "bass/thumb", "?"]) == [
        f"?: {m.UNRECORDED}",
        "bass/thumb: Thumb by Cy (CC BY 4.0)",
        "instrumental/pack/one: One by Bo (CC0)",
        "midi/x: see LICENSE in the material",
    ]


def test_random_numbers_belong_to_the_shard():
    a, b = m.generator(1, "voices", "x").random(3), m.generator(1, "voices", "x").random(3)
    others = [
        m.generator(*key).random(3) for key in ((2, "voices", "x"), (1, "songs", "x"), (1, "voices", "y"))
    ]
    assert np.array_equal(a, b)
    assert not any(np.array_equal(a, c) for c in others)


def test_names_of_files_hold_no_separators():
    assert m.file_name("DCS A (S2,T1)/x é.ogg") == "DCS_A__S2_T1__x_é_ogg"
    assert json.dumps(m.file_name("a/b")) == '"a_b"'
