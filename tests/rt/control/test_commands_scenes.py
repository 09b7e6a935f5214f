"""What requests do beside the faders: devices, recording, MIDI bindings, scenes."""

import pytest
from control_node import ADMIN, OPERATOR, FakeNode, ask, refused

from stemrack.models.stems import STEMS
from stemrack.rt.control.commands import Actions, Commands
from stemrack.rt.control.faders import SCENE_PATHS
from stemrack.rt.control.messages import (
    Adjust,
    DeleteScene,
    Error,
    ErrorCode,
    Learn,
    RecallScene,
    Reply,
    Set,
    StoreScene,
    Unlearn,
)
from stemrack.rt.control.scenes import MAX_SCENES
from stemrack.rt.params import MixerState

VOCALS, DRUMS, MASTER = "stem/vocals/gain_db", "stem/drums/gain_db", "master/gain_db"


@pytest.fixture
def node():
    return FakeNode()


# -- structure -----------------------------------------------------------------------------------------------


def test_a_change_of_structure_answers_when_it_is_done():
    node, answers = FakeNode(holds=True), []
    node.carry_out(Set(id=4, path="recording/active", value=True), OPERATOR, answers.append)
    assert (answers, node.board.revision, node.mixers) == ([], 0, [])
    node.changes[0][2](True, "")
    assert answers == [Reply(id=4, revision=1, values={"recording/active": True})]
    assert node.board.since(0)[0].origin == "c1"


def test_a_change_of_structure_that_fails_says_why():
    node, answers = FakeNode(holds=True), []
    node.carry_out(Set(id=4, path="recording/active", value=True), OPERATOR, answers.append)
    node.changes[0][2](False, "no room on the disk")
    (error,) = answers
    assert isinstance(error, Error)
    assert (error.id, error.code, error.path) == (4, ErrorCode.FAILED, "recording/active")
    assert error.message == "no room on the disk"
    assert node.board.revision == 0


def test_a_second_change_of_the_same_thing_must_wait():
    node = FakeNode(holds=True)
    node.carry_out(Set(path="recording/active", value=True), OPERATOR, lambda said: None)
    problem = refused(node, Set(path="recording/active", value=False))
    assert (problem.code, problem.path) == (ErrorCode.NOT_NOW, "recording/active")
    node.carry_out(Set(path="device/input", value="in b"), ADMIN, lambda said: None)  # another thing may
    node.changes[0][2](True, "")
    node.carry_out(Set(path="recording/active", value=False), OPERATOR, lambda said: None)
    assert [c[:2] for c in node.changes] == [
        ("recording/active", True),
        ("device/input", "in b"),
        ("recording/active", False),
    ]


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("recording/active", 1.0, ErrorCode.WRONG_TYPE),
        ("device/input", "/dev/sda", ErrorCode.OUT_OF_RANGE),
        ("engine/profile", "../../etc/passwd", ErrorCode.OUT_OF_RANGE),
    ],
)
def test_only_names_of_the_configuration_are_taken(node, path, value, code):
    assert refused(node, Set(path=path, value=value), ADMIN).code == code


def test_structure_cannot_be_adjusted(node):
    assert refused(node, Adjust(path="device/input", by=1.0), ADMIN).code == ErrorCode.NOT_NOW


# -- MIDI ----------------------------------------------------------------------------------------------------


def test_learn_and_unlearn(node):
    assert ask(node, Learn(id=1, path=VOCALS)) == Reply(id=1, revision=0)
    assert ask(node, Learn(id=2)) == Reply(id=2, revision=0)
    assert ask(node, Unlearn(id=3, path=VOCALS)) == Reply(id=3, revision=0)
    assert (node.learned, node.unlearned) == ([VOCALS, ""], [VOCALS])


@pytest.mark.parametrize("kind", [Learn, Unlearn])
def test_only_faders_are_bound(node, kind):
    assert refused(node, kind(id=1, path="recording/active")).code == ErrorCode.READ_ONLY
    assert refused(node, kind(id=1, path="x")).code == ErrorCode.UNKNOWN_PATH
    assert node.learned == node.unlearned == []


# -- scenes --------------------------------------------------------------------------------------------------


def test_a_scene_brings_the_faders_back(node):
    ask(node, Set(path=VOCALS, value=-6.0))
    ask(node, Set(path=MASTER, value=-3.0))
    assert ask(node, StoreScene(id=1, name="verse")).values == {"scenes": "verse"}
    ask(node, Set(path=VOCALS, value=0.0))
    ask(node, Set(path=MASTER, value=0.0))
    ask(node, Set(path="cue/gain_db", value=-9.0))
    reply = ask(node, RecallScene(id=2, name="verse"))
    assert set(reply.values) == {*SCENE_PATHS, *(f"stem/{s}/chain" for s in STEMS)}
    assert (node.mixer.vocals.gain_db, node.mixer.master_db, node.mixer.cue_db) == (-6.0, -3.0, -9.0)
    assert node.board.since(node.board.revision - 1)[0].values == {VOCALS: -6.0, MASTER: -3.0}


def test_a_recall_fades_in_the_time_asked_for(node):
    ask(node, StoreScene(id=1, name="a"))
    ask(node, Set(path=VOCALS, value=-6.0))
    ask(node, RecallScene(name="a", fade_ms=4000.0))
    assert {f.ramp_ms for f in node.mixer.faders} == {4000.0}
    assert node.mixer.master_ramp_ms == 4000.0
    assert node.board.since(node.board.revision - 1)[0].ramp_ms == 4000.0


def test_a_recall_without_a_fade_uses_the_own_ramps(node):
    ask(node, StoreScene(id=1, name="a"))
    ask(node, Set(path=VOCALS, value=-6.0, ramp_ms=5000.0))
    ask(node, RecallScene(name="a"))
    assert node.mixer.vocals.ramp_ms == 10.0
    assert node.board.since(node.board.revision - 1)[0].ramp_ms is None


def test_a_mask_recalls_some_stems_only(node):
    ask(node, StoreScene(id=1, name="a"))
    for path in (VOCALS, DRUMS, MASTER):
        ask(node, Set(path=path, value=-6.0, ramp_ms=70.0))
    reply = ask(node, RecallScene(name="a", stems=("vocals",), fade_ms=100.0))
    assert set(reply.values) == {f"stem/vocals/{w}" for w in ("gain_db", "mute", "solo", "pan", "chain")}
    mixer = node.mixer
    assert (mixer.vocals.gain_db, mixer.drums.gain_db, mixer.master_db) == (0.0, -6.0, -6.0)
    assert (mixer.vocals.ramp_ms, mixer.drums.ramp_ms, mixer.master_ramp_ms) == (100.0, 70.0, 70.0)


def test_a_mask_stores_some_stems_only(node):
    ask(node, StoreScene(id=1, name="a", stems=("drums", "bass")))
    held = node.kept_scenes[-1]["a"]
    assert set(held.values) == {p for p in SCENE_PATHS if p.split("/")[1] in ("drums", "bass")}
    assert held.chains == {"drums": [], "bass": []}


@pytest.mark.parametrize("kind", [StoreScene, RecallScene])
def test_an_unknown_stem_in_a_mask(kind):
    node = FakeNode(scenes={"a": {VOCALS: -9.0}})
    problem = refused(node, kind(id=1, name="a", stems=("vocals", "piano" * 20)))
    assert (problem.code, problem.path) == (ErrorCode.OUT_OF_RANGE, "stems")
    assert problem.message == f"there is no stem '{('piano' * 20)[:32]}', but drums, bass, other, vocals"


@pytest.mark.parametrize("fade_ms", [-1.0, 60_001.0])
def test_a_fade_out_of_its_range(node, fade_ms):
    ask(node, StoreScene(id=1, name="a"))
    problem = refused(node, RecallScene(name="a", fade_ms=fade_ms))
    assert (problem.code, problem.path) == (ErrorCode.OUT_OF_RANGE, "fade_ms")


def test_scenes_from_before_are_there():
    node = FakeNode(scenes={"old": {VOCALS: -9.0}})
    assert ask(node, RecallScene(name="old")).values == {VOCALS: -9.0}


def test_a_scene_of_the_same_name_is_replaced(node):
    ask(node, StoreScene(id=1, name="a"))
    ask(node, Set(path=VOCALS, value=-6.0))
    revision = ask(node, StoreScene(id=2, name="a")).revision
    assert revision == 2  # the list of names is as it was
    assert node.kept_scenes[-1]["a"].values[VOCALS] == -6.0


def test_delete(node):
    ask(node, StoreScene(id=1, name="a"))
    ask(node, StoreScene(id=2, name="b"))
    assert ask(node, DeleteScene(id=3, name="a")).values == {"scenes": "b"}
    assert set(node.kept_scenes[-1]) == {"b"}
    problem = refused(node, RecallScene(name="a"))
    assert (problem.code, problem.path) == (ErrorCode.UNKNOWN_SCENE, "name")
    assert refused(node, DeleteScene(id=4, name="a")).code == ErrorCode.UNKNOWN_SCENE
    assert len(node.kept_scenes) == 3


def test_there_is_room_for_so_many(node):
    for i in range(MAX_SCENES):
        ask(node, StoreScene(id=i, name=str(i)))
    assert refused(node, StoreScene(id=1, name="more")).code == ErrorCode.TOO_MANY_SCENES
    ask(node, StoreScene(id=1, name="7"))  # replaced, not added
    ask(node, DeleteScene(id=1, name="8"))
    ask(node, StoreScene(id=1, name="more"))
    assert len(node.board.values["scenes"].split("\n")) == MAX_SCENES


@pytest.mark.parametrize("name", ["a\nb", "\n"])
def test_a_name_has_one_line(node, name):
    problem = refused(node, StoreScene(id=1, name=name))
    assert (problem.code, problem.path) == (ErrorCode.WRONG_FIELD, "name")


def test_a_failed_edit_keeps_nothing(node):
    refused(node, StoreScene(id=1, name="a", stems=("piano",)))
    refused(node, DeleteScene(id=1, name="a"))
    assert node.kept_scenes == []
    assert node.board.values["scenes"] == ""


def test_without_actions_of_their_own_scenes_and_midi_do_nothing(node):
    actions = Actions(set_mixer=print, change=print, chains=lambda: node.chains, set_chains=print)
    plain = Commands(node.table, node.board, MixerState(), actions, {})
    for request in (StoreScene(id=1, name="a"), Learn(id=2, path=VOCALS), Unlearn(id=3, path=VOCALS)):
        answers = []
        plain.carry_out(request, OPERATOR, answers.append)
        assert [type(a) for a in answers] == [Reply]
