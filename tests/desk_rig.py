"""A desk beside a block, without processes: its words are written as a worker and a callback would."""

from effect_rig import fake_effect, neutral

from stemrack.rt.atomics import load, store
from stemrack.rt.block import (
    DELAY_SAMPLES,
    EFFECTS_REVISION,
    EFFECTS_SAMPLES,
    HOP,
    LARGEST_BLOCK,
    N_SLOTS,
    NEXT_DELAY,
    Geometry,
    make_block,
)
from stemrack.rt.chains import Chains, Insert
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.effect_table import EffectTable
from stemrack.rt.stream import StreamPlan

HOP_SAMPLES = 512
PLAN = StreamPlan(rate_hz=44100, delay_samples=2048)
PLUGIN = fake_effect("hostile", plugin="/nowhere/hostile.vst3")
TABLE = EffectTable([*BUILT_IN, PLUGIN])
EQ, ROOM = neutral("peak_filter"), neutral("reverb")
FOREIGN = Insert(name="hostile", effect="hostile", values=PLUGIN.defaults)
BEGINNING = Chains(drums=(EQ, FOREIGN), vocals=(ROOM,))
TOO_LATE = 1 << 20


def make_desk_block():
    """Return a block with a stream of PLAN's delay."""
    block = make_block(Geometry.for_separator(HOP_SAMPLES))
    block.words[HOP], block.words[N_SLOTS], block.words[LARGEST_BLOCK] = HOP_SAMPLES, 128, 512
    block.words[DELAY_SAMPLES] = block.words[NEXT_DELAY] = PLAN.delay_samples
    return block


def in_force(desk, block, revision, samples=0):
    """Have the worker say that chains are in force."""
    store(block.words, EFFECTS_SAMPLES, samples)
    store(block.words, EFFECTS_REVISION, revision)
    desk.poll(None)


def faded(block):
    """Have the callback be done with its fade."""
    store(block.words, DELAY_SAMPLES, load(block.words, NEXT_DELAY))
