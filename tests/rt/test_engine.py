"""The engine in its three processes on the virtual clock, with faults; what was heard is inspected."""

import gc
import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_device import delay_for, music
from fake_separator import HOP, LATENCY, FakeSeparator
from processes import children_of, is_running, open_things, until

from stemrack.rt.atomics import load, store
from stemrack.rt.audio import DeviceChoice
from stemrack.rt.block import FAULT, FAULT_NAN, FAULT_NONE, FAULT_RAISE, FAULT_SLOW
from stemrack.rt.engine import Engine, EngineSettings
from stemrack.rt.errors import EngineStateError
from stemrack.rt.params import Fader, MixerState
from stemrack.rt.recording import RecordSettings
from stemrack.rt.stream import StreamPlan
from stemrack.rt.worker import WorkerSettings

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at processes through /proc"),
]

BLOCK = 256
DELAY = delay_for(HOP, LATENCY, (BLOCK,)) + 2 * HOP
"""Two hops more than the least: these tests are about faults, not about a busy machine."""
SOURCE_SAMPLES = 44_100 * 7 + 123


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, music(SOURCE_SAMPLES).T, 44_100, subtype="FLOAT")
    return path


def plan_for(resolved):
    return StreamPlan(rate_hz=44_100, delay_samples=DELAY, start_ramp_samples=0)


def settings_for(song, **choice):
    return EngineSettings(
        hop=HOP,
        worker=WorkerSettings(load=FakeSeparator),
        devices=DeviceChoice(input=None, output=None, block_samples=BLOCK, **choice),
        plan_for=plan_for,
        input_file=song,
    )


@contextmanager
def playing(song, mixer=None, **choice):
    with Engine(settings_for(song, **choice)) as engine:
        engine.start()
        if mixer:
            engine.set_mixer(mixer)
        time.sleep(0.3)
        yield engine


@dataclass
class Story:
    """What happened to an engine, and what was heard meanwhile."""

    spans: dict = field(default_factory=dict)
    counted: dict = field(default_factory=dict)
    seconds: dict = field(default_factory=dict)
    events: list = field(default_factory=list)
    mix: np.ndarray = None
    stems: dict = None
    first: int = 0

    def heard(self, name):
        """Main from a moment before the fault to a moment after it."""
        begin, end = self.spans[name]
        return self.mix[:, begin - self.first : end - self.first]

    def due(self, name):
        """The input that belongs to it."""
        begin, end = self.spans[name]
        song = music(SOURCE_SAMPLES)
        return song[:, (np.arange(begin, end) - DELAY) % SOURCE_SAMPLES]


def is_wet(engine):
    return engine.worker.state == "ready" and not engine.counters()["is_dry"]


def go_through(engine, story, name, fault):
    """Record one fault: from before it until the stems have been back for a moment."""
    until(lambda: is_wet(engine))
    time.sleep(0.25)
    before, begin, started = engine.counters(), engine.record_position, time.monotonic()
    fault(engine)
    until(lambda: engine.counters()["fallbacks"] > before["fallbacks"])
    until(lambda: is_wet(engine))
    story.seconds[name] = time.monotonic() - started
    time.sleep(0.3)
    after = engine.counters()
    story.spans[name] = (begin, engine.record_position)
    story.counted[name] = {k: after[k] - before[k] for k in after}


def kill_worker(engine):
    os.kill(engine.worker.pid, signal.SIGKILL)


def stop_worker(seconds):
    def fault(engine):
        pid = engine.worker.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    return fault


def stop_worker_for_ever(engine):
    os.kill(engine.worker.pid, signal.SIGSTOP)


def ask_for(fault, seconds):
    def ask(engine):
        store(engine.block.words, FAULT, fault)
        time.sleep(seconds)
        store(engine.block.words, FAULT, FAULT_NONE)

    return ask


def raise_once(engine):
    deaths = engine.worker.n_deaths
    store(engine.block.words, FAULT, FAULT_RAISE)
    until(lambda: engine.worker.n_deaths > deaths)
    store(engine.block.words, FAULT, FAULT_NONE)


FAULTS = {
    "killed": kill_worker,
    "stopped 100 ms": stop_worker(0.1),
    "stopped 1 s": stop_worker(1.0),
    "stopped for ever": stop_worker_for_ever,
    "not a number": ask_for(FAULT_NAN, 0.3),
    "raises": raise_once,
    "ten times too slow": ask_for(FAULT_SLOW, 3.0),
}


def told(song, folder, faults, mixer=None):
    story = Story()
    with playing(song, mixer) as engine:
        settings = RecordSettings(folder=folder, stems=True, container="wav", subtype="float32")
        engine.start_recording(settings)
        for name in faults:
            go_through(engine, story, name, FAULTS[name])
        report = engine.stop_recording()
        story.events = list(engine.events)
    assert report.n_lost_samples == 0
    story.first = report.first_position
    heard = {p.stem: soundfile.read(p, dtype="float32")[0].T for p in report.paths}
    story.mix = heard.pop("mix")
    story.stems = heard
    return story


@pytest.fixture(scope="module")
def story(song, tmp_path_factory):
    return told(song, tmp_path_factory.mktemp("open"), FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_with_open_faders_no_fault_is_heard_at_all(story, name):
    """Wet and dry are the same there: nothing may be missing, repeated or moved by a sample."""
    assert np.abs(story.heard(name) - story.due(name)).max() <= 2.0**-22


@pytest.mark.parametrize("name", FAULTS)
def test_stems_are_aligned_to_the_sample_afterwards(story, name):
    _, end = story.spans[name]
    last = slice(end - 8_000 - story.first, end - story.first)
    song = music(SOURCE_SAMPLES)
    at = (np.arange(end - 8_000 - 64, end) - DELAY) % SOURCE_SAMPLES
    drums_taps = FakeSeparator()._filters[0]
    wanted = np.stack([np.convolve(row, drums_taps)[64 : 64 + 8_000] for row in song[:, at]])
    assert np.abs(story.stems["drums"][:, last] - wanted).max() < 1e-6
    total = sum(s[:, last] for s in story.stems.values())
    assert np.abs(total - song[:, at[64:]]).max() < 1e-6


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_counted_and_mended_in_time(story, name):
    counted = story.counted[name]
    died = {"killed", "stopped for ever", "raises"}
    assert counted["worker_deaths"] == counted["worker_restarts"] == (name in died)
    assert counted["fallbacks"] >= 1
    assert counted["late_hops"] >= 1
    assert counted["dry_samples"] > 0
    assert (counted["bad_hops"] > 0) == (name == "not a number")
    assert counted["bad_stem_samples"] == counted["xruns"] == counted["input_missing"] == 0
    # a worker that hangs is noticed after 2 s; the others are back within 3 s of their fault's end
    lasts = {"stopped 1 s": 1.0, "ten times too slow": 3.0, "stopped for ever": 2.0}.get(name, 0.0)
    assert story.seconds[name] < lasts + 3.0


def test_deaths_are_told_with_their_reason(story):
    deaths = [e.facts for e in story.events if e.kind == "worker-died"]
    assert [(d["why"], d["exit_code"]) for d in deaths] == [
        ("ended", -signal.SIGKILL),
        ("gave no sign of life", -signal.SIGKILL),
        ("ended", 1),
    ]
    assert "a fault that was asked for" in deaths[2]["said"]


def test_with_moved_faders_there_is_no_click_and_no_silence(song, tmp_path):
    mixer = MixerState(vocals=Fader(mute=True), drums=Fader(gain_db=-3.0))
    story = told(song, tmp_path, ["killed", "not a number", "stopped 100 ms"], mixer)
    for name in story.spans:
        heard, due = story.heard(name), story.due(name)
        natural = np.abs(np.diff(due)).max()
        # the cross-fade adds at most the difference of wet and dry over 128 samples; a hard switch adds 0.24
        assert np.abs(np.diff(heard)).max() <= natural + 2.0 / 128
        pieces = heard[:, : heard.shape[1] // 441 * 441].reshape(2, -1, 441)
        assert np.sqrt((pieces**2).mean(axis=2)).min() > 1e-3


def test_silence_stays_silence(song, tmp_path):
    mixer = MixerState(**{stem: Fader(mute=True) for stem in ("drums", "bass", "other", "vocals")})
    story = told(song, tmp_path, ["killed"], mixer)
    assert not story.heard("killed").any()


def test_a_worker_that_always_dies_leaves_the_node_dry_until_a_profile_is_chosen(song):
    with playing(song, pace=1.0) as engine:
        store(engine.block.words, FAULT, FAULT_RAISE)
        until(lambda: engine.worker.state == "failed", 60.0)
        assert engine.events[-1].kind == "running-dry"
        assert engine.worker.n_deaths == 5
        position = engine.record_position
        time.sleep(0.3)
        assert engine.record_position > position + 5_000
        assert max(engine.levels()["main"].rms_db) > -40.0
        store(engine.block.words, FAULT, FAULT_NONE)
        engine.change_profile("as before", settings_for(song))
        until(lambda: is_wet(engine))


def test_audio_process_killed_is_back_within_two_seconds(song):
    with playing(song) as engine:
        position, started = engine.record_position, time.monotonic()
        os.kill(engine.audio.pid, signal.SIGKILL)
        until(lambda: engine.record_position > position + 44_100 // 4)
        assert time.monotonic() - started < 6.0  # a new process on a busy machine: 1.4 s on a quiet one
        until(lambda: is_wet(engine))
        assert [e.kind for e in engine.events if "device" in e.kind or "process" in e.kind] == [
            "process-died",
            "device-back",
        ]
        assert engine.counters()["audio_restarts"] == 1


@pytest.mark.skipif(
    sys.platform != "linux", reason="children are forked from a process of their own on Linux"
)
def test_where_processes_come_from_is_killed_and_all_of_them_come_back(song):
    with playing(song) as engine:
        pids = engine.audio.pid, engine.worker.pid
        parents = {int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) for pid in pids}
        assert len(parents) == 1
        assert os.getpid() not in parents
        os.kill(parents.pop(), signal.SIGKILL)
        until(lambda: not any(map(is_running, pids)))  # not two that write the same slots
        until(lambda: engine.counters()["audio_restarts"] == 1 and engine.worker.n_restarts == 1)
        until(lambda: is_wet(engine))


NODE = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from rt_test_engine import settings_for
from stemrack.rt.engine import Engine
if __name__ == "__main__":
    engine = Engine(settings_for(Path({song!r})))
    engine.start()
    print("playing", flush=True)
    time.sleep(60)
"""


def test_a_node_that_is_killed_leaves_nothing_behind(song, tmp_path):
    shared_before = set(os.listdir("/dev/shm"))
    here = Path(__file__)
    (tmp_path / "rt_test_engine.py").write_text(here.read_text())
    (tmp_path / "node.py").write_text(NODE.format(tests=str(here.parents[1]), song=str(song)))
    node = subprocess.Popen([sys.executable, str(tmp_path / "node.py")], stdout=subprocess.PIPE, text=True)
    assert node.stdout.readline() == "playing\n"
    children = children_of(node.pid)
    assert len(children) >= 2
    node.kill()
    node.wait()
    killed = time.monotonic()
    until(lambda: not any(map(is_running, children)), 10.0)
    assert time.monotonic() - killed < 3.5  # two seconds of heartbeat, and the children's polling
    assert set(os.listdir("/dev/shm")) <= shared_before


def test_start_and_stop_of_the_stream_leak_nothing(song):
    """The long form, 2000 cycles, is `stemrack soak --cycles 2000`."""
    with playing(song, pace=20.0) as engine:
        for cycle in range(60):
            engine.stop_stream()
            engine.start_stream()
            if cycle == 9:
                before = open_things(), children_of(os.getpid())
        assert (open_things(), children_of(os.getpid())) == before
        until(lambda: is_wet(engine))


def test_start_and_stop_of_everything_leak_nothing(song):
    counts = []
    for _ in range(4):
        with playing(song):
            pass
        gc.collect()  # the block's memory goes with its last reference
        counts.append((*open_things(), len(children_of(os.getpid()))))
    assert len(set(counts[1:])) == 1


def test_faders_need_a_stream(song):
    with pytest.raises(EngineStateError, match="call start first"):
        Engine(settings_for(song)).set_mixer(MixerState())


def test_fader_is_heard_within_a_block_and_its_ramp(song):
    with playing(song) as engine:
        for k, gain_db in enumerate(itertools.islice(itertools.cycle((-20.0, 0.0)), 8), 2):
            asked = load(engine.block.words, 48)
            engine.set_mixer(MixerState(master_db=gain_db))
            until(lambda k=k: engine.control_log and len(engine.control_log.entries) >= k)
            taken = engine.control_log.entries[-1][0]
            assert taken - asked <= 2 * BLOCK  # the block being played when it was asked for, and the next
            time.sleep(0.02)
