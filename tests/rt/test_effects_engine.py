"""Effect chains in the running engine: nothing is lost, and no plugin takes the show down."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from chain_edits import chains_with, edited, neutral, table_with
from fake_device import delay_for, music
from fake_separator import HOP, LATENCY, FakeSeparator
from processes import until
from vst3_plugins import hostile_plugins

from stemrack.rt import worker_watch
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.block import Geometry
from stemrack.rt.chains import Chains, with_value
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.errors import EngineStateError
from stemrack.rt.recording import RecordSettings
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

pytestmark = pytest.mark.realtime

BLOCK = 256
DELAY = delay_for(HOP, LATENCY, (BLOCK,)) + 4 * HOP
"""Four hops more than the least: these tests are not about a busy machine."""
SOURCE_SAMPLES = 44_100 * 7 + 123
LATENT = "brickwall_limiter"
"""Holds 220 samples back at 44.1 kHz: a hop for the delay."""


def tune():
    """Soft enough that no stem is above full scale, where the limiter would rightly be heard."""
    return music(SOURCE_SAMPLES) * np.float32(0.25)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, tune().T, 44_100, subtype="FLOAT")
    return path


@contextmanager
def playing(song, table=BUILT_IN, chains=None, *, delay=DELAY, rate_hz=44_100, settles=True, **choice):
    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=FakeSeparator),
        devices=DeviceChoice(input=None, output=None, rate_hz=rate_hz, block_samples=BLOCK, **choice),
        plan_for=lambda resolved: StreamPlan(rate_hz=rate_hz, delay_samples=delay, start_ramp_samples=0),
        input_file=song,
        effect_table=table,
        chains=chains or Chains(),
    )
    with Engine(settings) as engine:
        engine.start()
        if settles:
            until(lambda: is_wet(engine))
            time.sleep(0.3)
        yield engine


def is_wet(engine):
    return engine.worker.state == "ready" and not engine.counters()["is_dry"]


def settled(engine, limit_s=30.0):
    until(lambda: engine.effects.is_settled, limit_s)


class Take:
    """A recording of the mix, and what is due in it."""

    def __init__(self, engine, folder):
        self._engine = engine
        engine.start_recording(RecordSettings(folder=folder, container="wav", subtype="float32"))

    def stop(self):
        report = self._engine.stop_recording()
        assert report.n_lost_samples == 0
        self.first = report.first_position
        self.mix = soundfile.read(report.paths[0], dtype="float32")[0].T
        return self

    def due(self, delay, start, stop):
        at = np.arange(start, stop) + self.first - delay
        return tune()[:, at % SOURCE_SAMPLES]

    def error(self, delay, start, stop):
        return float(np.abs(self.mix[:, start:stop] - self.due(delay, start, stop)).max())


@pytest.mark.parametrize("n_latent", [0, 1, 3])
def test_the_delay_is_the_declared_one_whatever_is_latent(song, tmp_path, n_latent):
    lines = dict(
        zip(("drums", "bass", "vocals"), [LATENT, f"{LATENT} {LATENT}-2", f"gain {LATENT}"], strict=True)
    )
    lines = dict(list(lines.items())[:n_latent]) | {"other": "gain"}
    with playing(song, chains=neutral(BUILT_IN, chains_with(BUILT_IN, **lines))) as engine:
        assert engine.plan.delay_samples == DELAY + (HOP if n_latent else 0)
        assert engine.effects.planned_samples == (HOP if n_latent else 0)
        take = Take(engine, tmp_path)
        time.sleep(1.0)
        take.stop()
        delay = engine.plan.delay_samples
    assert take.error(delay, 0, take.mix.shape[1]) <= 2.0**-22


def test_edits_while_it_plays_lose_no_sample_and_move_the_delay_with_them(song, tmp_path):
    with playing(song, waits=True) as engine:  # the clock waits for the worker: nothing may be late
        take = Take(engine, tmp_path)
        marks = [(0, DELAY)]
        for lines in (
            {"drums": "gain"},
            {"drums": f"gain {LATENT}", "vocals": "compressor"},
            {"bass": f"{LATENT} {LATENT}-2 {LATENT}-3"},
            {"drums": "", "vocals": ""},
            {"bass": ""},
        ):
            engine.set_chains(neutral(BUILT_IN, edited(BUILT_IN, engine.chains, **lines)))
            settled(engine)
            time.sleep(0.2)
            marks.append((engine.record_position, engine.plan.delay_samples))
        time.sleep(0.2)
        take.stop()
        assert engine.counters()["late_hops"] == 0
    assert [d - DELAY for _, d in marks] == [0, 0, HOP, 2 * HOP, 2 * HOP, 0]
    for (mark, delay), (_, next_delay) in zip(marks, [*marks[1:], (0, DELAY)], strict=True):
        if delay == next_delay:  # the whole span until the next edit has settled
            at = max(0, mark - take.first)
            assert take.error(delay, at, at + 8_000) <= 2.0**-22
    # and never a click: the fade between two delays mixes the song with itself
    natural = np.abs(np.diff(tune())).max()
    assert np.abs(np.diff(take.mix)).max() <= natural + 2.0 / 1024


def test_values_and_bypass_are_heard_and_kept(song):
    with playing(song) as engine:
        engine.set_chains(chains_with(BUILT_IN, drums="gain", bass="gain", other="gain", vocals="gain"))
        settled(engine)
        time.sleep(0.3)
        engine.levels()
        time.sleep(0.3)
        before = max(engine.levels()["main"].rms_db)
        chains = engine.chains
        for stem in ("drums", "bass", "other", "vocals"):
            insert = with_value(BUILT_IN, chains[stem][0], "gain_db", -20.0)
            chains = chains.with_insert(stem, insert)
        engine.set_chains(chains)
        settled(engine)
        time.sleep(0.5)
        engine.levels()
        time.sleep(0.3)
        assert max(engine.levels()["main"].rms_db) == pytest.approx(before - 20.0, abs=2.0)
        for stem in ("drums", "bass", "other", "vocals"):
            chains = chains.with_insert(stem, replace(chains[stem][0], bypass=True))
        engine.set_chains(chains)
        settled(engine)
        time.sleep(0.5)
        engine.levels()
        time.sleep(0.3)
        assert max(engine.levels()["main"].rms_db) == pytest.approx(before, abs=2.0)
        assert engine.chains["drums"][0].values["gain_db"] == -20.0


def test_a_latency_for_which_there_is_no_room_is_refused_and_the_chains_go_back(song):
    """MP3 holds 3481 samples, seven hops: the stems would be older than the oldest that are kept."""
    delay = (Geometry.for_separator(HOP).n_slots - 8) * HOP
    with playing(song, delay=delay) as engine:
        assert delay < engine.block.delay_room < delay + 7 * HOP
        good = chains_with(BUILT_IN, drums="gain")
        engine.set_chains(good)
        settled(engine)
        engine.set_chains(edited(BUILT_IN, good, bass="mp3_compressor"))
        until(lambda: any(e.kind == "chain-refused" for e in engine.events))
        assert engine.chains == good
        settled(engine)
        assert engine.plan.delay_samples == delay
        assert [e.kind for e in engine.events].count("chain-refused") == 1


def test_at_another_rate_too_the_chains_are_heard_from_the_first_sample(song, tmp_path):
    line = "gain reverb delay chorus phaser compressor limiter ladder_filter"
    chains = neutral(BUILT_IN, chains_with(BUILT_IN, drums=line, bass=line, other=line, vocals=line))
    for stem, chain in chains:
        chains = chains.with_insert(stem, with_value(BUILT_IN, chain[0], "gain_db", -60.0))
    with playing(song, chains=chains, delay=2 * DELAY, rate_hz=48_000, settles=False) as engine:
        take = Take(engine, tmp_path)
        time.sleep(1.0)
        take.stop()
        dry = engine.counters()["dry_samples"]
    assert take.first < 24_000
    assert take.first + take.mix.shape[1] > dry + 24_000
    assert np.abs(take.mix[:, max(0, dry - take.first) :]).max() < 0.25 * 10 ** (-60 / 20) * 2


def test_chains_need_a_stream(song):
    settings = EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=FakeSeparator),
        devices=DeviceChoice(input=None, output=None, block_samples=BLOCK),
        plan_for=lambda resolved: StreamPlan(rate_hz=44_100, delay_samples=DELAY),
    )
    with pytest.raises(EngineStateError, match="call start first"):
        Engine(settings).set_chains(Chains())


# -- hostile plugins -----------------------------------------------------------------------------------------

DIES = {"Crasher", "LoadCrash", "LoadHang"}


@pytest.mark.parametrize("name", ["Crasher", "Sleeper", "Nanner", "LoadHang", "LoadCrash"])
def test_a_hostile_plugin_is_named_and_bypassed_and_the_music_goes_on(song, tmp_path, monkeypatch, name):
    monkeypatch.setattr(worker_watch, "LOAD_EFFECT_LIMIT_S", 6.0)  # Sleeper takes 2.2 s
    table = table_with(hostile_plugins())
    pace = 3.0 if name in ("Crasher", "Nanner") else 1.0  # these wait for some hundred hops
    with playing(song, table, pace=pace) as engine:
        others = neutral(table, chains_with(table, drums=f"gain {LATENT}", vocals="gain"))
        engine.set_chains(others)
        settled(engine)
        take, position, started = Take(engine, tmp_path), engine.record_position, time.monotonic()
        engine.set_chains(edited(table, others, vocals=f"gain {name}"))
        until(lambda: bypassed(engine), 60.0)
        until(lambda: is_wet(engine) and engine.effects.is_settled, 30.0)
        seconds = time.monotonic() - started
        time.sleep(0.5)
        played = engine.record_position - position
        take.stop()
        counted, delay = engine.counters(), engine.plan.delay_samples
        assert [(f["stem"], f["insert"]) for f in bypassed(engine)] == [("vocals", name)]
        assert [i.bypass for i in engine.chains["vocals"]] == [False, True]
        assert engine.chains["drums"] == others["drums"]
        engine.set_chains(others)
        settled(engine)
        assert engine.plan.delay_samples == delay == DELAY + HOP
    assert counted["worker_deaths"] == (name in DIES)
    assert counted["bad_stem_samples"] == counted["xruns"] == counted["input_missing"] == 0
    assert played >= (seconds - 1.0) * 44_100  # the clock never stood still
    # all faders are open and the chains neutral: wet and dry are the same, so nothing may be heard at all
    assert take.error(delay, 0, take.mix.shape[1]) <= (2.0**-22 if name != "Nanner" else 1e-4)


def bypassed(engine):
    return [e.facts for e in engine.events if e.kind == "insert-bypassed"]


def test_a_latent_plugin_is_measured_and_the_delay_declared(song, tmp_path):
    table = table_with(hostile_plugins())
    with playing(song, table, chains_with(table, vocals="Latent")) as engine:
        assert engine.effects.planned_samples == 2_048
        assert engine.plan.delay_samples == DELAY + 2_048
        take = Take(engine, tmp_path)
        time.sleep(0.7)
        take.stop()
    assert take.error(DELAY + 2_048, 0, take.mix.shape[1]) <= 2.0**-22


def test_chains_survive_the_death_of_the_worker(song):
    with playing(song) as engine:
        chains = chains_with(BUILT_IN, drums="gain reverb", bass=LATENT)
        engine.set_chains(chains)
        settled(engine)
        delay = engine.plan.delay_samples
        os.kill(engine.worker.pid, signal.SIGKILL)
        until(lambda: engine.worker.n_restarts == 1)
        until(lambda: is_wet(engine))
        settled(engine)
        assert engine.chains == chains
        assert engine.plan.delay_samples == delay
        until(lambda: set(engine.effects.costs) == {"drums/gain", "drums/reverb", f"bass/{LATENT}"})
