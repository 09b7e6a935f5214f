"""Shards: prepared training audio as safetensors files, with an index that says what is in them.

A shard is one file of int16 audio at the model's rate. Its tensors are named by the stems they hold,
joined by `+` where only their sum is known: `vocals`, `drums`, `drums+bass+other`, `bass+other`.
All tensors of a shard have the same length and belong to one moment in time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ..errors import DataError
from ..stems import STEMS

FULL_SCALE = 32767.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One prepared piece of audio: where it lies, what it holds, where it came from."""

    file: str
    """Name below the shard folder."""
    pool: str
    """`songs`, `voices`, `performances`, `multitrack`, `instrumental`, or a name given by `prepare`."""
    parts: tuple[str, ...]
    """Names of the tensors: stems joined by `+`."""
    n_samples: int
    split: str
    """`train` or `valid`: held-out instruments, voices and songs are `valid`."""
    sources: tuple[str, ...]
    """Keys of the material's manifest (for licences and attribution)."""
    sha256: str


def stems_of(part: str) -> tuple[int, ...]:
    """Return the stem indices that a part's name joins; DataError for an unknown stem.

    >>> stems_of("bass+other")
    (1, 2)
    """
    try:
        return tuple(STEMS.index(name) for name in part.split("+"))
    except ValueError as error:
        raise DataError(f"part '{part}': stems are {', '.join(STEMS)}, joined by '+'") from error


def write_shard(
    folder: Path,
    name: str,
    audio: Mapping[str, np.ndarray],
    *,
    pool: str,
    split: str,
    sources: tuple[str, ...],
) -> Shard:
    """Write one shard and its row beside it, whole or not at all; return the row.

    Shape: every value of `audio` (2, n) float, all of one n.  Units: full scale; a louder shard is
    scaled down as a whole so that nothing clips and the balance between its parts stays.
    """
    if not audio:
        raise DataError(f"shard {name}: no parts")
    lengths = {part: x.shape for part, x in audio.items()}
    if len(set(lengths.values())) != 1 or next(iter(lengths.values()))[0] != 2:
        raise DataError(f"shard {name}: parts must all be (2, n) of one n, got {lengths}")
    for part in audio:
        stems_of(part)
    loudest = max(float(np.max(np.abs(x), initial=0.0)) for x in audio.values())
    if not np.isfinite(loudest):
        raise DataError(f"shard {name}: audio has NaN or Inf")
    scale = FULL_SCALE * min(1.0, 1.0 / max(loudest, 1e-9))
    tensors = {part: np.round(x * scale).astype(np.int16) for part, x in audio.items()}
    path = folder / pool / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished)
    shard = Shard(
        file=f"{pool}/{path.name}",
        pool=pool,
        parts=tuple(tensors),
        n_samples=next(iter(tensors.values())).shape[1],
        split=split,
        sources=tuple(sorted(set(sources))),
        sha256=hashlib.sha256(unfinished.read_bytes()).hexdigest(),
    )
    os.replace(unfinished, path)
    row = path.with_suffix(".row")
    row.write_text(json.dumps(asdict(shard)))
    os.replace(row, path.with_suffix(".json"))
    return shard


def read_index(folder: Path) -> list[Shard]:
    """Return the rows of every shard below `folder`, sorted by file; DataError if there is none."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*/*.json"))]
    if not rows:
        raise DataError(f"{folder} holds no shards: make some with 'stemrack train prepare'")
    return [Shard(**{**row, "parts": tuple(row["parts"]), "sources": tuple(row["sources"])}) for row in rows]


def has_shard(folder: Path, pool: str, name: str) -> bool:
    """Return whether a shard of that name is already complete (so `prepare` can resume)."""
    return (folder / pool / f"{name}.json").exists()


def data_hash(shards: list[Shard]) -> str:
    """Return one sha256 over the content of all shards, whatever their order."""
    return hashlib.sha256("".join(sorted(s.sha256 for s in shards)).encode()).hexdigest()


def read_slice(folder: Path, shard: Shard, start: int, stop: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (part, int16 audio (2, stop - start)) without reading the rest of the file."""
    with safe_open(folder / shard.file, framework="numpy") as file:
        for part in shard.parts:
            yield part, file.get_slice(part)[:, start:stop]
