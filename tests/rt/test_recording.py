"""Recorder and player against a block that the test writes and reads as the callback would."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_device import LockStep, music

from stemrack.rt import recording
from stemrack.rt.atomics import load, store
from stemrack.rt.block import CAPTURE_READ, CAPTURE_WRITE, RATE_HZ, RECORD_POSITION, Geometry, make_block
from stemrack.rt.errors import ConfigError, InputError
from stemrack.rt.files import AudioSource
from stemrack.rt.player import Player
from stemrack.rt.recording import Recorder, RecordSettings
from stemrack.rt.ring import read_ring, write_ring


def until(done, timeout_s=20.0):
    stop = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < stop, "waited too long"
        time.sleep(0.005)


@pytest.fixture
def block():
    made = make_block(Geometry(hop=64, record_samples=1 << 15, capture_samples=1 << 15))
    made.words[RATE_HZ] = 44_100
    return made


def put(block, x):
    position = load(block.words, RECORD_POSITION)
    for start in range(0, x.shape[1], 512):
        piece = np.ascontiguousarray(x[:, start : start + 512])
        write_ring(block.record, position + start, piece, piece.shape[1])
        store(block.words, RECORD_POSITION, position + start + piece.shape[1])


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (10, n)).astype(np.float32)


def test_what_was_heard_is_in_the_files_bit_for_bit(tmp_path, block):
    put(block, noise(3_000))  # before: not recorded
    settings = RecordSettings(folder=tmp_path, mix=True, stems=True, container="wav", subtype="float32")
    recorder = Recorder(block, settings)
    recorder.start()
    x = noise(20_000, 1)
    for start in range(0, 20_000, 5_000):
        put(block, x[:, start : start + 5_000])
        time.sleep(0.02)
    report = recorder.stop()
    assert (report.first_position, report.n_samples, report.n_lost_samples) == (3_000, 20_000, 0)
    assert [p.name for p in report.paths] == ["mix.wav", "drums.wav", "bass.wav", "other.wav", "vocals.wav"]
    for k, path in enumerate(report.paths):
        heard, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate_hz == 44_100
        assert np.array_equal(heard.T, x[2 * k : 2 * k + 2])
    assert soundfile.info(report.paths[0]).format == "RF64"  # goes past 4 GiB


def test_flac_saturates_and_counts(tmp_path, block):
    recorder = Recorder(block, RecordSettings(folder=tmp_path))
    recorder.start()
    x = noise(6_000)
    x[0, :10] = 1.5
    put(block, x)
    report = recorder.stop()
    heard, _ = soundfile.read(report.paths[0])
    assert np.abs(heard.T - np.clip(x[:2], -1, 1)).max() < 2.0**-22
    assert report.n_saturated == 10
    assert report.reason == "stopped"


def test_what_was_lost_is_silence_and_the_rest_keeps_its_place(tmp_path, block, monkeypatch):
    monkeypatch.setattr(recording, "POLL_S", 3600.0)  # drains only when it is stopped
    recorder = Recorder(block, RecordSettings(folder=tmp_path, container="wav", subtype="float32"))
    recorder.start()
    x = noise(80_000)
    put(block, x)
    report = recorder.stop()
    heard, _ = soundfile.read(report.paths[0], dtype="float32")
    assert report.n_samples == heard.shape[0] == 80_000
    assert report.n_lost_samples == 80_000 - (1 << 15) + 1024
    assert not heard[: report.n_lost_samples].any()
    assert np.array_equal(heard[report.n_lost_samples :].T, x[:2, report.n_lost_samples :])


def test_a_disk_that_fills_up_stops_the_recording_with_a_readable_file(tmp_path, block, monkeypatch):
    told = []
    monkeypatch.setattr(recording, "FREE_CHECK_S", 0.0)
    settings = RecordSettings(folder=tmp_path, min_free_bytes=1 << 62)
    recorder = Recorder(block, settings, lambda kind, facts: told.append((kind, facts)))
    put(block, noise(100))
    recorder.start()
    put(block, noise(4_000))
    until(lambda: not recorder.is_running)
    report = recorder.stop()
    assert report.reason == "disk nearly full"
    assert told[-1] == ("recording-stopped", {"reason": "disk nearly full"})
    assert soundfile.read(report.paths[0])[0].shape[0] == report.n_samples


def test_settings_that_cannot_work_are_refused():
    for bad in ({"mix": False}, {"container": "mp3"}, {"subtype": "float32"}):
        with pytest.raises(ConfigError):
            RecordSettings(**bad)


def draw(block, n):
    out = np.empty((2, n), np.float32)
    at = load(block.words, CAPTURE_READ)
    read_ring(block.capture, at, out, n)
    store(block.words, CAPTURE_READ, at + n)
    return out


def test_player_loops_without_a_gap_bit_for_bit(tmp_path, block):
    x = music(20_011)
    path = tmp_path / "song.wav"
    soundfile.write(path, x.T, 44_100, subtype="FLOAT")
    player = Player(block, path, 44_100)
    player.prefill()
    player.start()
    heard = []
    for _ in range(30):
        until(lambda: load(block.words, CAPTURE_WRITE) - load(block.words, CAPTURE_READ) >= 3_000)
        heard.append(draw(block, 3_000))
    player.stop()
    heard = np.concatenate(heard, axis=1)
    assert np.array_equal(heard, np.tile(x, 5)[:, : heard.shape[1]])
    assert not player.finished


def test_player_converts_the_rate_and_spreads_mono(tmp_path, block):
    t = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1_000 * t), 48_000, subtype="FLOAT")
    player = Player(block, tmp_path / "tone.wav", 44_100, loop=False)
    player.prefill()
    heard = draw(block, 20_000)
    assert np.array_equal(heard[0], heard[1])
    wanted = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(20_000) / 44_100)
    assert np.abs(heard[0] - wanted)[200:].max() < 1e-4


def test_player_ends_or_complains(tmp_path, block):
    soundfile.write(tmp_path / "short.wav", np.zeros(5_000), 44_100)
    player = Player(block, tmp_path / "short.wav", 44_100, loop=False)
    player.prefill()
    assert player.finished
    assert load(block.words, CAPTURE_WRITE) == 5_000
    with pytest.raises(InputError, match="no such file"):
        Player(block, Path("nowhere.wav"), 44_100)


def test_feed_that_runs_dry_is_silent_and_counted():
    from stemrack.rt.block import INPUT_FROM_FEED

    engine = LockStep(input_source=INPUT_FROM_FEED, n_in_channels=0)
    x = music(5_000)
    write_ring(engine.block.capture, 0, x, 5_000)
    store(engine.block.words, CAPTURE_WRITE, 5_000)
    y = engine.play(np.zeros((0, 10_240), np.float32))
    assert np.abs(y[:2, engine.delay : engine.delay + 5_000] - x).max() <= 2.0**-22
    assert np.abs(y[:, engine.delay + 5_000 :]).max() <= 2.0**-22
    assert engine.counters["input_missing"] == 10_240 - 5_000


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("container", ["flac", "wav"])
def test_a_disk_that_is_full_while_recording_leaves_what_was_written(small_disk, block, container):
    told = []
    settings = RecordSettings(folder=small_disk, container=container, min_free_bytes=0)
    recorder = Recorder(block, settings, lambda kind, facts: told.append((kind, facts)))
    recorder.start()
    x = noise(80_000)
    for start in range(0, 80_000, 4_000):
        put(block, x[:, start : start + 4_000])
        time.sleep(0.02)
    until(lambda: not recorder.is_running)
    report = recorder.stop()
    assert "disk full" in report.reason
    assert told[-1][0] == "recording-stopped"
    heard, _ = soundfile.read(report.paths[0])
    assert 10_000 < heard.shape[0] < 80_000
    n = heard.shape[0] - 8_192  # the last piece may be cut
    assert np.abs(heard[:n].T - x[:2, :n]).max() < 2.0**-22


KEEPS_RECORDING = """
import sys, time
from pathlib import Path
import numpy as np
from stemrack.rt.atomics import load, store
from stemrack.rt.block import RATE_HZ, RECORD_POSITION, Geometry, make_block
from stemrack.rt.recording import Recorder, RecordSettings
block = make_block(Geometry(hop=64))
block.words[RATE_HZ] = 44100
Recorder(block, RecordSettings(folder=Path(sys.argv[1]), container=sys.argv[2])).start()
block.record[:] = 0.25
for _ in range(1000):
    store(block.words, RECORD_POSITION, load(block.words, RECORD_POSITION) + 441)
    time.sleep(0.01)
    print("on", flush=True)
"""


@pytest.mark.parametrize("container", ["flac", "wav"])
def test_a_recorder_that_is_killed_leaves_a_file_that_can_be_read(tmp_path, container):
    """flac holds no length then, but all frames that were written; wav has the length of the last writing."""
    command = [sys.executable, "-c", KEEPS_RECORDING, str(tmp_path), container]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(200):
            child.stdout.readline()
        child.kill()
    (path,) = tmp_path.rglob(f"*.{container}")
    with AudioSource(path) as source:
        assert source.rate_hz == 44_100
        heard = np.concatenate(list(source.blocks()), axis=1)
    assert heard.shape[1] > 44_100
    assert np.abs(heard - 0.25).max() < 2.0**-22
