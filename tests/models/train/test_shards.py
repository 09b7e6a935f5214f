"""Shards: what is written is read back to one step of 16 bits, whole or not at all."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.errors import DataError
from stemrack.models.train import shards

LSB = 1.0 / shards.FULL_SCALE


def audio(n=1000, peak=0.9, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, (2, n)).astype(np.float32)
    return x * np.float32(peak / np.abs(x).max())


def write(folder, name="a", parts=None, pool="songs", split="train"):
    parts = {"drums": audio()} if parts is None else parts
    return shards.write_shard(folder, name, parts, pool=pool, split=split, sources=("b", "a", "b"))


def read(folder, shard, start=0, stop=None):
    return dict(shards.read_slice(folder, shard, start, shard.n_samples if stop is None else stop))


def test_round_trip_is_exact_to_half_a_step(tmp_path):
    parts = {"drums": audio(seed=1), "bass+other": audio(seed=2, peak=0.3)}
    back = read(tmp_path, write(tmp_path, parts=parts))
    for part, x in parts.items():
        assert back[part].dtype == np.int16
        assert np.abs(back[part] / shards.FULL_SCALE - x).max() <= 0.51 * LSB


def test_a_loud_shard_is_scaled_as_a_whole(tmp_path):
    parts = {"drums": audio(peak=3.0), "bass": audio(seed=2, peak=0.6)}
    back = read(tmp_path, write(tmp_path, parts=parts))
    assert np.abs(back["drums"]).max() == 32767
    assert np.abs(back["bass"] / shards.FULL_SCALE - parts["bass"] / 3.0).max() <= 0.51 * LSB


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 1000))
def test_a_slice_equals_slicing(tmp_path_factory, start, length):
    folder = tmp_path_factory.getbasetemp() / "slices"
    x = {"drums": audio(), "vocals": audio(seed=3)}
    shard = shards.read_index(folder)[0] if folder.exists() else write(folder, parts=x)
    stop = min(1000, start + length)
    whole, part = read(folder, shard), read(folder, shard, start, stop)
    for name in x:
        assert np.array_equal(part[name], whole[name][:, start:stop])


def test_the_row_tells_what_was_given(tmp_path):
    shard = write(tmp_path, "x.1", {"drums+bass+other": audio(777)}, pool="instrumental", split="valid")
    assert shards.read_index(tmp_path) == [shard]
    assert (shard.file, shard.pool, shard.split) == ("instrumental/x.1.safetensors", "instrumental", "valid")
    assert (shard.parts, shard.n_samples, shard.sources) == (("drums+bass+other",), 777, ("a", "b"))
    assert shards.stems_of("drums+bass+other") == (0, 1, 2)
    assert shards.has_shard(tmp_path, "instrumental", "x.1")
    assert not shards.has_shard(tmp_path, "songs", "x.1")


@pytest.mark.parametrize("broken", ["save_file", "dumps", "replace"])
def test_an_interrupted_write_leaves_no_shard(tmp_path, monkeypatch, broken):
    def fail(*_args, **_kw):
        raise OSError("disk full")

    home = {"save_file": shards, "dumps": shards.json, "replace": shards.os}[broken]
    with monkeypatch.context() as patch:
        patch.setattr(home, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            write(tmp_path)
    assert not shards.has_shard(tmp_path, "songs", "a")
    with pytest.raises(DataError, match="no shards"):
        shards.read_index(tmp_path)
    write(tmp_path)
    assert len(shards.read_index(tmp_path)) == 1


def test_a_half_written_row_is_no_shard(tmp_path, monkeypatch):
    real = shards.os.replace

    def only_audio(source, target):
        if not str(target).endswith(".json"):
            real(source, target)
            return
        raise OSError("killed")

    monkeypatch.setattr(shards.os, "replace", only_audio)
    with pytest.raises(OSError, match="killed"):
        write(tmp_path)
    assert not shards.has_shard(tmp_path, "songs", "a")


def test_unusable_audio_is_refused(tmp_path):
    uneven = {"drums": audio(10), "bass": audio(11)}
    for parts in (
        {},
        uneven,
        {"drums": np.zeros((1, 5))},
        {"kazoo": audio(5)},
        {"drums": np.full((2, 5), np.nan)},
    ):
        with pytest.raises(DataError):
            write(tmp_path, parts=parts)
    assert list(tmp_path.rglob("*.json")) == []


def test_the_hash_of_the_data_ignores_order_but_no_content(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", {"drums": audio(seed=9)})
    assert shards.data_hash([a, b]) == shards.data_hash([b, a])
    assert shards.data_hash([a]) != shards.data_hash([b])
    row = json.loads((tmp_path / "songs" / "a.json").read_text())
    assert row["sha256"] == a.sha256
