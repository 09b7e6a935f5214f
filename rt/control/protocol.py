"""Both sides of a connection as rules: frames in, frames out; no socket, no clock, no thread of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .board import Board
from .codec import Codec, Frame, ProtocolError
from .messages import (
    VERSIONS,
    Batch,
    ClientMessage,
    CloseCode,
    Counters,
    Deltas,
    Describe,
    Described,
    Error,
    ErrorCode,
    Event,
    Hello,
    Identify,
    Message,
    Meters,
    Ping,
    Reply,
    ServerMessage,
    Snapshot,
    Subscribe,
    Subscriptions,
    Value,
    Welcome,
)

IDENTIFY_LIMIT_S = 10.0
ERRORS_IN_A_ROW = 100
"""As many bad frames end a connection; a good one begins the count anew."""
REQUESTS_PER_S, REQUESTS_BURST = 1_000.0, 2_000.0
DESCRIBE_PRICE, EFFECTS_PRICE = 10, 100
"""As many requests is `describe`, and that with the effects: what asks for much is asked for seldom."""
REFUSALS_IN_A_ROW = 10_000
"""As many requests over the limit end a connection."""
WAITING_REPLIES = 2_000
WAITING_EVENTS = 200

Answer = Callable[[Reply | Described | Error], None]
"""Takes the answer to a request, now or later."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: id (the origin of changes), role, name."""

    client_id: str
    role: str
    name: str = ""


class Node(Protocol):
    """What a session needs of the node."""

    server_name: str
    board: Board

    def role_of(self, token: str) -> str | None:
        """Return the role a token gives; None if it gives none."""
        ...

    def carry_out(self, request: ClientMessage, client: Client, answer: Answer) -> None:
        """Carry a request out and answer it, now or later.  Raises: ProtocolError."""
        ...

    def meters_for(self, client_id: str) -> Meters | None:
        """Return the levels since the last call for this client; None while no sound is made."""
        ...

    def forget(self, client_id: str) -> None:
        """Keep no levels for a client any more: it has gone."""
        ...

    def counters(self) -> Counters:
        """Return everything that is counted."""
        ...


def error_of(problem: ProtocolError, request_id: int | None = None) -> Error:
    """Return the message that tells a problem."""
    return Error(
        id=request_id if request_id is not None else problem.request_id,
        code=int(problem.code),
        name=problem.code.name.lower(),
        path=problem.path,
        message=problem.message,
    )


def common_version(theirs: tuple[int, int], ours: tuple[int, int] = VERSIONS) -> int | None:
    """Return the newest version that both speak.

    >>> common_version((1, 3)), common_version((2, 3))
    (1, None)
    """
    newest = min(theirs[1], ours[1])
    return newest if newest >= max(theirs[0], ours[0]) else None


class ServerSession:
    """One client's connection as the server sees it.

    Give it frames with `receive`, take frames with `take`; once `close_code` is set, send what `take` gives
    and close. All state changes reach the client in order; meters and counters are made when they are due and
    the client has read what went before, so that none of them waits.
    """

    def __init__(self, node: Node, codec: Codec, client_id: str, now_s: float, *, needs_token: bool) -> None:
        self._node, self._codec, self._needs_token = node, codec, needs_token
        self.client = Client(client_id, "")
        self.is_identified = False
        self.close_code: CloseCode | None = None
        self.has_wrong_token = False
        self.subscriptions = Subscriptions()
        self.wake: Callable[[], None] = lambda: None
        """Called when something waits to be taken: answers may come long after their request."""
        self._opened_s = self._filled_s = now_s
        self._allowance = REQUESTS_BURST
        self._n_errors = self._n_refused = 0
        self._cursor = 0
        self._first: list[Message] = [
            Hello(server=node.server_name, versions=VERSIONS, epoch=node.board.epoch, token=needs_token)
        ]
        self._replies: deque[Message] = deque()
        self._events: deque[Event] = deque(maxlen=WAITING_EVENTS)
        self._meters_s = self._counters_s = now_s

    # -- from the client ----------------------------------------------------------------------------------

    def receive(self, frame: Frame, now_s: float) -> None:
        """Take a frame of the client's; its answers wait to be taken."""
        if self.close_code is not None:
            return
        request_id = None
        try:
            message = self._codec.decode_client(frame)
            request_id = getattr(message, "id", None)
            self._spend(message, now_s)
            self._handle(message)
            self._n_errors = self._n_refused = 0
        except ProtocolError as problem:
            self._count(problem.code)
            self._reply(error_of(problem, request_id))

    def tick(self, now_s: float) -> None:
        """Notice that time has passed: who does not identify is sent away."""
        if not self.is_identified and self.close_code is None and now_s - self._opened_s >= IDENTIFY_LIMIT_S:
            self.close_code = CloseCode.NOT_IDENTIFIED_IN_TIME

    def _handle(self, message: ClientMessage) -> None:
        if isinstance(message, Identify):
            self._identify(message)
        elif not self.is_identified:
            raise ProtocolError(ErrorCode.NOT_IDENTIFIED, "send identify first")
        elif isinstance(message, Ping):
            self._reply(Reply(id=message.id, revision=self._node.board.revision))
        elif isinstance(message, Subscribe):
            self._subscribe(message.subscribe)
            self._reply(Reply(id=message.id, revision=self._node.board.revision))
        else:
            self._node.carry_out(message, self.client, self._answer_of(message.id))

    def _answer_of(self, request_id: int) -> Answer:
        def answer(said: Reply | Described | Error) -> None:
            self._reply(said)

        return answer

    def _identify(self, message: Identify) -> None:
        if self.is_identified:
            raise ProtocolError(ErrorCode.ALREADY_IDENTIFIED, "identify is sent once")
        version = common_version(message.versions)
        if version is None:
            self.close_code = CloseCode.NO_COMMON_VERSION
            said = f"this node speaks versions {VERSIONS[0]} to {VERSIONS[1]}: update the older side"
            raise ProtocolError(ErrorCode.NO_COMMON_VERSION, said, "versions")
        role = self._node.role_of(message.token)
        if role is None:
            self.has_wrong_token = True
            self.close_code = CloseCode.WRONG_TOKEN
            said = "the token is wrong: take it from the address that the node prints"
            raise ProtocolError(ErrorCode.WRONG_TOKEN, said, "token")
        self.client = Client(self.client.client_id, role, message.client)
        self._subscribe(message.subscribe)
        board = self._node.board
        resume = message.resume
        resumed = resume is not None and resume.epoch == board.epoch and board.knows(resume.revision)
        self._first.append(
            Welcome(
                version=version,
                client_id=self.client.client_id,
                role=role,
                revision=board.revision,
                resumed=resumed,
            )
        )
        if resumed and resume is not None:
            self._cursor = resume.revision
        else:
            snapshot = Snapshot(epoch=board.epoch, revision=board.revision, values=dict(board.values))
            self._first.append(snapshot)
            self._cursor = board.revision
        self.is_identified = True

    def _subscribe(self, wanted: Subscriptions) -> None:
        self.subscriptions = wanted
        if not wanted.events:
            self._events.clear()

    def _spend(self, message: ClientMessage, now_s: float) -> None:
        """Take a request off the allowance.  Raises: ProtocolError if it is used up."""
        gained = (now_s - self._filled_s) * REQUESTS_PER_S
        self._allowance = min(REQUESTS_BURST, self._allowance + max(0.0, gained))
        self._filled_s = now_s
        price = _price_of(message)
        if price > self._allowance:
            said = f"more than {REQUESTS_PER_S:g} requests a second: send the newest value only"
            raise ProtocolError(ErrorCode.TOO_MANY_REQUESTS, said)
        self._allowance -= price

    def _count(self, code: ErrorCode) -> None:
        if code == ErrorCode.TOO_MANY_REQUESTS:
            self._n_refused += 1
            if self._n_refused >= REFUSALS_IN_A_ROW:
                self.close_code = CloseCode.TOO_MANY_REQUESTS
            return
        self._n_errors += 1
        if self._n_errors >= ERRORS_IN_A_ROW and self.close_code is None:
            self.close_code = CloseCode.TOO_MANY_ERRORS

    # -- to the client ------------------------------------------------------------------------------------

    def _reply(self, message: Reply | Described | Error) -> None:
        if len(self._replies) >= WAITING_REPLIES:
            self.close_code = self.close_code or CloseCode.TOO_SLOW
            return
        self._replies.append(message)
        self.wake()

    def tell(self, event: Event) -> None:
        """Send an event if the client wants events; the oldest that wait are dropped."""
        if self.is_identified and self.subscriptions.events:
            self._events.append(event)

    def has_news(self, now_s: float) -> bool:
        """Whether `take` would give something now."""
        waiting = self._first or self._replies or self._events or self.due_s <= now_s
        return bool(waiting) or (self.is_identified and self._cursor != self._node.board.revision)

    @property
    def due_s(self) -> float:
        """When the next meters or counters are due; infinite without a subscription."""
        if not self.is_identified:
            return math.inf
        wanted = self.subscriptions
        meters_s = self._meters_s + 1.0 / wanted.meters_hz if wanted.meters_hz else math.inf
        counters_s = self._counters_s + 1.0 / wanted.counters_hz if wanted.counters_hz else math.inf
        return min(meters_s, counters_s)

    def take(self, now_s: float) -> list[Frame]:
        """Return the frames to be sent now: changes before the replies that speak of them, meters last."""
        encode = self._codec.encode
        frames = [encode(m) for m in self._first]
        self._first.clear()
        board = self._node.board
        while self.is_identified and self._cursor != board.revision:
            packed = board.frame_since(self._cursor, self._codec)
            if packed is None:
                self.close_code = CloseCode.TOO_SLOW
                return frames
            self._cursor, frame = packed
            frames.append(frame)
        frames += [encode(m) for m in (*self._replies, *self._events)]
        self._replies.clear()
        self._events.clear()
        return frames + [encode(m) for m in self._droppable(now_s)]

    def _droppable(self, now_s: float) -> Iterator[Message]:
        wanted = self.subscriptions
        if not self.is_identified:
            return
        if wanted.meters_hz and now_s >= self._meters_s + 1.0 / wanted.meters_hz:
            self._meters_s = _next_s(self._meters_s, 1.0 / wanted.meters_hz, now_s)
            meters = self._node.meters_for(self.client.client_id)
            if meters is not None:
                yield meters
        if wanted.counters_hz and now_s >= self._counters_s + 1.0 / wanted.counters_hz:
            self._counters_s = _next_s(self._counters_s, 1.0 / wanted.counters_hz, now_s)
            yield self._node.counters()


def _price_of(message: ClientMessage) -> int:
    if isinstance(message, Batch):
        return len(message.requests)
    if isinstance(message, Describe):
        return EFFECTS_PRICE if message.effects else DESCRIBE_PRICE
    return 1


def _next_s(last_s: float, period_s: float, now_s: float) -> float:
    """Return the time that counts as sent: on the client's grid, unless that is more than a period ago."""
    return last_s + period_s if now_s < last_s + 2.0 * period_s else now_s


class ClientSession:
    """One connection as a client sees it: a mirror of the state, and request ids.

    Give it frames with `receive`; send what is in `outgoing`.
    """

    def __init__(self, codec: Codec, identify: Identify, mirror: ClientSession | None = None) -> None:
        self._codec, self._identify = codec, identify
        self.values: dict[str, Value] = dict(mirror.values) if mirror else {}
        self.revision = mirror.revision if mirror else 0
        self.epoch = mirror.epoch if mirror else ""
        """Of the state that is mirrored; empty before the first snapshot."""
        self.client_id = self.role = self.server_name = ""
        self._ready_from = math.inf
        self.outgoing: list[Frame] = []
        self._next_id = 1

    def receive(self, frame: Frame) -> ServerMessage:
        """Return the message in a frame, after the mirror has followed it.

        Raises: ProtocolError if the server breaks the rules (a gap in the revisions).
        """
        message = self._codec.decode_server(frame)
        if isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Welcome):
            self.client_id, self.role = message.client_id, message.role
            if not message.resumed:  # the snapshot follows
                self.epoch = ""
            self._ready_from = message.revision
        elif isinstance(message, Snapshot):
            self.values, self.revision, self.epoch = message.values, message.revision, message.epoch
        elif isinstance(message, Deltas):
            self._follow(message)
        return message

    @property
    def is_ready(self) -> bool:
        """Whether the mirror shows the state of this connection."""
        return bool(self.role) and bool(self.epoch) and self.revision >= self._ready_from

    def request(self, kind: Callable[..., Any], **fields: Any) -> int:
        """Put a request into `outgoing`; returns its id."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        self.outgoing.append(self._codec.encode(kind(id=request_id, **fields)))
        return request_id

    def _greet(self, hello: Hello) -> None:
        self.server_name = hello.server
        if common_version(hello.versions) is None:
            said = (
                f"the node speaks versions {hello.versions[0]} to {hello.versions[1]}: update the older side"
            )
            raise ProtocolError(ErrorCode.NO_COMMON_VERSION, said, "versions")
        self.outgoing.append(self._codec.encode(self._identify))

    def _follow(self, deltas: Deltas) -> None:
        for delta in deltas.changes:
            if delta.revision != self.revision + 1:
                said = f"revision {delta.revision} after {self.revision}: a change was lost"
                raise ProtocolError(ErrorCode.MALFORMED, said)
            self.revision = delta.revision
            self.values.update(delta.values)
            if None in delta.values.values():
                for path in [p for p, value in delta.values.items() if value is None]:
                    del self.values[path]
