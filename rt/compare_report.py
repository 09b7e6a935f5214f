"""What `stemrack compare` says: tables on the terminal, all figures in JSON, one line a stem in CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..models.stems import STEMS
from ..models.train.comparison import AGES_S
from .compare import Comparison, Leakage, Measured, SinceReset
from .evaluate import report, write_text
from .profile_kinds import files_sha256
from .screen import print_table


def print_comparison(found: Comparison) -> None:
    """Print all tables of a comparison."""
    heads = ["profile", "system", *STEMS, "mean"]
    n_songs = len(found.rows[0].songs)
    sdr = [[_shown(m.profile), m.system, *_cells(m.mean.sdr_db)] for m in found.rows]
    print_table(f"Global SDR in dB, mean of {n_songs} songs", heads, sdr)
    si_sdr = [[_shown(m.profile), m.system, *_cells(m.mean.si_sdr_db)] for m in found.rows]
    print_table(f"SI-SDR in dB, mean of {n_songs} songs", heads, si_sdr)
    if found.rows[0].songs[0].bsseval_sdr_db is not None:
        medians = [[_shown(m.profile), m.system, *_cells(m.bsseval_sdr_db)] for m in found.rows]
        print_table(f"BSSEval v4 SDR in dB, median of the medians of {n_songs} songs", heads, medians)
    for name, since in found.since_reset.items():
        _print_since_reset(name, since)
    _print_leakage(found.leakage)
    for name, rows in found.ablations.items():
        _print_ablations(name, rows)


def _print_since_reset(name: str, since: SinceReset) -> None:
    heads = ["seconds since a reset", *STEMS, "mean", "against never reset"]
    rows = []
    for age, (sdr_db, gain_db) in enumerate(zip(since.sdr_db, since.gain_db, strict=True)):
        cells = [*_cells([*sdr_db]), _cell(_mean([*gain_db]), signed=True)]
        rows.append([f"{AGES_S[age]:g} to {AGES_S[age + 1]:g}", *cells])
    print_table(f"{_shown(name)}: SDR in dB since a reset, mean of {since.n_restarts} restarts", heads, rows)


def _print_leakage(leakage: dict[str, list[Leakage]]) -> None:
    rows = []
    for name, leaks in leakage.items():
        for heard in ("instrumental", "vocals"):
            own = [leak for leak in leaks if leak.heard == heard]
            if own:
                level = np.mean([leak.level_dbfs for leak in own])
                silent = [_mean([leak.leaks_dbfs.get(stem) for leak in own]) for stem in STEMS]
                rows.append(
                    [name, heard, f"{level:.1f}", *("-" if v is None else f"{v:.1f}" for v in silent)]
                )
    if rows:
        title = "Leakage: RMS level in dBFS of stems that are not in the input, mean of songs"
        print_table(title, ["profile", "input", "its level", *STEMS], rows)


def _print_ablations(name: str, rows: Sequence[Measured]) -> None:
    if not rows:
        return
    standard = rows[0].mean
    cells = [["as it stands", *_cells(standard.sdr_db), ""]]
    for row in rows[1:]:
        changed = row.mean
        difference = changed.mean_sdr_db - standard.mean_sdr_db
        cells.append([row.system, *_cells(changed.sdr_db), _cell(difference, signed=True)])
    heads = ["change", *STEMS, "mean", "difference"]
    print_table(f"{_shown(name)}: global SDR in dB, mean of {len(rows[0].songs)} songs", heads, cells)


def _shown(profile: str) -> str:
    """Return a profile's name, or the name of its file."""
    return profile.rpartition("/")[2]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.mean(present)) if present else None


def _cells(values: Sequence[float | None]) -> list[str]:
    """Return the figures of the stems and their mean."""
    return [*(_cell(v) for v in values), _cell(_mean(values))]


def _cell(value: float | None, *, signed: bool = False) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def facts(found: Comparison, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the JSON file holds: settings, all rows with all songs, and the closer looks."""
    return _plain(
        {
            **settings,
            "rows": [_facts_of(row) for row in found.rows],
            "since_reset": {
                name: {
                    "n_restarts": s.n_restarts,
                    "sdr_db": _columns(s.sdr_db),
                    "gain_over_never_reset_db": _columns(s.gain_db),
                }
                for name, s in found.since_reset.items()
            },
            "leakage_dbfs": {
                name: [
                    {"song": k.song, "heard": k.heard, "level_dbfs": k.level_dbfs, "leaks_dbfs": k.leaks_dbfs}
                    for k in leaks
                ]
                for name, leaks in found.leakage.items()
            },
            "ablations": {name: [_facts_of(row) for row in rows] for name, rows in found.ablations.items()},
        }
    )


def _facts_of(row: Measured) -> dict[str, Any]:
    own = report(row.songs, row.mean, {"profile": row.profile, "system": row.system})
    if row.songs[0].bsseval_sdr_db is not None:
        own["bsseval_sdr_db"] = dict(zip(STEMS, row.bsseval_sdr_db, strict=True))
    return own


def _columns(table: np.ndarray) -> dict[str, list[float]]:
    return {stem: table[:, j].tolist() for j, stem in enumerate(STEMS)}


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: null for what is no finite number."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, found: Comparison, settings: dict[str, Any]) -> None:
    """Write `facts`.  Raises: OutputError."""
    write_text(path, json.dumps(facts(found, settings), indent=1) + "\n")


def write_csv(path: Path, found: Comparison) -> None:
    """Write one line per system, song and stem, ablations too.  Raises: OutputError."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["profile", "system", "song", "stem", "sdr_db", "si_sdr_db", "leakage_db", "bsseval_sdr_db"])
    in_table = {id(row) for row in found.rows}
    changed = [row for rows in found.ablations.values() for row in rows if id(row) not in in_table]
    for row in (*found.rows, *changed):
        for song in row.songs:
            for s in song.score.stems:
                figures = [s.sdr_db, s.si_sdr_db, s.leakage_db, (song.bsseval_sdr_db or {}).get(s.stem)]
                cells = ["" if v is None else f"{v:.4f}" for v in figures]
                out.writerow([row.profile, row.system, song.score.song, s.stem, *cells])
    write_text(path, text.getvalue())


def settings_of(profiles: Sequence[str], weights: Path | None, runner: str) -> dict[str, Any]:
    """Return what identifies a comparison: profiles, runner, and the hashes of their weights."""
    hashes = {name: files_sha256(name, weights) for name in profiles}
    return {"profiles": list(profiles), "runner": runner, "weights_sha256": hashes}
