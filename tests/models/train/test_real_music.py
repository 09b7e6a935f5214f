"""Recorded music: stems together and in balance, variants by speed, loops strung together, splits apart."""

import numpy as np
import pytest
from train_material import Material, add_songs, cents, pitch_hz, tone

from stemrack.models.train import real_music as rm
from stemrack.models.train.audio_files import rms_dbfs
from stemrack.models.train.material import AudioFile
from stemrack.models.train.shards import FULL_SCALE, read_index, read_slice

RATE_HZ = 44_100


def read(folder, shard):
    return {part: x / FULL_SCALE for part, x in read_slice(folder, shard, 0, shard.n_samples)}


def say_nothing(_line):
    pass


@pytest.fixture(scope="module")
def multitrack(tmp_path_factory):
    root, out = tmp_path_factory.mktemp("material"), tmp_path_factory.mktemp("shards")
    made = Material(root)
    add_songs(made, 16, seconds=0.5)
    rm.prepare_multitrack(made.save(), out, seed=3, progress=say_nothing)
    return root, out


def test_parts_keep_their_balance_at_the_target_level(multitrack):
    _, out = multitrack
    shard = next(s for s in read_index(out) if s.file == "multitrack/song_1.safetensors")
    parts = read(out, shard)
    assert shard.parts == ("drums", "bass", "other")
    assert rms_dbfs(sum(parts.values()), active_only=False) == pytest.approx(rm.TARGET_DBFS, abs=0.05)
    levels = [rms_dbfs(x) for x in parts.values()]
    assert max(levels) - min(levels) < 0.05


def test_a_song_with_its_bass_in_other_says_so(multitrack):
    _, out = multitrack
    shard = next(s for s in read_index(out) if s.file == "multitrack/song_0.safetensors")
    assert shard.parts == ("drums", "bass+other")


def test_variants_move_all_stems_by_one_factor(multitrack):
    _, out = multitrack
    rows = {s.file.split("/")[1].removesuffix(".safetensors"): s for s in read_index(out)}
    names = [n for n, s in rows.items() if s.split == "train" and "_x" not in n]
    assert names
    plain = rows[names[1]]
    for i, slower in ((1, True), (2, False)):
        variant = rows[f"{names[1]}_x{i}"]
        factor = plain.n_samples / variant.n_samples
        assert (factor < 0.986) if slower else (factor > 1.014)
        assert 0.939 < factor < 1.061
        parts = read(out, variant)
        assert abs(cents(pitch_hz(parts["other"][0]), 400.0 * factor)) < 3.0
        assert abs(cents(pitch_hz(parts["drums"][0], high_hz=2000), 1000.0 * factor)) < 3.0


def test_held_out_songs_have_no_variants_and_nothing_in_training(multitrack):
    _, out = multitrack
    rows = read_index(out)
    valid = {s.sources for s in rows if s.split == "valid"}
    assert 1 <= len(valid) <= rm.HELD_OUT_SONGS
    assert valid.isdisjoint({s.sources for s in rows if s.split == "train"})
    assert not [s for s in rows if s.split == "valid" and "_x" in s.file]


def test_a_second_run_writes_nothing(multitrack):
    root, out = multitrack
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    lines = []
    rm.prepare_multitrack(root, out, seed=3, progress=lines.append)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    assert lines == []


def test_speed_factors_stay_in_range_and_off_one():
    factors = rm.speed_factors(np.random.default_rng(0), 200)
    assert all(0.94 <= f <= 0.985 for f in factors[::2])
    assert all(1.015 <= f <= 1.06 for f in factors[1::2])


def loop(path, seconds):
    return AudioFile(path=path, category="performances", source="s", seconds=seconds, maker="m", stem="bass")


def test_loops_repeat_and_notes_do_not():
    assert [rm.repeats(loop(None, s)) for s in (0.5, 1.6, 2.0, 4.0, 8.0, 30.0)] == [1, 4, 4, 2, 1, 1]


def test_batches_hold_every_file_once_and_fill_up():
    files = [loop(f"{i}", 4.0) for i in range(30)]
    found = rm.batches(files, np.random.default_rng(1))
    assert sorted(f.path for b in found for f in b) == sorted(f.path for f in files)
    assert all(sum(f.seconds * rm.repeats(f) for f in b) <= 60.0 for b in found)


def test_performances_become_shards_of_one_part_and_source(tmp_path):
    made = Material(tmp_path / "in")
    for i in range(3):
        made.add(f"performances/bass/thumb/{i}.wav", tone(100.0, 2.0), stem="bass")
        made.add(f"performances/drums/kit/{i}.wav", tone(900.0, 0.3), stem="drums")
    rm.prepare_performances(made.save(), tmp_path / "out", seed=0, progress=say_nothing)
    rows = read_index(tmp_path / "out")
    assert {(s.parts, s.sources) for s in rows} == {
        (("bass",), ("performances/bass/thumb",)),
        (("drums",), ("performances/drums/kit",)),
    }
    for shard in rows:
        assert 20.0 <= shard.n_samples / RATE_HZ <= 60.0
        (x,) = read(tmp_path / "out", shard).values()
        assert rms_dbfs(x, active_only=False) == pytest.approx(rm.TARGET_DBFS, abs=0.1)


def test_a_seam_does_not_click(tmp_path):
    made = Material(tmp_path)
    made.add("performances/bass/thumb/a.wav", tone(100.3, 2.0), stem="bass")
    x = rm.string_together([loop(tmp_path / "performances/bass/thumb/a.wav", 2.0)], np.random.default_rng(0))
    steepest = 2 * np.pi * 100.3 / RATE_HZ * np.abs(x).max()
    assert np.abs(np.diff(x[0])).max() < 1.3 * steepest


def test_instrumentals_are_one_part_and_doubtful_ones_train(tmp_path):
    made = Material(tmp_path / "in")
    for i in range(16):
        doubt = "voice samples cannot be excluded" if i < 8 else ""
        made.add(f"instrumental/p/{i}.wav", tone(300.0, 0.3), artist=f"artist {i}", doubt=doubt)
    rm.prepare_instrumentals(made.save(), tmp_path / "out", progress=say_nothing)
    rows = read_index(tmp_path / "out")
    assert len(rows) == 16
    assert {s.parts for s in rows} == {("drums+bass+other",)}
    valid = {int(s.sources[0].split("/")[-1]) for s in rows if s.split == "valid"}
    assert valid
    assert min(valid) >= 8
