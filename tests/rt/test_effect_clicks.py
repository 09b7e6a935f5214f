"""Every parameter of every effect, moved as far as it goes and back, by the inserts, chains and rack at work.

A click is a large second difference. A sine of 110 Hz at -12 dBFS has a small one, which an effect makes
larger while nothing moves; so the largest one of a move is held against that of the steady ends.
"""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from effect_rig import HOP, RATE_HZ, pushed, sine, steepness

from stemrack.rt.chain_builder import ChainBuilder
from stemrack.rt.chains import Chains, Insert
from stemrack.rt.effect_builtin import BUILT_IN, SILENT_IN_STREAMS, with_impulses
from stemrack.rt.effects import Rack
from stemrack.rt.inserts import rise

TABLE = with_impulses(BUILT_IN, ["room", "hall"])
EFFECTS = [effect for effect in TABLE if effect.key not in SILENT_IN_STREAMS]
NUMBERS = [(e.key, p.name) for e in EFFECTS for p in e.parameters if p.kind == "number"]
WITHOUT_BOUND = ("reverb", "freeze_mode")
OTHERS = [
    (e.key, p.name)
    for e in EFFECTS
    for p in e.parameters
    if p.kind != "number" and (e.key, p.name) != WITHOUT_BOUND
]
BOUNDS = {"blend": 2.0, "rebuild": 2.0, "set": 2.0, "ramp": 3.0}
ONSET, BEGIN, WINDOW, STEADY = 40, 100, 40, 30
"""Hops: of the fade that it begins with, of sound before the first move, that count as a move, and from which
a steady end is known."""
AT_WORK = {
    "brickwall_limiter": {"ceiling_db": -20.0},
    "compressor": {"threshold_db": -40.0, "ratio": 8.0},
    "limiter": {"threshold_db": -25.0},
    "noise_gate": {"threshold_db": 0.0},
    "reverb": {"wet_level": 0.5},
    "chorus": {"depth": 0.5, "feedback": 0.5},
    "phaser": {"feedback": 0.5},
    "ladder_filter": {"resonance": 0.5},
    "high_shelf_filter": {"gain_db": 12.0, "cutoff_frequency_hz": 300.0},
    "low_shelf_filter": {"gain_db": 12.0, "cutoff_frequency_hz": 300.0},
    "peak_filter": {"gain_db": 12.0, "cutoff_frequency_hz": 300.0},
    "convolution": {"mix": 0.5},
    "delay": {"mix": 0.5},
}
"""Values with which an effect does something to a sine of 110 Hz, so that its parameters matter."""


@pytest.fixture(scope="module")
def impulses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("impulses")
    rng = np.random.default_rng(5)
    files = {}
    for name, decay in (("room", 800.0), ("hall", 4000.0)):
        answer = 0.1 * rng.standard_normal((8000, 2)) * np.exp(-np.arange(8000) / decay)[:, None]
        files[name] = folder / f"{name}.wav"
        soundfile.write(files[name], answer, RATE_HZ, subtype="FLOAT")
    return files


def insert(key, **values):
    """Return an insert that does something to the sine."""
    return Insert(name=key, effect=key, values=TABLE[key].defaults | AT_WORK.get(key, {}) | values)


def moved(there, back, impulses):
    """Return the largest second difference while a chain is changed there and back, and that of both ends."""
    rack = Rack(HOP, RATE_HZ)
    builder = ChainBuilder(rack, TABLE, impulses)
    builder.change(2, Chains(drums=there), waits=False)
    late = [builder.latency_samples]

    def change(revision, chain):
        builder.change(revision, Chains(drums=chain))
        late.append(builder.latency_samples)

    apart = WINDOW + 60
    x = np.zeros((4, 2, (BEGIN + 2 * apart) * HOP), np.float32)
    x[0] = sine(x.shape[2])
    x[0, :, : ONSET * HOP] *= rise(ONSET * HOP)  # what begins suddenly comes back from a delay
    edits = {BEGIN: lambda: change(3, back), BEGIN + apart: lambda: change(4, there)}
    y = pushed(rack, x, edits)[0]
    assert rack.revision == 4
    at = [i * HOP - max(late) for i in edits]
    moves = max(steepness(y[:, i - 2 : i + WINDOW * HOP]) for i in at)
    return moves, tuple(steepness(y[:, i - STEADY * HOP : i - 2]) for i in at)


def test_only_what_is_named_here_is_left_out():
    """The two are refused in chains, for what stands with SILENT_IN_STREAMS."""
    assert {e.key for e in TABLE} - {e.key for e in EFFECTS} == {"gsm_full_rate_compressor", "pitch_shift"}
    assert len(NUMBERS) + len(OTHERS) + 1 == sum(len(e.parameters) for e in EFFECTS)


@pytest.mark.parametrize(("key", "name"), NUMBERS)
def test_a_number_moved_as_far_as_it_goes_leaves_no_click(key, name, impulses):
    parameter = TABLE[key][name]
    moves, ends = moved(
        (insert(key, **{name: parameter.lowest}),), (insert(key, **{name: parameter.highest}),), impulses
    )
    assert moves <= BOUNDS[parameter.change] * max(ends)


@pytest.mark.parametrize(
    ("key", "name", "values", "rest"),
    [
        ("delay", "feedback", (0.2, 0.5), {"delay_seconds": 0.05}),
        ("delay", "mix", (0.0, 1.0), {"delay_seconds": 0.05, "feedback": 0.6}),
        ("chorus", "centre_delay_ms", (1.0, 50.0), {"feedback": 0.5, "depth": 0.0}),
        ("phaser", "centre_frequency_hz", (100.0, 10_000.0), {"feedback": 0.6}),
    ],
)
def test_what_goes_round_and_round_brings_no_click_back(key, name, values, rest, impulses):
    there, back = (insert(key, **rest, **{name: value}) for value in values)
    moves, ends = moved((there,), (back,), impulses)
    assert moves <= BOUNDS[TABLE[key][name].change] * max(ends)


@pytest.mark.parametrize(("key", "name"), OTHERS)
def test_a_choice_or_switch_leaves_no_click(key, name, impulses):
    parameter = TABLE[key][name]
    values = (False, True) if parameter.kind == "switch" else (parameter.choices[0], parameter.choices[-1])
    moves, ends = moved((insert(key, **{name: values[0]}),), (insert(key, **{name: values[1]}),), impulses)
    assert moves <= BOUNDS[parameter.change] * max(ends)


@pytest.mark.parametrize("what", ["bypassed", "dry", "half dry", "taken out"])
@pytest.mark.parametrize("key", [effect.key for effect in EFFECTS])
def test_an_insert_that_comes_and_goes_leaves_no_click(key, what, impulses):
    own = insert(key)
    back = {
        "bypassed": (replace(own, bypass=True),),
        "dry": (replace(own, dry_wet=0.0),),
        "half dry": (replace(own, dry_wet=0.5),),
        "taken out": (),
    }
    moves, ends = moved((own,), back[what], impulses)
    assert moves <= 2.0 * max(ends)


def test_freezing_a_reverb_is_the_one_move_that_clicks(impulses):
    moves, (ringing, _) = moved((insert("reverb"),), (insert("reverb", freeze_mode=True),), impulses)
    assert 3.0 < moves / ringing < 1000.0, "504 was measured: see effect_builtin"
