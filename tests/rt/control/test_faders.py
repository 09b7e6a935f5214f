"""Faders as values and values as faders: the way there and back, and the ramps on it."""

from control_node import plain_table
from hypothesis import given
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.control.faders import MIXER_PATHS, SCENE_PATHS, mixer_of, values_of
from stemrack.rt.params import Fader, MixerState

BY_PATH = {p.path: p for p in plain_table()}


def right_values(path):
    parameter = BY_PATH[path]
    if parameter.kind == "switch":
        return st.booleans()
    return st.floats(parameter.lowest, parameter.highest)


def test_the_paths_are_those_of_the_faders():
    assert set(values_of(MixerState())) == set(MIXER_PATHS)
    assert set(MIXER_PATHS) - set(SCENE_PATHS) == {"cue/gain_db", "master/ceiling_db"}


@given(st.fixed_dictionaries({p: right_values(p) for p in MIXER_PATHS}))
def test_values_and_faders_are_the_same_thing(values):
    mixer = mixer_of(values, {}, MixerState())
    assert values_of(mixer) == values
    assert mixer_of(values_of(mixer), {}, MixerState()) == mixer


@given(
    moved=st.sampled_from([p for p in MIXER_PATHS if p.startswith("stem/") and not p.endswith("solo")]),
    ramp_ms=st.floats(0.0, 60_000.0),
    before=st.fixed_dictionaries({s: st.floats(0.0, 60_000.0) for s in STEMS}),
)
def test_a_move_of_one_stem_leaves_the_ramps_of_the_others(moved, ramp_ms, before):
    previous = MixerState(**{s: Fader(ramp_ms=r) for s, r in before.items()})
    values = values_of(previous) | {moved: True if moved.endswith("mute") else 0.5}
    mixer = mixer_of(values, {moved: ramp_ms}, previous)
    stem = moved.split("/")[1]
    assert {s: getattr(mixer, s).ramp_ms for s in STEMS} == before | {stem: ramp_ms}
