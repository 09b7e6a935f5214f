"""Notes: what an instrument plays, and how it is read from MIDI files (mido's home).

Songs are read into seconds through their tempo map; drum takes stay in beats, so that they can be
played at another tempo.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mido

from ..errors import DataError

DRUM_CHANNEL = 9
DEFAULT_TEMPO_BPM = 120.0
ROLAND_TO_GM = {22: 42, 26: 46, 58: 43, 55: 49, 52: 57}
"""Keys of the electronic kit that Groove was played on, as General MIDI keys: hi-hat edges (22, 26),
rim of the third tom (58), edges of the two crashes (55, 52)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note.  Units: seconds (or beats, where a Take says so), MIDI key and velocity."""

    start: float
    length: float
    key: int
    velocity: int

    def moved(self, *, start: float = 0.0, keys: int = 0) -> Note:
        """Return the note later by `start` and higher by `keys` semitones."""
        return replace(self, start=self.start + start, key=self.key + keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """All notes of one channel and program, in order of time, in seconds."""

    program: int
    is_drums: bool
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MidiSong:
    """A song of several tracks.  Units: seconds."""

    name: str
    tracks: tuple[Track, ...]
    length_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A row of the drum takes' table: what was played, how fast, how long."""

    path: Path
    style: str
    tempo_bpm: float
    is_fill: bool
    beats_per_bar: float
    length_s: float
    split: str


def _messages(path: Path) -> tuple[int, list[tuple[int, Any]]]:
    """Return ticks per beat and every (tick, message) of a file in order of time."""
    try:
        midi = mido.MidiFile(path, clip=True)
    except (OSError, ValueError, EOFError, KeyError, IndexError) as error:
        raise DataError(f"{path}: not a MIDI file that can be read ({error}); leave it out") from error
    merged = []
    for track in midi.tracks:  # mido's own merge copies and checks every message: four times slower
        tick = 0
        for message in track:
            tick += message.time
            merged.append((tick, message))
    return midi.ticks_per_beat, sorted(merged, key=lambda entry: entry[0])


def _beats_to_seconds(
    ticks_per_beat: int, messages: Iterable[tuple[int, Any]]
) -> Iterator[tuple[float, Any]]:
    """Yield (seconds, message) by the tempo map."""
    seconds, last_tick, beat_s = 0.0, 0, 60.0 / DEFAULT_TEMPO_BPM
    for tick, message in messages:
        seconds += (tick - last_tick) / ticks_per_beat * beat_s
        last_tick = tick
        if message.type == "set_tempo":
            beat_s = message.tempo * 1e-6
        yield seconds, message


def _pair(events: Iterable[tuple[float, Any]]) -> dict[tuple[int, int], list[Note]]:
    """Return notes by (channel, program): every note-on with its note-off; hanging notes are dropped."""
    program = dict.fromkeys(range(16), 0)
    sounding: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    found: dict[tuple[int, int], list[Note]] = {}
    for time, message in events:
        if message.type == "program_change":
            program[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            entry = (time, message.velocity, program[message.channel])
            sounding.setdefault((message.channel, message.note), []).append(entry)
        elif message.type in ("note_on", "note_off"):
            started = sounding.get((message.channel, message.note))
            if started:
                start, velocity, number = started.pop(0)
                note = Note(start=start, length=time - start, key=message.note, velocity=velocity)
                found.setdefault((message.channel, number), []).append(note)
    return {key: sorted(notes, key=lambda n: (n.start, n.key)) for key, notes in found.items()}


def read_song(path: Path) -> MidiSong:
    """Return a MIDI song in seconds, a track per channel and program; DataError if unreadable."""
    ticks_per_beat, messages = _messages(path)
    pairs = _pair(_beats_to_seconds(ticks_per_beat, messages))
    tracks = tuple(
        Track(
            program=0 if channel == DRUM_CHANNEL else program,
            is_drums=channel == DRUM_CHANNEL,
            notes=tuple(notes),
        )
        for (channel, program), notes in sorted(pairs.items())
    )
    length_s = max((n.start + n.length for track in tracks for n in track.notes), default=0.0)
    return MidiSong(name=Path(path).stem, tracks=tracks, length_s=length_s)


def read_take(path: Path) -> tuple[Note, ...]:
    """Return the notes of a drum take in beats, keys mapped to General MIDI; DataError if unreadable."""
    ticks_per_beat, messages = _messages(path)
    pairs = _pair((tick / ticks_per_beat, message) for tick, message in messages)
    notes = [replace(n, key=ROLAND_TO_GM.get(n.key, n.key)) for found in pairs.values() for n in found]
    return tuple(sorted(notes, key=lambda n: (n.start, n.key)))


def list_takes(folder: Path) -> list[Take]:
    """Return the drum takes that a folder's `info.csv` names; empty if there is no such table."""
    table = folder / "info.csv"
    if not table.exists():
        return []
    takes = []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            above, below = row["time_signature"].split("-")
            takes.append(
                Take(
                    path=folder / row["midi_filename"],
                    style=row["style"].split("/")[0],
                    tempo_bpm=float(row["bpm"]),
                    is_fill=row["beat_type"] != "beat",
                    beats_per_bar=4.0 * int(above) / int(below),
                    length_s=float(row["duration"]),
                    split=row["split"],
                )
            )
    return takes


def split_by_stem(path: Path, folder: Path) -> dict[str, Path]:
    """Write a MIDI song's drums, bass and other as MIDI files of their own below `folder`; return them.

    By General MIDI: channel 10 is drums, programs 33 to 40 (counted from 1) are bass, those above 112 are
    noises and left out, the rest is other. A stem without notes is left out. Programs, controllers and
    tempo go to every file.  Raises: DataError for what is not MIDI.
    """
    ticks_per_beat, events = _messages(path)
    programs = [0] * 16
    tracks: dict[str, list[tuple[int, Any]]] = {"drums": [], "bass": [], "other": []}
    sounding = set()
    for tick, message in events:
        stem = None
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            stem = _stem_of(message.channel, programs[message.channel])
            if stem is None:
                continue
            sounding.add(stem)
        for name in tracks if stem is None else (stem,):
            tracks[name].append((tick, message))
    written = {}
    for name in sorted(sounding):
        midi = mido.MidiFile(ticks_per_beat=ticks_per_beat)
        track, last = mido.MidiTrack(), 0
        for tick, message in tracks[name]:
            if message.type != "end_of_track":
                track.append(message.copy(time=tick - last))
                last = tick
        midi.tracks.append(track)
        written[name] = folder / f"{name}.mid"
        midi.save(written[name])
    return written


def _stem_of(channel: int, program: int) -> str | None:
    if channel == DRUM_CHANNEL:
        return "drums"
    if 32 <= program < 40:
        return "bass"
    return "other" if program < 112 else None
