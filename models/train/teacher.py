"""A teacher's ear: where a song holds vocals, judged by the published TDC network.

For finding voices hidden in 'instrumental' material and for labelling real songs; its answer is an
estimate and decides about training material only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError
from ..stems import MODEL_RATE_HZ
from ..tdc import TdcVocals, load_tdc
from .audio_files import load_audio
from .material import AUDIO_SUFFIXES
from .shards import Shard, has_shard, read_index, write_shard

SILENT_RMS = 1e-3
"""Blocks below -60 dBFS RMS hold nothing worth labelling: their share is 0."""


PIECE_BLOCKS = 60
"""Blocks that go through the network at once: a minute of seconds."""


def vocals_share(
    audio: np.ndarray, network: TdcVocals, block_samples: int = MODEL_RATE_HZ, context_samples: int = 8192
) -> np.ndarray:
    """Return the vocals' share of the energy of each block, 0 to 1; the last block may be short.

    Shape: audio (2, n) float32 at the model's rate -> (ceil(n / block_samples),).
    Memory is bounded: a minute at a time, with `context_samples` at its borders.
    """
    if audio.shape[1] == 0:
        return np.zeros(0)
    vocals = teacher_vocals(audio, network, PIECE_BLOCKS * block_samples, context_samples)
    edges = np.arange(0, audio.shape[1], block_samples)
    lengths = np.minimum(block_samples, audio.shape[1] - edges)
    estimate = np.add.reduceat(np.sum(vocals.astype(np.float64) ** 2, axis=0), edges)
    mixture = np.add.reduceat(np.sum(audio.astype(np.float64) ** 2, axis=0), edges)
    audible = mixture > 2 * lengths * SILENT_RMS**2
    return np.where(audible, np.minimum(estimate / np.maximum(mixture, 1e-12), 1.0), 0.0)


def teacher_vocals(
    audio: np.ndarray, network: TdcVocals, piece_samples: int, context_samples: int = 8192
) -> np.ndarray:
    """Return the vocals that the network hears, (2, n) like audio; `piece_samples` at a time."""
    starts = range(0, audio.shape[1], piece_samples)
    heard = [_vocals_of(audio, start, network, context_samples, piece_samples) for start in starts]
    return np.concatenate(heard, axis=1)


def prepare_unlabelled(
    folder: Path, weights: Path, out: Path, *, progress: Callable[[str], None] = lambda line: None
) -> list[Shard]:
    """Return the rows of all shards after labelling the songs in `folder`, pool `unlabelled`, split `train`.

    Each song gives `vocals` (the teacher's) and `drums+bass+other` (the rest); they sum to the song.
    Raises: DataError for a folder without sound files.
    """
    songs = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not songs:
        raise DataError(f"{folder} holds no sound files ({', '.join(AUDIO_SUFFIXES)})")
    network = load_tdc(weights)
    for path in songs:
        name = "_".join(path.relative_to(folder).with_suffix("").parts)
        if has_shard(out, "unlabelled", name):
            continue
        audio = load_audio(path)
        vocals = teacher_vocals(audio, network, PIECE_BLOCKS * MODEL_RATE_HZ)
        parts = {"vocals": vocals, "drums+bass+other": audio - vocals}
        write_shard(out, name, parts, pool="unlabelled", split="train", sources=(f"teacher:{folder.name}",))
        progress(f"unlabelled: {name} ({audio.shape[1] / MODEL_RATE_HZ:.0f} s)")
    return read_index(out)


def _vocals_of(
    audio: np.ndarray, start: int, network: TdcVocals, context_samples: int, piece_samples: int
) -> np.ndarray:
    left = max(0, start - context_samples)
    stop = min(start + piece_samples, audio.shape[1])
    piece = np.ascontiguousarray(audio[:, left : stop + context_samples], np.float32)
    return network.separate(torch.from_numpy(piece)[None])[0].numpy()[:, start - left : stop - left]
