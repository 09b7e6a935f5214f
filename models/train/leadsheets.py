"""Lead sheets: a melody with lyrics and the chords below it, read from JSON.

The file's layout: `{"title", "tempo", "time": [[beat, "4", "4"]], "melody": [[beat, length, key, syllable]],
"chords": [[beat, root, kind]], "beats"}`, beats counted in quarter notes.
"""

from __future__ import annotations

import bisect
import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

CHORD_TONES: dict[str, tuple[int, ...]] = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "power": (0, 7),
    "dominant": (0, 4, 7, 10),
    "major-seventh": (0, 4, 7, 11),
    "minor-seventh": (0, 3, 7, 10),
    "minor-major": (0, 3, 7, 11),
    "major-minor": (0, 3, 7, 10),
    "major-sixth": (0, 4, 7, 9),
    "minor-sixth": (0, 3, 7, 9),
    "maj69": (0, 4, 7, 9, 14),
    "diminished": (0, 3, 6),
    "diminished-seventh": (0, 3, 6, 9),
    "half-diminished": (0, 3, 6, 10),
    "augmented": (0, 4, 8),
    "augmented-seventh": (0, 4, 8, 10),
    "augmented-ninth": (0, 4, 8, 10, 14),
    "suspended-fourth": (0, 5, 7),
    "dominant-ninth": (0, 4, 7, 10, 14),
    "dominant-11th": (0, 7, 10, 14, 17),
    "dominant-13th": (0, 4, 10, 14, 21),
    "major-ninth": (0, 4, 7, 11, 14),
    "minor-ninth": (0, 3, 7, 10, 14),
    "minor-11th": (0, 3, 7, 10, 17),
    "minor-13th": (0, 3, 7, 10, 21),
}
"""Semitones above the root for each kind of chord (MusicXML's names)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MelodyNote:
    """One sung note; `key` is a MIDI key, `syllable` may be empty (a held or wordless note)."""

    start_beat: float
    length_beats: float
    key: int
    syllable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chord:
    """One chord from its beat to the next chord; `root` is a pitch class (0 is C)."""

    start_beat: float
    length_beats: float
    root: int
    kind: str = "major"

    @property
    def tones(self) -> tuple[int, ...]:
        """Semitones above the root; a kind that is not in the table counts as major."""
        return CHORD_TONES.get(self.kind, CHORD_TONES["major"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A song as melody and chords, both in order of time.  Units: beats are quarter notes."""

    name: str
    tempo_bpm: float | None
    """Quarter notes a minute; None where the sheet does not say."""
    beats_per_bar: float
    melody: tuple[MelodyNote, ...]
    chords: tuple[Chord, ...]
    length_beats: float

    @property
    def has_words(self) -> bool:
        """Whether any note carries a syllable."""
        return any(note.syllable for note in self.melody)

    def chord_at(self, beat: float) -> Chord | None:
        """Return the chord that sounds at a beat, None before the first."""
        at = bisect.bisect_right([chord.start_beat for chord in self.chords], beat) - 1
        return self.chords[at] if at >= 0 else None


def _bar_length(signature: list) -> float:
    """Return the quarter notes in a bar of `["beat", "4", "4"]`."""
    return 4.0 * float(signature[1]) / float(signature[2])


def load_sheet(path: Path) -> Sheet:
    """Return the lead sheet in a JSON file; DataError says which file and what is wrong with it."""
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
        melody = tuple(
            MelodyNote(
                start_beat=float(start), length_beats=float(length), key=int(key), syllable=str(word or "")
            )
            for start, length, key, word in sorted(row["melody"], key=lambda entry: entry[0])
        )
        ends = [note.start_beat + note.length_beats for note in melody]
        length_beats = float(row.get("beats") or max(ends, default=0.0))
        entries = sorted(row["chords"], key=lambda entry: entry[0])
        starts = [float(entry[0]) for entry in entries] + [length_beats]
        chords = tuple(
            Chord(start_beat=start, length_beats=stop - start, root=int(root) % 12, kind=str(kind))
            for (_, root, kind), start, stop in zip(entries, starts, starts[1:], strict=False)
            if stop > start
        )
        beats_per_bar = _bar_length(row["time"][0]) if row.get("time") else 4.0
        tempo_bpm = float(row["tempo"]) if row.get("tempo") else None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: not a lead sheet ({error}); see models/train/leadsheets.py") from error
    return Sheet(
        name=Path(path).stem,
        tempo_bpm=tempo_bpm,
        beats_per_bar=beats_per_bar,
        melody=melody,
        chords=chords,
        length_beats=length_beats,
    )
