"""Sessions against sessions in any order of events: all mirrors show the board, nothing lost or reordered."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from control_link import Link, linked
from control_node import TOKENS, FakeNode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains
from stemrack.rt.control.chain_table import changed_values
from stemrack.rt.control.codec import JSON, MSGPACK
from stemrack.rt.control.faders import SCENE_PATHS, values_of
from stemrack.rt.control.messages import (
    Adjust,
    Batch,
    CloseCode,
    DeleteScene,
    Deltas,
    Error,
    RecallScene,
    Reply,
    Set,
    Snapshot,
    StoreScene,
)

FADERS = [p for p in SCENE_PATHS if p.endswith("gain_db")]
CHAINS = ("", "reverb", "highpass_filter reverb", "reverb highpass_filter", "reverb reverb-2 invert", "kazoo")
OF_INSERTS = {
    "reverb/room_size": (0.0, 0.3, 2.0),
    "reverb/bypass": (True, False),
    "reverb-2/dry_wet": (0.0, 1.0),
    "highpass_filter/cutoff_frequency_hz": (20.0, 800.0),
}
SWITCHES = [p for p in SCENE_PATHS if p.endswith(("mute", "solo"))]


def random_request(rng: random.Random):
    """Return the class and fields of a request, now and then a wrong one."""
    at, name = rng.choice(FADERS), rng.choice(("a", "b", "c"))
    three = tuple(Set(path=p, value=rng.uniform(-125.0, 12.0)) for p in rng.sample(FADERS, 3))
    switched = {"value": rng.random() < 0.5, "ramp_ms": rng.choice((None, 50.0))}
    stem, insert = rng.choice(("bass", "vocals")), rng.choice(list(OF_INSERTS))
    line = Set(path=f"stem/{stem}/chain", value=rng.choice(CHAINS))
    inside = {"path": f"stem/{stem}/fx/{insert}", "value": rng.choice(OF_INSERTS[insert])}
    kinds = [
        (Set, {"path": line.path, "value": line.value}),
        (Set, inside),
        (Batch, {"requests": (line, Set(**inside), Set(path=at, value=-3.0))}),
        (Set, {"path": at, "value": round(rng.uniform(-130.0, 14.0), 1)}),
        (Set, {"path": rng.choice(SWITCHES), **switched}),
        (Adjust, {"path": at, "by": rng.uniform(-20.0, 20.0)}),
        (Set, {"path": "recording/active", "value": rng.random() < 0.5}),
        (StoreScene, {"name": name, "stems": tuple(rng.sample(STEMS, rng.randrange(3)))}),
        (RecallScene, {"name": name, "fade_ms": rng.choice((0.0, 500.0))}),
        (DeleteScene, {"name": name}),
        (Batch, {"requests": three}),
    ]
    return rng.choices(kinds, [3, 3, 2, 6, 4, 4, 1, 1, 2, 1, 2])[0]


class Stage:
    """A node, some clients, and a world that delivers frames whenever it likes."""

    def __init__(self, rng: random.Random, n_clients: int, history: int = 10_000) -> None:
        self.rng, self.now_s = rng, 0.0
        self.node = FakeNode(history=history)
        self.n_links = 0
        self.links: list[Link] = []
        self.asked: dict[str, list[int]] = {}
        for _ in range(n_clients):
            self.join()

    def join(self, mirror=None, **how) -> Link:
        """Connect a client, maybe one that was there before."""
        self.n_links += 1
        link = Link(
            self.node,
            f"c{self.n_links}",
            now_s=self.now_s,
            token=TOKENS[self.rng.choice(("operator", "admin"))],
            subprotocol=self.rng.choice((JSON, MSGPACK)),
            mirror=mirror,
            **how,
        )
        self.asked[f"c{self.n_links}"] = []
        self.links.append(link)
        return link

    def step(self) -> None:
        """Let one thing happen at one client: it asks, or some frames travel."""
        self.now_s += 0.01
        if self.rng.random() < 0.03:
            self._bypass()
        link, rng = self.rng.choice(self.links), self.rng
        what = rng.random()
        if what < 0.4 and link.client.is_ready:
            kind, fields = random_request(rng)
            self.asked[link.server.client.client_id].append(link.client.request(kind, **fields))
        elif what < 0.6:
            link.up(self.now_s, rng.randrange(1, 4))
        elif what < 0.8:
            link.collect(self.now_s)
        else:
            link.down(rng.randrange(1, 4))

    def _bypass(self) -> None:
        """Let the engine bypass the first insert that it finds, as one that has crashed."""
        node = self.node
        for stem, chain in node.chains:
            if chain:
                node.chains = node.chains.with_insert(stem, replace(chain[0], bypass=True))
                break
        if self.rng.random() < 0.5:
            node.commands.follow_chains()  # its tick; else the next request finds it

    def cut(self, link: Link) -> Link:
        """Break a connection: what is on the way is lost; the client comes again with its mirror."""
        self.links.remove(link)
        return self.join(link.client)

    def cut_the_slow(self) -> None:
        """Cut those off that the server wants to close, because they are too far behind."""
        for link in list(self.links):
            if link.server.close_code is not None:
                assert link.server.close_code == CloseCode.TOO_SLOW
                self.cut(link)

    def settle(self) -> None:
        """Let everything arrive, for all: until nobody has anything more to say."""
        self.node.commands.follow_chains()
        for _ in range(3):
            for link in self.links:
                link.pump(self.now_s)
            self.cut_the_slow()
        for link in self.links:
            link.pump(self.now_s)


def assert_in_step(stage: Stage) -> None:
    board = stage.node.board
    for link in stage.links:
        assert link.client.is_ready
        assert link.client.revision == board.revision
        assert link.client.values == board.values
    assert {p: board.values[p] for p in values_of(stage.node.mixer)} == values_of(stage.node.mixer)
    assert_chains_shown(stage.node)


def assert_chains_shown(node: FakeNode) -> None:
    """The board has what the table has, and of the chains what the engine has."""
    assert board_paths(node) == {p.path for p in node.table}
    anew = changed_values(node.commands.inserts, Chains(), node.chains)
    assert anew.items() <= node.board.values.items()
    of_inserts = {p for p in anew if "/fx/" in p}
    assert of_inserts == {p for p in board_paths(node) if "/fx/" in p}


def board_paths(node: FakeNode) -> set[str]:
    return set(node.board.values)


def assert_in_order(link: Link) -> None:
    at = None
    for message in link.seen:
        if isinstance(message, Snapshot):
            at = message.revision
        for delta in message.changes if isinstance(message, Deltas) else ():
            assert at is None or delta.revision == at + 1
            at = delta.revision
        if isinstance(message, Reply):
            assert at is None or message.revision <= at


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rng=st.randoms(use_true_random=False), n_clients=st.integers(1, 6), n_steps=st.integers(1, 150))
def test_all_mirrors_show_the_board(rng, n_clients, n_steps):
    stage = Stage(rng, n_clients)
    for _ in range(n_steps):
        stage.step()
    stage.settle()
    assert_in_step(stage)
    for link in stage.links:
        assert_in_order(link)
        answered = [m.id for m in link.seen if isinstance(m, Reply | Error)]
        assert answered == stage.asked[link.server.client.client_id]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rng=st.randoms(use_true_random=False),
    history=st.sampled_from([0, 3, 30, 10_000]),
    n_steps=st.integers(1, 150),
)
def test_cut_connections_resume_to_the_same_state(rng, history, n_steps):
    stage = Stage(rng, 3, history)
    for _ in range(n_steps):
        stage.step()
        if rng.random() < 0.08:
            stage.cut(rng.choice(stage.links))
        stage.cut_the_slow()
    stage.settle()
    assert_in_step(stage)
    for link in stage.links:
        assert_in_order(link)


@pytest.mark.parametrize("history", [100, 1])
def test_a_cut_at_every_point_resumes(history):
    """The client loses its connection after each single frame it got, and once before the first."""
    for n_frames in range(9):
        node = FakeNode(history=history)
        first, other = Link(node, "c1"), linked(node, "c2")
        for i in range(6):
            first.up()
            first.collect()
            other.client.request(Set, path="master/gain_db", value=-1.0 - i)
            other.pump()
        first.up()
        first.collect()
        first.down(n_frames)
        again = Link(node, "c3", mirror=first.client)
        again.pump()
        assert again.client.values == node.board.values, n_frames
        assert (again.client.revision, again.client.epoch) == (6, "e1")
        welcome = again.seen[1]
        missed = 6 - first.client.revision
        assert welcome.resumed == (first.client.epoch != "" and missed <= history)


def test_a_long_absence_ends_with_a_snapshot():
    node = FakeNode(history=10)
    away = linked(node, "c1").client
    for i in range(11):
        node.board.change({"master/gain_db": -1.0 - i}, "c2")
    again = linked(node, "c3", mirror=away)
    assert [type(m).__name__ for m in again.seen] == ["Hello", "Welcome", "Snapshot"]
    assert again.client.values == node.board.values


def test_a_burst_larger_than_a_frame_arrives_whole():
    node = FakeNode()
    link = linked(node)
    for i in range(1_203):
        node.board.change({"master/gain_db": -float(i % 100) - 1.0}, "c2")
    sizes = [len(m.changes) for m in link.pump() if isinstance(m, Deltas)]
    assert sizes == [500, 500, 203]
    assert_in_order(link)
    assert link.client.values == node.board.values


def test_two_encodings_give_the_same_mirror():
    node = FakeNode()
    links = [linked(node, f"c{i}", subprotocol=s) for i, s in enumerate((JSON, MSGPACK))]
    links[0].client.request(Adjust, path="stem/bass/gain_db", by=-0.1)
    links[1].client.request(Set, path="stem/bass/pan", value=1 / 3)
    for link in (*links, *links):
        link.pump()
    assert links[0].client.values == links[1].client.values == node.board.values
    assert links[0].client.values["stem/bass/pan"] == 1 / 3
