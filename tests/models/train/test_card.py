"""Shipping: weights, manifest and card agree, and figures of other weights are refused."""

import json
from pathlib import Path

import pytest

from stemrack.models.errors import DataError
from stemrack.models.train.card import ship


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "best.safetensors").write_bytes(b"weights")
    manifest = {
        "profile": "live",
        "steps": 1200,
        "seconds": 5400,
        "held_out_sdr_db": {"drums": 1.234, "mean": 1.0},
        "stretches": [{"from_step": 0, "command": "stemrack train fit --steps 9", "data_sha256": "ab" * 32}],
        "sources": ["bass/one"],
        "sha256": "cd" * 32,
    }
    (folder / "best.json").write_text(json.dumps(manifest))
    return folder


def _report(path: Path, sha256: str) -> Path:
    stem = {"sdr_db": 3.456, "leakage_db": None}
    none = {"sdr_db": None, "leakage_db": -14.04}
    song = {
        "song": "Shadows",
        "mean_sdr_db": 3.456,
        "stems": {"drums": stem, "bass": stem, "other": stem, "vocals": none},
    }
    means = {"sdr_db": {"drums": 3.456, "bass": 3.456, "other": 3.456, "vocals": None}}
    path.write_text(
        json.dumps(
            {
                "profile": "live",
                "weights_sha256": {"xumx": sha256},
                "mean_sdr_db": 3.456,
                "means": means,
                "songs": [song],
            }
        )
    )
    return path


def test_card_tells_training_quality_and_sources(run: Path, tmp_path: Path):
    material = tmp_path / "material"
    (material / "bass" / "one").mkdir(parents=True)
    row = {"file": "bass/one/a.flac", "attribution": "by Ann", "licence": "CC BY 4.0"}
    (material / "index.json").write_text(json.dumps([row]))
    written = ship(run, _report(tmp_path / "r.json", "cd" * 32), [material], tmp_path / "live", "A note.")
    assert [p.name for p in written] == ["live.safetensors", "live.json", "live.md"]
    assert written[0].read_bytes() == b"weights"
    assert json.loads(written[1].read_text())["quality_sdr_db"]["mean"] == 3.456
    card = written[2].read_text()
    assert "| Shadows | 3.46 | 3.46 | 3.46 | (-14.0) | 3.46 |" in card
    assert "1200 steps in 1.5 hours" in card
    assert "| 0 | `stemrack train fit --steps 9` | abababababababab |" in card
    assert "- bass/one: by Ann (CC BY 4.0)" in card
    assert "A note." in card


def test_figures_of_other_weights_are_refused(run: Path, tmp_path: Path):
    with pytest.raises(DataError, match="measured with other weights"):
        ship(run, _report(tmp_path / "r.json", "00" * 32), [], tmp_path / "live")
    (run / "best.json").unlink()
    with pytest.raises(DataError, match=r"no best\.safetensors"):
        ship(run, tmp_path / "r.json", [], tmp_path / "live")
