"""What requests do to the chains: one edit of the engine for a batch, the board in step, all or nothing."""

from dataclasses import replace

import pytest
from control_node import EFFECTS, OPERATOR, VIEWER, FakeNode, ask, refused

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains, line_of
from stemrack.rt.control.messages import (
    Adjust,
    Batch,
    DeleteScene,
    Describe,
    ErrorCode,
    Get,
    Learn,
    RecallScene,
    Reply,
    Set,
    StoreScene,
    Unlearn,
)
from stemrack.rt.control.scenes import Scene
from stemrack.rt.errors import EngineStateError

LINE, GAIN = "stem/vocals/chain", "stem/vocals/gain_db"
ROOM, WET, BYPASS = (f"stem/vocals/fx/reverb/{n}" for n in ("room_size", "dry_wet", "bypass"))
CUTOFF = "stem/vocals/fx/highpass_filter/cutoff_frequency_hz"
KARAOKE = Scene(values={GAIN: -24.0}, chains={"vocals": [], "other": [{"effect": "invert"}]})


@pytest.fixture
def node():
    return FakeNode(presets={"karaoke": KARAOKE})


@pytest.fixture
def wet(node):
    ask(node, Set(path=LINE, value="reverb"))
    node.chain_edits.clear()
    return node


def last(node):
    """The values of the last change."""
    return node.board.since(node.board.revision - 1)[0].values


# -- edits ---------------------------------------------------------------------------------------------------


def test_a_chain_is_set_in_one_line(node):
    reply = ask(node, Set(id=3, path=LINE, value="  highpass_filter   reverb "))
    assert reply == Reply(id=3, revision=2, values={LINE: "highpass_filter reverb"})
    assert [i.name for i in node.chains.vocals] == ["highpass_filter", "reverb"]
    assert len(node.chain_edits) == 1
    assert node.mixers == []
    assert last(node)[LINE] == "highpass_filter reverb"
    assert (last(node)[ROOM], last(node)[CUTOFF]) == (0.5, 50.0)
    assert node.board.values.keys() == {p.path for p in node.table}


def test_an_insert_that_goes_takes_its_paths_away(wet):
    ask(wet, Set(path=ROOM, value=0.9))
    ask(wet, Set(path=LINE, value=""))
    assert last(wet)[LINE] == ""
    assert last(wet)[ROOM] is None
    assert ROOM not in wet.board.values
    assert refused(wet, Set(path=ROOM, value=0.1)).code == ErrorCode.UNKNOWN_PATH
    ask(wet, Set(path=LINE, value="reverb"))
    assert wet.board.values[ROOM] == 0.5


def test_reordering_keeps_the_values(wet):
    ask(wet, Set(path=ROOM, value=0.9))
    ask(wet, Set(path=LINE, value="invert reverb"))
    assert wet.board.values[ROOM] == 0.9
    assert wet.chains.vocals[1].values["room_size"] == 0.9


@pytest.mark.parametrize(
    ("path", "value", "held"),
    [(ROOM, 1, 1.0), (WET, 0.25, 0.25), (BYPASS, True, True), ("stem/vocals/fx/reverb/freeze", True, True)],
)
def test_values_of_inserts_are_set(wet, path, value, held):
    assert ask(wet, Set(id=1, path=path, value=value)).values == {path: held}
    assert last(wet) == {path: held}
    assert ask(wet, Get(id=2, paths=(path,))).values == {path: held}
    assert len(wet.chain_edits) == 1
    assert wet.mixers == []


def test_what_changes_nothing_bothers_nobody(wet):
    revision = wet.board.revision
    assert ask(wet, Set(path=ROOM, value=0.5)).values == {ROOM: 0.5}
    assert ask(wet, Set(path=LINE, value="reverb")).values == {LINE: "reverb"}
    assert (wet.chain_edits, wet.board.revision) == ([], revision)


def test_adjust_moves_a_value_within_its_range(wet):
    assert ask(wet, Adjust(path=ROOM, by=-0.2)).values == {ROOM: pytest.approx(0.3)}
    assert ask(wet, Adjust(path=ROOM, by=7.0)).values == {ROOM: 1.0}
    assert ask(wet, Adjust(path=WET, by=-7.0)).values == {WET: 0.0}
    assert wet.chains.vocals[0].dry_wet == 0.0


def test_a_number_without_limits_stays_finite(node):
    ask(node, Set(path=LINE, value="ladder_filter"))
    drive = "stem/vocals/fx/ladder_filter/drive"
    assert ask(node, Adjust(path=drive, by=1e308)).values == {drive: 1e308}
    assert refused(node, Adjust(path=drive, by=1e308)).code == ErrorCode.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (Set(path=LINE, value="kazoo"), ErrorCode.OUT_OF_RANGE, "there is no effect 'kazoo'"),
        (Set(path=LINE, value="invert invert"), ErrorCode.OUT_OF_RANGE, "'invert' comes twice"),
        (Set(path=LINE, value="x" * 50_000), ErrorCode.OUT_OF_RANGE, "there is no effect 'xxx"),
        (Set(path=LINE, value="x" * 500 + " " + "x" * 500), ErrorCode.OUT_OF_RANGE, "'xxx"),
        (Set(path=LINE, value=" ".join("abcdefghi")), ErrorCode.OUT_OF_RANGE, "9 inserts: a chain takes 8"),
        (Set(path=LINE, value=True), ErrorCode.WRONG_TYPE, "must be text"),
        (Set(path=LINE, value="invert", ramp_ms=5.0), ErrorCode.NO_RAMP, "changes at once"),
        (Adjust(path=LINE, by=1.0), ErrorCode.WRONG_TYPE, "only a number"),
        (Set(path=ROOM, value=0.1, ramp_ms=5.0), ErrorCode.NO_RAMP, "changes at once"),
        (Set(path=ROOM, value=1.1), ErrorCode.OUT_OF_RANGE, "must be 0 to 1"),
        (Set(path=ROOM, value="big"), ErrorCode.WRONG_TYPE, "must be a number"),
        (Set(path=BYPASS, value=1.0), ErrorCode.WRONG_TYPE, "must be true or false"),
        (Adjust(path=BYPASS, by=1.0), ErrorCode.WRONG_TYPE, "only a number"),
        (Set(path=CUTOFF, value=99.0), ErrorCode.UNKNOWN_PATH, "there is no parameter"),
        (Set(path="stem/piano/chain", value=""), ErrorCode.UNKNOWN_PATH, "there is no parameter"),
    ],
)
def test_what_cannot_be_is_refused(wet, request_, code, said):
    problem = refused(wet, request_)
    assert problem.code == code
    assert said in problem.message
    assert len(problem.message) <= 300
    assert problem.path == request_.path


def test_a_viewer_edits_nothing(wet):
    for request in (Set(path=LINE, value=""), Set(path=ROOM, value=0.1), Adjust(path=WET, by=0.1)):
        assert refused(wet, request, VIEWER).code == ErrorCode.NOT_ALLOWED


# -- batches -------------------------------------------------------------------------------------------------


def test_a_chain_and_its_values_are_one_edit(node):
    steps = (
        Set(path=LINE, value="highpass_filter reverb"),
        Set(path=CUTOFF, value=200.0),
        Adjust(path=CUTOFF, by=50.0),
        Set(path=ROOM, value=0.9),
        Set(path=GAIN, value=-6.0),
    )
    reply = ask(node, Batch(id=9, requests=steps))
    asked = {LINE: "highpass_filter reverb", CUTOFF: 250.0, ROOM: 0.9, GAIN: -6.0}
    assert reply == Reply(id=9, revision=2, values=asked)
    assert asked.items() <= last(node).items()
    assert (len(node.chain_edits), len(node.mixers), node.board.revision) == (1, 1, 2)
    assert node.chains.vocals[0].values == {"cutoff_frequency_hz": 250.0}


def test_an_insert_may_come_and_go_within_a_batch(node):
    steps = (Set(path=LINE, value="reverb"), Set(path=ROOM, value=0.9), Set(path=LINE, value="invert"))
    assert ask(node, Batch(id=1, requests=steps)).values == {LINE: "invert"}
    assert not [p for p in node.board.values if "/fx/reverb" in p]
    assert node.board.values.keys() == {p.path for p in node.table}


@pytest.mark.parametrize("wrong", [Set(path=CUTOFF, value=99.0), Set(path=LINE, value="kazoo")])
def test_one_wrong_step_and_no_chain_changes(node, wrong):
    steps = (Set(path=LINE, value="reverb"), Set(path=ROOM, value=0.9), wrong, Set(path=GAIN, value=-6.0))
    problem = refused(node, Batch(id=1, requests=steps))
    assert problem.message.startswith("request 2 of the batch: ")


def test_an_engine_that_takes_no_chains_now(wet):
    wet.refuses_chains = EngineStateError("the engine is stopped: start it")
    steps = (Set(path=GAIN, value=-6.0), Set(path=ROOM, value=0.9))
    problem = refused(wet, Batch(id=1, requests=steps))
    assert (problem.code, problem.message) == (ErrorCode.NOT_NOW, "the engine is stopped: start it")


# -- what the engine does by itself --------------------------------------------------------------------------


def bypass(node):
    (insert,) = node.chains.vocals
    node.chains = node.chains.with_insert("vocals", replace(insert, bypass=True))


def test_an_insert_that_the_engine_bypassed_is_shown(wet):
    bypass(wet)
    wet.commands.follow_chains()
    assert last(wet) == {BYPASS: True}
    assert wet.board.since(wet.board.revision - 1)[0].origin == "node"
    revision = wet.board.revision
    wet.commands.follow_chains()
    assert wet.board.revision == revision


def test_an_edit_does_not_undo_what_the_engine_has_just_done(wet):
    bypass(wet)
    ask(wet, Set(path=ROOM, value=0.9))
    assert wet.chains.vocals[0].bypass is True
    told = wet.board.since(wet.board.revision - 2)
    assert [(d.origin, d.values) for d in told] == [("node", {BYPASS: True}), ("c1", {ROOM: 0.9})]


def test_a_chain_that_the_engine_took_back(wet):
    wet.chains = Chains()
    wet.commands.follow_chains()
    assert refused(wet, Set(path=ROOM, value=0.1)).code == ErrorCode.UNKNOWN_PATH
    assert wet.board.values[LINE] == ""
    assert ROOM not in wet.table


# -- describe ------------------------------------------------------------------------------------------------


def test_describe_follows_the_chains(node):
    before = ask(node, Describe(id=1), VIEWER)
    ask(node, Set(path=LINE, value="reverb"))
    after = ask(node, Describe(id=2), VIEWER)
    new = {p.path for p in after.parameters} - {p.path for p in before.parameters}
    assert new == {f"stem/vocals/fx/reverb/{n}" for n in ("bypass", "dry_wet", "room_size", "freeze")}
    assert before.effects == after.effects == ()


def test_describe_lists_the_effects_if_asked(node):
    for _ in range(2):
        described = ask(node, Describe(id=1, effects=True), VIEWER)
        assert [e.key for e in described.effects] == [e.key for e in EFFECTS]


# -- scenes and presets --------------------------------------------------------------------------------------


def test_a_scene_holds_the_chains_too(wet):
    ask(wet, Set(path=ROOM, value=0.9))
    ask(wet, StoreScene(id=1, name="verse"))
    assert wet.kept_scenes[-1]["verse"].chains["vocals"] == [
        {"effect": "reverb", "room_size": 0.9, "freeze": False}
    ]
    ask(wet, Set(path=LINE, value=""))
    ask(wet, Set(path="stem/bass/chain", value="invert"))
    ask(wet, Set(path=GAIN, value=-9.0))
    wet.chain_edits.clear()
    wet.mixers.clear()
    reply = ask(wet, RecallScene(id=2, name="verse", fade_ms=500.0))
    assert (reply.values[LINE], reply.values["stem/bass/chain"], reply.values[GAIN]) == ("reverb", "", 0.0)
    assert (len(wet.chain_edits), len(wet.mixers)) == (1, 1)
    assert wet.board.values[ROOM] == 0.9
    assert (line_of(wet.chains.bass), line_of(wet.chains.vocals)) == ("", "reverb")
    assert wet.board.since(wet.board.revision - 1)[0].ramp_ms == 500.0


def test_a_mask_leaves_the_other_chains(wet):
    ask(wet, StoreScene(id=1, name="a", stems=("vocals",)))
    ask(wet, StoreScene(id=1, name="all"))
    ask(wet, Set(path=LINE, value=""))
    ask(wet, Set(path="stem/bass/chain", value="invert"))
    ask(wet, RecallScene(name="a"))
    assert (line_of(wet.chains.bass), line_of(wet.chains.vocals)) == ("invert", "reverb")
    ask(wet, RecallScene(name="all", stems=("bass",)))
    assert (line_of(wet.chains.bass), line_of(wet.chains.vocals)) == ("", "reverb")


def test_values_of_an_insert_that_a_scene_brought_follow_in_the_batch(node):
    scenes = {"a": Scene(chains={"vocals": [{"effect": "reverb", "room_size": 0.2}]})}
    node = FakeNode(scenes=scenes)
    ask(node, Batch(id=1, requests=(RecallScene(name="a"), Adjust(path=ROOM, by=0.1))))
    assert node.board.values[ROOM] == pytest.approx(0.3)
    assert len(node.chain_edits) == 1


@pytest.mark.parametrize(
    ("inserts", "said"),
    [
        ([{"effect": "gone_plugin"}], "there is no effect 'gone_plugin'"),
        ([{"effect": "reverb", "room_size": 9.0}], "reverb: room_size = 9.0: must be 0 to 1"),
        ([{"effect": "reverb", "x": 9.0}], "reverb has no parameter 'x'"),
    ],
)
def test_a_scene_with_what_is_not_here_changes_nothing(inserts, said):
    scene = Scene(values={GAIN: -9.0}, chains={"bass": [], "vocals": inserts})
    node = FakeNode(scenes={"old": scene})
    problem = refused(node, RecallScene(name="old"))
    assert (problem.code, problem.path) == (ErrorCode.NOT_NOW, "name")
    assert problem.message.startswith("scene 'old' wants in the chain of vocals what is not here: ")
    assert said in problem.message
    ask(node, RecallScene(name="old", stems=("bass",)))


def test_presets_are_listed_and_recalled(node):
    assert (node.board.values["scenes"], node.board.values["presets"]) == ("karaoke", "karaoke")
    ask(node, Set(path=LINE, value="reverb"))
    ask(node, Set(path="stem/bass/gain_db", value=-3.0))
    ask(node, RecallScene(name="karaoke"))
    assert {s: line_of(node.chains[s]) for s in STEMS} == {
        "drums": "", "bass": "", "other": "invert", "vocals": ""
    }  # fmt: skip
    assert (node.mixer.vocals.gain_db, node.mixer.bass.gain_db) == (-24.0, -3.0)


def test_presets_stay_as_they_are(node):
    for request in (StoreScene(id=1, name="karaoke"), DeleteScene(id=1, name="karaoke")):
        problem = refused(node, request)
        assert (problem.code, problem.path) == (ErrorCode.READ_ONLY, "name")
        assert "'karaoke' is a preset and stays as it is" in problem.message
    assert ask(node, StoreScene(id=1, name="mine")).values == {"scenes": "mine\nkaraoke"}


def test_a_scene_of_a_presets_name_counts_until_it_is_deleted():
    node = FakeNode(scenes={"karaoke": {GAIN: -9.0}}, presets={"karaoke": KARAOKE})
    assert (node.board.values["scenes"], node.board.values["presets"]) == ("karaoke", "")
    ask(node, RecallScene(name="karaoke"))
    assert node.mixer.vocals.gain_db == -9.0
    ask(node, StoreScene(id=1, name="karaoke"))
    ask(node, DeleteScene(id=1, name="karaoke"))
    assert (node.board.values["scenes"], node.board.values["presets"]) == ("karaoke", "karaoke")
    ask(node, RecallScene(name="karaoke"))
    assert node.mixer.vocals.gain_db == -24.0


# -- MIDI ----------------------------------------------------------------------------------------------------


def test_numbers_and_switches_of_effects_are_learnt(node):
    ask(node, Set(path=LINE, value="reverb ladder_filter"))
    for path in (ROOM, WET, BYPASS):
        ask(node, Learn(id=1, path=path))
    assert node.learned == [ROOM, WET, BYPASS]
    for path in (LINE, "stem/vocals/fx/ladder_filter/mode", "stem/vocals/fx/ladder_filter/drive"):
        assert refused(node, Learn(id=1, path=path)).code == ErrorCode.READ_ONLY
    assert refused(node, Learn(id=1, path=CUTOFF)).code == ErrorCode.UNKNOWN_PATH


def test_an_insert_that_is_gone_can_be_unlearnt(node):
    ask(node, Unlearn(id=1, path=ROOM), OPERATOR)
    assert node.unlearned == [ROOM]
