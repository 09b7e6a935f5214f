"""Patterns: how chords become bass lines, strummed and held accompaniment, riffs, solos and a plain beat.

All times are beats; a pattern is a bar of (offset, length, velocity) hits, repeated over the chords.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .leadsheets import Chord, Sheet
from .notes import Note
from .rhythms import BASS, COMPING, Hit, read_bass_hits, read_hits

LOWEST_BASS = 28
LOWEST_GUITAR = 40
STRUM_BEATS = 0.012
"""Time from string to string in a strum, in beats (6 ms at 120 beats a minute)."""

MINOR_PENTATONIC = (0, 3, 5, 7, 10)
MAJOR_PENTATONIC = (0, 2, 4, 7, 9)


def _bars(sheet: Sheet) -> list[float]:
    return [float(b) for b in np.arange(0.0, sheet.length_beats - 1e-6, sheet.beats_per_bar)]


def is_minor(chord: Chord) -> bool:
    """Return whether a chord has a minor third."""
    return 3 in chord.tones and 4 not in chord.tones


def _above(pitch_class: int, lowest: int) -> int:
    """Return the lowest key of a pitch class at or above `lowest`."""
    return lowest + (pitch_class - lowest) % 12


def degree(chord: Chord, name: str) -> int:
    """Return semitones above the root of a bass degree: 1, 2, 3, 5, 6, 7, 8."""
    fifth = next((t for t in chord.tones if t in (6, 7, 8)), 7)
    third = next((t for t in chord.tones if t in (3, 4, 5)), 7 if chord.kind == "power" else 4)
    seventh = next((t for t in chord.tones if t in (9, 10, 11)), 10)
    return {"1": 0, "2": 2, "3": third, "5": fifth, "6": 9, "7": seventh, "8": 12}[name]


def bass_line(sheet: Sheet, pattern: str, rng: np.random.Generator, low: int = LOWEST_BASS) -> list[Note]:
    """Return a bass line in beats: one of the pattern's bars most of the time, another for variety."""
    bars = [read_bass_hits(bar) for bar in BASS[pattern]]
    main = int(rng.integers(len(bars)))
    lowest = low + int(rng.integers(0, 6))
    notes = []
    for bar in _bars(sheet):
        hits = bars[main] if rng.random() < 0.8 else bars[int(rng.integers(len(bars)))]
        for offset, length, velocity, name in hits:
            beat = bar + offset
            chord = sheet.chord_at(beat)
            if chord is None or offset >= sheet.beats_per_bar or beat >= sheet.length_beats:
                continue
            key = _above(chord.root, lowest)
            if name == "a":
                following = sheet.chord_at(bar + sheet.beats_per_bar) or chord
                key = _above(following.root, lowest) + (-1 if rng.random() < 0.6 else 2)
            else:
                key += degree(chord, name)
            if key > lowest + 19:
                key -= 12
            notes.append(Note(start=beat, length=length, key=max(key, low - 2), velocity=velocity))
    return _restart_on_chords(notes, sheet, lowest)


def _restart_on_chords(notes: list[Note], sheet: Sheet, lowest: int) -> list[Note]:
    """Return the line with a root added where a chord begins inside a bar and nothing is played."""
    starts = {round(n.start * 4) for n in notes}
    for chord in sheet.chords:
        on_beat = chord.start_beat % 1.0 == 0.0
        if on_beat and round(chord.start_beat * 4) not in starts and chord.start_beat < sheet.length_beats:
            key = _above(chord.root, lowest)
            notes.append(Note(start=chord.start_beat, length=0.9, key=key, velocity=98))
    ordered = sorted(notes, key=lambda n: n.start)
    ends = [n.start for n in ordered[1:]] + [float("inf")]
    return [
        Note(start=n.start, length=min(n.length, max(0.05, end - n.start)), key=n.key, velocity=n.velocity)
        for n, end in zip(ordered, ends, strict=True)
    ]


def guitar_voicing(chord: Chord, rng: np.random.Generator) -> list[int]:
    """Return a barre chord's keys, low string first, in the shape with its root on E or A."""
    third = degree(chord, "3")
    upper = next((t for t in chord.tones if t in (9, 10, 11)), 12)
    if rng.random() < 0.5:
        root = _above(chord.root, LOWEST_GUITAR)
        shape = (0, 7, upper, 12 + third, 19, 24)
    else:
        root = _above(chord.root, LOWEST_GUITAR + 5)
        shape = (0, 7, upper if upper != 12 else 12, 12 + third, 19)
    return [root + step for step in shape]


def close_voicing(chord: Chord, centre: int) -> list[int]:
    """Return three or four chord tones as near to a centre key as they can lie."""
    tones = chord.tones if len(chord.tones) <= 4 else chord.tones[1:5]
    return sorted({_above(chord.root + tone, centre - 6) for tone in tones})


def voicing(chord: Chord, family: str, rng: np.random.Generator) -> list[int]:
    """Return the keys that a family of instruments plays for a chord."""
    if family == "distorted":
        root = _above(chord.root, LOWEST_GUITAR - 2)
        return [root, root + degree(chord, "5"), root + 12]
    if family in ("crunch", "clean", "acoustic", "lead"):
        keys = guitar_voicing(chord, rng)
        return keys if family != "crunch" or rng.random() < 0.5 else keys[:4]
    if family == "piano" or (family == "electric_piano" and rng.random() < 0.4):
        return [_above(chord.root, 36), *close_voicing(chord, 62)]
    return close_voicing(chord, {"strings": 64, "brass": 66, "bells": 84, "flute": 76}.get(family, 63))


def _arpeggio(sheet: Sheet, family: str, rng: np.random.Generator) -> list[Note]:
    step = float(rng.choice([0.5, 0.5, 0.25]))
    order = rng.integers(0, 4)
    notes: list[Note] = []
    keys: list[int] = []
    last: Chord | None = None
    for index, beat in enumerate(np.arange(0.0, sheet.length_beats - 1e-6, step)):
        chord = sheet.chord_at(float(beat))
        if chord is None:
            continue
        if chord is not last:
            keys, last = voicing(chord, family, rng), chord
        n = len(keys)
        climb = [*range(n), *range(n - 2, 0, -1)]
        at = climb[index % len(climb)] if order < 3 else int(rng.integers(n))
        ring = step * float(rng.choice([1.0, 2.0, 4.0]))
        notes.append(Note(start=float(beat), length=ring, key=keys[at], velocity=88 if index % 4 else 98))
    return notes


def _boogie_keys(chord: Chord, at: int) -> list[int]:
    root = _above(chord.root, LOWEST_GUITAR)
    return [root, root + (7, 7, 9, 9, 10, 10, 9, 9)[at % 8]]


def comping(sheet: Sheet, family: str, how: str, rng: np.random.Generator) -> list[Note]:
    """Return an accompaniment in beats: chords in a family's voicing to one pattern."""
    if how == "arpeggio":
        return _arpeggio(sheet, family, rng)
    bars = [read_hits(bar) for bar in COMPING[how]]
    main = int(rng.integers(len(bars)))
    strummed = family in ("crunch", "clean", "acoustic", "distorted", "lead")
    notes: list[Note] = []
    keys: list[int] = []
    last: Chord | None = None
    for bar in _bars(sheet):
        hits = list(bars[main] if rng.random() < 0.85 else bars[int(rng.integers(len(bars)))])
        if how in ("pad", "sustain", "block"):
            hits = _split_at_chords(sheet, bar, hits)
        for at, (offset, length, velocity) in enumerate(hits):
            chord = sheet.chord_at(bar + offset)
            if chord is None or offset >= sheet.beats_per_bar or bar + offset >= sheet.length_beats:
                continue
            if chord is not last:
                keys, last = voicing(chord, family, rng), chord
            played = _boogie_keys(chord, at) if how == "boogie" else _hand(keys, how, at)
            notes += _struck(played, bar + offset, length, velocity, strummed, at % 2 == 1)
    return notes


def _hand(keys: Sequence[int], how: str, at: int) -> Sequence[int]:
    """Return which keys of a voicing one hit takes: bass and chord alternate in a boom-chick."""
    if how == "boom_chick":
        return keys[:1] if at in (0, 2, 3) and at % 2 == 0 else keys[1:]
    return keys[-3:] if how in ("scratch", "offbeat", "bubble") else keys


def _split_at_chords(sheet: Sheet, bar: float, hits: list[Hit]) -> list[Hit]:
    """Return the hits of a bar cut where a chord changes below them."""
    starts = [c.start_beat - bar for c in sheet.chords if bar < c.start_beat < bar + sheet.beats_per_bar]
    cut = list(hits)
    for start in starts:
        for i, (offset, length, velocity) in enumerate(cut):
            if offset < start - 1e-6 and offset + length > start + 1e-6:
                cut[i] = (offset, start - offset, velocity)
                cut.append((start, offset + length - start, velocity))
                break
    return sorted(cut)


def _struck(
    keys: Sequence[int], beat: float, length: float, velocity: int, strummed: bool, upwards: bool
) -> list[Note]:
    """Return one chord: together on keyboards, string after string on guitars."""
    order = list(reversed(keys)) if upwards else list(keys)
    return [
        Note(
            start=beat + (STRUM_BEATS * i if strummed else 0.0),
            length=length,
            key=key,
            velocity=max(1, velocity - (3 * i if strummed else 0)),
        )
        for i, key in enumerate(order)
    ]


def riff_line(sheet: Sheet, rng: np.random.Generator, low: int) -> list[Note]:
    """Return a riff of one or two bars on the pentatonic scale, moved with the chords.

    Two instruments given generators of the same seed play it in unison, `low` apart.
    """
    n_bars = int(rng.choice([1, 2]))
    step = float(rng.choice([0.5, 0.5, 0.25]))
    figure: list[tuple[float, float, int]] = []
    at, place = 0.0, 0
    while at < n_bars * sheet.beats_per_bar - 1e-6:
        length = step * float(rng.choice([1, 1, 1, 2, 3]))
        if at == 0.0 or rng.random() < 0.8:
            figure.append((at, length * float(rng.choice([0.5, 0.95])), place))
        place = int(np.clip(place + rng.integers(-2, 3), -1, 6)) if rng.random() < 0.75 else 0
        at += length
    notes = []
    span = n_bars * sheet.beats_per_bar
    for start in np.arange(0.0, sheet.length_beats - 1e-6, span):
        chord = sheet.chord_at(float(start))
        if chord is None:
            continue
        scale = MAJOR_PENTATONIC if not is_minor(chord) and chord.kind == "major" else MINOR_PENTATONIC
        for offset, length, index in figure:
            beat = float(start) + offset
            if beat < sheet.length_beats:
                key = _above(chord.root, low) + 12 * (index // 5) + scale[index % 5]
                notes.append(Note(start=beat, length=length, key=key, velocity=104 if offset == 0 else 94))
    return notes


def solo_line(sheet: Sheet, rng: np.random.Generator, low: int) -> list[Note]:
    """Return an invented melody in phrases with rests, mostly on the pentatonic of the first chord."""
    if not sheet.chords:
        return []
    tonic = sheet.chords[0]
    scale = MINOR_PENTATONIC if is_minor(tonic) or rng.random() < 0.5 else MAJOR_PENTATONIC
    base = _above(tonic.root, low)
    notes: list[Note] = []
    beat, place = float(rng.choice([0.0, 0.5, 1.0, 2.0])), int(rng.integers(0, 6))
    while beat < sheet.length_beats:
        phrase_end = beat + float(rng.uniform(2, 7))
        while beat < min(phrase_end, sheet.length_beats):
            length = float(rng.choice([0.25, 0.5, 0.5, 0.5, 1.0, 1.5]))
            place = int(np.clip(place + rng.integers(-2, 3), 0, 9))
            key = base + 12 * (place // 5) + scale[place % 5]
            notes.append(Note(start=beat, length=length * 0.95, key=key, velocity=int(rng.integers(78, 116))))
            beat += length
        held = notes[-1]
        notes[-1] = Note(start=held.start, length=held.length + 1.0, key=held.key, velocity=held.velocity)
        beat = np.ceil(beat + float(rng.choice([1.0, 2.0, 4.0])))
    return notes


def generic_drums(rng: np.random.Generator, n_beats: float, bar: float, style: str) -> list[Note]:
    """Return a plain beat with fills, for songs that no recorded take fits (three in a bar, no takes)."""
    cymbal = int(rng.choice([42, 42, 51]))
    step = float(rng.choice([0.5, 0.5, 1.0, 0.25]))
    one_drop = style == "reggae"
    kicks = [bar / 2] if one_drop else [0.0, *(o for o in np.arange(0.5, bar, 0.5) if rng.random() < 0.25)]
    snares = [bar / 2] if one_drop else [float(o) for o in np.arange(1.0, bar, 2.0)]
    notes: list[Note] = []

    def hit(beat: float, key: int, velocity: int) -> None:
        if beat < n_beats:
            notes.append(Note(start=float(beat), length=0.1, key=key, velocity=velocity))

    for index, start in enumerate(np.arange(0.0, n_beats - 1e-6, bar)):
        fill = index % 4 == 3 and rng.random() < 0.6
        stop = bar - 1.0 if fill else bar
        for offset in np.arange(0.0, stop, step):
            hit(start + offset, cymbal, 92 if offset % 1 == 0 else 70)
        for offset in kicks:
            hit(start + offset, 36, 104)
        for offset in snares:
            hit(start + offset, 38, 106)
        if index % 4 == 0 and rng.random() < 0.7:
            hit(start, 49, 100)
        if fill:
            for i, offset in enumerate(np.arange(stop, bar, 0.25)):
                hit(start + offset, (38, 48, 45, 43)[i % 4], 90 + 5 * i)
    return sorted(notes, key=lambda n: (n.start, n.key))
