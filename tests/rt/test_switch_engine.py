"""A change of profile in an engine of real processes, on the virtual clock, and what is refused."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import share_separator
import soundfile
from chain_edits import chains_with, neutral
from fake_device import music
from processes import children_of, until

from stemrack.latency.budget import Budget
from stemrack.models.stems import STEMS
from stemrack.rt import switch
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.block import DELAY_FADE_SAMPLES
from stemrack.rt.chains import Chains, with_value
from stemrack.rt.control_log import read_control_log
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.errors import EngineStateError, InputError
from stemrack.rt.params import MixerState
from stemrack.rt.recording import RecordSettings
from stemrack.rt.replay import replay
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc")

SONG_SAMPLES = 44_100 * 7 + 123
BLOCK = 256
TIMING = {"live": (512, 512), "club": (1024, 3072)}


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """The next worker listens for a shorter time than to real sound."""
    monkeypatch.setattr(switch, "WARM_S", 0.3)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, music(SONG_SAMPLES).T, 44_100, subtype="FLOAT")
    return path


def delay_of(name):
    hop, latency = TIMING[name]
    budget = Budget(rate_hz=44_100, hop=hop, block_samples=BLOCK, separator_samples=latency)
    return budget.delay_samples + 1_024  # these tests are not about a busy machine


def settings_for(name, load=None, song=None, *, waits=True, chains=Chains()):
    def plan_for(resolved):
        return StreamPlan(rate_hz=44_100, delay_samples=delay_of(name), start_ramp_samples=0)

    return EngineSettings(
        hop=TIMING[name][0],
        worker=WorkerSettings(load=load or getattr(share_separator, name)),
        devices=DeviceChoice(input=None, output=None, block_samples=BLOCK, waits=waits),
        plan_for=plan_for,
        input_file=song,
        chains=chains,
    )


@contextmanager
def playing(song, name="live", **more):
    with Engine(settings_for(name, song=song, **more)) as engine:
        engine.start()
        yield engine


def kinds(engine):
    return [e.kind for e in engine.events if e.kind.startswith("profile")]


def expected(song, first, n, changes, before, shares):
    """What is heard from output position `first`: cross-fades of delays, and of a stem's shares at hops."""
    q = np.arange(first, first + n)

    def path(delay):
        y = q - delay
        share = np.full(n, shares[0])
        for change, after in zip(changes, shares[1:], strict=True):
            known = np.clip((y - change.position + 0.5) / 512, 0.0, 1.0)
            share += known * (after - share)
        return song[:, y % SONG_SAMPLES] * share * (y >= 0)

    heard = path(before)
    for change in changes:
        f = np.clip((q - change.begin) / DELAY_FADE_SAMPLES, 0.0, 1.0)
        heard = (1.0 - f) * heard + f * path(change.delay_samples)
    return heard


LATENT = neutral(BUILT_IN, chains_with(BUILT_IN, bass="brickwall_limiter", vocals="gain compressor"))
"""220 samples late: a hop of either profile."""


@pytest.mark.parametrize("chains", [Chains(), LATENT], ids=["no effects", "effects"])
def test_up_and_down_are_heard_as_cross_fades_and_nothing_else(song, tmp_path, chains):
    def delay_with(name):
        return delay_of(name) + (TIMING[name][0] if chains else 0)

    with playing(song, chains=chains) as engine:
        settings = RecordSettings(folder=tmp_path, stems=True, container="wav", subtype="float32")
        first_worker = engine.worker.pid
        engine.start_recording(settings)
        engine.change_profile("club", settings_for("club"))
        assert engine.plan.delay_samples == delay_with("club")
        assert engine.settings.hop == 1024
        second_worker = engine.worker.pid
        time.sleep(0.2)
        engine.change_profile("live", settings_for("live"))
        time.sleep(0.2)
        report = engine.stop_recording()
        counted = engine.counters()
        changes = engine.control_log.profiles
        assert kinds(engine) == ["profile-changing", "profile-changed"] * 2
        told = [e.facts for e in engine.events if e.kind == "profile-changed"]
        alive = children_of(os.getpid())
        engine.close()
        engine.control_log.write(tmp_path / "log.jsonl")
    assert [t["profile"] for t in told] == ["club", "live"]
    assert [t["delay_ms"] for t in told] == [round(delay_with(p) / 44.1, 1) for p in ("club", "live")]
    assert engine.worker.pid != second_worker != first_worker
    assert not {first_worker, second_worker} & alive
    quiet = ("late_hops", "fallbacks", "dry_samples", "xruns", "worker_deaths", "worker_restarts")
    assert {k: counted[k] for k in quiet} == dict.fromkeys(quiet, 0)
    assert report.n_lost_samples == 0
    x = music(SONG_SAMPLES)
    heard = {p.stem: soundfile.read(p, dtype="float32")[0].T for p in report.paths}
    rows = [getattr(share_separator, name)().shares for name in ("live", "club", "live")]
    known = {stem: [row[k] for row in rows] for k, stem in enumerate(STEMS)}
    for name, shares in {"mix": (1.0, 1.0, 1.0), **known}.items():
        wanted = expected(x, report.first_position, heard[name].shape[1], changes, delay_with("live"), shares)
        assert np.abs(heard[name] - wanted).max() <= 2.0**-21, name
    log = read_control_log(tmp_path / "log.jsonl")
    assert log.profiles == changes
    at_s = (changes[0].position - log.origin) / 44_100
    with pytest.raises(InputError, match=rf"to club at {at_s:.3f} s"):
        replay(song, log, share_separator.live(), tmp_path / "again.wav")


def test_chains_that_are_edited_meanwhile_go_on_in_the_new_profile(song, tmp_path, monkeypatch):
    """The next worker began with those of before."""
    monkeypatch.setattr(switch, "WARM_S", 1.5)
    quiet = chains_with(BUILT_IN, **dict.fromkeys(STEMS, "gain"))
    for stem, (gain,) in quiet:
        quiet = quiet.with_insert(stem, with_value(BUILT_IN, gain, "gain_db", -60.0))
    with playing(song) as engine:
        change = threading.Thread(target=engine.change_profile, args=("club", settings_for("club")))
        change.start()
        until(lambda: (standby := engine._supervisor.standby) and standby.state == "ready")
        engine.set_chains(quiet)
        until(lambda: engine.effects.is_settled)
        engine.start_recording(RecordSettings(folder=tmp_path, container="wav", subtype="float32"))
        edited = engine.record_position + delay_of("club")
        assert kinds(engine) == ["profile-changing"]
        change.join()
        changed = engine.control_log.profiles[0].begin
        time.sleep(0.3)
        report = engine.stop_recording()
        n_edits = len(engine.control_log.chain_edits)
    assert kinds(engine) == ["profile-changing", "profile-changed"]
    heard = soundfile.read(report.paths[0], dtype="float32")[0].T[:, edited - report.first_position :]
    assert edited < changed < edited + heard.shape[1]
    assert np.abs(heard).max() <= 1.01 * 10 ** (-60 / 20) * np.abs(music(SONG_SAMPLES)).max()
    assert n_edits == 1


def test_a_worker_that_dies_later_comes_back_with_the_new_profile(song):
    with playing(song, waits=False) as engine:
        engine.change_profile("club", settings_for("club"))
        before, pid = engine.counters(), engine.worker.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: engine.worker.n_restarts == 1 and engine.worker.state == "ready")
        until(lambda: not engine.counters()["is_dry"])
        after = engine.counters()
        assert after["worker_deaths"] == before["worker_deaths"] + 1
        assert after["hops"] >= before["hops"]
        engine.set_mixer(MixerState(drums=engine.mixer.drums.__class__(solo=True)))
        time.sleep(0.5)
        for _ in range(20):  # a busy machine may make it play dry for a moment
            dry = engine.counters()["dry_samples"]
            engine.levels()
            time.sleep(0.5)
            levels = engine.levels()
            if engine.counters()["dry_samples"] == dry:
                break
        ratio_db = max(levels["main"].peak_db) - max(levels["input"].peak_db)
        assert ratio_db == pytest.approx(20 * np.log10(0.125), abs=3.0)  # club's share; live's is 12 dB more


@pytest.mark.parametrize(
    ("load", "limit_s", "said"),
    [
        (share_separator.broken, 60.0, "weights that are none"),
        (share_separator.short_lived, 60.0, "enough heard"),
        (share_separator.sleepy, 1.5, "loading it took more than 1.5 s"),
    ],
)
def test_what_does_not_work_is_told_and_the_present_profile_plays_on(song, monkeypatch, load, limit_s, said):
    monkeypatch.setattr(switch, "WARM_S", 5.0)
    with playing(song) as engine:
        plan, pid = engine.plan, engine.worker.pid
        with pytest.raises(EngineStateError, match=said):
            engine.change_profile("club", settings_for("club", load), limit_s)
        assert kinds(engine) == ["profile-changing", "profile-refused"]
        assert said in engine.events[-1].facts["why"]
        assert (engine.plan, engine.worker.pid, engine.settings.hop) == (plan, pid, 512)
        assert len(children_of(os.getpid())) <= 4  # audio, worker, where they come from, and the tracker
        position = engine.record_position
        until(lambda: engine.record_position > position + 8_192)
        counted = engine.counters()
        assert (counted["late_hops"], counted["fallbacks"], counted["worker_deaths"]) == (0, 0, 0)
        monkeypatch.setattr(switch, "WARM_S", 0.3)
        engine.change_profile("club", settings_for("club"))  # nothing is left in the way of the next one
        assert engine.counters()["late_hops"] == 0


def test_one_that_cannot_keep_up_is_refused(song):
    with playing(song, waits=False) as engine:
        with pytest.raises(EngineStateError, match="cannot keep up with the sound"):
            engine.change_profile("club", settings_for("club", share_separator.too_slow))
        assert kinds(engine) == ["profile-changing", "profile-refused"]


def test_one_that_is_held_up_once_listens_again(song, monkeypatch):
    monkeypatch.setattr(switch, "WARM_S", 1.0)
    with playing(song, waits=False) as engine:
        engine.change_profile("club", settings_for("club", share_separator.held_up_once))
        assert engine.counters()["skipped_hops"] > 0
        assert kinds(engine) == ["profile-changing", "profile-changed"]


def test_one_change_at_a_time(song):
    with playing(song) as engine:
        refused = []

        def change():
            try:
                engine.change_profile("club", settings_for("club", share_separator.sleepy), 5.0)
            except EngineStateError as error:
                refused.append(str(error))

        first = threading.Thread(target=change)
        first.start()
        until(lambda: kinds(engine) == ["profile-changing"])
        with pytest.raises(EngineStateError, match="being changed already"):
            engine.change_profile("club", settings_for("club"))
        with pytest.raises(EngineStateError, match="being changed already"):
            engine.change_devices(engine.settings.devices)
        first.join()
        assert refused == ["loading it took more than 5 s"]


def test_an_engine_can_be_closed_in_the_middle(song):
    with playing(song) as engine:
        refused = []

        def change():
            try:
                engine.change_profile("club", settings_for("club", share_separator.sleepy))
            except EngineStateError as error:
                refused.append(str(error))

        changing = threading.Thread(target=change)
        changing.start()
        until(lambda: kinds(engine) == ["profile-changing"])
        engine.close()
        changing.join(10.0)
        assert refused == ["the node is stopping"]


def test_without_sound_nothing_changes(song):
    with playing(song) as engine:
        engine.stop_stream()
        with pytest.raises(EngineStateError, match="wait until the stream runs"):
            engine.change_profile("club", settings_for("club"))
