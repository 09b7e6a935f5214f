"""Random mixtures from shards: which parts sound together, how loud, how coloured.

Every batch is a function of (seed, step): a run that resumes at a step sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ, N_STEMS, STEMS
from .shards import FULL_SCALE, Shard, read_slice, stems_of

ACCOMPANIMENT = "drums+bass+other"
VOCALS = STEMS.index("vocals")
SILENT_RMS = 10 ** (-50 / 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """How examples are drawn; levels in dB, chances from 0 to 1."""

    together: float = 0.42
    """Chance that drums, bass and other come from one song at one moment."""
    over_instrumental: float = 0.25
    """Chance of a real instrumental under the voice; only vocals and accompaniment are known then."""
    real_weight: float = 3.5
    """How much more often real stems are drawn than their length says."""
    level_db: tuple[float, ...] = (0.0, -1.0, -1.0, 0.5)
    level_spread_db: float = 3.5
    absent: tuple[float, ...] = (0.07, 0.07, 0.07, 0.2)
    eq_spread_db: float = 4.0
    eq_knots: int = 12
    peak_range: tuple[float, float] = (0.3, 1.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples whose slots sum to the mixture.

    audio (batch, slot, channel, sample) float32; groups (batch, slot, stem): which stems a slot holds;
    eq (batch, slot, knot): gain in dB over log frequency, applied in the spectrum.
    """

    audio: np.ndarray
    groups: np.ndarray
    eq_db: np.ndarray


@dataclass(frozen=True, slots=True)
class _Choice:
    shard: Shard
    weight: float


class Mixer:
    """Draws batches from the shards of one split.  Not for several threads at once."""

    def __init__(self, folder: Path, shards: Sequence[Shard], split: str, config: MixConfig, seed: int):
        self._folder, self._config, self._seed = folder, config, seed
        own = [s for s in shards if s.split == split]
        self._by_part: dict[str, list[_Choice]] = {}
        self._songs: list[_Choice] = []
        for shard in own:
            weight = shard.n_samples * (1.0 if shard.pool in ("songs", "voices") else config.real_weight)
            for part in shard.parts:
                self._by_part.setdefault(part, []).append(_Choice(shard, weight))
            covered = sorted({i for part in shard.parts for i in stems_of(part)} - {VOCALS})
            if covered == [0, 1, 2] and ACCOMPANIMENT not in shard.parts:
                self._songs.append(_Choice(shard, weight))
        missing = [name for name in STEMS if name not in self._by_part]
        if missing:
            raise DataError(
                f"split '{split}' has no shard with {', '.join(missing)} alone: prepare more pools"
            )

    def batch(self, step: int, size: int, n_samples: int) -> Batch:
        """Return the batch of a step: `size` examples of `n_samples` samples."""
        rng = np.random.default_rng((self._seed, step))
        audio = np.zeros((size, N_STEMS, 2, n_samples), np.float32)
        groups = np.zeros((size, N_STEMS, N_STEMS), np.float32)
        for i in range(size):
            self._example(rng, audio[i], groups[i])
        knots = rng.normal(0.0, self._config.eq_spread_db, (size, N_STEMS, self._config.eq_knots))
        return Batch(audio=audio, groups=groups, eq_db=knots.astype(np.float32))

    def _example(self, rng: np.random.Generator, audio: np.ndarray, groups: np.ndarray) -> None:
        n = audio.shape[-1]
        kind = rng.random()
        c = self._config
        if kind < c.over_instrumental and ACCOMPANIMENT in self._by_part:
            parts = self._accompaniment(rng, n)
        elif kind < c.over_instrumental + c.together and self._songs:
            parts = self._song(rng, n)
        else:
            parts = {name: self._draw(rng, name, n) for name in STEMS[:VOCALS]}
            self._level_alone(rng, parts)
        if "vocals" not in parts:
            parts["vocals"] = self._draw(rng, "vocals", n)
            self._level_alone(rng, parts, only="vocals")
        for slot, (part, x) in enumerate(parts.items()):
            stems = stems_of(part)
            groups[slot, list(stems)] = 1.0
            if rng.random() < np.mean([c.absent[s] for s in stems]):
                continue
            if rng.random() < 0.5:
                x = x[::-1]
            audio[slot] = x if rng.random() < 0.5 else -x
        peak = float(np.abs(audio.sum(0)).max(initial=0.0))
        audio *= rng.uniform(*c.peak_range) / max(peak, 1e-3)

    def _accompaniment(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        x = self._draw(rng, ACCOMPANIMENT, n)
        rms = float(np.sqrt(np.mean(x**2)))
        loud_db = 4.0 + rng.normal(0.0, self._config.level_spread_db)
        return {ACCOMPANIMENT: x * (10 ** (loud_db / 20) / max(rms, SILENT_RMS))}

    def _song(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        shard = self._choose(rng, self._songs)
        start = int(rng.integers(0, max(1, shard.n_samples - n)))
        parts = self._read(shard, start, n)
        spread = self._config.level_spread_db * 0.7
        if "vocals" in parts and (rng.random() < 0.5 or np.abs(parts["vocals"]).max() < SILENT_RMS):
            del parts["vocals"]
        for part in parts:
            parts[part] = parts[part] * 10 ** (rng.normal(0.0, spread) / 20)
        rms = float(np.sqrt(np.mean(np.square(sum(parts.values())))))
        gain = 10 ** (4.0 / 20) / max(rms, SILENT_RMS)
        return {part: x * gain for part, x in parts.items()}

    def _level_alone(self, rng: np.random.Generator, parts: dict[str, np.ndarray], only: str = "") -> None:
        for part in [only] if only else list(parts):
            stem = stems_of(part)[0]
            rms = float(np.sqrt(np.mean(parts[part] ** 2)))
            level_db = self._config.level_db[stem] + rng.normal(0.0, self._config.level_spread_db)
            parts[part] = parts[part] * (10 ** (level_db / 20) / max(rms, SILENT_RMS))

    def _draw(self, rng: np.random.Generator, part: str, n: int) -> np.ndarray:
        x = np.zeros((2, n), np.float32)
        for _ in range(3):  # a pause is worth hearing, but not as a rule
            shard = self._choose(rng, self._by_part[part])
            start = int(rng.integers(0, max(1, shard.n_samples - n)))
            x = self._read(shard, start, n)[part]
            if np.sqrt(np.mean(x**2)) > SILENT_RMS:
                break
        return x

    def _read(self, shard: Shard, start: int, n: int) -> dict[str, np.ndarray]:
        stop = min(start + n, shard.n_samples)
        parts = {}
        for part, samples in read_slice(self._folder, shard, start, stop):
            x = np.zeros((2, n), np.float32)
            x[:, : stop - start] = samples / np.float32(FULL_SCALE)
            parts[part] = x
        return parts

    @staticmethod
    def _choose(rng: np.random.Generator, choices: list[_Choice]) -> Shard:
        weights = np.array([c.weight for c in choices])
        return choices[int(rng.choice(len(choices), p=weights / weights.sum()))].shard


def eq_curves(knots_db: np.ndarray, n_bins: int) -> np.ndarray:
    """Return linear gains per bin from knots spread evenly over log frequency (40 Hz to 18 kHz).

    Shape: (..., knot) -> (..., n_bins) float32.
    """
    frequency = np.maximum(np.arange(n_bins) * (MODEL_RATE_HZ / 2 / (n_bins - 1)), 1.0)
    n_knots = knots_db.shape[-1]
    position = np.log(frequency / 40.0) / np.log(18_000.0 / 40.0) * (n_knots - 1)
    position = np.clip(position, 0.0, n_knots - 1.001)
    low = position.astype(int)
    part = (position - low).astype(np.float32)
    curve_db = knots_db[..., low] * (1 - part) + knots_db[..., low + 1] * part
    return (10.0 ** (curve_db / 20)).astype(np.float32)
