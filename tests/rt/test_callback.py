"""The callback over a virtual clock: transparency, latency, promises about memory and the compiled code."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_device import LockStep, music
from fake_separator import FakeSeparator, OneStem

from stemrack.rt.block import N_CALLBACKS
from stemrack.rt.params import Fader, MixerState

BLOCKS = [(32,), (64,), (100,), (128,), (256,), (441,), (512,), (1024,), (1, 7, 300, 1024, 64, 513)]


def settled(engine, x):
    """What came out, and what should: the input D samples earlier, cut to the same length."""
    y = engine.play(x)
    return y[:2, engine.delay :], x[:, : x.shape[1] - engine.delay]


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_all_faders_open_is_the_delayed_input(blocks):
    engine = LockStep(blocks=blocks)
    heard, wanted = settled(engine, music(30_000))
    assert np.abs(heard - wanted).max() <= 2.0**-22  # two roundings of float32 below full scale: -132 dBFS
    assert engine.counters["late_hops"] == engine.counters["dry_samples"] == 0


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_measured_latency_is_the_declared_one(blocks):
    engine = LockStep(blocks=blocks)
    for at in (0, 511, 5_003):
        x = np.zeros((2, 12_000), np.float32)
        x[:, at] = 0.5
        y = LockStep(blocks=blocks).play(x)
        assert np.abs(y[0]).argmax() == at + engine.delay


def test_one_sample_less_of_delay_is_late():
    """The delay is not generous: with a block of a hop, one sample less misses stems."""
    engine = LockStep(blocks=(512,))
    shorter = LockStep(blocks=(512,), delay=engine.delay - 1)
    x = music(20_000)
    shorter.play(x)
    assert shorter.counters["late_hops"] > 0


def test_blocks_change_no_bit():
    x = music(20_000)
    state = MixerState(drums=Fader(gain_db=-6.0, ramp_ms=300.0), vocals=Fader(mute=True, ramp_ms=200.0))
    outs = []
    for blocks in ((64,), (1, 7, 300, 1024, 64, 513)):
        engine = LockStep(blocks=blocks, delay=3_000, start_ramp_samples=441)
        engine.writer.set_target(state)
        outs.append(engine.play(x))
    assert np.array_equal(*outs)


def test_a_fade_goes_on_while_another_fader_moves():
    """All the sound is in the vocals: they fade for 40 ms, the drums' fader moves in the middle of it."""
    engine = LockStep(OneStem(), blocks=(64,))
    x = np.full((2, 20_480), 0.5, np.float32)
    fade = Fader(gain_db=-math.inf, ramp_ms=40.0)
    n = round(0.04 * 44_100)

    def move(at):
        if at == 10_240:
            engine.writer.set_target(MixerState(vocals=fade))
        if at == 10_240 + 640:
            engine.writer.set_target(MixerState(vocals=fade, drums=Fader(gain_db=-6.0)))
        if at == 10_240 + 1_280:
            engine.writer.set_target(MixerState(vocals=Fader(gain_db=-math.inf, ramp_ms=0.0)))

    y = engine.play(x, before_block=move)[0]
    ramp = 0.5 * (1.0 - np.arange(1_280) / n)
    assert np.abs(y[10_240 : 10_240 + 1_280] - ramp).max() < 1e-6
    assert not y[10_240 + 1_280 :].any()  # the same target, but at once


def test_faders_reach_the_output_within_their_block_and_ramp():
    """All the sound is in the vocals: their fader is a fader on the whole."""
    engine = LockStep(OneStem(), blocks=(256,))
    x = np.full((2, 20_480), 0.5, np.float32)

    def move(at):
        if at == 10_240:
            engine.writer.set_target(MixerState(vocals=Fader(gain_db=-20.0)))

    y = engine.play(x, before_block=move)
    assert y[0, 10_239] == 0.5
    assert y[0, 10_240] == 0.5  # the ramp's first sample is where it starts
    assert y[0, 10_241] < 0.5
    assert np.all(np.diff(y[0, 10_240 : 10_240 + 441]) < 0)
    assert np.abs(np.diff(y[0, 10_000:])).max() < 0.45 / 441 * 1.01
    assert y[0, 10_240 + 441] == pytest.approx(0.05)
    assert engine.taken[-1][:2] == (2, 10_240)


def test_mute_solo_pan_master():
    x = np.full((2, 8_192), 0.25, np.float32)
    for state, wanted in [
        (MixerState(vocals=Fader(mute=True)), (0.0, 0.0)),
        (MixerState(drums=Fader(solo=True)), (0.0, 0.0)),
        (MixerState(vocals=Fader(solo=True)), (0.25, 0.25)),
        (MixerState(vocals=Fader(solo=True, mute=True)), (0.0, 0.0)),
        (MixerState(vocals=Fader(pan=0.5)), (0.125, 0.25)),
        (MixerState(vocals=Fader(pan=-1.0)), (0.25, 0.0)),
        (MixerState(master_db=-math.inf), (0.0, 0.0)),
    ]:
        engine = LockStep(OneStem())
        engine.writer.set_target(state)
        assert engine.play(x)[:2, -1] == pytest.approx(wanted)


def test_stems_on_their_own_pairs_and_a_dry_cue():
    pairs = {
        "drums": (0, 1),
        "bass": (2, 3),
        "other": (4, 5),
        "vocals": (6, 7),
        "cue": (8, 9),
        "main": (10, 10),
    }
    engine = LockStep(FakeSeparator(0.3), n_out_channels=11, bus_channels=pairs)
    x = music(12_000) * 0.5
    y = engine.play(x)
    wanted = x[:, : x.shape[1] - engine.delay]
    y = y[:, engine.delay :]
    np.testing.assert_allclose(y[0:2] + y[2:4] + y[4:6] + y[6:8], wanted, atol=1e-6)
    assert np.array_equal(y[8:10], wanted)
    np.testing.assert_allclose(y[10], wanted.mean(axis=0), atol=1e-6)


def test_what_is_no_number_or_too_loud_stays_inside():
    engine = LockStep()
    x = music(16_000)
    x[0, 3_000:3_010] = np.nan
    x[1, 5_000] = np.inf
    x[:, 7_000:7_300] *= 40.0
    y = engine.play(x)
    assert np.isfinite(y).all()
    assert np.abs(y).max() == 1.0
    assert engine.counters["bad_input_samples"] == 11
    assert engine.counters["clipped_samples"] > 100


def test_limiter_keeps_the_peak_and_its_delay_is_in_the_path():
    from stemrack.rt.limiter import limiter_latency

    x = music(20_000)
    x[:, 9_000:9_400] *= 3.0
    engine = LockStep(limiter_samples=64)
    y = engine.play(x)
    late = engine.delay + limiter_latency(64)
    assert np.abs(y[:2, late : late + 8_000] - x[:, :8_000]).max() < 2.0**-22
    assert 0.9 < np.abs(y).max() <= 1.0
    assert engine.counters["clipped_samples"] == 0
    assert np.abs(engine.block.record[0, engine.delay : engine.delay + 8_000] - x[0, :8_000]).max() < 2.0**-22


def test_start_and_stop_are_ramps():
    from stemrack.rt.atomics import store
    from stemrack.rt.block import FADED, STOPPING

    engine = LockStep(OneStem(), start_ramp_samples=441)
    x = np.full((2, 10_240), 0.5, np.float32)

    def stop(at):
        if at == 7_680:
            store(engine.block.words, STOPPING, 1)

    y = engine.play(x, before_block=stop)[0]
    assert not y[: engine.delay].any()
    assert np.abs(np.diff(y)).max() < 0.5 / 440
    assert y[engine.delay + 441] == 0.5
    assert not y[7_680 + 441 :].any()
    assert engine.block.words[FADED] == 1


def test_flags_are_counted():
    engine = LockStep()
    for flags in (0, 1, 2, 4, 8, 12, 16):
        engine.device.play(np.zeros((2, 64), np.float32), flags=flags)
    counted = engine.block.words[52:57].tolist()
    assert counted == [5, 1, 1, 2, 2]  # 16 is priming, no fault
    assert engine.block.words[N_CALLBACKS] == 7


SEE_CODE = """
import numba
from stemrack.models import jit
jit.OPTIONS["cache"] = False
from stemrack.rt import callback
for name in ("callback", "capture"):
    print("FUNCTION", name)
    print(getattr(callback, name)._library.get_llvm_str())
"""


@pytest.fixture(scope="module")
def compiled_code():
    done = subprocess.run([sys.executable, "-c", SEE_CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


ALLOWED = {"sem_post", "clock_gettime", "NRT_decref"}
"""Beside LLVM's own: the semaphore, the clock, and the release of views, which own nothing."""


def bodies_of(code):
    """Text of each function by name."""
    parts = re.split(r"^(?=define )", code, flags=re.MULTILINE)[1:]
    head = re.compile(r'define [^@]*@("[^"]+"|[\w.$]+)')
    return {head.match(p)[1].strip('"'): p.split("\n}")[0].split("{", 1)[1] for p in parts}


def statuses(body):
    """Constants that a function can return as its status, and calls whose status it passes on."""
    returned = set(re.findall(r"\bret i32 (\S+)", body))
    seen, constants = set(), set()
    while returned - seen:
        name = (returned - seen).pop()
        seen.add(name)
        if not name.startswith("%"):
            constants.add(name)
            continue
        made = re.search(rf"{re.escape(name)} = (\w+) ?(.*)", body)
        if made[1] == "phi":
            returned |= set(re.findall(r"\[ (\S+), %", made[2]))
        elif made[1] == "select":
            returned |= set(re.findall(r"i32 (\S+?)(?:,|$)", made[2]))
        else:
            assert made[1] in ("call", "tail"), made[0]
    return constants


def test_compiled_callback_allocates_nothing_and_cannot_raise(compiled_code):
    outside = set()
    for code in compiled_code.split("FUNCTION ")[1:]:
        bodies = bodies_of(code)
        ours = [name for name in bodies if not name.startswith("cfunc.") and name != "NRT_decref"]
        assert ours
        for name in ours:
            called = {n.strip('"') for n in re.findall(r'\bcall [^@\n]*@("[^"]+"|[\w.$]+)', bodies[name])}
            outside |= {n for n in called - set(bodies) if not n.startswith("llvm.")}
            outside |= called & {"NRT_decref"}
            # A function that raises returns a status that is not 0; the wrapper would then take the GIL.
            assert statuses(bodies[name]) <= {"0"}, name
    assert outside <= ALLOWED
    assert "sem_post" in outside  # the test looks at the right code


def test_the_look_at_the_code_sees_what_it_should():
    script = SEE_CODE.split("from stemrack.rt")[0] + (
        "import numpy as np\n"
        "from stemrack.rt.atomics import cfunc, types\n"
        "@jit.njit\n"
        "def inner(n):\n"
        "    if n > 3:\n"
        "        raise ValueError\n"
        "    return np.zeros(n).sum()\n"
        "@cfunc(types.float64(types.int64), **jit.OPTIONS)\n"
        "def bad(n):\n"
        "    return inner(n)\n"
        "print(bad._library.get_llvm_str())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bodies = bodies_of(done.stdout)
    found = [name for name in bodies if not name.startswith("cfunc.") and statuses(bodies[name]) - {"0"}]
    assert found
    assert "NRT_MemInfo_alloc" in done.stdout


def test_an_edited_callee_is_compiled_anew(tmp_path):
    """A copy of the package, one constant changed in a function that is called in another file."""
    import shutil

    root = Path(__file__).resolve().parents[2]
    for package in ("models", "rt"):
        shutil.copytree(
            root / package,
            tmp_path / "stemrack" / package,
            ignore=shutil.ignore_patterns("__pycache__", "train", "*.safetensors"),
        )
    script = (
        "import numpy as np\n"
        "from stemrack.rt.fallback import stems_until\n"
        "print(stems_until(np.array([0, 64, 128, -1]), 64, 0, 10, 1000))\n"
    )

    def run():
        environment = {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert run() == 192
    ring = tmp_path / "stemrack" / "rt" / "ring.py"
    text = ring.read_text()
    edited = text.replace("stamps.shape[0]) == first", "stamps.shape[0]) == first and first < 100")
    assert edited != text
    ring.write_text(edited)
    assert run() == 128
