"""The recorder against a block that the test writes as the callback would."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from processes import until

from stemrack.rt import recording
from stemrack.rt.atomics import load, store
from stemrack.rt.block import POSITION, RATE_HZ, RECORD_POSITION, Geometry, make_block
from stemrack.rt.errors import ConfigError, OutputError
from stemrack.rt.files import AudioSource
from stemrack.rt.recording import Recorder, RecordSettings
from stemrack.rt.ring import write_ring
from stemrack.rt.stream import StreamPlan, begin_stream


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
    assert told[-1] == (
        "recording-stopped",
        {"reason": "disk nearly full", "samples": report.n_samples, "lost_samples": 0},
    )
    assert soundfile.read(report.paths[0])[0].shape[0] == report.n_samples


def test_a_disk_that_gets_full_is_told_once(tmp_path, block, monkeypatch):
    told = []
    monkeypatch.setattr(recording, "FREE_CHECK_S", 0.0)
    free = shutil.disk_usage(tmp_path).free
    settings = RecordSettings(folder=tmp_path, min_free_bytes=free // 3)
    recorder = Recorder(block, settings, lambda kind, facts: told.append((kind, facts)))
    recorder.start()
    until(lambda: len(told) >= 2)
    put(block, noise(4_000))
    time.sleep(0.3)
    assert recorder.is_running
    assert recorder.stop().reason == "stopped"
    assert [kind for kind, _ in told] == ["recording-started", "disk-low"]
    assert told[1][1]["free_mb"] == pytest.approx(free / 1e6, rel=0.1)


FLOAT = {"container": "wav", "subtype": "float32"}


def stream(block, rate_hz=44_100):
    return begin_stream(block, StreamPlan(rate_hz=rate_hz, delay_samples=256))


def play(block, x):
    """What a stream without a limiter does."""
    put(block, x)
    store(block.words, POSITION, load(block.words, RECORD_POSITION))


def two_streams(block, folder, *, waits, n=10_100, rate_hz=44_100):
    """Return the recording of a stream of n samples and, from the next hop border on, one of 3000."""
    block.record[:] = 0.7  # what was heard a lap ago
    stream(block)
    told = []
    recorder = Recorder(block, RecordSettings(folder=folder, **FLOAT), lambda *event: told.append(event))
    recorder.start()
    x, y = noise(n, 1), noise(3_000, 2)
    play(block, x)
    if waits:
        until(lambda: recorder._position == n)
    origin = stream(block, rate_hz)
    play(block, y)
    if rate_hz != 44_100:
        until(lambda: not recorder.is_running)
    report = recorder.stop()
    heard, _ = soundfile.read(report.paths[0], dtype="float32")
    return x, y, origin, report, heard.T, told


def test_what_lies_between_two_streams_is_silence_to_the_sample(tmp_path, block):
    x, y, origin, report, heard, _ = two_streams(block, tmp_path, waits=True)
    assert origin == 10_112
    assert np.array_equal(heard[:, :10_100], x[:2])
    assert not heard[:, 10_100:origin].any()
    assert np.array_equal(heard[:, origin:], y[:2])
    assert report.n_lost_samples == 12


def test_a_new_stream_within_one_look_never_replays_the_lap_before(tmp_path, block, monkeypatch):
    """Where the first one ended is not known then: up to a hop of its end may be silent too."""
    monkeypatch.setattr(recording, "POLL_S", 3600.0)
    x, y, origin, report, heard, _ = two_streams(block, tmp_path, waits=False)
    n = origin - 63
    assert np.array_equal(heard[:, :n], x[:2, :n])
    assert not heard[:, n:origin].any()
    assert np.array_equal(heard[:, origin:], y[:2])
    assert report.n_lost_samples == 63


def test_a_device_that_comes_back_at_another_rate_ends_the_recording(tmp_path, block):
    x, _, origin, report, heard, told = two_streams(block, tmp_path, waits=True, rate_hz=48_000)
    assert heard.shape[1] == report.n_samples == origin
    assert np.array_equal(heard[:, :10_100], x[:2])
    assert told[-1][0] == "recording-stopped"
    assert "44100 to 48000 Hz" in report.reason


def test_recorded_stems_add_up_to_the_recorded_mix(tmp_path, block):
    recorder = Recorder(block, RecordSettings(folder=tmp_path, stems=True, **FLOAT))
    recorder.start()
    x = noise(9_000, 3) / 4
    x[:2] = x[2:4] + x[4:6] + x[6:8] + x[8:10]
    put(block, x)
    mix, drums, bass, other, vocals = (soundfile.read(p, dtype="float32")[0] for p in recorder.stop().paths)
    assert np.array_equal(drums + bass + other + vocals, mix)
    assert np.abs(mix).max() > 0.1


def test_a_folder_that_is_taken_away_ends_the_recording_and_says_so(tmp_path, block, monkeypatch):
    monkeypatch.setattr(recording, "FREE_CHECK_S", 0.0)
    told = []
    folder = tmp_path / "takes"
    recorder = Recorder(block, RecordSettings(folder=folder), lambda *event: told.append(event))
    recorder.start()
    shutil.rmtree(folder)
    until(lambda: not recorder.is_running)
    assert "No such file" in recorder.stop().reason
    assert told[-1][0] == "recording-stopped"


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path, block):
    (tmp_path / "file").write_text("in the way")
    recorder = Recorder(block, RecordSettings(folder=tmp_path / "file"))
    with pytest.raises(OutputError, match="not a folder"):
        recorder.start()
    assert recorder.stop().n_samples == 0


def test_settings_that_cannot_work_are_refused():
    for bad in ({"mix": False}, {"container": "mp3"}, {"subtype": "float32"}, {"min_free_bytes": -1}):
        with pytest.raises(ConfigError):
            RecordSettings(**bad)


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
