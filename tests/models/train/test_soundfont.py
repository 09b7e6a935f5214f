"""MIDI through a soundfont: the split by stem, the pitch that comes out, and what is said when it cannot."""

import shutil
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from stemrack.models.errors import DataError
from stemrack.models.train.notes import read_song, split_by_stem
from stemrack.models.train.shards import read_index
from stemrack.models.train.soundfont import prepare_soundfont, render_soundfont_song, synthesise

GENERAL_MIDI = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not GENERAL_MIDI.exists(),
    reason="Debian's fluidsynth and fluid-soundfont-gm are not installed",
)


def _song(path: Path) -> Path:
    """Write four bars: drums, a bass on E1, a square lead on A4, a noise that is left out."""
    midi = mido.MidiFile(ticks_per_beat=480)
    for channel, program, key in ((9, 0, 38), (1, 33, 28), (2, 80, 69), (3, 126, 60)):
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        for _ in range(4):
            track.append(mido.Message("note_on", channel=channel, note=key, velocity=100, time=0))
            track.append(mido.Message("note_off", channel=channel, note=key, time=1920))
        midi.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.save(path)
    return path


def test_split_keeps_each_note_in_its_stem_at_its_time(tmp_path):
    stems = split_by_stem(_song(tmp_path / "song.mid"), tmp_path)
    assert sorted(stems) == ["bass", "drums", "other"]
    for stem, key in (("drums", 38), ("bass", 28), ("other", 69)):
        notes = [note for track in read_song(stems[stem]).tracks for note in track.notes]
        assert [note.key for note in notes] == [key] * 4, stem
        np.testing.assert_allclose([note.start for note in notes], [0, 2, 4, 6], atol=1e-6)


@needs_fluidsynth
def test_the_lead_is_in_tune(tmp_path):
    stems = split_by_stem(_song(tmp_path / "song.mid"), tmp_path)
    x = synthesise(stems["other"], GENERAL_MIDI, tmp_path / "out.wav")[0, 44_100 // 2 : 44_100 * 3 // 2]
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)), 1 << 19))
    frequency = np.fft.rfftfreq(1 << 19, 1 / 44_100)
    near = (frequency > 400) & (frequency < 480)
    peak_hz = frequency[near][spectrum[near].argmax()]
    assert abs(1200 * np.log2(peak_hz / 440.0)) < 5


@needs_fluidsynth
def test_songs_become_shards_once(tmp_path):
    material, out = tmp_path / "material", tmp_path / "shards"
    _song(material / "midi_songs" / "freedoom" / "one.mid")
    lines = []
    for _ in range(2):
        prepare_soundfont(GENERAL_MIDI, material, out, minutes=0.1, seed=1, progress=lines.append)
    assert len(lines) == 1
    (shard,) = read_index(out)
    assert set(shard.parts) == {"drums", "bass", "other"}
    assert shard.sources == ("midi_songs/freedoom", "soundfont:FluidR3_GM.sf2")
    assert 8 * 44_100 < shard.n_samples < 20 * 44_100


def test_a_missing_program_or_file_is_said_with_the_remedy(tmp_path, monkeypatch):
    song = _song(tmp_path / "song.mid")
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="does not exist"):
        render_soundfont_song(song, tmp_path / "none.sf2", 10.0, rng)
    (tmp_path / "some.sf2").write_bytes(b"RIFF....sfbk")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt-get install fluidsynth"):
        render_soundfont_song(song, tmp_path / "some.sf2", 10.0, rng)
    with pytest.raises(DataError, match="no MIDI songs"):
        prepare_soundfont(tmp_path / "some.sf2", tmp_path, tmp_path / "out", minutes=1.0, seed=1)


def test_what_is_no_soundfont_is_an_error(tmp_path):
    """fluidsynth itself goes on with its default soundfont and exits 0."""
    soundfile.write(tmp_path / "not.sf2", np.zeros((100, 2)), 44_100, format="WAV")
    with pytest.raises(DataError, match="is no soundfont"):
        render_soundfont_song(
            _song(tmp_path / "song.mid"), tmp_path / "not.sf2", 10.0, np.random.default_rng(0)
        )
