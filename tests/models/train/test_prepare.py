"""The whole way from folders to shards: pools in order, resumed, with nobody in both splits."""

import numpy as np
import pytest
import soundfile
from train_material import Material, add_songs, add_voices, tone

from stemrack.models.errors import DataError, SpecError
from stemrack.models.train import prepare as pr
from stemrack.models.train.shards import read_index

RECORDED = ("multitrack", "performances", "instrumental", "voices")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = Material(tmp_path_factory.mktemp("material"))
    add_songs(made, 15, seconds=0.3)
    add_voices(made, 12)
    made.add("performances/bass/thumb/a.wav", tone(100.0, 2.0), stem="bass")
    for i in range(10):
        made.add(f"instrumental/p/{i}.wav", tone(300.0, 0.2), artist=f"artist {i}")
    return made.save()


def run(root, out, lines=None, **kw):
    settings = {"songs_minutes": 0.0, "voices_minutes": 0.2, "seed": 4, "pools": RECORDED} | kw
    return pr.prepare(root, out, progress=(lines if lines is not None else []).append, **settings)


def test_every_pool_is_made_once_in_order(root, tmp_path):
    lines = []
    rows = run(root, tmp_path, lines)
    assert rows == read_index(tmp_path)
    assert {s.pool for s in rows} == set(RECORDED)
    order = list(dict.fromkeys(line.split(":")[0] for line in lines))
    assert order == list(RECORDED)
    by_split = {
        split: {k for s in rows if s.split == split for k in s.sources} for split in ("train", "valid")
    }
    assert by_split["train"].isdisjoint(by_split["valid"])
    again = []
    assert run(root, tmp_path, again) == rows
    assert again == []


def test_a_run_that_was_stopped_ends_as_one_that_was_not(root, tmp_path):
    whole = run(root, tmp_path / "whole", pools=("multitrack", "instrumental"))

    class StopError(Exception):
        pass

    def stop_soon(_line, left=[5]):  # noqa: B006 - the list is the counter
        left[0] -= 1
        if not left[0]:
            raise StopError

    settings = {
        "songs_minutes": 0.0,
        "voices_minutes": 0.0,
        "seed": 4,
        "pools": ("multitrack", "instrumental"),
    }
    with pytest.raises(StopError):
        pr.prepare(root, tmp_path / "cut", progress=stop_soon, **settings)
    assert 0 < len(read_index(tmp_path / "cut")) < len(whole)
    assert pr.prepare([root], tmp_path / "cut", **settings) == whole


def test_musdb_beside_an_indexed_folder(root, tmp_path):
    for stem in ("mixture", "drums", "bass", "other", "vocals"):
        path = tmp_path / "musdb" / "Ann - One" / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.stack([tone(200.0, 0.2)] * 2).T, 44_100)
    rows = run([root, tmp_path / "musdb"], tmp_path / "out", pools=("multitrack",))
    own = [s for s in rows if s.sources == ("musdb/Ann - One",)]
    assert len(own) == 3
    assert {s.parts for s in own} == {("drums", "bass", "other", "vocals")}


def test_songs_get_their_minutes_per_folder(root, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(pr, "prepare_songs", lambda *args: calls.append(args[:4]))
    run(root, tmp_path, songs_minutes=7.0, pools=("songs", "instrumental"))
    assert calls == [(root, tmp_path, 7.0, 4)]


def test_what_cannot_be_prepared_is_named(root, tmp_path):
    with pytest.raises(SpecError, match="kazoo"):
        run(root, tmp_path, pools=("kazoo",))
    with pytest.raises(SpecError, match="negative"):
        run(root, tmp_path, voices_minutes=-1.0)
    with pytest.raises(DataError, match="neither"):
        run([root, tmp_path], tmp_path / "out")
