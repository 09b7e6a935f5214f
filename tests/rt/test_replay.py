"""What was heard live, rendered again: bit for bit, with two hundred fader moves."""

import random

import numpy as np
import pytest
import soundfile
from chain_edits import chains_with
from fake_device import LockStep, delay_for, music
from fake_separator import HOP, LATENCY, FakeSeparator
from processes import until

from stemrack.models.stems import STEMS
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.chains import Chains
from stemrack.rt.control_log import ControlLog, read_control_log
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.errors import InputError
from stemrack.rt.params import Fader, MixerState
from stemrack.rt.pipeline import Pipeline
from stemrack.rt.recording import RecordSettings
from stemrack.rt.replay import replay
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

N_MOVES = 200
DELAY = delay_for(HOP, LATENCY, (256,))


def random_state(chance):
    """Faders, mutes, solos, pans and ramps of every kind."""

    def fader():
        return Fader(
            gain_db=chance.choice([0.0, -np.inf, 6.0, chance.uniform(-40, 12)]),
            mute=chance.random() < 0.15,
            solo=chance.random() < 0.1,
            pan=chance.choice([0.0, chance.uniform(-1, 1)]),
            ramp_ms=chance.choice([0.0, 1.0, 10.0, 200.0]),
        )

    return MixerState(
        **{stem: fader() for stem in STEMS},
        master_db=chance.choice([0.0, chance.uniform(-20, 6)]),
        master_ramp_ms=chance.choice([0.0, 1.0, 10.0, 200.0]),
    )


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, music(44_100 * 12).T, 44_100, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def live(song, tmp_path_factory):
    return played(song, tmp_path_factory.mktemp("live"), N_MOVES, Chains())


def played(song, folder, n_moves, chains):
    """A run in three processes on a virtual clock that waits for the worker, recorded, with random moves."""

    def plan_for(resolved):
        return StreamPlan(rate_hz=44_100, delay_samples=DELAY, n_in_channels=0, limiter_samples=0)

    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=FakeSeparator),
        devices=DeviceChoice(input=None, output=None, waits=True, block_samples=256),
        plan_for=plan_for,
        input_file=song,
        chains=chains,
    )
    chance = random.Random(7)
    with Engine(settings) as engine:
        engine.start()
        engine.start_recording(RecordSettings(folder=folder, stems=True, container="wav", subtype="float32"))
        while len(engine.control_log.entries) < n_moves + 1:
            engine.set_mixer(random_state(chance))
            until(lambda: engine._writer.is_settled)
        report = engine.stop_recording()
        counted = engine.counters()
        engine.close()
        engine.control_log.write(folder / "log.jsonl")
    assert report.n_lost_samples == counted["late_hops"] == 0
    return (
        report,
        folder / "log.jsonl",
        {p.stem: soundfile.read(p, dtype="float32")[0].T for p in report.paths},
    )


def test_live_equals_replay_bit_for_bit(song, live, tmp_path):
    report, log_path, heard = live
    log = read_control_log(log_path)
    assert len(log.entries) >= N_MOVES
    done = replay(song, log, FakeSeparator(), tmp_path / "mix.wav")
    assert (done.n_samples, done.n_late_hops) == (44_100 * 12, 0)
    again = soundfile.read(tmp_path / "mix.wav", dtype="float32")[0].T
    assert equals(heard["mix"], again, report, log)


def equals(heard, again, report, log):
    """Whether a recording is, from its beginning on, what a replay gave."""
    first = report.first_position - log.origin - log.delay_samples  # input sample of the recording's first
    begin, n = max(0, -first), min(report.n_samples, again.shape[1] - max(0, first))
    assert n > 44_100
    assert np.abs(heard[:, begin:n]).max() > 0.1
    return np.array_equal(heard[:, begin:n], again[:, first + begin : first + n])


def test_with_effect_chains_it_is_bit_for_bit_too(song, tmp_path):
    lines = {"drums": "compressor reverb", "bass": "brickwall_limiter", "vocals": "delay chorus peak_filter"}
    chains = chains_with(BUILT_IN, **lines)
    report, log_path, heard = played(song, tmp_path, 150, chains)
    log = read_control_log(log_path)
    assert (log.chains, log.chain_edits) == (chains.as_dict(), [])
    assert log.delay_samples == DELAY + HOP  # for the limiter's 220 samples
    done = replay(song, log, FakeSeparator(), tmp_path / "again.wav")
    assert done.n_late_hops == 0
    again = soundfile.read(tmp_path / "again.wav", dtype="float32")[0].T
    assert equals(heard["mix"], again, report, log)
    log.chains = {}
    replay(song, log, FakeSeparator(), tmp_path / "without.wav")
    without = soundfile.read(tmp_path / "without.wav", dtype="float32")[0].T
    assert not equals(heard["mix"], without, report, log)


def test_a_log_with_edits_of_chains_is_refused(song, tmp_path):
    log = ControlLog(rate_hz=44_100, delay_samples=DELAY, start_ramp_samples=0, chain_edits=[66_150])
    with pytest.raises(InputError, match=r"changes effect chains at about 1\.5 s"):
        replay(song, log, FakeSeparator(), tmp_path / "mix.wav")


def test_live_stems_equal_render_live_bit_for_bit(live):
    report, log_path, heard = live
    log = read_control_log(log_path)
    pipeline = Pipeline(FakeSeparator(), rate_hz=44_100, n_channels=2, live=True)
    rendered = np.concatenate([pipeline.push(music(44_100 * 12)), pipeline.finish()], axis=2)
    first = report.first_position - log.origin - log.delay_samples
    begin, n = max(0, -first), min(report.n_samples, rendered.shape[2] - max(0, first))
    for index, stem in enumerate(STEMS):
        assert np.array_equal(heard[stem][:, begin:n], rendered[index, :, first + begin : first + n])


@pytest.mark.parametrize("blocks", [(64,), (441,), (1, 7, 300, 1024, 64)], ids=str)
@pytest.mark.parametrize("limiter_samples", [0, 64])
def test_other_blocks_and_the_limiter(song, tmp_path, blocks, limiter_samples):
    x = music(44_100 * 12)[:, : 44_100 * 3]
    soundfile.write(tmp_path / "short.wav", x.T, 44_100, subtype="FLOAT")
    chance = random.Random(9)
    engine = LockStep(blocks=blocks, start_ramp_samples=441, limiter_samples=limiter_samples)
    log = ControlLog(
        rate_hz=44_100,
        delay_samples=engine.delay,
        start_ramp_samples=441,
        limiter_samples=limiter_samples,
    )
    engine.writer._on_taken = log.add

    def move(at):
        if chance.random() < 0.2:
            engine.writer.set_target(random_state(chance))

    y = engine.play(
        np.concatenate([x, np.zeros((2, engine.delay + 100), np.float32)], axis=1), before_block=move
    )
    done = replay(tmp_path / "short.wav", log, FakeSeparator(), tmp_path / "mix.wav")
    again = soundfile.read(tmp_path / "mix.wav", dtype="float32")[0].T
    late = y.shape[1] - again.shape[1]
    late = engine.delay + (72 if limiter_samples else 0)
    n = min(y.shape[1] - late, again.shape[1])
    assert np.array_equal(y[:2, late : late + n], again[:, :n])
    assert done.n_moves > 20


def test_a_log_of_another_rate_is_refused(song, tmp_path):
    log = ControlLog(rate_hz=48_000, delay_samples=DELAY, start_ramp_samples=0)
    with pytest.raises(InputError, match="the control log 48000"):
        replay(song, log, FakeSeparator(), tmp_path / "mix.wav")
    assert not (tmp_path / "mix.wav").exists()
