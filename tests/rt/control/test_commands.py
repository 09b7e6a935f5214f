"""What requests do to the faders, the scenes and the node: all or nothing, with the right roles and ramps."""

import math

import pytest
from control_node import ADMIN, OPERATOR, VIEWER, FakeNode, ask, plain_table, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.control.faders import mixer_of, values_of
from stemrack.rt.control.messages import (
    Adjust,
    Batch,
    DeleteScene,
    Describe,
    ErrorCode,
    Get,
    Learn,
    Ping,
    RecallScene,
    Reply,
    Set,
    StoreScene,
    Unlearn,
)
from stemrack.rt.params import MixerState

VOCALS, DRUMS, MASTER = "stem/vocals/gain_db", "stem/drums/gain_db", "master/gain_db"
MIXER_PATHS = list(values_of(MixerState()))
BY_PATH = {p.path: p for p in plain_table()}


@pytest.fixture
def node():
    return FakeNode()


# -- set and get ---------------------------------------------------------------------------------------------


def right_values(path):
    parameter = BY_PATH[path]
    if parameter.kind == "switch":
        return st.booleans()
    return st.floats(parameter.lowest, parameter.highest)


@pytest.mark.parametrize("path", MIXER_PATHS)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_set_is_got_and_heard(path, data):
    node = FakeNode()
    value = data.draw(right_values(path))
    assert ask(node, Set(id=1, path=path, value=value)).values == {path: value}
    assert ask(node, Get(id=2, paths=(path,))).values == {path: value}
    assert node.mixers == [node.mixer]
    assert values_of(node.mixer) == {p: node.board.values[p] for p in MIXER_PATHS}
    assert mixer_of(values_of(node.mixer), {}, node.mixer) == node.mixer


def test_silence_is_silence(node):
    ask(node, Set(path=VOCALS, value=-120.0))
    ask(node, Set(path=MASTER, value=-120.0))
    assert node.mixer.vocals.gain_db == node.mixer.master_db == -math.inf
    assert node.mixer.gains["vocals"] == (0.0, 0.0)
    assert values_of(node.mixer)[VOCALS] == values_of(node.mixer)[MASTER] == -120.0


def test_a_reply_carries_the_revision_after_it(node):
    assert ask(node, Set(id=7, path=VOCALS, value=-3)) == Reply(id=7, revision=1, values={VOCALS: -3.0})
    assert ask(node, Set(id=8, path=VOCALS, value=-3)) == Reply(id=8, revision=1, values={VOCALS: -3.0})


def test_get_without_paths_gives_everything(node):
    assert ask(node, Get(id=1)).values == node.board.values
    assert ask(node, Get(id=1)).values is not node.board.values


def test_get_of_several(node):
    assert ask(node, Get(id=1, paths=(VOCALS, "engine/profile"))).values == {
        VOCALS: 0.0,
        "engine/profile": "live",
    }


@pytest.mark.parametrize(
    "request_", [Get(id=1, paths=(VOCALS, "x")), Set(path="x", value=1.0), Adjust(path="x", by=1.0)]
)
def test_unknown_paths(node, request_):
    problem = refused(node, request_)
    assert (problem.code, problem.path) == (ErrorCode.UNKNOWN_PATH, "x")


@pytest.mark.parametrize("value", [12.01, -120.01])
def test_out_of_range(node, value):
    assert refused(node, Set(path=VOCALS, value=value)).code == ErrorCode.OUT_OF_RANGE


@pytest.mark.parametrize("value", [True, "loud", None])
def test_wrong_type(node, value):
    assert refused(node, Set(path=VOCALS, value=value)).code == ErrorCode.WRONG_TYPE


def test_describe_gives_every_parameter(node):
    described = ask(node, Describe(id=5), VIEWER)
    assert described.id == 5
    assert [p.path for p in described.parameters] == list(BY_PATH)


def test_what_is_no_request(node):
    assert refused(node, Ping(id=1)).code == ErrorCode.UNKNOWN_TYPE


def test_tell_has_the_node_as_origin(node):
    told = []
    node.board.on_change.append(told.append)
    node.commands.tell({"engine/state": "wet"})
    node.commands.tell({"engine/state": "dry"}, "config")
    assert [(d.origin, d.values) for d in told] == [
        ("node", {"engine/state": "wet"}),
        ("config", {"engine/state": "dry"}),
    ]


# -- adjust --------------------------------------------------------------------------------------------------


def test_adjust_moves_by_a_difference(node):
    ask(node, Adjust(path=VOCALS, by=-6.0))
    assert ask(node, Adjust(path=VOCALS, by=2.5)).values == {VOCALS: -3.5}


@pytest.mark.parametrize(("by", "value"), [(1e308, 12.0), (-1e308, -120.0)])
def test_adjust_stops_at_the_limits(node, by, value):
    assert ask(node, Adjust(path=VOCALS, by=by)).values == {VOCALS: value}


def test_only_numbers_can_be_adjusted(node):
    problem = refused(node, Adjust(path="stem/drums/mute", by=1.0))
    assert (problem.code, problem.path) == (ErrorCode.WRONG_TYPE, "stem/drums/mute")


# -- roles ---------------------------------------------------------------------------------------------------

ASKS = [
    Set(path=VOCALS, value=-1.0),
    Adjust(path=VOCALS, by=-1.0),
    Batch(id=1, requests=(Set(path=VOCALS, value=-1.0),)),
    StoreScene(id=1, name="a"),
    RecallScene(name="a"),
    DeleteScene(id=1, name="a"),
    Set(path="recording/active", value=True),
    Learn(id=1, path=VOCALS),
    Unlearn(id=1, path=VOCALS),
]


@pytest.mark.parametrize("request_", ASKS, ids=lambda r: type(r).__name__)
def test_a_viewer_changes_nothing(request_):
    node = FakeNode(scenes={"a": {VOCALS: -9.0}})
    problem = refused(node, request_, VIEWER)
    assert problem.code == ErrorCode.NOT_ALLOWED
    assert problem.message == "a viewer may not do that: operator is needed, take that one's token"
    for client in (OPERATOR, ADMIN):
        assert isinstance(ask(FakeNode(scenes={"a": {VOCALS: -9.0}}), request_, client), Reply)


@pytest.mark.parametrize(
    ("path", "value"), [("device/input", "in b"), ("device/output", "out b"), ("engine/profile", "studio")]
)
def test_only_an_admin_changes_devices_and_profile(node, path, value):
    problem = refused(node, Set(path=path, value=value))
    assert (problem.code, problem.path) == (ErrorCode.NOT_ALLOWED, path)
    assert "admin is needed" in problem.message
    assert ask(node, Set(path=path, value=value), ADMIN).values == {path: value}
    assert node.changes[0][:2] == (path, value)


def test_nobody_sets_what_the_node_tells(node):
    for path in (
        "engine/state",
        "engine/latency_ms",
        "engine/rate_hz",
        "scenes",
        "midi/learning",
        "midi/ports",
    ):
        problem = refused(node, Set(path=path, value=node.board.values[path]), ADMIN)
        assert (problem.code, problem.path) == (ErrorCode.READ_ONLY, path)
    assert refused(node, Adjust(path="engine/rate_hz", by=1.0), ADMIN).code == ErrorCode.READ_ONLY


# -- ramps ---------------------------------------------------------------------------------------------------


def test_a_ramp_belongs_to_the_faders_that_move(node):
    ask(node, Set(path=VOCALS, value=-6.0, ramp_ms=3000.0))
    assert node.mixer.vocals.ramp_ms == 3000.0
    assert node.board.since(0)[0].ramp_ms == 3000.0
    ask(node, Set(path=DRUMS, value=-6.0))
    assert node.mixer.drums.ramp_ms == 10.0
    assert node.mixer.vocals.ramp_ms == 3000.0  # its fade is under way
    assert node.board.since(1)[0].ramp_ms is None
    ask(node, Set(path=VOCALS, value=-7.0))
    assert node.mixer.vocals.ramp_ms == 10.0


@pytest.mark.parametrize(("path", "of"), [(MASTER, "master_ramp_ms"), ("cue/gain_db", "cue_ramp_ms")])
def test_ramps_of_master_and_cue(node, path, of):
    ask(node, Set(path=path, value=-6.0, ramp_ms=500.0))
    assert getattr(node.mixer, of) == 500.0
    assert {f.ramp_ms for f in node.mixer.faders} == {10.0}
    ask(node, Set(path=VOCALS, value=-6.0))
    assert getattr(node.mixer, of) == 500.0


def test_two_ramps_of_one_stem_in_a_batch_give_the_longest(node):
    steps = (
        Set(path=VOCALS, value=-6.0, ramp_ms=100.0),
        Set(path="stem/vocals/pan", value=0.5, ramp_ms=900.0),
        Set(path=DRUMS, value=-6.0),
    )
    ask(node, Batch(id=1, requests=steps))
    assert (node.mixer.vocals.ramp_ms, node.mixer.drums.ramp_ms) == (900.0, 10.0)
    assert node.board.since(0)[0].ramp_ms == 900.0


def test_solo_ramps_all_whose_sound_changes(node):
    ask(node, Set(path="stem/bass/mute", value=True))
    ask(node, Set(path="stem/vocals/solo", value=True, ramp_ms=800.0))
    ramps_ms = {s: getattr(node.mixer, s).ramp_ms for s in STEMS}
    assert ramps_ms == {"drums": 800.0, "bass": 10.0, "other": 800.0, "vocals": 800.0}


def test_solo_gives_no_ramp_to_a_stem_with_one_of_its_own(node):
    steps = (
        Set(path="stem/vocals/solo", value=True, ramp_ms=800.0),
        Set(path=DRUMS, value=-6.0, ramp_ms=50.0),
    )
    ask(node, Batch(id=1, requests=steps))
    assert (node.mixer.drums.ramp_ms, node.mixer.bass.ramp_ms) == (50.0, 800.0)


def test_a_fade_goes_on_where_solo_changes_nothing(node):
    ask(node, Set(path="stem/bass/mute", value=True, ramp_ms=5000.0))
    ask(node, Set(path="stem/vocals/solo", value=True))
    assert node.mixer.bass.ramp_ms == 5000.0


@pytest.mark.parametrize("ramp_ms", [0.0, 60_000.0])
def test_the_limits_of_a_ramp(node, ramp_ms):
    ask(node, Set(path=VOCALS, value=-6.0, ramp_ms=ramp_ms))
    assert node.mixer.vocals.ramp_ms == node.board.since(0)[0].ramp_ms == ramp_ms


@pytest.mark.parametrize("ramp_ms", [-0.1, 60_000.1, 1e300])
def test_a_ramp_out_of_its_range(node, ramp_ms):
    problem = refused(node, Set(path=VOCALS, value=-6.0, ramp_ms=ramp_ms))
    assert (problem.code, problem.path) == (ErrorCode.OUT_OF_RANGE, "ramp_ms")


@pytest.mark.parametrize("path", ["master/ceiling_db", "recording/active"])
def test_what_changes_at_once_has_no_ramp(node, path):
    problem = refused(node, Set(path=path, value=0.0, ramp_ms=5.0))
    assert (problem.code, problem.path) == (ErrorCode.NO_RAMP, path)


# -- batches -------------------------------------------------------------------------------------------------


def test_a_batch_is_one_change(node):
    steps = (
        Set(path=VOCALS, value=-6.0),
        Adjust(path=VOCALS, by=-1.0),
        Set(path="stem/bass/solo", value=True),
    )
    reply = ask(node, Batch(id=3, requests=steps))
    assert reply == Reply(id=3, revision=1, values={VOCALS: -7.0, "stem/bass/solo": True})
    assert len(node.mixers) == 1
    assert node.mixer.vocals.gain_db == -7.0
    assert [d.values for d in node.board.since(0)] == [{VOCALS: -7.0, "stem/bass/solo": True}]


WRONG_STEPS = [
    (Set(path=VOCALS, value=99.0), ErrorCode.OUT_OF_RANGE),
    (Set(path="x", value=1.0), ErrorCode.UNKNOWN_PATH),
    (Set(path=VOCALS, value="x"), ErrorCode.WRONG_TYPE),
    (Set(path="engine/state", value="wet"), ErrorCode.READ_ONLY),
    (Set(path="engine/profile", value="studio"), ErrorCode.NOT_ALLOWED),
    (Set(path="recording/active", value=True), ErrorCode.NOT_NOW),
    (Set(path="master/ceiling_db", value=-1.0, ramp_ms=1.0), ErrorCode.NO_RAMP),
    (Adjust(path="stem/bass/mute", by=1.0), ErrorCode.WRONG_TYPE),
    (RecallScene(name="x"), ErrorCode.UNKNOWN_SCENE),
]


@pytest.mark.parametrize(("wrong", "code"), WRONG_STEPS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_wrong_step_and_nothing_happens(node, wrong, code, at):
    steps = [Set(path=DRUMS, value=-6.0), Adjust(path=VOCALS, by=-1.0)]
    steps.insert(at, wrong)
    problem = refused(node, Batch(id=1, requests=tuple(steps)))
    assert problem.code == code
    assert problem.message.startswith(f"request {at} of the batch: ") == (at > 0)


def test_adjust_in_a_batch_goes_on_from_the_step_before(node):
    ask(node, Batch(id=1, requests=(Adjust(path=VOCALS, by=-1.0),) * 10))
    assert node.mixer.vocals.gain_db == -10.0
