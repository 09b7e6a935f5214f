"""Scenes as data: parts of them, the chains that they make, presets in their form."""

import math

import pytest
from control_node import EFFECTS

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains, chain_of, line_of, with_value
from stemrack.rt.control.codec import ProtocolError
from stemrack.rt.control.faders import SCENE_PATHS, values_of
from stemrack.rt.control.messages import ErrorCode
from stemrack.rt.control.scenes import Scene, check_stems, scene_of, scene_of_preset
from stemrack.rt.params import Fader, MixerState
from stemrack.rt.presets import Preset

GAIN = "stem/vocals/gain_db"


def wet_chains():
    (reverb,) = chain_of(EFFECTS, "reverb")
    return Chains(vocals=(with_value(EFFECTS, reverb, "room_size", 0.9),), bass=chain_of(EFFECTS, "invert"))


def test_what_is_in_force_makes_a_scene_and_comes_back():
    scene = scene_of(values_of(MixerState()), wet_chains())
    assert set(scene.values) == set(SCENE_PATHS)
    assert set(scene.chains) == set(STEMS)
    assert scene.made(EFFECTS, Chains(drums=chain_of(EFFECTS, "invert")), "a") == wet_chains()


def test_a_part_of_a_scene():
    scene = scene_of(values_of(MixerState()), wet_chains())
    part = scene.only(("vocals",))
    assert set(part.values) == {f"stem/vocals/{w}" for w in ("gain_db", "mute", "solo", "pan")}
    assert set(part.chains) == {"vocals"}
    made = part.made(EFFECTS, Chains(drums=chain_of(EFFECTS, "invert")), "a")
    assert {s: line_of(c) for s, c in made} == {
        "drums": "invert",
        "bass": "",
        "other": "",
        "vocals": "reverb",
    }
    assert scene.only(()) is scene


def test_stems_are_checked():
    check_stems(("vocals", "drums"))
    with pytest.raises(ProtocolError) as caught:
        Scene().only(("piano",))
    assert (caught.value.code, caught.value.path) == (ErrorCode.OUT_OF_RANGE, "stems")


def test_what_is_not_here_is_said_with_scene_and_stem():
    scene = Scene(chains={"bass": [{"effect": "reverb"}], "vocals": [{"effect": "k" * 900}]})
    with pytest.raises(ProtocolError) as caught:
        scene.made(EFFECTS, Chains(), "chorus")
    said = "scene 'chorus' wants in the chain of vocals what is not here: there is no effect 'kkk"
    assert caught.value.message.startswith(said)
    assert len(caught.value.message) <= 300


def test_a_preset_sets_the_faders_it_names_and_all_chains():
    preset = Preset(
        name="p", title="P", faders={"vocals": Fader(gain_db=-math.inf, pan=0.5)}, chains=wet_chains()
    )
    scene = scene_of_preset(preset)
    assert scene.values == {
        GAIN: -120.0,
        "stem/vocals/mute": False,
        "stem/vocals/solo": False,
        "stem/vocals/pan": 0.5,
    }
    assert scene.made(EFFECTS, Chains(drums=chain_of(EFFECTS, "invert")), "p") == wet_chains()


@pytest.mark.parametrize(("master_db", "value"), [(-3.0, -3.0), (-math.inf, -120.0)])
def test_a_preset_may_set_the_master(master_db, value):
    assert scene_of_preset(Preset(name="p", title="P", master_db=master_db)).values == {
        "master/gain_db": value
    }
