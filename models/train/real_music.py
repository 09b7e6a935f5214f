"""Shards of recorded music: whole songs by stem, loops of one class, and produced instrumentals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from ..stems import MODEL_RATE_HZ
from . import shards
from .audio_files import load_audio, replay, rms_dbfs
from .material import AudioFile, Song, file_name, files_of, generator, held_out, songs_of

TARGET_DBFS = -20.0
ACCOMPANIMENT = "drums+bass+other"
HELD_OUT_SONGS = 3
HELD_OUT_SHARE = 0.15
VARIANTS = 2
VARIANT_RANGE = (0.94, 1.06)
SHORTEST_S, LONGEST_S = 20.0, 60.0
SEAM_S = 0.005
"""Fade at the ends of a loop: long enough that a seam does not click, too short to be heard as a fade."""

Progress = Callable[[str], None]


def prepare_multitrack(root: Path, out: Path, *, seed: int, progress: Progress) -> None:
    """Write each song as a shard of its stems and, for training, `VARIANTS` at another speed.

    Songs of three makers at most are held out; a held-out song has no variants.
    """
    songs = songs_of(root)
    valid = held_out(
        ((song.maker, song.seconds) for song in songs),
        share=HELD_OUT_SHARE,
        largest=HELD_OUT_SHARE / 2,
        at_most=HELD_OUT_SONGS,
    )
    for song in songs:
        split = "valid" if song.maker in valid else "train"
        factors = [1.0]
        if split == "train":
            factors += speed_factors(generator(seed, "multitrack", song.source), VARIANTS)
        _write_song(song, out, split, factors, progress)


def _write_song(song: Song, out: Path, split: str, factors: Sequence[float], progress: Progress) -> None:
    names = [file_name(song.name) + (f"_x{i}" if i else "") for i in range(len(factors))]
    todo = [(n, f) for n, f in zip(names, factors, strict=True) if not shards.has_shard(out, "multitrack", n)]
    if not todo:
        return
    stems = {part: load_audio(path) for part, path in song.stems}
    length = max(x.shape[1] for x in stems.values())
    stems = {part: np.pad(x, ((0, 0), (0, length - x.shape[1]))) for part, x in stems.items()}
    gain = level_gain(np.asarray(sum(stems.values())))
    for name, factor in todo:
        audio = {part: (x if factor == 1.0 else replay(x, factor)) * gain for part, x in stems.items()}
        shards.write_shard(out, name, audio, pool="multitrack", split=split, sources=(song.source,))
    progress(f"multitrack: {song.name} ({', '.join(stems)}; {split}; {len(todo)} shards)")


def speed_factors(rng: np.random.Generator, n: int) -> list[float]:
    """Return n factors of `VARIANT_RANGE`, alternately slower and faster, none nearer to 1 than 1.5 %."""
    low, high = VARIANT_RANGE
    return [float(rng.uniform(low, 0.985) if i % 2 == 0 else rng.uniform(1.015, high)) for i in range(n)]


def prepare_performances(root: Path, out: Path, *, seed: int, progress: Progress) -> None:
    """Write loops and phrases of one class and source as shards of 20 to 60 s with that one part."""
    files = sorted(files_of(root, "performances"), key=lambda f: (f.stem, f.source, f.path.name))
    for (stem, source), members in groupby(files, key=lambda f: (f.stem, f.source)):
        rng = generator(seed, "performances", f"{stem}/{source}")
        for i, batch in enumerate(batches(list(members), rng)):
            name = f"{file_name(source.removeprefix('performances/'))}_{i:02d}"
            if shards.has_shard(out, "performances", name):
                continue
            x = string_together(batch, generator(seed, "performances", name))
            x = x * level_gain(x)
            shards.write_shard(out, name, {stem: x}, pool="performances", split="train", sources=(source,))
            progress(f"performances: {name} ({stem}, {x.shape[1] / MODEL_RATE_HZ:.0f} s)")


def repeats(file: AudioFile) -> int:
    """Return how often a file is heard in a row: loops until they fill some eight seconds, notes once."""
    return max(1, min(4, round(8.0 / file.seconds))) if file.seconds >= 1.5 else 1


def batches(files: Sequence[AudioFile], rng: np.random.Generator) -> list[list[AudioFile]]:
    """Return the files in random order, split so that each batch, with its repeats, fills about 45 s."""
    order = [files[i] for i in rng.permutation(len(files))]
    found: list[list[AudioFile]] = [[]]
    filled_s = 0.0
    for file in order:
        seconds = file.seconds * repeats(file)
        if found[-1] and filled_s + seconds > 45.0:
            found.append([])
            filled_s = 0.0
        found[-1].append(file)
        filled_s += seconds
    if len(found) > 1 and filled_s < SHORTEST_S / 2:
        found[-2:] = [found[-2] + found[-1]]
    return found


def string_together(files: Sequence[AudioFile], rng: np.random.Generator) -> np.ndarray:
    """Return the files one after another, loops repeated, from the start again until 20 s are full.

    Shape: (2, n) float32, n at most 60 s.  Short notes are set apart by up to 0.3 s.
    """
    loops = [_with_seams(load_audio(file.path)) for file in files]
    pieces: list[np.ndarray] = []
    n, shortest = 0, int(SHORTEST_S * MODEL_RATE_HZ)
    while n < shortest:
        for file, loop in zip(files, loops, strict=True):
            gain = 10.0 ** ((TARGET_DBFS - rms_dbfs(loop) + rng.normal(0.0, 1.5)) / 20.0)
            pieces += [loop * np.float32(gain)] * repeats(file)
            if file.seconds < 1.5:
                pieces.append(np.zeros((2, int(rng.uniform(0.0, 0.3) * MODEL_RATE_HZ)), np.float32))
        n = sum(piece.shape[1] for piece in pieces)
    return np.concatenate(pieces, axis=1)[:, : int(LONGEST_S * MODEL_RATE_HZ)]


def _with_seams(x: np.ndarray) -> np.ndarray:
    n = min(int(SEAM_S * MODEL_RATE_HZ), x.shape[1] // 2)
    ramp = np.linspace(0.0, 1.0, n, endpoint=False, dtype=np.float32)
    y = x.copy()
    y[:, :n] *= ramp
    y[:, x.shape[1] - n :] *= ramp[::-1]
    return y


def prepare_instrumentals(root: Path, out: Path, *, progress: Progress) -> None:
    """Write each produced instrumental as one shard with the part `drums+bass+other`.

    A file whose notes say that a voice cannot be excluded is never held out.
    """
    files = files_of(root, "instrumental")
    sure = [file for file in files if "voice" not in file.doubt]
    unsure = {file.maker for file in files if "voice" in file.doubt}
    valid = held_out(
        ((file.maker, file.seconds) for file in sure if file.maker not in unsure), share=0.13, largest=0.13
    )
    for file in files:
        name = file_name(file.source.removeprefix("instrumental/"))
        if shards.has_shard(out, "instrumental", name):
            continue
        x = load_audio(file.path)
        split = "valid" if file.maker in valid else "train"
        shards.write_shard(
            out,
            name,
            {ACCOMPANIMENT: x * level_gain(x)},
            pool="instrumental",
            split=split,
            sources=(file.source,),
        )
        progress(f"instrumental: {name} ({split})")


def level_gain(x: np.ndarray) -> np.float32:
    """Return the factor that brings x (2, n) to `TARGET_DBFS`; 1 for silence."""
    level_dbfs = rms_dbfs(x, active_only=False)
    return np.float32(10.0 ** ((TARGET_DBFS - level_dbfs) / 20.0) if level_dbfs > -100.0 else 1.0)
