"""Songs: whole pieces rendered from scores and samples, as drums, bass and other that sum to the song.

A song is a lead sheet, a made-up chord progression or a stretch of a MIDI song, played by a random band
through random effects. Everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ
from . import shards
from .arrange import Band, Part, arrange_sheet, arrange_song, perform
from .catalogue import BASS_WEIGHTS, KIT_WEIGHTS, Catalogue, catalogue, draw
from .effects import amplify, colour, level_to, modulate, reverberate, rms, strip, vibrato, widen
from .leadsheets import load_sheet
from .notes import Note, Take, read_song, read_take
from .sampler import CYMBALS, Instrument, Kit, Player
from .styles import STYLES, Style, looped, made_up_sheet

POOL = "songs"
VALID_EVERY = 10
STEM_LEVELS_DB = {"drums": (-20.0, 2.0), "bass": (-21.0, 2.0), "other": (-21.5, 2.0)}
"""Mean and deviation of a stem's RMS before the song is scaled to its peak."""
DRIVE_DB = {"clean": (0, 8), "crunch": (8, 20), "distorted": (18, 40), "lead": (10, 38), "acoustic": (0, 0)}
"""Range of the amplifier's drive for each family of guitars."""
STYLE_WEIGHTS = {"rock": 3.0, "riff": 2.0, "pop": 2.0, "country": 1.5, "reggae": 1.5, "shuffle": 1.2}
SHARE_SCORES, SHARE_SHEETS = 0.35, 0.35
"""Shares of songs from MIDI songs and from lead sheets; the rest is made up."""
WAVERING = frozenset({"lead", "brass", "strings", "flute"})
DRUM_GROUPS = (
    (35, 36), (37, 38, 39, 40), (41, 43, 45, 47, 48, 50), (42, 44, 46),
    (49, 51, 52, 53, 55, 57, 59),
)  # fmt: skip
TUNE_RANGE = (2.0, 2.0, 2.5, 1.0, 1.5)


def render_song(
    seed: int | Sequence[int], material: Path, seconds_max: float, *, split: str = "train"
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return a song's parts (drums, bass, other; silent ones left out) and the keys of its sources.

    Shape: every part (2, n) float32, n at most `seconds_max` at the model's rate.
    Units: full scale; the sum of the parts stays below 0.95.
    Raises: DataError if the material has no drums, bass or other instruments.
    """
    rng = np.random.default_rng(seed)
    stock = catalogue(Path(material), split)
    parts, sources = _compose(rng, stock, seconds_max)
    parts = _with_breaks(parts, rng, seconds_max)
    last = max(n.start + n.length for part in parts for n in part.notes)
    n_samples = int(min(seconds_max, last + 1.0) * MODEL_RATE_HZ)
    stems: dict[str, np.ndarray] = {}
    drum_notes = [n for p in parts if p.stem == "drums" for n in p.notes]
    if drum_notes:
        stems["drums"] = render_drums(drum_notes, stock, rng, n_samples, sources)
    for stem in ("bass", "other"):
        played = [p for p in parts if p.stem == stem and p.notes]
        if played:
            stems[stem] = render_stem(played, stock, rng, n_samples, sources)
    return balance(stems, rng), tuple(sorted(sources))


def _compose(rng: np.random.Generator, stock: Catalogue, seconds: float) -> tuple[list[Part], set[str]]:
    """Return the parts of a song and the keys of the scores they come from."""
    choice = rng.random()
    if stock.scores and choice < SHARE_SCORES:
        for _ in range(6):
            path = stock.scores[int(rng.integers(len(stock.scores)))]
            parts = arrange_song(read_song(path), rng, seconds_max=seconds)
            if {"drums", "bass", "other"} <= {part.stem for part in parts}:
                return parts, {stock.key_of(path.parent)}
    sources: set[str] = set()
    weights = np.array([STYLE_WEIGHTS.get(style.name, 1.0) for style in STYLES])
    style = STYLES[int(rng.choice(len(STYLES), p=weights / weights.sum()))]
    sheet = None
    if stock.sheets and choice < SHARE_SCORES + SHARE_SHEETS:
        path = stock.sheets[int(rng.integers(len(stock.sheets)))]
        sheet = load_sheet(path)
        sources.add(stock.key_of(path.parent))
    if sheet is None or not sheet.chords:
        sheet = made_up_sheet(rng, 32)
    even = sheet.beats_per_bar in (2.0, 4.0)
    take = choose_take(rng, stock.takes, style) if even and rng.random() < 0.9 else None
    if take is None:
        tempo_bpm = float(rng.uniform(*style.tempo_bpm))
    else:
        tempo_bpm = float(np.clip(take.tempo_bpm * rng.uniform(0.9, 1.1), 55, 200))
        sources.add(stock.top_key_of(take.path))
    n_beats = seconds * tempo_bpm / 60.0
    if even:
        sheet = replace(sheet, beats_per_bar=4.0)
    sheet = looped(sheet, n_beats, keys=int(rng.integers(-6, 6)))
    drums = () if take is None else take_notes(take, n_beats)
    parts = arrange_sheet(sheet, Band(style=style, tempo_bpm=tempo_bpm, drums=drums), rng)
    if rng.random() < 0.2:
        parts.append(_shaker(rng, n_beats, 60.0 / tempo_bpm))
    return parts, sources


def _with_breaks(parts: list[Part], rng: np.random.Generator, seconds: float) -> list[Part]:
    """Return the parts with up to two breaks of 2 to 8 s in which only one or two stems go on."""
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2]))):
        begin, length = float(rng.uniform(0, seconds)), float(rng.uniform(2, 8))
        rest = set(rng.choice(["drums", "bass", "other"], int(rng.integers(1, 3)), replace=False))
        parts = [
            replace(p, notes=tuple(n for n in p.notes if not begin <= n.start < begin + length))
            if p.stem in rest
            else p
            for p in parts
        ]
    return parts


def choose_take(rng: np.random.Generator, takes: Sequence[Take], style: Style) -> Take | None:
    """Return a drum take in a style, None if there is none; longer takes are likelier."""
    fitting = [
        t for t in takes if t.style in style.takes.split() and not t.is_fill and t.beats_per_bar == 4.0
    ]
    fitting = fitting or [t for t in takes if not t.is_fill and t.beats_per_bar == 4.0]
    if not fitting:
        return None
    named = style.takes.split()
    by_style = {name: named.count(name) for name in named}
    crowd = {name: sum(t.style == name for t in fitting) for name in {t.style for t in fitting}}
    weights = np.array([min(t.length_s, 60.0) * by_style.get(t.style, 1) / crowd[t.style] for t in fitting])
    return fitting[int(rng.choice(len(fitting), p=weights / weights.sum()))]


def take_notes(take: Take, n_beats: float) -> tuple[Note, ...]:
    """Return a take's notes in beats, repeated by whole bars until `n_beats`."""
    notes = read_take(take.path)
    if not notes:
        return ()
    span = max(4.0, round((notes[-1].start + 0.5) / 4.0) * 4.0)
    repeats = int(np.ceil(n_beats / span))
    return tuple(
        n.moved(start=span * at)
        for at in range(repeats)
        for n in notes
        if n.start < span and n.start + span * at < n_beats
    )


def _shaker(rng: np.random.Generator, n_beats: float, beat_s: float) -> Part:
    """Return a tambourine, cabasa or shaker in eighths or on the backbeat."""
    key = int(rng.choice([54, 69, 70]))
    step, first = (0.5, 0.0) if rng.random() < 0.6 else (2.0, 1.0)
    beats = np.arange(first, n_beats, step)
    notes = [Note(start=float(b), length=0.1, key=key, velocity=90 if b % 1 == 0 else 70) for b in beats]
    return Part(stem="drums", family="drums", notes=perform(notes, rng, beat_s=beat_s))


def _drum_player(kit: Instrument, rng: np.random.Generator, keys: frozenset[int] | None = None) -> Player:
    tune, gain_db = {}, {}
    for group, spread in zip(DRUM_GROUPS, TUNE_RANGE, strict=True):
        semitones, decibels = float(rng.uniform(-spread, spread)), float(rng.normal(0, 2.0))
        for key in group:
            tune[key], gain_db[key] = semitones, decibels
    return Player(kit, rng, tune_keys=tune, gain_keys_db=gain_db, spread_db=0.8, keys=keys)


def render_drums(
    notes: Sequence[Note], stock: Catalogue, rng: np.random.Generator, n_samples: int, sources: set[str]
) -> np.ndarray:
    """Return the drums: one kit, now and then with another's snare or cymbals, in a room."""
    base = draw(rng, stock.kits, KIT_WEIGHTS)
    donor = draw(rng, stock.kits, KIT_WEIGHTS)
    players = []
    if stock.snares and rng.random() < 0.3:
        players.append(_drum_player(stock.snares[int(rng.integers(len(stock.snares)))], rng))
    if rng.random() < 0.3:
        players.append(_drum_player(donor, rng, CYMBALS))
    players += [_drum_player(base, rng), _drum_player(donor, rng)]
    sources.update(stock.source_of(player.instrument) for player in players)
    kit = Kit(players)
    grouped = [[n for n in notes if n.key in group] for group in DRUM_GROUPS]
    grouped.append([n for n in notes if not any(n.key in group for group in DRUM_GROUPS)])
    x = np.zeros((2, n_samples), np.float32)
    for group in (g for g in grouped if g):  # a channel for each kind of drum, as on a desk
        channel = kit.render(group, n_samples)
        x += strip(channel, rng) if rng.random() < 0.6 else channel
    if rng.random() < 0.5:
        x = widen(x, float(rng.uniform(0.3, 1.3)))
    x = colour(x, rng, "drums", impulses=stock.impulses)
    return colour(x, rng, "room", impulses=stock.impulses) if rng.random() < 0.25 else x


def _in_range(notes: Sequence[Note], instrument: Instrument) -> list[Note]:
    """Return notes moved by octaves into what the instrument can play."""
    low, high = instrument.key_range
    moved = []
    for note in notes:
        key = note.key
        while key < low:
            key += 12
        while key > high:
            key -= 12
        moved.append(replace(note, key=max(low, key)))
    return moved


def _panned(x: np.ndarray, pan: float) -> np.ndarray:
    """Return x moved to one side: the far side gets quieter by up to 20 dB, the level stays."""
    left, right = (1.0, 10 ** (-pan)) if pan > 0 else (10**pan, 1.0)
    gains = np.array([[right], [left]], np.float32)
    return level_to(x * gains, rms(x))


def _take_of(
    part: Part, instrument: Instrument, rng: np.random.Generator, n_samples: int, impulses: Sequence[Path]
) -> np.ndarray:
    """Return one recording of a part: played, through its amplifier, coloured."""
    release_s = float(rng.uniform(0.03, 0.15)) if part.stem == "bass" else float(rng.uniform(0.05, 0.35))
    scoops = {"bass": 0.05, "lead": 0.25, "brass": 0.12, "strings": 0.05}.get(part.family, 0.0)
    detune = float(rng.normal(0, 8))
    player = Player(instrument, rng, detune_cents=detune, release_s=release_s, spread_db=0.7, scoops=scoops)
    x = player.render(_in_range(part.notes, instrument), n_samples)
    if part.family in WAVERING and rng.random() < 0.5:
        x = vibrato(x, rng)
    low, high = DRIVE_DB.get(part.family, (0, 0))
    if high and rms(x) > 0:
        x = widen(x, 0.0)
        x = amplify(x, rng, float(rng.uniform(low, high)))
    elif part.family == "organ" and rng.random() < 0.5:
        x = modulate(x, rng)
    return colour(x, rng, "bass" if part.stem == "bass" else "other", impulses=impulses)


def render_stem(
    parts: Sequence[Part], stock: Catalogue, rng: np.random.Generator, n_samples: int, sources: set[str]
) -> np.ndarray:
    """Return the sum of a stem's parts, each at its level and place, through a bus."""
    bus = np.zeros((2, n_samples), np.float32)
    for part in parts:
        if part.stem == "bass":
            instrument = draw(rng, stock.basses, BASS_WEIGHTS)
        else:
            instrument = draw(rng, stock.of_family(part.family), {})
        sources.add(stock.source_of(instrument))
        x = _take_of(part, instrument, rng, n_samples, stock.impulses)
        level = 10 ** ((part.gain_db - 20) / 20)
        if part.doubled:
            again = tuple(
                replace(n, start=max(0.0, n.start + 0.009 * float(rng.standard_normal()))) for n in part.notes
            )
            second = _take_of(replace(part, notes=again), instrument, rng, n_samples, stock.impulses)
            side = float(rng.uniform(0.4, 1.0))
            x = _panned(level_to(x, 1.0), side) + _panned(level_to(second, 1.0), -side)
        elif part.stem == "other":
            x = _panned(x, part.pan)
        active = float(np.mean(np.abs(x).max(axis=0) > 1e-3 * max(float(np.abs(x).max()), 1e-9)))
        bus += level_to(x, level * np.sqrt(max(active, 0.05)))
    if parts[0].stem == "other" and rng.random() < 0.6:
        bus = reverberate(bus, rng, float(rng.uniform(-24, -9)), stock.impulses)
    return bus


def balance(stems: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the stems at the levels of a mix, scaled as a whole so that nothing clips."""
    levelled = {}
    for name, x in stems.items():
        mean_db, deviation_db = STEM_LEVELS_DB[name]
        if rms(x) > 1e-6:
            levelled[name] = level_to(x, 10 ** ((mean_db + deviation_db * float(rng.standard_normal())) / 20))
    if not levelled:
        raise DataError("a song came out silent: its instruments have none of its keys")
    mixture = np.sum(list(levelled.values()), axis=0)
    peak = max(float(np.abs(mixture).max()), *(float(np.abs(x).max()) for x in levelled.values()))
    scale = np.float32(min(1.0, 0.95 / peak))
    return {name: x * scale for name, x in levelled.items()}


def prepare_songs(
    material: Path, out: Path, minutes: float, seed: int, progress: Callable[[str], None]
) -> None:
    """Write some `minutes` of songs as shards; songs that are already there are not made again.

    One song in ten is `valid` and uses instruments, takes and scores that no `train` song uses.
    """
    made_s, number = 0.0, 0
    while made_s < 60.0 * minutes:
        rng = np.random.default_rng([seed, number, 1])
        seconds = float(rng.uniform(60, 90))
        made_s += seconds
        split = "valid" if number % VALID_EVERY == VALID_EVERY - 1 else "train"
        name = f"song_{seed}_{number:05d}"
        number += 1
        if shards.has_shard(out, POOL, name):
            continue
        parts, sources = render_song([seed, number], material, seconds, split=split)
        shards.write_shard(out, name, parts, pool=POOL, split=split, sources=sources)
        progress(f"songs: {name} ({', '.join(parts)}; {split}; {seconds:.0f} s)")
