"""The player against a capture ring that the test empties as the callback would."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_device import LockStep, music
from processes import until

from stemrack.rt.atomics import load, store
from stemrack.rt.block import CAPTURE_READ, CAPTURE_WRITE, INPUT_FROM_FEED, RATE_HZ, Geometry, make_block
from stemrack.rt.errors import InputError
from stemrack.rt.player import Player
from stemrack.rt.ring import read_ring, write_ring

RING_SAMPLES = 1 << 15


@pytest.fixture
def block():
    made = make_block(Geometry(hop=64, capture_samples=RING_SAMPLES))
    made.words[RATE_HZ] = 44_100
    return made


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
    engine = LockStep(input_source=INPUT_FROM_FEED, n_in_channels=0)
    x = music(5_000)
    write_ring(engine.block.capture, 0, x, 5_000)
    store(engine.block.words, CAPTURE_WRITE, 5_000)
    y = engine.play(np.zeros((0, 10_240), np.float32))
    assert np.abs(y[:2, engine.delay : engine.delay + 5_000] - x).max() <= 2.0**-22
    assert np.abs(y[:, engine.delay + 5_000 :]).max() <= 2.0**-22
    assert engine.counters["input_missing"] == 10_240 - 5_000


def tone(path, rate_hz, n):
    """Write n samples of 1 kHz: whole periods where n is whole milliseconds."""
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(n) / rate_hz), rate_hz, subtype="FLOAT")
    return path


def heard_by(player, block, n, piece=3_000):
    """Return n samples, drawn while the player's own methods keep the ring full."""
    pieces = []
    for _ in range(n // piece):
        player.prefill()
        pieces.append(draw(block, piece))
    return np.concatenate(pieces, axis=1)


def test_player_never_writes_over_what_has_not_been_drawn(tmp_path, block):
    """A low rate gives many samples at a time."""
    player = Player(block, tone(tmp_path / "low.wav", 8_000, 16_000), 96_000)
    player.prefill()
    assert RING_SAMPLES - 4_096 < load(block.words, CAPTURE_WRITE) <= RING_SAMPLES
    heard = heard_by(player, block, 60_000)
    wanted = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(60_000) / 96_000)
    assert np.abs(heard[0] - wanted)[1_000:].max() < 1e-4
    assert load(block.words, CAPTURE_WRITE) - load(block.words, CAPTURE_READ) <= RING_SAMPLES


def test_loop_at_another_rate_has_no_seam(tmp_path, block):
    player = Player(block, tone(tmp_path / "tone.wav", 48_000, 9_600), 44_100)
    heard = heard_by(player, block, 60_000)  # more than six rounds
    wanted = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(60_000) / 44_100)
    assert np.abs(heard[0] - wanted)[200:].max() < 1e-4


def test_a_file_that_breaks_off_ends_the_player_with_its_reason(tmp_path, block):
    path = tmp_path / "song.wav"
    soundfile.write(path, music(60_000).T, 44_100, subtype="FLOAT")
    player = Player(block, path, 44_100)
    player.prefill()
    player.start()
    path.unlink()  # the file that is open stays; the next round finds none
    for _ in range(30):
        until(
            lambda: (
                player.finished or load(block.words, CAPTURE_WRITE) - load(block.words, CAPTURE_READ) > 3_000
            )
        )
        if player.finished:
            break
        draw(block, 3_000)
    player.stop()
    assert player.error == f"{path}: no such file"
    assert load(block.words, CAPTURE_WRITE) == 60_000


def test_stop_lets_the_file_go_even_before_the_start(tmp_path, block):
    for starts in (False, True):
        player = Player(block, tone(tmp_path / "tone.wav", 44_100, 44_100), 44_100)
        player.prefill()
        if starts:
            player.start()
        player.stop()
        assert next(player._pieces, None) is None
