"""Sampler: notes in, audio out, from a folder of samples described by its `instrument.json`.

A region is one sample with the keys and velocities it answers to. Regions with `alt` are alternatives:
one per key is chosen for a whole song. A pitched sample is kept, so that a repeated note costs an addition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ
from .audio_files import load_audio
from .notes import Note

HATS = frozenset({42, 44, 46})
"""General MIDI keys of one pair of hi-hats: each stroke ends the sound of the one before."""
DRUM_ALIASES = {
    35: (36,), 36: (35,), 37: (38, 40), 38: (40, 39), 40: (38,), 39: (38, 40), 41: (43, 45), 43: (41, 45),
    45: (47, 43), 47: (45, 48), 48: (50, 47), 50: (48, 47), 44: (42,), 46: (42,), 42: (44,), 49: (57, 52),
    57: (49, 52), 52: (57, 49), 55: (49, 57), 51: (59, 53), 59: (51,), 53: (51, 59),
}  # fmt: skip
"""Keys that may stand in for one that a kit lacks, best first."""
CYMBALS = frozenset({42, 44, 46, 49, 51, 52, 53, 55, 57, 59})
LONGEST_HELD_S = 12.0
CHOKE_S = 0.012
SCOOP_S = 0.11


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One sample and the notes it answers to.  Units: MIDI keys and velocities, decibels."""

    path: Path
    key_low: int
    key_high: int
    key_root: int
    vel_low: int
    vel_high: int
    gain_db: float
    alt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A folder of samples: a melodic instrument or a drum kit."""

    name: str
    is_drums: bool
    velocity_in_samples: bool
    """Recorded dynamics: velocity chooses the sample and must not scale it as well."""
    is_sustained: bool
    """The tone does not decay: its middle is looped for longer notes."""
    gm_programs: tuple[int, ...]
    regions: tuple[Region, ...]

    @property
    def key_range(self) -> tuple[int, int]:
        """Lowest and highest key that any region answers to."""
        return min(r.key_low for r in self.regions), max(r.key_high for r in self.regions)

    @property
    def keys(self) -> frozenset[int]:
        """Every key that some region answers to."""
        return frozenset(key for r in self.regions for key in range(r.key_low, r.key_high + 1))


def load_instrument(folder: Path) -> Instrument:
    """Return what `instrument.json` in a folder describes; DataError names the file if it cannot be used."""
    path = Path(folder) / "instrument.json"
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        regions = tuple(
            Region(
                path=Path(folder) / region["file"],
                key_low=int(region["key_low"]),
                key_high=int(region["key_high"]),
                key_root=int(region["key_root"]),
                vel_low=int(region.get("vel_low", 1)),
                vel_high=int(region.get("vel_high", 127)),
                gain_db=float(region.get("gain_db", 0.0)),
                alt=int(region.get("alt", 0)),
            )
            for region in row["regions"]
        )
        instrument = Instrument(
            name=Path(folder).name,
            is_drums=row["kind"] == "drums",
            velocity_in_samples=bool(row.get("velocity_in_samples", False)),
            is_sustained=str(row.get("note", "")).startswith("sustained"),
            gm_programs=tuple(row.get("gm_programs", ())),
            regions=regions,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an instrument ({error}); see the layout in sampler.py") from error
    if not regions:
        raise DataError(f"{path}: no regions; remove the folder or add samples")
    return instrument


def repitch(x: np.ndarray, ratio: float, *, scoop: float = 0.0) -> np.ndarray:
    """Return x played `ratio` times as fast, by cubic (Catmull-Rom) interpolation.

    `scoop` semitones below the pitch is where the note begins, to glide up within SCOOP_S (a bent
    string, a slide).  Shape: (2, n) -> (2, about n / ratio) float32; sample 0 stays sample 0.
    """
    if abs(ratio - 1.0) < 1e-9 and not scoop:
        return x
    n_samples = int((x.shape[1] - 1) / ratio) + 1
    at = np.arange(n_samples) * ratio
    if scoop:
        glide = np.clip(1.0 - np.arange(n_samples) / (SCOOP_S * MODEL_RATE_HZ), 0.0, 1.0)
        at = np.cumsum(ratio * 2.0 ** (-scoop / 12 * glide)) - ratio
        at = np.clip(at, 0.0, x.shape[1] - 1)
    index = at.astype(np.int64)
    t = (at - index).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 3)))
    a, b, c, d = (padded[:, index + shift] for shift in range(4))
    y = b + 0.5 * t * ((c - a) + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return y.astype(np.float32, copy=False)


def hold(x: np.ndarray, n_samples: int) -> np.ndarray:
    """Return a sustained tone made longer by looping its middle with an equal-power cross-fade."""
    length = x.shape[1]
    if length >= n_samples or length < 64:
        return x
    start, stop, fade = int(0.4 * length), int(0.85 * length), int(0.15 * length)
    ramp = np.sqrt(np.linspace(0.0, 1.0, fade, dtype=np.float32))
    parts = [x[:, :stop].copy()]
    total = stop
    while total < n_samples:
        parts[-1][:, -fade:] = parts[-1][:, -fade:] * ramp[::-1] + x[:, start : start + fade] * ramp
        parts.append(x[:, start + fade : stop].copy())
        total += stop - start - fade
    return np.concatenate(parts, axis=1)[:, :n_samples]


def _gain_of(velocity: int, region: Region, velocity_in_samples: bool) -> float:
    """Return the linear gain that velocity adds to what the sample already has."""
    if not velocity_in_samples:
        return (velocity / 100.0) ** 1.6
    centre = 0.5 * (region.vel_low + region.vel_high)
    return float(np.clip((velocity / centre) ** 0.4, 0.6, 1.5))


class Player:
    """One instrument for one song: its alternatives chosen, its tuning set, its pitched samples kept."""

    def __init__(
        self,
        instrument: Instrument,
        rng: np.random.Generator,
        *,
        detune_cents: float = 0.0,
        release_s: float = 0.06,
        tune_keys: dict[int, float] | None = None,
        gain_keys_db: dict[int, float] | None = None,
        spread_db: float = 0.0,
        scoops: float = 0.0,
        keys: frozenset[int] | None = None,
    ) -> None:
        """`tune_keys` and `gain_keys_db` retune (semitones) and level (decibels) single drums.

        `spread_db` is the deviation of a note's level from stroke to stroke, `scoops` the share of
        notes that slide into their pitch; `keys` limits what is played.
        """
        self.instrument = instrument
        self._rng = rng
        self._detune = detune_cents / 100.0
        self._release = max(1, round(release_s * MODEL_RATE_HZ))
        self._tune_keys = tune_keys or {}
        self._gain_keys_db = gain_keys_db or {}
        self._spread_db = spread_db
        self._scoops = scoops
        self._sounds: dict[Path, np.ndarray] = {}
        self._pitched: dict[tuple[Path, float, bool, float], np.ndarray] = {}
        self._by_key: dict[int, tuple[Region, ...]] = {}
        self.keys = instrument.keys if keys is None else instrument.keys & keys
        for key in sorted(self.keys):
            answering = [r for r in instrument.regions if r.key_low <= key <= r.key_high]
            alts = sorted({r.alt for r in answering})
            alt = alts[int(rng.integers(len(alts)))]
            self._by_key[key] = tuple(r for r in answering if r.alt == alt)

    def region_for(self, key: int, velocity: int) -> Region | None:
        """Return the region of a note: exact key, nearest velocity layer; None if no region has the key."""
        regions = self._by_key.get(key)
        if not regions:
            return None
        return min(regions, key=lambda r: max(r.vel_low - velocity, velocity - r.vel_high, 0))

    def loudest(self, key: int) -> float:
        """Return the peak of the loudest sample of a key as it would be played, 0 if there is none."""
        regions = [r for r in self.instrument.regions if r.key_low <= key <= r.key_high]
        peaks = [float(np.abs(self._sound(r.path)).max()) * 10 ** (r.gain_db / 20) for r in regions]
        return max(peaks, default=0.0)

    def _sound(self, path: Path) -> np.ndarray:
        if path not in self._sounds:
            self._sounds[path] = load_audio(path)
        return self._sounds[path]

    def _voice(self, region: Region, key: int, n_samples: int) -> np.ndarray:
        """Return the region's sample at the key's pitch, looped if the note outlasts a sustained tone."""
        semitones = self._tune_keys.get(key, 0.0) + self._detune
        if not self.instrument.is_drums:
            semitones += key - region.key_root
        held = False
        if self.instrument.is_sustained:
            held = n_samples > self._sound(region.path).shape[1] / 2 ** (semitones / 12)
        scoop = 0.0
        if self._scoops and self._rng.random() < self._scoops:
            scoop = float(self._rng.choice([1.0, 2.0]))
        slot = (region.path, semitones, held, scoop)
        if slot not in self._pitched:
            sound = repitch(self._sound(region.path), 2.0 ** (semitones / 12), scoop=scoop)
            self._pitched[slot] = hold(sound, int(LONGEST_HELD_S * MODEL_RATE_HZ)) if held else sound
        return self._pitched[slot]

    def add(self, note: Note, out: np.ndarray, *, end_s: float | None = None, gain: float = 1.0) -> bool:
        """Add one note to `out` (2, n) in place; return whether the instrument has its key.

        `end_s` cuts a drum (choke); melodic notes end with their length and the release.
        """
        region = self.region_for(note.key, note.velocity)
        start = round(note.start * MODEL_RATE_HZ)
        if region is None or not 0 <= start < out.shape[1]:
            return region is not None
        held = max(1, round(note.length * MODEL_RATE_HZ))
        fade = self._release
        if self.instrument.is_drums:
            held = out.shape[1] if end_s is None else max(1, round(end_s * MODEL_RATE_HZ) - start)
            fade = round(CHOKE_S * MODEL_RATE_HZ)
        voice = self._voice(region, note.key, held + fade)
        gain_db = region.gain_db + self._gain_keys_db.get(note.key, 0.0)
        gain_db += self._spread_db * float(self._rng.standard_normal())
        gain *= 10 ** (gain_db / 20) * _gain_of(note.velocity, region, self.instrument.velocity_in_samples)
        stop = min(out.shape[1], start + min(voice.shape[1], held + fade))
        length = stop - start
        steady = min(held, length)
        out[:, start : start + steady] += voice[:, :steady] * np.float32(gain)
        if length > steady:
            ramp = np.square(1.0 - np.arange(1, length - steady + 1, dtype=np.float32) / fade)
            out[:, start + steady : stop] += voice[:, steady:length] * (ramp * np.float32(gain))
        return True

    def render(self, notes: Iterable[Note], n_samples: int) -> np.ndarray:
        """Return the notes as audio (2, n_samples) float32; drums choke their hi-hats."""
        out = np.zeros((2, n_samples), np.float32)
        ordered = sorted(notes, key=lambda n: (n.start, n.key))
        ends = choke_ends(ordered) if self.instrument.is_drums else [None] * len(ordered)
        for note, end_s in zip(ordered, ends, strict=True):
            self.add(note, out, end_s=end_s)
        return out


def choke_ends(notes: Sequence[Note]) -> list[float | None]:
    """Return for each drum note (in order of time) when the next stroke of the hi-hats ends it."""
    ends: list[float | None] = [None] * len(notes)
    following: float | None = None
    for at in range(len(notes) - 1, -1, -1):
        if notes[at].key in HATS:
            ends[at] = following
            following = notes[at].start
    return ends


class Kit:
    """Several drum folders played as one kit: the first that has a drum plays it.

    Folders are levelled by their loudest snare (or else kick); a drum that none has is played by a neighbour.
    """

    def __init__(self, players: Sequence[Player]) -> None:
        if not players:
            raise DataError("a kit needs at least one folder of drums")
        self._players = list(players)
        loudest = [player.loudest(38) or player.loudest(36) or 1.0 for player in players]
        self._scale = [1.0 / max(peak, 1e-3) for peak in loudest]

    def choose(self, key: int) -> tuple[int, int] | None:
        """Return (player, key) for a drum, None if neither it nor a stand-in exists."""
        for candidate in (key, *DRUM_ALIASES.get(key, ())):
            for index, player in enumerate(self._players):
                if candidate in player.keys:
                    return index, candidate
        return None

    def render(self, notes: Iterable[Note], n_samples: int) -> np.ndarray:
        """Return a drum part as audio (2, n_samples) float32."""
        out = np.zeros((2, n_samples), np.float32)
        ordered = sorted(notes, key=lambda n: (n.start, n.key))
        for note, end_s in zip(ordered, choke_ends(ordered), strict=True):
            chosen = self.choose(note.key)
            if chosen is not None:
                index, key = chosen
                played = replace(note, key=key)
                self._players[index].add(played, out, end_s=end_s, gain=self._scale[index])
        return out
