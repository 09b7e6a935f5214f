"""Arrangements: chords into the parts of a band, MIDI songs into the same kind of parts.

Times are beats while a part is written and seconds once it is performed (`perform` adds what hands do).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .leadsheets import Sheet
from .notes import MidiSong, Note
from .patterns import bass_line, comping, generic_drums, riff_line, solo_line
from .styles import Style

FAMILIES = (
    "bass", "distorted", "crunch", "clean", "acoustic", "lead", "organ", "electric_piano", "piano",
    "strings", "brass", "flute", "synth", "bells",
)  # fmt: skip
"""Families of instruments; the sampler's folders are sorted into them by their General MIDI programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one player plays.  Units: notes in seconds, `pan` -1 to 1."""

    stem: str
    family: str
    notes: tuple[Note, ...]
    gain_db: float = 0.0
    pan: float = 0.0
    doubled: bool = False
    """Recorded twice and spread to both sides, as rhythm guitars are."""


def perform(
    notes: Sequence[Note],
    rng: np.random.Generator,
    *,
    beat_s: float,
    swing: float = 0.0,
    jitter_s: float = 0.008,
    push_s: float = 0.0,
) -> tuple[Note, ...]:
    """Return notes in beats as played, in seconds: swung, a little early or late, uneven in force."""
    played = []
    for note in notes:
        part = note.start % 1.0
        start = note.start + (swing if 0.4 < part < 0.6 else 0.0)
        seconds = start * beat_s + push_s + jitter_s * float(np.clip(rng.standard_normal(), -2.5, 2.5))
        velocity = int(np.clip(note.velocity + 6 * rng.standard_normal(), 1, 127))
        played.append(
            Note(
                start=max(0.0, seconds),
                length=max(0.03, note.length * beat_s),
                key=note.key,
                velocity=velocity,
            )
        )
    return tuple(sorted(played, key=lambda n: (n.start, n.key)))


def _sections(
    rng: np.random.Generator, n_beats: float, bar: float, presence: float
) -> list[tuple[float, float]]:
    """Return the spans (in beats) in which a part plays: sections of eight bars, some left out."""
    length = 8 * bar
    spans = [
        (at * length, min(n_beats, (at + 1) * length))
        for at in range(int(np.ceil(n_beats / length)))
        if rng.random() < presence
    ]
    return spans or [(0.0, n_beats)]


def _within(notes: Sequence[Note], spans: Sequence[tuple[float, float]]) -> list[Note]:
    return [n for n in notes if any(low <= n.start < high for low, high in spans)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What a song is played by: tempo, style and the drums' notes in beats (empty: a plain beat)."""

    style: Style
    tempo_bpm: float
    drums: tuple[Note, ...]


def arrange_sheet(sheet: Sheet, band: Band, rng: np.random.Generator) -> list[Part]:
    """Return the parts of a lead sheet played by a band: drums, bass, accompaniment, a lead."""
    style, beat_s, n_beats, bar = band.style, 60.0 / band.tempo_bpm, sheet.length_beats, sheet.beats_per_bar
    drums = band.drums or tuple(generic_drums(rng, n_beats, bar, style.name))
    riff_seed = int(rng.integers(1 << 31))

    def play(notes: Sequence[Note], jitter_s: float = 0.008) -> tuple[Note, ...]:
        push_s = 0.006 * float(rng.standard_normal())
        return perform(notes, rng, beat_s=beat_s, swing=style.swing, jitter_s=jitter_s, push_s=push_s)

    parts = [Part(stem="drums", family="drums", notes=perform(drums, rng, beat_s=beat_s, jitter_s=0.001))]
    patterns = style.bass.split()
    pattern = patterns[int(rng.integers(len(patterns)))]
    if pattern == "riff":
        line = riff_line(sheet, np.random.default_rng(riff_seed), low=28)
    else:
        line = bass_line(sheet, pattern, rng)
    parts.append(
        Part(stem="bass", family="bass", notes=play(_within(line, _sections(rng, n_beats, bar, 0.95))))
    )
    n_layers = int(rng.choice([1, 2, 3, 4], p=[0.12, 0.36, 0.34, 0.18]))
    layers = style.comping.split()
    for order, layer in enumerate(rng.choice(layers, min(n_layers, len(layers)), replace=False)):
        family, how = str(layer).split(":")
        if how == "riff":
            notes = riff_line(sheet, np.random.default_rng(riff_seed), low=40)
            if rng.random() < 0.5:
                notes = notes + [note.moved(keys=7) for note in notes]
        else:
            notes = comping(sheet, family, how, rng)
        notes = _within(notes, _sections(rng, n_beats, bar, 1.0 if order == 0 else 0.75))
        doubled = family in ("distorted", "crunch", "acoustic") and rng.random() < 0.45
        pan = 0.0 if doubled else float(np.clip(rng.normal(0, 0.45), -1, 1))
        gain_db = float(rng.normal(-1.5 * order, 2.0)) - (4.0 if how == "pad" else 0.0)
        parts.append(
            Part(stem="other", family=family, notes=play(notes), gain_db=gain_db, pan=pan, doubled=doubled)
        )
    if rng.random() < 0.6:
        parts.append(_lead(sheet, style, rng, play))
    return parts


def _lead(sheet: Sheet, style: Style, rng: np.random.Generator, play) -> Part:
    """Return a lead part: the sheet's melody if there is one, or an invented line."""
    bar = sheet.beats_per_bar
    family = str(rng.choice(style.leads.split()))
    if sheet.melody and rng.random() < 0.6:
        up = 12 * int(rng.integers(-1, 2))
        notes = [
            Note(start=n.start_beat, length=n.length_beats * 0.95, key=n.key + up, velocity=92)
            for n in sheet.melody
        ]
    else:
        notes = solo_line(sheet, rng, low=int(rng.integers(55, 68)))
    notes = _within(notes, _sections(rng, sheet.length_beats, bar, 0.6))
    gain_db, pan = float(rng.normal(1.0, 2.0)), float(np.clip(rng.normal(0, 0.2), -1, 1))
    return Part(stem="other", family=family, notes=play(notes), gain_db=gain_db, pan=pan)


_GM_FAMILIES = (
    *("piano",) * 4, *("electric_piano",) * 4, *("bells",) * 8, *("organ",) * 8, *("acoustic",) * 2,
    *("clean",) * 3, *("distorted",) * 2, "clean", *("bass",) * 8, *("strings",) * 12, *("synth",) * 4,
    *("brass",) * 12, *("flute",) * 12, *("synth",) * 24, *("acoustic",) * 4, *("bells",) * 4,
)  # fmt: skip
"""Family of each General MIDI program from 0 to 111; above are percussion and noises."""


def family_of(program: int) -> str | None:
    """Return the family of a General MIDI program (0-based), None for percussion and noises.

    >>> family_of(30), family_of(33)
    ('distorted', 'bass')
    """
    return _GM_FAMILIES[program] if 0 <= program < len(_GM_FAMILIES) else None


def _bass_octave(notes: Sequence[Note]) -> int:
    """Return the shift by octaves that brings a bass line's middle between E1 and E3."""
    middle = int(np.median([n.key for n in notes]))
    return -12 * ((middle - 40) // 12) if middle > 52 else (12 if middle < 28 else 0)


def arrange_song(song: MidiSong, rng: np.random.Generator, *, seconds_max: float) -> list[Part]:
    """Return the parts of a random stretch of a MIDI song, a little faster or slower, transposed."""
    speed = float(rng.uniform(0.9, 1.12))
    keys = int(rng.integers(-5, 6))
    spare = max(0.0, song.length_s / speed - seconds_max)
    begin = float(rng.uniform(0.0, spare))
    parts = []
    for track in song.tracks:
        family = "drums" if track.is_drums else family_of(track.program)
        notes = [
            replace(n, start=n.start / speed - begin, length=n.length / speed)
            for n in track.notes
            if 0.0 <= n.start / speed - begin < seconds_max
        ]
        if family is None or not notes:
            continue
        stem = family if family in ("drums", "bass") else "other"
        shift = 0 if stem == "drums" else keys + (_bass_octave(notes) if stem == "bass" else 0)
        played = perform(
            [n.moved(keys=shift) for n in notes],
            rng,
            beat_s=1.0,
            jitter_s=0.004 if stem == "drums" else 0.008,
        )
        if family == "distorted" and rng.random() < 0.3:
            family = "crunch" if rng.random() < 0.5 else "lead"
        parts.append(
            Part(
                stem=stem,
                family=family,
                notes=played,
                gain_db=float(rng.normal(0, 2.0)),
                pan=0.0 if stem != "other" else float(np.clip(rng.normal(0, 0.4), -1, 1)),
                doubled=family in ("distorted", "crunch") and rng.random() < 0.3,
            )
        )
    return parts
