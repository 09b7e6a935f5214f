"""The state with its revisions: what counts as a change, what is remembered, what travels in a frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemrack.rt.control import board as board_module
from stemrack.rt.control.board import FRAME_CHANGES, Board
from stemrack.rt.control.codec import JSON, MSGPACK, Codec

TEXT, BINARY = Codec(JSON), Codec(MSGPACK)


def changes_in(frame, codec=TEXT):
    return codec.decode_server(frame).changes


def counted_to(n, history=10_000):
    board = Board("e1", {"n": 0.0}, history)
    for i in range(n):
        board.change({"n": float(i + 1)}, "c1")
    return board


def test_begins_with_values_and_no_revision():
    board = Board("e1", {"a": 1.0})
    assert (board.epoch, board.revision, dict(board.values)) == ("e1", 0, {"a": 1.0})
    assert board.since(0) == ()


def test_the_values_given_are_not_those_changed():
    given_values = {"a": 1.0}
    Board("e1", given_values).change({"a": 2.0}, "c1")
    assert given_values == {"a": 1.0}


def test_a_change_holds_only_what_differs():
    board = Board("e1", {"a": 1.0, "b": "x"})
    delta = board.change({"a": 1.0, "b": "y"}, "c7", 250.0)
    assert (delta.revision, delta.origin, delta.values, delta.ramp_ms) == (1, "c7", {"b": "y"}, 250.0)
    assert board.values == {"a": 1.0, "b": "y"}


def test_the_same_again_is_no_change():
    board = Board("e1", {"a": 1.0})
    assert board.change({"a": 1.0}, "c1") is None
    assert board.change({}, "c1") is None
    assert board.revision == 0


@pytest.mark.parametrize(("old", "new"), [(1.0, True), (True, 1.0), (0.0, False), (False, 0.0)])
def test_a_switch_is_not_the_number_it_equals(old, new):
    board = Board("e1", {"a": old})
    assert board.change({"a": new}, "c1").values == {"a": new}
    assert board.values["a"] is new


def test_a_new_path_appears_and_none_takes_it_away():
    board = Board("e1", {})
    assert board.change({"a": 1.0}, "c1").values == {"a": 1.0}
    assert board.change({"a": None}, "c1").values == {"a": None}
    assert dict(board.values) == {}
    assert board.change({"a": None}, "c1") is None
    assert board.revision == 2


def test_every_change_is_told_in_order():
    board, told = Board("e1", {"a": 0.0}), []
    board.on_change += [lambda delta: told.append(delta.revision), lambda delta: told.append(-delta.revision)]
    board.change({"a": 1.0}, "c1")
    board.change({"a": 1.0}, "c1")
    board.change({"a": 2.0}, "c1")
    assert told == [1, -1, 2, -2]


def test_since_gives_what_was_missed():
    board = counted_to(5)
    assert [d.revision for d in board.since(2)] == [3, 4, 5]
    assert board.since(5) == ()


@pytest.mark.parametrize("revision", [-1, 6, 2**70])
def test_a_revision_that_never_was(revision):
    board = counted_to(5)
    assert not board.knows(revision)
    assert board.since(revision) is None
    assert board.frame_since(revision, TEXT) is None


def test_what_is_too_long_ago_is_forgotten():
    board = counted_to(10, history=4)
    assert [board.knows(r) for r in (5, 6, 10)] == [False, True, True]
    assert board.since(5) is None
    assert [d.revision for d in board.since(6)] == [7, 8, 9, 10]


def test_a_frame_holds_the_next_changes():
    reached, frame = counted_to(3).frame_since(1, TEXT)
    assert reached == 3
    assert [(d.revision, d.values) for d in changes_in(frame)] == [(2, {"n": 2.0}), (3, {"n": 3.0})]


def test_many_changes_take_several_frames():
    board, at, seen = counted_to(2 * FRAME_CHANGES + 1), 0, []
    sizes = []
    while at != board.revision:
        at, frame = board.frame_since(at, TEXT)
        sizes.append(len(changes_in(frame)))
        seen += [d.revision for d in changes_in(frame)]
    assert sizes == [FRAME_CHANGES, FRAME_CHANGES, 1]
    assert seen == list(range(1, board.revision + 1))


def test_a_frame_is_encoded_once_for_all_who_ask():
    board = counted_to(3)
    assert board.frame_since(0, TEXT)[1] is board.frame_since(0, TEXT)[1]
    assert board.frame_since(0, BINARY)[1] is board.frame_since(0, BINARY)[1]
    assert changes_in(board.frame_since(0, TEXT)[1]) == changes_in(board.frame_since(0, BINARY)[1], BINARY)


def test_a_frame_is_not_given_for_a_later_state():
    board = counted_to(3)
    board.frame_since(1, TEXT)
    board.change({"n": 9.0}, "c1")
    reached, frame = board.frame_since(1, TEXT)
    assert (reached, [d.revision for d in changes_in(frame)]) == (4, [2, 3, 4])


def test_kept_frames_are_few():
    board = counted_to(100)
    for revision in range(100):
        frame = board.frame_since(revision, TEXT)[1]
        assert changes_in(frame)[0].revision == revision + 1
        assert len(board._frames) <= board_module._KEPT_FRAMES
    assert len(board._frames) == board_module._KEPT_FRAMES


PATHS = st.sampled_from("abcd")
VALUES = st.one_of(st.none(), st.booleans(), st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from(["", "x"]))


@given(
    steps=st.lists(st.dictionaries(PATHS, VALUES, max_size=3), max_size=30),
    history=st.integers(0, 40),
    cut=st.integers(0, 30),
)
def test_a_copy_that_follows_the_changes_is_the_state(steps, history, cut):
    board = Board("e1", {"a": 0.0}, history)
    at_cut = copied = None
    for i, step in enumerate(steps):
        if i == cut:
            at_cut, copied = board.revision, dict(board.values)
        board.change(step, "c1")
    if at_cut is None:
        return
    missed = board.since(at_cut)
    assert (missed is None) == (board.revision - at_cut > history)
    for delta in missed or ():
        copied |= delta.values
    if missed is not None:
        kept = {p: v for p, v in copied.items() if v is not None}
        assert kept == board.values
        assert {p: type(v) for p, v in kept.items()} == {p: type(v) for p, v in board.values.items()}
