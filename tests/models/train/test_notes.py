"""Notes: MIDI in seconds through the tempo map, drum takes in beats."""

import mido
import pytest

from stemrack.models.errors import DataError
from stemrack.models.train.notes import Note, list_takes, read_song, read_take


def on(note, velocity, time=0, channel=0):
    return mido.Message("note_on", note=note, velocity=velocity, time=time, channel=channel)


def save(path, *tracks):
    midi = mido.MidiFile(ticks_per_beat=100)
    for messages in tracks:
        midi.tracks.append(mido.MidiTrack(messages))
    midi.save(path)
    return path


def test_times_follow_the_tempo_map(tmp_path):
    tempo = [
        mido.MetaMessage("set_tempo", tempo=1_000_000),
        mido.MetaMessage("set_tempo", tempo=250_000, time=100),
    ]
    notes = [
        mido.Message("program_change", program=33, channel=2),
        on(40, 90, 50, 2),
        on(40, 0, 100, 2),  # a note-on of velocity 0 ends a note
    ]
    song = read_song(save(tmp_path / "a.mid", tempo, notes))
    (track,) = song.tracks
    assert (track.program, track.is_drums) == (33, False)
    # Starts half a beat in (1 s a beat), ends half a beat after the change to a quarter of that.
    assert track.notes == (Note(start=0.5, length=0.625, key=40, velocity=90),)
    assert song.length_s == pytest.approx(1.125)


def test_tracks_are_split_by_channel_and_program_and_channel_ten_is_drums(tmp_path):
    messages = [
        on(36, 100, 0, 9),
        on(36, 0, 10, 9),
        mido.Message("program_change", program=30, channel=0),
        on(60, 80),
        on(60, 0, 10),
        mido.Message("program_change", program=0, channel=0),
        on(60, 80),
        on(60, 0, 10),
        on(61, 80),  # never ended: dropped
    ]
    song = read_song(save(tmp_path / "a.mid", messages))
    assert sorted((t.program, t.is_drums, len(t.notes)) for t in song.tracks) == [
        (0, False, 1),
        (0, True, 1),
        (30, False, 1),
    ]


def test_takes_stay_in_beats_with_general_midi_keys(tmp_path):
    messages = []
    for key in (22, 26, 58, 36):
        messages += [on(key, 70, 0, 9), on(key, 0, 50, 9)]
    notes = read_take(save(tmp_path / "a.mid", [mido.MetaMessage("set_tempo", tempo=300_000), *messages]))
    assert [(n.start, n.key) for n in notes] == [(0.0, 42), (0.5, 46), (1.0, 43), (1.5, 36)]


def test_table_of_takes(tmp_path):
    (tmp_path / "info.csv").write_text(
        "style,bpm,beat_type,time_signature,midi_filename,duration,split\n"
        "funk/groove1,138,beat,4-4,d/1.mid,27.8,test\n"
        "rock,90,fill,6-8,d/2.mid,1.5,train\n"
    )
    beat, fill = list_takes(tmp_path)
    assert (beat.path, beat.style, beat.tempo_bpm, beat.is_fill) == (tmp_path / "d/1.mid", "funk", 138, False)
    assert (fill.is_fill, fill.beats_per_bar, fill.length_s, fill.split) == (True, 3.0, 1.5, "train")
    assert list_takes(tmp_path / "nowhere") == []


@pytest.mark.parametrize("content", [b"", b"MThd", b"not a midi file at all"])
def test_broken_files_are_named(tmp_path, content):
    path = tmp_path / "broken.mid"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.mid"):
        read_song(path)
