"""Styles: what genres are played on and how, common chord progressions, and sheets made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .leadsheets import Chord, Sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Habits of a genre; lists are words in one string, a repeated word is likelier."""

    name: str
    takes: str
    """Styles of the drum takes that suit it."""
    tempo_bpm: tuple[float, float]
    bass: str
    """Bass patterns."""
    comping: str
    """Accompaniments, each `family:pattern`."""
    leads: str
    swing: float = 0.0
    """How much later than half a beat an offbeat comes, in beats."""


STYLES = (
    Style(
        name="rock",
        takes="rock punk",
        tempo_bpm=(84, 160),
        bass="eighths eighths roots rock octaves pedal",
        comping=(
            "distorted:chug distorted:sustain crunch:strum clean:arpeggio organ:pad "
            "piano:pump acoustic:strum distorted:rock"
        ),
        leads="lead lead organ synth",
    ),
    Style(
        name="riff",
        takes="rock funk",
        tempo_bpm=(80, 140),
        bass="riff",
        comping="distorted:riff crunch:riff organ:pad crunch:stabs distorted:sustain",
        leads="lead organ",
    ),
    Style(
        name="pop",
        takes="pop rock dance",
        tempo_bpm=(90, 140),
        bass="rock octaves eighths roots syncopated melodic",
        comping=(
            "clean:arpeggio acoustic:strum piano:pump synth:pad strings:pad crunch:stabs "
            "electric_piano:block bells:arpeggio crunch:strum"
        ),
        leads="synth lead flute strings brass",
    ),
    Style(
        name="soul",
        takes="soul funk gospel hiphop neworleans",
        tempo_bpm=(76, 120),
        bass="syncopated funk melodic octaves",
        comping=(
            "clean:scratch electric_piano:block organ:pad brass:stabs piano:stabs strings:pad clean:offbeat"
        ),
        leads="brass electric_piano organ lead",
    ),
    Style(
        name="reggae",
        takes="reggae reggae latin hiphop",
        tempo_bpm=(66, 150),
        bass="reggae",
        comping="clean:offbeat organ:bubble piano:offbeat clean:arpeggio crunch:offbeat",
        leads="brass organ lead flute",
    ),
    Style(
        name="country",
        takes="country rock pop",
        tempo_bpm=(84, 190),
        bass="root_fifth root_fifth walking",
        comping=(
            "acoustic:boom_chick acoustic:strum clean:arpeggio piano:boom_chick clean:offbeat strings:pad"
        ),
        leads="lead clean strings piano",
    ),
    Style(
        name="shuffle",
        takes="blues jazz rock",
        tempo_bpm=(90, 180),
        bass="walking boogie roots",
        comping=("crunch:boogie piano:boogie clean:stabs organ:pad acoustic:boom_chick brass:stabs"),
        leads="lead piano brass",
        swing=0.15,
    ),
    Style(
        name="ballad",
        takes="soul rock pop hiphop",
        tempo_bpm=(60, 96),
        bass="roots rock melodic sustain",
        comping=(
            "piano:block electric_piano:arpeggio clean:arpeggio acoustic:arpeggio "
            "strings:pad organ:pad crunch:sustain"
        ),
        leads="strings lead flute brass",
    ),
    Style(
        name="latin",
        takes="latin afrobeat afrocuban highlife",
        tempo_bpm=(80, 130),
        bass="tumbao syncopated melodic",
        comping="piano:syncopated acoustic:syncopated clean:scratch brass:stabs organ:pad",
        leads="brass flute lead bells",
    ),
)

PROGRESSIONS: tuple[tuple[tuple[int, str], ...], ...] = (
    ((0, "major"), (7, "major"), (9, "minor"), (5, "major")),
    ((0, "major"), (5, "major"), (7, "major"), (5, "major")),
    ((9, "minor"), (5, "major"), (0, "major"), (7, "major")),
    ((0, "major"), (10, "major"), (5, "major"), (0, "major")),
    ((0, "minor"), (10, "major"), (8, "major"), (10, "major")),
    ((0, "minor"), (8, "major"), (3, "major"), (10, "major")),
    ((0, "minor"), (5, "minor"), (0, "minor"), (7, "dominant")),
    ((0, "minor"), (3, "major"), (5, "major"), (0, "minor")),
    ((0, "dominant"), (0, "dominant"), (5, "dominant"), (0, "dominant")),
    ((2, "minor-seventh"), (7, "dominant"), (0, "major-seventh"), (9, "minor-seventh")),
    ((0, "major"), (4, "minor"), (5, "major"), (7, "major")),
    ((0, "minor"), (0, "minor"), (10, "major"), (5, "major")),
    ((0, "major"), (9, "minor"), (2, "minor"), (7, "major")),
    ((0, "minor-seventh"), (5, "dominant"), (0, "minor-seventh"), (5, "dominant")),
    ((0, "power"), (3, "power"), (5, "power"), (0, "power")),
    ((0, "power"), (1, "power"), (0, "power"), (10, "power")),
)
TWELVE_BARS = (0, 0, 0, 0, 5, 5, 0, 0, 7, 5, 0, 7)


def made_up_sheet(rng: np.random.Generator, n_bars: int, beats_per_bar: float = 4.0) -> Sheet:
    """Return a sheet of common rock and pop chords without a melody: verse and chorus take turns."""
    key = int(rng.integers(12))
    chords: list[Chord] = []
    if rng.random() < 0.2:
        kind = "dominant" if rng.random() < 0.7 else "minor-seventh"
        loop = [(step, kind) for step in TWELVE_BARS]
        sections = [loop, loop]
    else:
        picks = rng.choice(len(PROGRESSIONS), 2, replace=False)
        stretch = int(rng.choice([1, 1, 2]))
        sections = [[chord for chord in PROGRESSIONS[int(p)] for _ in range(stretch)] for p in picks]
    bar = 0
    while bar < n_bars:
        section = sections[(bar // 8) % 2]
        step, kind = section[bar % len(section)]
        start = bar * beats_per_bar
        chords.append(Chord(start_beat=start, length_beats=beats_per_bar, root=(key + step) % 12, kind=kind))
        bar += 1
    return Sheet(
        name="made up", tempo_bpm=None, beats_per_bar=beats_per_bar, melody=(), chords=tuple(chords),
        length_beats=n_bars * beats_per_bar,
    )  # fmt: skip


def looped(sheet: Sheet, n_beats: float, *, keys: int = 0) -> Sheet:
    """Return the sheet repeated from its first chord to `n_beats`, transposed by `keys` semitones."""
    bar = sheet.beats_per_bar
    first = sheet.chords[0].start_beat // bar * bar if sheet.chords else 0.0
    span = max(bar, np.ceil((sheet.length_beats - first) / bar - 1e-6) * bar)
    chords, melody = [], []
    shift = -first
    while shift + first < n_beats:
        for chord in sheet.chords:
            if chord.start_beat + shift < n_beats:
                chords.append(
                    replace(chord, start_beat=chord.start_beat + shift, root=(chord.root + keys) % 12)
                )
        for note in sheet.melody:
            if 0 <= note.start_beat + shift < n_beats:
                melody.append(replace(note, start_beat=note.start_beat + shift, key=note.key + keys))
        shift += span
    return replace(sheet, chords=tuple(chords), melody=tuple(melody), length_beats=n_beats)
