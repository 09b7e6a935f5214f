"""Fit: it learns, it resumes to the step, its batches are functions of seed and step."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_profile import write_small_profile

from stemrack.models.errors import DataError
from stemrack.models.train.checkpoints import Checkpoint
from stemrack.models.train.fit import FitConfig, fit
from stemrack.models.train.mixing import MixConfig, Mixer, eq_curves
from stemrack.models.train.shards import read_index, write_shard

N = 60_000


def _tone(cycles: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.random(60) > 0.3, N // 60)
    wave = 0.3 * np.sin(2 * np.pi * cycles * np.arange(N) + rng.uniform(0, 6)) * envelope
    return np.stack([wave, 0.8 * wave]).astype(np.float32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return shards of four stems that live in four octaves, and an accompaniment known as a sum only."""
    folder = tmp_path_factory.mktemp("shards")
    for split in ("train", "valid"):
        for i in range(2):
            seed = i + 10 * (split == "valid")
            d, b, o, v = (
                _tone(c * (1 + 0.02 * i), seed + 100 * k) for k, c in enumerate((0.2, 0.005, 0.02, 0.07))
            )
            write_shard(
                folder,
                f"{split}{i}",
                {"drums": d, "bass": b, "other": o},
                pool="songs",
                split=split,
                sources=("a",),
            )
            write_shard(folder, f"v{split}{i}", {"vocals": v}, pool="voices", split=split, sources=("b",))
            write_shard(
                folder,
                f"i{split}{i}",
                {"drums+bass+other": d + b + o},
                pool="instrumental",
                split=split,
                sources=("c",),
            )
    return folder


def _config(shards: Path, out: Path, profile: Path, **changes) -> FitConfig:
    config = FitConfig(
        shards=shards, out=out, profile=str(profile), steps=30, decay_steps=10, warm_steps=5, batch=4,
        seconds=0.5, checkpoint_steps=10, validate_steps=15, device="cpu", average=0.9,
        rate=0.02, balance=0.0,
    )  # fmt: skip
    return replace(config, **changes)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_profile(tmp_path_factory.mktemp("profile"))[1]


def test_learns_octaves_apart_and_resumes_to_the_same_weights(shards: Path, profile: Path, tmp_path: Path):
    whole = fit(_config(shards, tmp_path / "whole", profile), "the command")
    first = _config(shards, tmp_path / "parts", profile, steps=20)
    fit(replace(first, decay_steps=0))
    (tmp_path / "parts" / "best.safetensors").unlink()
    parts = fit(_config(shards, tmp_path / "parts", profile))
    rows = [line.split(",") for line in (tmp_path / "whole" / "log.csv").read_text().splitlines()]
    losses = [float(row[2]) for row in rows if row[0] == "train"]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    scores = json.loads(whole.with_suffix(".json").read_text())["held_out_sdr_db"]
    assert scores["mean"] > 3.0
    a, b = load_file(whole), load_file(parts)
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_the_manifest_says_how_the_weights_came_about(shards: Path, profile: Path, tmp_path: Path):
    weights = fit(
        _config(shards, tmp_path / "run", profile, steps=3, validate_steps=3), "stemrack train fit --x"
    )
    manifest = json.loads(weights.with_suffix(".json").read_text())
    (stretch,) = manifest["stretches"]
    assert (stretch["from_step"], stretch["command"]) == (0, "stemrack train fit --x")
    assert manifest["steps"] == 3
    assert manifest["sources"] == ["a", "b", "c"]
    assert len(stretch["data_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(manifest)


def test_rate_warms_up_stays_and_decays():
    config = FitConfig(shards=Path("s"), out=Path("o"), steps=100, decay_steps=40, warm_steps=10, rate=1.0)
    assert config.rate_at(0) == pytest.approx(0.1)
    assert config.rate_at(30) == 1.0
    assert config.rate_at(80) == pytest.approx(0.5)
    assert config.rate_at(100) == 0.0


def test_batches_depend_on_seed_and_step_only(shards: Path):
    index = read_index(shards)
    one, two = (Mixer(shards, index, "train", MixConfig(), 7) for _ in range(2))
    two.batch(3, 2, 8192)
    a, b = one.batch(9, 2, 8192), two.batch(9, 2, 8192)
    np.testing.assert_array_equal(a.audio, b.audio)
    np.testing.assert_array_equal(a.eq_db, b.eq_db)
    assert np.abs(a.audio - one.batch(10, 2, 8192).audio).max() > 0.01


def test_slots_cover_every_stem_once_and_peaks_stay_in_range(shards: Path):
    mixer = Mixer(shards, read_index(shards), "train", MixConfig(), 1)
    seen = set()
    for step in range(20):
        batch = mixer.batch(step, 2, 8192)
        for audio, groups in zip(batch.audio, batch.groups, strict=True):
            np.testing.assert_array_equal(groups.sum(0), np.ones(4))
            unused = groups.sum(1) == 0
            assert not audio[unused].any()
            peak = np.abs(audio.sum(0)).max()
            assert peak <= 1.0 + 1e-5
            assert peak >= 0.29 or not audio.any()
            seen.add(int(groups.sum(1).max()))
    assert seen == {1, 3}, "mixes of single stems and of accompaniment with voice"


def test_a_stem_without_material_is_an_error(shards: Path):
    index = [s for s in read_index(shards) if s.pool != "voices"]
    with pytest.raises(DataError, match="no shard with vocals alone"):
        Mixer(shards, index, "train", MixConfig(), 1)


def test_eq_curves_pass_through_their_knots():
    flat = eq_curves(np.full((2, 12), 6.0), 2049)
    np.testing.assert_allclose(flat, 10 ** (6 / 20), rtol=1e-5)
    knots = np.zeros(12)
    knots[0] = -6.0
    curve = eq_curves(knots, 2049)
    assert curve[1] == pytest.approx(10 ** (-6 / 20), rel=1e-3)  # 10.8 Hz: below the lowest knot
    assert curve[2048] == pytest.approx(1.0)
    assert torch.from_numpy(curve).dtype == torch.float32


def test_a_resumption_is_noted_and_other_data_void_the_best_score():
    state = Checkpoint(step=0, best_db=-np.inf, seconds=0.0, stretches=[])
    state.begin("fit", "a")
    state.step, state.best_db = 100, 4.0
    state.begin("fit", "a")
    assert (state.best_db, len(state.stretches)) == (4.0, 1)
    state.begin("fit --steps 9", "a")
    assert (state.best_db, len(state.stretches)) == (4.0, 2)
    state.begin("fit --steps 9", "b")
    assert state.best_db == -np.inf
    assert [row["from_step"] for row in state.stretches] == [0, 100, 100]
