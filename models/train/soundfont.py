"""MIDI songs through a soundfont: further training songs, by the `fluidsynth` program."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ
from . import shards
from .audio_files import load_audio
from .catalogue import SCORE_FOLDERS, in_split
from .effects import colour
from .notes import split_by_stem
from .songs import POOL, VALID_EVERY, balance

SYNTH_TIMEOUT_S = 300


def synthesise(midi: Path, soundfont: Path, out: Path) -> np.ndarray:
    """Return what a soundfont makes of a MIDI file, (2, n) float32 at the model's rate; `out` is scratch.

    Raises: DataError when fluidsynth is missing or fails.
    """
    command = ["fluidsynth", "-ni", "-q", "-g", "0.4", "-R", "0", "-C", "0", "-r", str(MODEL_RATE_HZ)]
    command += ["-F", str(out), str(soundfont), str(midi)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYNTH_TIMEOUT_S)
    except FileNotFoundError as error:
        raise DataError("soundfonts need the program fluidsynth: apt-get install fluidsynth") from error
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{midi.name}: fluidsynth took more than {SYNTH_TIMEOUT_S} s") from error
    if done.returncode or not out.is_file():
        raise DataError(f"{midi.name} through {soundfont.name}: fluidsynth says {done.stderr.strip()[-200:]}")
    return load_audio(out)


def check_soundfont(path: Path) -> None:
    """Return if the file is a soundfont; DataError if not (fluidsynth would go on with another one)."""
    if not path.is_file():
        raise DataError(f"soundfont {path} does not exist")
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise DataError(f"{path} is no soundfont (.sf2)")


def render_soundfont_song(
    path: Path, soundfont: Path, seconds_max: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the parts (drums, bass, other; silent ones left out) of a MIDI song, as in `songs`.

    Shape: every part (2, n) float32, n at most `seconds_max` at the model's rate, from a random place.
    Raises: DataError for a file that is not there, is not what it should be, or has no notes.
    """
    check_soundfont(soundfont)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        midis = split_by_stem(path, folder)
        heard = {stem: synthesise(m, soundfont, folder / f"{stem}.wav") for stem, m in midis.items()}
    if not heard:
        raise DataError(f"{path} has no notes that a soundfont plays")
    longest = max(x.shape[1] for x in heard.values())
    n_samples = min(longest, int(seconds_max * MODEL_RATE_HZ))
    start = int(rng.integers(0, longest - n_samples + 1))
    stems = {}
    for stem, x in heard.items():
        whole = np.pad(x, ((0, 0), (0, longest - x.shape[1])))[:, start : start + n_samples]
        stems[stem] = colour(whole, rng, stem)
    return balance(stems, rng)


def prepare_soundfont(
    soundfont: Path,
    material: Path,
    out: Path,
    *,
    minutes: float,
    seed: int,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Write some `minutes` of the material's MIDI songs through a soundfont as shards of the pool `songs`.

    Scores are split as `songs` splits them; what is already there is not made again.
    Raises: DataError when the material has no MIDI songs.
    """
    scores = [p for name in SCORE_FOLDERS for p in sorted((material / "midi_songs" / name).glob("*.mid"))]
    if not scores:
        raise DataError(f"{material} has no MIDI songs in midi_songs/{', midi_songs/'.join(SCORE_FOLDERS)}")
    made_s, number = 0.0, 0
    while made_s < 60.0 * minutes:
        rng = np.random.default_rng([seed, number, 2])
        seconds = float(rng.uniform(60, 90))
        made_s += seconds
        split = "valid" if number % VALID_EVERY == VALID_EVERY - 1 else "train"
        name = f"sf_{soundfont.stem}_{seed}_{number:05d}"
        number += 1
        own = [p for p in scores if in_split(p.stem, split)] or scores
        path = own[int(rng.integers(len(own)))]
        if shards.has_shard(out, POOL, name):
            continue
        parts = render_soundfont_song(path, soundfont, seconds, rng)
        keys = (path.parent.relative_to(material).as_posix(), f"soundfont:{soundfont.name}")
        shards.write_shard(out, name, parts, pool=POOL, split=split, sources=keys)
        progress(f"songs: {name} ({', '.join(parts)}; {split}; {seconds:.0f} s)")
