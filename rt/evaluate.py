"""`stemrack evaluate`: separate a folder of multitracks and say how well it went, per song and stem."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..models.stems import STEMS
from ..models.train.evaluation import (
    MeanScore,
    SongScore,
    bsseval_medians_db,
    mean_score,
    mixture_of,
    score_song,
)
from .errors import InputError, OutputError
from .files import AudioSource
from .profile_kinds import files_sha256
from .screen import job_progress, print_table

if TYPE_CHECKING:
    from .pipeline import Separator

SUFFIXES = (".flac", ".wav", ".ogg")
BLOCK_S = 10.0
"""Length of the pieces that a song is separated in (progress moves once a piece)."""

Separate = Callable[[np.ndarray, int], Iterator[np.ndarray]]
"""(channel, sample) mixture and its rate -> pieces (stem, channel, n) that add up to its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multitrack:
    """One song on disk: files of its stems, and of its mixture where there is one."""

    name: str
    stems: dict[str, Path]
    mixture: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The scores of one song, the time it took, and BSSEval medians where they were asked for."""

    score: SongScore
    seconds_taken: float
    bsseval_sdr_db: dict[str, float] | None

    @property
    def times_real_time(self) -> float:
        """Seconds of music per second of work."""
        return self.score.seconds / max(self.seconds_taken, 1e-9)


def find_multitracks(folder: Path) -> list[Multitrack]:
    """Return the songs in `folder`, sorted by name: subfolders with drums, bass, other or vocals files.

    A song's own folder and the root of MUSDB18-HQ (then its `test` half) work too.
    Raises: InputError if nothing is found.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder: give a folder of songs, each a folder of stems")
    candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    songs = [song for song in map(_multitrack, candidates) if song is not None]
    if not songs and (folder / "test").is_dir():
        return find_multitracks(folder / "test")
    if not songs:
        names = ", ".join(f"{stem}.flac" for stem in STEMS)
        raise InputError(folder, f"holds no song: wanted subfolders with {names} (or .wav, .ogg)")
    return songs


def load_multitrack(song: Multitrack) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Return (stems name -> (channel, sample), mixture (channel, sample), rate in Hz) of a song.

    The mixture is the sum of the stems where there is no mixture file.
    Raises: InputError if files differ in rate, channels or length.
    """
    audio: dict[str, np.ndarray] = {}
    rates = set()
    for stem, path in song.stems.items():
        audio[stem], rate_hz = _read(path)
        rates.add(rate_hz)
    if song.mixture is None:
        mixture = mixture_of(audio) if len({x.shape for x in audio.values()}) == 1 else None
    else:
        mixture, rate_hz = _read(song.mixture)
        rates.add(rate_hz)
    if mixture is None or len(rates) != 1 or any(x.shape != mixture.shape for x in audio.values()):
        folder = next(iter(song.stems.values())).parent
        raise InputError(folder, "files of one song must agree in sample rate, channels and length")
    return audio, mixture, rates.pop()


def evaluate_song(
    song: Multitrack, separate: Separate, *, museval: bool, advance: Callable[[float], None]
) -> Evaluated:
    """Return the scores of one song; `advance` is called with the seconds done after each piece."""
    references, mixture, rate_hz = load_multitrack(song)
    pieces = []
    started_s = time.perf_counter()
    for piece in separate(mixture, rate_hz):
        pieces.append(piece)
        advance(piece.shape[-1] / rate_hz)
    seconds_taken = time.perf_counter() - started_s
    estimates = np.concatenate(pieces, axis=-1)
    score = score_song(song.name, references, estimates, mixture, rate_hz)
    medians = bsseval_medians_db(references, estimates, rate_hz) if museval else None
    return Evaluated(score=score, seconds_taken=seconds_taken, bsseval_sdr_db=medians)


def evaluate_command(
    folder: Path,
    *,
    profile: str = "live",
    weights: Path | None = None,
    runner: str = "auto",
    json_path: Path | None = None,
    csv_path: Path | None = None,
    museval: bool = False,
    live: bool = False,
    limit: int | None = None,
    separate: Separate | None = None,
) -> MeanScore:
    """Separate every song of `folder`, print a table, write the reports that are asked for; return the means.

    `limit` takes the first songs only; `live` goes hop by hop as the live engine does; `separate` replaces
    the profile's separator (a test's, or another system held to the same measure).
    Raises: InputError, OutputError, and what loading the separator raises.
    """
    songs = find_multitracks(folder)[:limit]
    separated_by = separate or profile_separate(profile, weights, runner, live=live)
    results = []
    with job_progress("songs", total=sum(_seconds(song) for song in songs)) as job:
        for song in songs:
            job.describe(song.name)
            results.append(evaluate_song(song, separated_by, museval=museval, advance=job.advance))
    mean = mean_score([r.score for r in results])
    _print(results, mean)
    if json_path is not None:
        settings = {"profile": profile, "runner": runner, "live": live}
        if separate is None:
            settings["weights_sha256"] = files_sha256(profile, weights)
        write_text(json_path, json.dumps(report(results, mean, settings), indent=1) + "\n")
    if csv_path is not None:
        _write_csv(csv_path, results)
    return mean


def profile_separate(profile: str, weights: Path | None, runner: str, *, live: bool) -> Separate:
    """Return a Separate that runs the engine of `stemrack render` on a profile."""
    from .separate import load_separator

    return piped(load_separator(profile, runner, weights), live=live)


def piped(separator: Separator, *, live: bool = False) -> Separate:
    """Return a Separate with a fresh Pipeline for each song, as `stemrack render` runs it."""
    from .pipeline import Pipeline

    def separate(mixture: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
        pipeline = Pipeline(separator, rate_hz=rate_hz, n_channels=mixture.shape[0], live=live)
        block = int(BLOCK_S * rate_hz)
        for start in range(0, mixture.shape[-1], block):
            yield pipeline.push(mixture[:, start : start + block])
        yield pipeline.finish()

    return separate


def report(results: list[Evaluated], mean: MeanScore, settings: dict[str, object]) -> dict[str, object]:
    """Return what the JSON file holds: settings, means, songs."""
    songs = []
    for r in results:
        row: dict[str, object] = {"song": r.score.song, "seconds": r.score.seconds}
        row |= {"seconds_taken": r.seconds_taken, "mean_sdr_db": r.score.mean_sdr_db}
        row["stems"] = {s.stem: {k: v for k, v in asdict(s).items() if k != "stem"} for s in r.score.stems}
        if r.bsseval_sdr_db is not None:
            row["bsseval_sdr_db"] = r.bsseval_sdr_db
        songs.append(row)
    columns = asdict(mean)
    means = {
        key: dict(zip(STEMS, columns[key], strict=True)) for key in ("sdr_db", "si_sdr_db", "leakage_db")
    }
    return {**settings, "mean_sdr_db": mean.mean_sdr_db, "means": means, "songs": songs}


def _multitrack(folder: Path) -> Multitrack | None:
    found = {p.stem.lower(): p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    stems = {stem: found[stem] for stem in STEMS if stem in found}
    return Multitrack(name=folder.name, stems=stems, mixture=found.get("mixture")) if stems else None


def _read(path: Path) -> tuple[np.ndarray, int]:
    with AudioSource(path) as source:
        blocks = list(source.blocks(1 << 16))
        return np.concatenate([np.zeros((source.n_channels, 0), np.float32), *blocks], axis=1), source.rate_hz


def _seconds(song: Multitrack) -> float:
    with AudioSource(next(iter(song.stems.values()))) as source:
        return max((source.n_samples or 0) / source.rate_hz, 1e-3)


def _print(results: list[Evaluated], mean: MeanScore) -> None:
    heads = ["song", *STEMS, "mean", "x real time"]
    rows = []
    for r in results:
        cells = [_cell(s.sdr_db, s.leakage_db) for s in r.score.stems]
        rows.append([r.score.song, *cells, f"{r.score.mean_sdr_db:.2f}", f"{r.times_real_time:.1f}"])
    speed = sum(r.score.seconds for r in results) / max(sum(r.seconds_taken for r in results), 1e-9)
    total = ["mean", *(_cell(v, None) for v in mean.sdr_db), f"{mean.mean_sdr_db:.2f}", f"{speed:.1f}"]
    print_table(
        "Global SDR in dB; in brackets the leakage of a stem the song does not have", heads, rows, total
    )
    if results[0].bsseval_sdr_db is not None:
        medians = [[(r.bsseval_sdr_db or {}).get(stem) for r in results] for stem in STEMS]
        present = [[v for v in column if v is not None] for column in medians]
        cells = [f"{np.median(column):.2f}" if column else "-" for column in present]
        print_table("BSSEval v4 SDR in dB, median of medians", ["", *STEMS], [["median", *cells]])


def _cell(sdr_db: float | None, leakage_db: float | None) -> str:
    if sdr_db is not None:
        return f"{sdr_db:.2f}"
    return "-" if leakage_db is None else f"({leakage_db:.1f})"


def write_text(path: Path, text: str) -> None:
    """Write a report, its folder made.  Raises: OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror}): choose another place") from error


def _write_csv(path: Path, results: list[Evaluated]) -> None:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["song", "stem", "sdr_db", "si_sdr_db", "leakage_db", "bsseval_sdr_db"])
    for r in results:
        for s in r.score.stems:
            bsseval = (r.bsseval_sdr_db or {}).get(s.stem)
            row = [s.sdr_db, s.si_sdr_db, s.leakage_db, bsseval]
            out.writerow([r.score.song, s.stem, *("" if v is None else f"{v:.4f}" for v in row)])
    write_text(path, text.getvalue())
