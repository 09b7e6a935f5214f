"""A node without an engine for tests of the protocol, and a server with it in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from stemrack.models.stems import STEMS
from stemrack.rt.chains import Chains
from stemrack.rt.control.auth import Tokens
from stemrack.rt.control.board import HISTORY, Board
from stemrack.rt.control.chain_table import ChainTable, InsertParameters
from stemrack.rt.control.codec import ProtocolError
from stemrack.rt.control.commands import Actions, Commands, Done
from stemrack.rt.control.faders import values_of
from stemrack.rt.control.messages import ClientMessage, Counters, Event, Message, Meters, Value
from stemrack.rt.control.protocol import Answer, Client
from stemrack.rt.control.scenes import Scene
from stemrack.rt.control.server import ControlServer, Page, ServerSettings
from stemrack.rt.control.table import Table, mixer_parameters, node_parameters
from stemrack.rt.effect_table import Effect, EffectParameter, EffectTable
from stemrack.rt.errors import HostError
from stemrack.rt.params import MixerState

T = TypeVar("T")

TOKENS = {"viewer": "v" * 32, "operator": "o" * 32, "admin": "a" * 32}
VIEWER, OPERATOR, ADMIN = (Client("c1", role) for role in TOKENS)
PROFILES, INPUTS, OUTPUTS = ("live", "studio"), ("in a", "in b"), ("out a", "out b")
INDEX = {"/index.html": Page("text/html; charset=utf-8", b"<!doctype html><title>mixer</title>")}
WAIT_S = 30.0
EFFECTS = EffectTable(
    [
        Effect(
            key="highpass_filter",
            title="High-pass",
            doc="Takes the low end away.",
            parameters=(
                EffectParameter(
                    name="cutoff_frequency_hz",
                    doc="Where it begins.",
                    unit="Hz",
                    lowest=20.0,
                    highest=20_000.0,
                    default=50.0,
                    is_log=True,
                ),
            ),
        ),
        Effect(
            key="reverb",
            title="Reverb",
            doc="A room.",
            parameters=(
                EffectParameter(name="room_size", doc="Its size.", lowest=0.0, highest=1.0, default=0.5),
                EffectParameter(name="freeze", doc="Whether it holds.", kind="switch", default=False),
            ),
        ),
        Effect(
            key="ladder_filter",
            title="Ladder",
            doc="A synthesiser's filter.",
            parameters=(
                EffectParameter(
                    name="mode", doc="Which side.", kind="choice", choices=("LPF12", "HPF12"), default="LPF12"
                ),
                EffectParameter(name="drive", doc="Without limits.", default=1.0),
            ),
        ),
        Effect(key="invert", title="Invert", doc="Turns the sign round."),
    ]
)
"""One of each kind of parameter, one without limits, an effect without any."""


def plain_table() -> ChainTable:
    """Return the table of a node with two profiles and two devices each way, and no insert in its chains."""
    fixed = mixer_parameters(STEMS) + node_parameters(PROFILES, INPUTS, OUTPUTS)
    return ChainTable(fixed, InsertParameters(EFFECTS))


class FakeNode:
    """`protocol.Node` without an engine: what it was asked is in its lists.

    tokens: role by token is `TOKENS`, unless `Tokens` are given; `Tokens({}, "operator")` asks for none.
    holds: changes of structure wait in `changes` until the test calls their `Done`; else they hold at once.
    """

    def __init__(
        self,
        *,
        tokens: Tokens | None = None,
        epoch: str = "e1",
        history: int = HISTORY,
        scenes: Mapping[str, Scene | dict[str, Value]] | None = None,
        presets: Mapping[str, Scene] | None = None,
        holds: bool = False,
    ) -> None:
        self.server_name = "stemrack test"
        self.tokens = tokens or Tokens(dict(TOKENS))
        table = plain_table()
        values = table.defaults | values_of(MixerState()) | {"scenes": "\n".join(scenes or {})}
        values |= {"engine/profile": "live", "device/input": "in a", "device/output": "out a"}
        self.board = Board(epoch, values, history)
        self.holds = holds
        self.chains = Chains()
        """Of the engine, which may change them by itself: put others here."""
        self.refuses_chains: HostError | None = None
        self.chain_edits: list[Chains] = []
        """Every set of chains that reached the engine, the newest last."""
        self.mixers: list[MixerState] = []
        """Every state that reached the faders, the newest last."""
        self.changes: list[tuple[str, Value, Done]] = []
        self.kept_scenes: list[dict[str, Scene]] = []
        self.learned: list[str] = []
        self.unlearned: list[str] = []
        self.forgotten: list[str] = []
        self.carried: list[tuple[Client, ClientMessage]] = []
        """Every request that got as far as the node, with who asked."""
        self.on_event: list[Callable[[Event], None]] = []
        self.makes_sound = True
        self.position = 0
        self.level_db = -20.0
        self.counts = {"xruns": 0, "late_hops": 0, "fallbacks": 0}
        actions = Actions(
            set_mixer=self.mixers.append,
            change=self._change,
            chains=lambda: self.chains,
            set_chains=self._set_chains,
            keep_scenes=lambda scenes: self.kept_scenes.append(dict(scenes)),
            learn=self.learned.append,
            unlearn=self.unlearned.append,
        )
        held = {n: s if isinstance(s, Scene) else Scene(values=s) for n, s in (scenes or {}).items()}
        self.commands = Commands(table, self.board, MixerState(), actions, held, presets)

    @property
    def table(self) -> Table:
        """The table that requests are checked against."""
        return self.commands.table

    @property
    def mixer(self) -> MixerState:
        """The faders as they stand."""
        return self.commands.mixer

    def role_of(self, token: str) -> str | None:
        return self.tokens.role_of(token)

    def carry_out(self, request: ClientMessage, client: Client, answer: Answer) -> None:
        self.carried.append((client, request))
        self.commands.carry_out(request, client, answer)

    def meters_for(self, client_id: str) -> Meters | None:
        if not self.makes_sound:
            return None
        self.position += 64
        row = (self.level_db, self.level_db, self.level_db - 3.0, self.level_db - 3.0)
        return Meters(position=self.position, levels={name: row for name in ("input", "main", *STEMS, "cue")})

    def forget(self, client_id: str) -> None:
        self.forgotten.append(client_id)

    def counters(self) -> Counters:
        return Counters(values=dict(self.counts))

    def say(self, kind: str, **facts: Value) -> None:
        """Let an event happen."""
        event = Event(kind=kind, time_s=1_700_000_000.0, facts=facts)
        for told in self.on_event:
            told(event)

    def _set_chains(self, chains: Chains, seen: Chains) -> None:
        if self.refuses_chains is not None:
            raise self.refuses_chains
        self.chains = chains
        self.chain_edits.append(chains)

    def _change(self, path: str, value: Value, done: Done) -> None:
        self.changes.append((path, value, done))
        if not self.holds:
            done(value, "")


def ask(node: FakeNode, request: ClientMessage, client: Client = OPERATOR) -> Message:
    """Return the one answer to a request."""
    answers: list[Message] = []
    node.carry_out(request, client, answers.append)
    assert len(answers) == 1
    return answers[0]


def refused(node: FakeNode, request: ClientMessage, client: Client = OPERATOR) -> ProtocolError:
    """Return the error of a request that cannot be; nothing has changed and nobody was asked then."""

    def seen() -> tuple[object, ...]:
        board = node.board
        held = board.revision, dict(board.values), node.mixer, node.chains, list(node.table)
        return *held, len(node.mixers), len(node.changes), len(node.chain_edits), len(node.kept_scenes)

    before = seen()
    with pytest.raises(ProtocolError) as caught:
        node.carry_out(request, client, lambda said: pytest.fail("it was answered"))
    assert seen() == before
    return caught.value


class RunningServer:
    """A server in a thread of its own, with its event loop; `call` runs a function in that loop."""

    def __init__(
        self, node: Any, settings: ServerSettings, pages: Mapping[str, Page], metrics: Callable[..., str]
    ) -> None:
        self.node, self.settings, self._pages, self._metrics = node, settings, pages, metrics
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="control-server", daemon=True)
        self._thread.start()
        self.server: ControlServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Of the websocket."""
        scheme = "wss" if self.settings.tls else "ws"
        return f"{scheme}://{self.settings.host}:{self.port}"

    @property
    def http_url(self) -> str:
        """Of the page."""
        return f"http{self.url[2:]}"

    @property
    def counted(self) -> Counter[str]:
        """What the server counted up to now."""
        assert self.server is not None
        return Counter(self.server.counted)

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function gives in the loop's thread: changes of the board belong there."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)

    def start(self) -> None:
        """Begin to listen, after the first time on the same port."""
        settings = replace(self.settings, port=self.port or self.settings.port)
        server = ControlServer(self.node, settings, self._pages, self._metrics)
        self.port = asyncio.run_coroutine_threadsafe(server.start(), self.loop).result(WAIT_S)
        if hasattr(server, "tell") and hasattr(self.node, "on_event"):
            self.node.on_event.append(server.tell)
        self.server = server

    def stop(self) -> None:
        """Tell the clients that the node stops, and close."""
        if self.server is None:
            return
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(WAIT_S)
        self.server = None
        if hasattr(self.node, "on_event"):
            self.node.on_event.clear()

    def restart(self, node: Any = None) -> None:
        """Stop, and begin anew on the same port: with the same state, or with another node."""
        self.stop()
        self.node = node or self.node
        self.start()

    def close(self) -> None:
        """Stop, and end the thread."""
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


def metrics_text(counted: Mapping[str, int]) -> str:
    """Return numbers as Prometheus reads them, without its library."""
    return "".join(f"stemrack_control_{name} {n:g}\n" for name, n in sorted(counted.items()))


@contextmanager
def start_server(
    node: Any = None,
    *,
    pages: Mapping[str, Page] = INDEX,
    metrics: Callable[[Mapping[str, int]], str] = metrics_text,
    **settings: Any,
) -> Iterator[RunningServer]:
    """Give a running server on a free port; settings: fields of `ServerSettings`."""
    running = RunningServer(
        node if node is not None else FakeNode(), ServerSettings(**{"port": 0, **settings}), pages, metrics
    )
    try:
        running.start()
        yield running
    finally:
        running.close()
