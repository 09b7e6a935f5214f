"""Songs: parts of one length that sum without clipping, from seeds, resumable, splits apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemrack.models.errors import DataError
from stemrack.models.stems import MODEL_RATE_HZ
from stemrack.models.train import shards
from stemrack.models.train.catalogue import catalogue, families, in_split
from stemrack.models.train.songs import prepare_songs, render_song


def write_instrument(folder, frequency_hz, keys, **facts):
    folder.mkdir(parents=True)
    t = np.arange(int(0.4 * MODEL_RATE_HZ)) / MODEL_RATE_HZ
    x = 0.5 * np.sin(2 * np.pi * frequency_hz * t) * np.exp(-4 * t)
    soundfile.write(folder / "a.wav", x, MODEL_RATE_HZ)
    regions = [
        {"file": "a.wav", "key_low": low, "key_high": high, "key_root": root} for low, high, root in keys
    ]
    row = {"kind": "melodic", "velocity_in_samples": False, **facts, "regions": regions}
    (folder / "instrument.json").write_text(json.dumps(row))


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """Two kits, two basses and two guitars (the last of each by name is held out), and a few sheets."""
    root = tmp_path_factory.mktemp("material")
    for name in ("a", "b"):
        drums = [(key, key, key) for key in (36, 38, 42, 46, 49, 51)]
        write_instrument(root / "drums_kits" / f"{name}_kit", 180, drums, kind="drums")
        write_instrument(root / "bass" / f"{name}_bass", 82.4, [(20, 70, 40)], gm_programs=[33])
        write_instrument(root / "other" / f"{name}_guitar", 440, [(30, 100, 69)], gm_programs=[27])
    sheets = root / "midi_songs" / "tiny_leadsheets"
    sheets.mkdir(parents=True)
    for i in range(20):
        row = {
            "tempo": None,
            "time": [[0, "4", "4"]],
            "melody": [[0, 1, 60, "la"], [2, 2, 64, "la"]],
            "chords": [[0, 0, "major"], [4, 7, "dominant"]],
            "beats": 8,
        }
        (sheets / f"sheet_{i}.json").write_text(json.dumps(row))
    return root


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_of_one_length_audible_and_do_not_clip(material, seed):
    parts, sources = render_song(seed, material, 4.0)
    assert set(parts) == {"drums", "bass", "other"}
    assert {x.shape for x in parts.values()} == {(2, 4 * MODEL_RATE_HZ)}
    assert all(x.dtype == np.float32 for x in parts.values())
    mixture = np.sum(list(parts.values()), axis=0)
    assert np.isfinite(mixture).all()
    assert np.abs(mixture).max() <= 0.951
    levels = {k: 20 * np.log10(np.sqrt(np.mean(x**2))) for k, x in parts.items()}
    assert min(levels.values()) > -45
    # Mean levels are 1.5 dB apart with a deviation of 2 dB each: five deviations of a difference.
    assert max(levels.values()) - min(levels.values()) < 16
    assert {"drums_kits/a_kit", "bass/a_bass", "other/a_guitar"} <= set(sources)


def test_bass_is_low(material):
    parts, _ = render_song(1, material, 4.0)
    power = np.abs(np.fft.rfft(parts["bass"].mean(axis=0))) ** 2
    hz = np.fft.rfftfreq(4 * MODEL_RATE_HZ, 1 / MODEL_RATE_HZ)
    assert power[hz < 250].sum() > 0.5 * power.sum()


def test_a_seed_gives_the_same_song_again_and_another_another(material):
    first, second, other = (render_song(seed, material, 1.5)[0] for seed in ([3, 1], [3, 1], [3, 2]))
    for part, x in first.items():
        np.testing.assert_array_equal(x, second[part])
    assert np.abs(first["bass"] - other["bass"]).max() > 1e-3


def test_splits_share_no_instrument_and_no_sheet(material):
    train, valid = (catalogue(material, split) for split in ("train", "valid"))
    for field in ("kits", "basses", "others", "sheets"):
        ours, theirs = (
            {getattr(item, "name", item) for item in getattr(stock, field)} for stock in (train, valid)
        )
        assert ours
        assert not ours & theirs
    assert all(in_split(path.stem, "valid") for path in valid.sheets)
    assert families(train.others[0]) == {"clean", "crunch", "distorted", "lead"}
    assert train.of_family("bells") == train.others  # nothing else there is


def test_prepare_resumes_and_holds_out_one_in_ten(material, tmp_path, monkeypatch):
    rendered = []

    def short_song(seed, root, seconds, *, split):
        rendered.append((tuple(seed), split))
        x = np.full((2, 100), 0.1, np.float32)
        return {"drums": x, "bass": x}, ("drums_kits/a_kit",)

    monkeypatch.setattr("stemrack.models.train.songs.render_song", short_song)
    said = []
    prepare_songs(material, tmp_path, 15.0, 7, said.append)
    rows = shards.read_index(tmp_path)
    assert 15 * 60 / 90 <= len(rows) == len(rendered) == len(said) <= 15
    assert [row.split for row in rows][:10] == ["train"] * 9 + ["valid"]
    assert all(row.pool == "songs" and row.parts == ("drums", "bass") for row in rows)
    victim = tmp_path / rows[2].file
    victim.with_suffix(".json").unlink()
    victim.unlink()
    before = len(rendered)
    prepare_songs(material, tmp_path, 15.0, 7, said.append)
    assert rendered[before:] == [((7, 3), "train")]
    assert [row.sha256 for row in shards.read_index(tmp_path)] == [row.sha256 for row in rows]


def test_material_without_instruments_says_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="0 kits, 0 basses, 0 other"):
        render_song(0, tmp_path, 3.0)
