"""A client and a server session that speak with each other without a socket."""

from __future__ import annotations

from typing import Any

from stemrack.rt.control.codec import JSON, Codec, Frame
from stemrack.rt.control.messages import VERSIONS, Error, ErrorCode, Identify, Message, Resume
from stemrack.rt.control.protocol import ClientSession, ServerSession


class Link:
    """Both ends of one connection; frames wait on their way until `up` or `down` lets them arrive."""

    def __init__(
        self,
        node: Any,
        client_id: str = "c1",
        *,
        now_s: float = 0.0,
        token: str = "o" * 32,
        subprotocol: str = JSON,
        mirror: ClientSession | None = None,
        **identify: Any,
    ) -> None:
        self.codec = Codec(subprotocol)
        if mirror is not None and mirror.epoch:
            identify.setdefault("resume", Resume(epoch=mirror.epoch, revision=mirror.revision))
        said = Identify(**{"versions": VERSIONS, "token": token, **identify})
        self.client = ClientSession(self.codec, said, mirror)
        self.server = ServerSession(node, self.codec, client_id, now_s, needs_token=True)
        self.on_the_way: list[Frame] = []
        self.seen: list[Message] = []
        """Every message that reached the client."""

    def up(self, now_s: float = 0.0, n: int | None = None) -> None:
        """Let the client's first n frames, or all, reach the server."""
        outgoing = self.client.outgoing
        for frame in outgoing[:n]:
            self.server.receive(frame, now_s)
        del outgoing[:n]

    def collect(self, now_s: float = 0.0) -> None:
        """Let the server put what it has on the way."""
        self.on_the_way += self.server.take(now_s)

    def down(self, n: int | None = None) -> list[Message]:
        """Let the first n frames on the way, or all, reach the client; returns their messages."""
        arrived = [self.client.receive(frame) for frame in self.on_the_way[:n]]
        del self.on_the_way[:n]
        self.seen += arrived
        return arrived

    def pump(self, now_s: float = 0.0) -> list[Message]:
        """Let all arrive that both have to say; returns what reached the client."""
        arrived: list[Message] = []
        while True:
            self.up(now_s)
            self.collect(now_s)
            if not self.on_the_way:
                return arrived
            arrived += self.down()

    def ask(self, message: Message, now_s: float = 0.0) -> list[Message]:
        """Send a message as it is, then let all arrive."""
        self.server.receive(self.codec.encode(message), now_s)
        return self.pump(now_s)


def linked(node: Any, client_id: str = "c1", **how: Any) -> Link:
    """Return a link that has identified."""
    link = Link(node, client_id, **how)
    link.pump(how.get("now_s", 0.0))
    assert link.server.is_identified
    assert link.client.is_ready
    return link


def kinds(messages: list[Message]) -> list[str]:
    """Return the names of the classes of messages."""
    return [type(m).__name__ for m in messages]


def codes(messages: list[Message]) -> list[ErrorCode]:
    """Return the codes of the errors among messages."""
    return [ErrorCode(m.code) for m in messages if isinstance(m, Error)]
