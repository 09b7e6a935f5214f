"""Speech and held vowels sung on melodies through the WORLD vocoder (home of pyworld).

WORLD takes a voice apart into pitch, envelope and breath every 5 ms. Here the pitch is replaced by a
melody's and time is bent so that one syllable falls on one note: consonants keep their length, vowels
are held by going to and fro in their middle.

Source: Morise, Yokomori, Ozawa 2016, WORLD: a vocoder-based high-quality speech synthesis system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyworld as _pyworld

from ..errors import DataError
from ..stems import MODEL_RATE_HZ
from .leadsheets import Sheet

pyworld: Any = _pyworld
"""Its names live in a compiled module that type checkers cannot see into."""
FRAME_S = 0.005
SHORTEST_VOWEL = 8
LONGEST_CONSONANT = 24
QUIET = 1e-11
"""Envelope power of a rest: below -100 dB of full scale, above zero because WORLD takes its logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SungNote:
    """One note of a melody; `key` is a MIDI key, fractions allowed."""

    start_s: float
    seconds: float
    key: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """A voice in frames of 5 ms: f0_hz (frame,) with 0 where unvoiced, envelope and breath (frame, bin)."""

    f0_hz: np.ndarray
    envelope: np.ndarray
    breath: np.ndarray

    @property
    def median_hz(self) -> float:
        """Median pitch of the voiced frames, 0 if there are none."""
        voiced = self.f0_hz[self.f0_hz > 0]
        return float(np.median(voiced)) if len(voiced) else 0.0


@dataclass(frozen=True, slots=True)
class Syllable:
    """Frames of one syllable: consonant from `onset` to `start`, vowel from there to `stop`."""

    onset: int
    start: int
    stop: int


def analyse(x: np.ndarray) -> Analysis:
    """Return the WORLD analysis of a mono voice (n,) at the model's rate; DataError if under 50 ms."""
    if x.ndim != 1 or len(x) < MODEL_RATE_HZ // 20:
        raise DataError(f"a voice of shape {x.shape} cannot be analysed: give (n,) of 50 ms or more")
    signal = np.ascontiguousarray(x, dtype=np.float64)
    coarse, times = pyworld.dio(
        signal, MODEL_RATE_HZ, f0_floor=65.0, f0_ceil=900.0, frame_period=FRAME_S * 1000.0
    )
    f0_hz = pyworld.stonemask(signal, coarse, times, MODEL_RATE_HZ)
    envelope = pyworld.cheaptrick(signal, f0_hz, times, MODEL_RATE_HZ)
    return Analysis(f0_hz, envelope, pyworld.d4c(signal, f0_hz, times, MODEL_RATE_HZ))


def synthesise(voice: Analysis) -> np.ndarray:
    """Return the voice of an analysis, (n,) float32."""
    y = pyworld.synthesize(
        np.ascontiguousarray(voice.f0_hz, dtype=np.float64),
        np.ascontiguousarray(voice.envelope, dtype=np.float64),
        np.ascontiguousarray(voice.breath, dtype=np.float64),
        MODEL_RATE_HZ,
        FRAME_S * 1000.0,
    )
    return y.astype(np.float32)


def shift_key(x: np.ndarray, semitones: float) -> np.ndarray:
    """Return a mono voice (n,) float32 at another pitch, formants and tempo kept: a second singer."""
    voice = analyse(x)
    y = synthesise(Analysis(voice.f0_hz * 2.0 ** (semitones / 12.0), voice.envelope, voice.breath))
    return np.pad(y, (0, max(0, len(x) - len(y))))[: len(x)]


def syllables(voice: Analysis) -> list[Syllable]:
    """Return the syllables of a voice in order: voiced runs, cut where the level dips by 3 dB.

    Runs under 40 ms are no syllables; gaps in voicing under 25 ms are closed.
    """
    power_db = 10.0 * np.log10(voice.envelope.mean(axis=1) + 1e-12)
    audible = power_db > power_db.max() - 45.0
    found: list[Syllable] = []
    for start, stop in _runs(voice.f0_hz > 0, closing=5):
        if stop - start < SHORTEST_VOWEL:
            continue
        earliest = max(found[-1].stop if found else 0, start - LONGEST_CONSONANT)
        silent = np.flatnonzero(~audible[earliest:start])
        onset = earliest + (int(silent[-1]) + 1 if len(silent) else 0)
        for cut_start, cut_stop in _cut_at_dips(power_db, start, stop):
            found.append(Syllable(onset if cut_start == start else cut_start, cut_start, cut_stop))
    return found


def _runs(flags: np.ndarray, closing: int) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    merged: list[tuple[int, int]] = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if merged and start - merged[-1][1] < closing:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _cut_at_dips(power_db: np.ndarray, start: int, stop: int) -> list[tuple[int, int]]:
    shortest = 3 * SHORTEST_VOWEL
    if stop - start <= 2 * shortest:
        return [(start, stop)]
    level_db = np.pad(power_db[start:stop], 5, mode="edge")
    smooth = np.convolve(level_db, np.hanning(11) / np.hanning(11).sum(), mode="valid")
    middle = smooth[shortest:-shortest]
    dip = shortest + int(np.argmin(middle))
    # Speech dips by a few dB at voiced consonants; less than 3 dB is the flutter of a held vowel.
    if min(smooth[:dip].max(), smooth[dip:].max()) - smooth[dip] < 3.0:
        return [(start, stop)]
    return _cut_at_dips(power_db, start, start + dip) + _cut_at_dips(power_db, start + dip, stop)


def sing(
    voice: Analysis,
    notes: Sequence[SungNote],
    rng: np.random.Generator,
    *,
    vibrato_cents: float = 35.0,
    drift_cents: float = 6.0,
    first: int = 0,
) -> np.ndarray:
    """Return the voice's syllables sung on the notes, one each, over and over; (n,) float32.

    The sound starts at the first note's `start_s` = 0 of the result.  Args: notes in order of time, a
    note that runs into the next one is cut; first: index of the first syllable.
    Raises: DataError if the voice has no voiced part.
    """
    parts = syllables(voice)
    if not parts or not notes:
        raise DataError("nothing to sing: the voice has no vowels, or there are no notes")
    begin_s = notes[0].start_s
    ends_s = [min(a.start_s + a.seconds, b.start_s) for a, b in pairwise(notes)]
    ends_s.append(notes[-1].start_s + notes[-1].seconds)
    n_frames = round((ends_s[-1] - begin_s) / FRAME_S) + 12
    index = np.full(n_frames, -1)
    key = np.full(n_frames, np.nan)
    gain_db = np.zeros(n_frames)
    voiced = np.zeros(n_frames, bool)
    levels = [10.0 * np.log10(voice.envelope[p.start : p.stop].mean() + 1e-12) for p in parts]
    seams: list[int] = []
    for i, (note, end_s) in enumerate(zip(notes, ends_s, strict=True)):
        which = (first + i) % len(parts)
        start, stop = (round((t - begin_s) / FRAME_S) for t in (note.start_s, end_s))
        if stop - start < SHORTEST_VOWEL:
            continue
        n_consonant = min(parts[which].start - parts[which].onset, (stop - start) // 3)
        index[start:stop] = _frames_of(parts[which], n_consonant, stop - start, rng)
        key[start:stop] = note.key
        voiced[start + n_consonant : stop] = True
        # Singers keep their level better than speakers: most of the difference between syllables goes.
        gain_db[start:stop] = 0.7 * (float(np.median(levels)) - levels[which])
        seams.append(start)
    f0_hz = _pitch(key, voiced, rng, vibrato_cents, drift_cents)
    return synthesise(_gather(voice, index, f0_hz, gain_db, seams))


def _frames_of(part: Syllable, n_consonant: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the source frame of each of n frames: consonant 1:1, attack 1:1, middle to and fro, end 1:1."""
    consonant = np.arange(part.start - n_consonant, part.start)
    n_vowel, need = part.stop - part.start, n - n_consonant
    if need <= n_vowel:
        return np.concatenate((consonant, part.start + np.arange(need) * n_vowel // need))
    attack, release = int(0.3 * n_vowel), int(0.2 * n_vowel)
    inner = n_vowel - attack - release
    walk = np.cumsum(rng.uniform(0.35, 0.85, need - attack - release))
    # The walk ends at the far side of the middle, where the release goes on: a whole odd number of ways.
    way = max(1, inner - 1)
    walk *= way * max(1, 2 * round((walk[-1] / way - 1) / 2) + 1) / walk[-1]
    middle = attack + way - np.abs(walk % (2 * way) - way)
    middle = np.clip(middle.astype(int), attack, attack + inner - 1)
    vowel = np.concatenate((np.arange(attack), middle, np.arange(n_vowel - release, n_vowel)))
    return np.concatenate((consonant, part.start + vowel))


def _pitch(
    key: np.ndarray, voiced: np.ndarray, rng: np.random.Generator, vibrato_cents: float, drift_cents: float
) -> np.ndarray:
    """Return f0 in Hz: the notes' keys with glides of some 50 ms, vibrato on held notes, slow drift."""
    n = len(key)
    sounding = ~np.isnan(key)
    if not sounding.any():
        return np.zeros(n)
    filled = np.interp(np.arange(n), np.flatnonzero(sounding), key[sounding])
    glide = np.hanning(13)
    smooth = np.convolve(np.pad(filled, 6, mode="edge"), glide / glide.sum(), mode="valid")
    changes = np.flatnonzero(np.abs(np.diff(filled, prepend=filled[0])) > 0.1)
    last = np.zeros(n, int)
    last[changes] = changes
    held_s = (np.arange(n) - np.maximum.accumulate(last)) * FRAME_S
    depth = np.clip((held_s - 0.25) / 0.35, 0.0, 1.0) * vibrato_cents / 100.0
    rate_hz = rng.uniform(4.8, 6.3)
    vibrato = depth * np.sin(2.0 * np.pi * rate_hz * np.arange(n) * FRAME_S + rng.uniform(0, 6.28))
    knots = rng.normal(0.0, drift_cents / 100.0, n // 30 + 2)
    drift = np.interp(np.arange(n) / 30.0, np.arange(len(knots)), knots)
    f0_hz = 440.0 * 2.0 ** ((smooth + vibrato + drift - 69.0) / 12.0)
    return np.where(voiced, f0_hz, 0.0)


def _gather(
    voice: Analysis, index: np.ndarray, f0_hz: np.ndarray, gain_db: np.ndarray, seams: Sequence[int]
) -> Analysis:
    """Return the frames in their new order; rests silent, joints between syllables faded over 30 ms."""
    rest = index < 0
    source = np.maximum(index, 0)
    envelope = voice.envelope[source] * 10.0 ** (gain_db[:, None] / 10.0)
    breath = voice.breath[source]
    envelope[rest] = QUIET
    breath[rest] = 1.0
    ramp = np.linspace(0.0, 1.0, 6)[:, None]
    for seam in seams:
        low, high = seam - 3, seam + 3
        if low >= 0 and high < len(envelope) and not rest[low] and f0_hz[low] > 0 and f0_hz[high] > 0:
            envelope[low:high] = envelope[low] ** (1.0 - ramp) * envelope[high] ** ramp
    for stop in np.flatnonzero(np.diff(rest.astype(np.int8)) == 1):
        tail = max(0, stop - 7)
        envelope[tail : stop + 1] *= np.linspace(1.0, 0.01, stop + 1 - tail)[:, None]
    return Analysis(f0_hz, np.maximum(envelope, QUIET), breath)


def melody(sheet: Sheet, rng: np.random.Generator, *, seconds: float, centre_key: float) -> list[SungNote]:
    """Return some `seconds` of a sheet's melody from a random phrase on, its median near `centre_key`.

    Without a tempo in the sheet one of 70 to 130 quarter notes a minute is drawn. Notes more than 14
    semitones from the centre are folded back by octaves. Empty if the sheet has no melody.
    """
    if not sheet.melody:
        return []
    tempo_bpm = sheet.tempo_bpm if sheet.tempo_bpm and 50 <= sheet.tempo_bpm <= 180 else rng.uniform(70, 130)
    beat_s = 60.0 / tempo_bpm
    begins = [
        i
        for i, (a, b) in enumerate(zip((None, *sheet.melody), sheet.melody, strict=False))
        if a is None or b.start_beat - a.start_beat - a.length_beats > 0.4
    ]
    first = begins[int(rng.integers(0, max(1, len(begins) * 2 // 3)))]
    origin = sheet.melody[first].start_beat
    taken = [n for n in sheet.melody[first:] if (n.start_beat - origin) * beat_s < seconds]
    shift = round(centre_key - float(np.median([n.key for n in taken])))
    articulation = rng.uniform(0.85, 1.0)
    notes: list[SungNote] = []
    for note in taken:
        start_s = (note.start_beat - origin) * beat_s
        if notes and start_s - notes[-1].start_s < 0.04:
            continue
        away = note.key + shift - centre_key
        key = note.key + shift - 12 * int(np.trunc(away / 14.0))
        notes.append(
            SungNote(start_s=start_s, seconds=max(0.06, note.length_beats * beat_s * articulation), key=key)
        )
    return notes
