"""Shipping weights: copy the best of a run into the package, and write its model card from facts on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..stems import STEMS
from .material import attributions


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _quality(report: dict[str, Any]) -> list[str]:
    """Return the table of `stemrack evaluate --json`."""
    rows = []
    for song in report["songs"]:
        stems = song["stems"]
        cells = []
        for name in STEMS:
            stem = stems[name]
            sdr, leakage = stem["sdr_db"], stem["leakage_db"]
            cells.append(_decibels(sdr) if sdr is not None else f"({leakage:.1f})")
        rows.append([song["song"], *cells, _decibels(song["mean_sdr_db"])])
    means = report["means"]["sdr_db"]
    rows.append(["**mean**", *(_decibels(means[name]) for name in STEMS), _decibels(report["mean_sdr_db"])])
    return _table(["song", *STEMS, "mean"], rows)


def model_card(manifest: dict[str, Any], report: dict[str, Any], material: Sequence[Path], note: str) -> str:
    """Return the model card: how the weights came about, what they do, whose audio they learnt from.

    manifest: of the weights; report: of `stemrack evaluate --json` with these weights; material: folders
    that the shards were prepared from; note: what no file knows, in a person's words.
    """
    title = f"# Weights `{manifest['profile']}`, network `{manifest['network']}`"
    lines = [title, "", *([note, ""] if note else [])]
    lines += ["## Training", "", f"{manifest['steps']} steps in {manifest['seconds'] / 3600:.1f} hours.", ""]
    rows = [[str(s["from_step"]), f"`{s['command']}`", s["data_sha256"][:16]] for s in manifest["stretches"]]
    lines += _table(["from step", "command", "sha256 of the shards"], rows)
    held_out = ", ".join(f"{name} {value:.2f}" for name, value in manifest["held_out_sdr_db"].items())
    lines += ["", f"SDR in dB on held-out mixtures of held-out makers, in segments: {held_out}.", ""]
    lines += [
        "## Quality",
        "",
        f"Global SDR (MDX 2021) in dB, profile `{report['profile']}`; in brackets: ",
        "",
    ]
    lines[-2] = lines[-2].rstrip() + " leakage in dB below the mixture of a stem that the song does not have."
    lines += [
        *_quality(report),
        "",
        "Measured with `stemrack evaluate`; nothing was trained on these songs.",
        "",
    ]
    lines += ["## Sources", "", "What the weights learnt from, with attribution and licence:", ""]
    lines += [f"- {line}" for line in attributions(list(material), manifest["sources"])]
    return "\n".join(lines) + "\n"


def ship(run: Path, report: Path, material: Sequence[Path], target: Path, note: str = "") -> list[Path]:
    """Return the files written: `target`.safetensors, .json (manifest) and .md (model card).

    run: folder of a `fit`. report: JSON of `stemrack evaluate` made with its best weights.
    Raises: DataError when the run has no weights, or when the report is of other weights.
    """
    weights, manifest_path = run / "best.safetensors", run / "best.json"
    if not weights.is_file() or not manifest_path.is_file():
        raise DataError(f"{run} has no best.safetensors with manifest: let 'train fit' validate once")
    manifest = json.loads(manifest_path.read_text())
    manifest = {"network": "xumx", **manifest}  # runs of an earlier version knew no other
    measured = json.loads(report.read_text())
    if measured.get("weights_sha256") != {manifest["network"]: manifest["sha256"]}:
        raise DataError(
            f"{report} was measured with other weights: run 'stemrack evaluate --profile "
            f"{manifest['profile']}:{manifest['network']} --weights {weights}'"
        )
    card = model_card(manifest, measured, material, note)
    manifest["quality_sdr_db"] = {**measured["means"]["sdr_db"], "mean": measured["mean_sdr_db"]}
    written = [target.with_suffix(suffix) for suffix in (".safetensors", ".json", ".md")]
    shutil.copyfile(weights, written[0])
    written[1].write_text(json.dumps(manifest, indent=1) + "\n")
    written[2].write_text(card)
    return written
