"""One port for everything: the protocol on websockets, the page, /healthz and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidState
from websockets.http11 import Request, Response

from ..errors import EngineStateError
from .auth import Gate
from .codec import MAX_CLIENT_FRAME_BYTES, SUBPROTOCOLS, Codec
from .messages import CloseCode, Event
from .protocol import IDENTIFY_LIMIT_S, Node, ServerSession

PACK_S = 0.01
"""Changes within it travel in one frame: one frame a change to 50 clients kept up with 1060 a second only."""
SEND_LIMIT_S = 5.0
"""A client that takes nothing for so long is cut off."""
WRITE_LIMIT_BYTES = 32_768
MAX_CLIENTS = 64
MAX_STRANGERS = 128
"""Connections that have not identified, handshakes included; the oldest makes room for the newest."""
FAILED_TOKEN_DELAYS_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
MAX_DELAYED = 32
"""Wrong tokens that are made to wait at a time; more are turned away at once."""
OPEN_LIMIT_S = 10.0
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A file of the browser mixer, held in memory: nothing else can be asked for."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server listens. port: 0 for any free one; tls: files of certificate and key, or None."""

    host: str = "127.0.0.1"
    port: int = 8137
    gate: Gate = field(default_factory=lambda: Gate.around("127.0.0.1"))
    needs_token: bool = True
    tls: tuple[Path, Path] | None = None
    max_clients: int = MAX_CLIENTS


class _Peer:
    """One connection: the session's rules, the socket, and the word to send."""

    def __init__(self, connection: ServerConnection, session: ServerSession) -> None:
        self.connection, self.session = connection, session
        self.wake = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None


class ControlServer:
    """Speaks the protocol with many clients.  Thread: all of it in one event loop.

    Raises: EngineStateError from `start` if the port is taken.
    """

    def __init__(
        self,
        node: Node,
        settings: ServerSettings,
        pages: Mapping[str, Page],
        metrics: Callable[[Mapping[str, int]], str],
    ) -> None:
        self._node, self._settings, self._pages, self._metrics = node, settings, pages, metrics
        self._etags = {path: f'"{hashlib.sha256(p.body).hexdigest()[:16]}"' for path, p in pages.items()}
        self._peers: set[_Peer] = set()
        self._strangers: OrderedDict[ServerConnection, None] = OrderedDict()
        self._n_delayed = 0
        self._failures: Counter[str] = Counter()
        self._n_opened = 0
        self._flush_handle: asyncio.TimerHandle | None = None
        self._flushed_s = 0.0
        self._server: Server | None = None
        self.counted: Counter[str] = Counter()
        """What was refused, and why; and connections, frames and bytes."""

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Begin to listen; returns the port."""
        settings = self._settings
        context = None
        if settings.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*settings.tls)
        try:
            self._server = await serve(
                self._talk,
                settings.host,
                settings.port,
                ssl=context,
                subprotocols=SUBPROTOCOLS,  # type: ignore[arg-type]
                process_request=self._process_request,
                compression=None,  # a frame that inflates a thousandfold cannot be sent
                max_size=MAX_CLIENT_FRAME_BYTES,
                max_queue=16,
                write_limit=WRITE_LIMIT_BYTES,
                open_timeout=OPEN_LIMIT_S,
                server_header=None,
                create_connection=self._connection,  # type: ignore[arg-type]
            )
        except OSError as error:
            said = (
                f"port {settings.port} of {settings.host} cannot be used ({error.strerror}): choose another"
            )
            raise EngineStateError(said) from error
        self._node.board.on_change.append(lambda delta: self.flush_soon())
        return next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Tell all clients that the node stops, and close."""
        for peer in list(self._peers):
            peer.session.close_code = peer.session.close_code or CloseCode.STOPPING
            peer.wake.set()
        if self._server:
            await asyncio.sleep(PACK_S)
            self._server.close(code=CloseCode.STOPPING, reason="the node stops")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 2.0)

    def _connection(self, *args: Any, **kwargs: Any) -> ServerConnection:
        return _Watched(self._arrived, self._left, *args, **kwargs)

    def _arrived(self, connection: ServerConnection) -> None:
        """Count a connection from its first byte on, so that half-open handshakes are bounded too."""
        self.counted["connections"] += 1
        self._strangers[connection] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest, _ = self._strangers.popitem(last=False)
            self.counted["refused_stranger"] += 1
            oldest.transport.abort()

    def _left(self, connection: ServerConnection) -> None:
        self._strangers.pop(connection, None)

    # -- http ---------------------------------------------------------------------------------------------

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to a request that is no websocket's, or the refusal of one that is."""
        gate, headers = self._settings.gate, request.headers
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or not gate.lets_host_in(hosts[0]):
            return self._refuse("host", HTTPStatus.MISDIRECTED_REQUEST, "this host name is not the node's")
        if len(origins) > 1 or not gate.lets_origin_in(origins[0] if origins else None, hosts[0]):
            return self._refuse("origin", HTTPStatus.FORBIDDEN, "pages of other sites may not steer the node")
        if "upgrade" not in headers.get("Connection", "").lower():
            return self._page(request)
        offered = {p.strip() for line in headers.get_all("Sec-WebSocket-Protocol") for p in line.split(",")}
        if not offered & set(SUBPROTOCOLS):
            said = f"ask for a subprotocol: {' or '.join(SUBPROTOCOLS)}"
            return self._refuse("subprotocol", HTTPStatus.BAD_REQUEST, said)
        return None

    def _refuse(self, why: str, status: HTTPStatus, said: str) -> Response:
        self.counted[f"refused_{why}"] += 1
        return _response(status, "text/plain; charset=utf-8", f"{said}\n".encode())

    def _page(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return _response(HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n")
        if path == "/metrics":
            text = self._metrics(self.counted | {"clients": len(self._peers)})
            return _response(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", text.encode())
        path = "/index.html" if path == "/" else path
        page = self._pages.get(path)
        if page is None:
            return self._refuse("page", HTTPStatus.NOT_FOUND, "there is no such page")
        extra = {"ETag": self._etags[path], "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == self._etags[path]:
            return _response(HTTPStatus.NOT_MODIFIED, page.content_type, b"", extra)
        return _response(HTTPStatus.OK, page.content_type, page.body, extra)

    # -- websocket ----------------------------------------------------------------------------------------

    async def _talk(self, connection: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        self._n_opened += 1
        codec = Codec(connection.subprotocol or SUBPROTOCOLS[0])
        session = ServerSession(
            self._node, codec, f"c{self._n_opened}", loop.time(), needs_token=self._settings.needs_token
        )
        peer = _Peer(connection, session)
        session.wake = self.flush_soon
        self._peers.add(peer)
        sender = asyncio.create_task(self._send(peer))
        late = loop.call_later(IDENTIFY_LIMIT_S, self._tick, peer)
        try:
            async for frame in connection:
                self.counted["frames_in"] += 1
                await self._take_frame(peer, frame)
        except ConnectionClosed as closed:
            self.counted["closed_oddly"] += 1
            if closed.sent and closed.sent.code == 1009:
                self.counted["refused_too_big"] += 1
        finally:
            late.cancel()
            sender.cancel()
            self._peers.discard(peer)
            self._left(connection)
            if peer.timer:
                peer.timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender
            self._node.forget(session.client.client_id)

    async def _take_frame(self, peer: _Peer, frame: str | bytes) -> None:
        session, was = peer.session, peer.session.is_identified
        session.receive(frame, asyncio.get_running_loop().time())
        if session.has_wrong_token:
            await self._punish(peer)
        if session.is_identified and not was:
            self._left(peer.connection)
            n_clients = sum(p.session.is_identified for p in self._peers)
            if n_clients > self._settings.max_clients:
                self.counted["refused_too_many"] += 1
                session.close_code = CloseCode.TOO_MANY_CLIENTS
            self._set_timer(peer)
        if session.close_code is not None or not was:
            peer.wake.set()
        else:
            self.flush_soon()

    async def _punish(self, peer: _Peer) -> None:
        """Let a wrong token wait, longer each time it comes from the same address."""
        self.counted["refused_token"] += 1
        address = str((peer.connection.remote_address or ("",))[0])
        n = self._failures[address]
        self._failures[address] += 1
        if len(self._failures) > 1_000:
            self._failures.clear()
        if self._n_delayed < MAX_DELAYED:
            self._n_delayed += 1
            try:
                await asyncio.sleep(FAILED_TOKEN_DELAYS_S[min(n, len(FAILED_TOKEN_DELAYS_S) - 1)])
            finally:
                self._n_delayed -= 1

    def _tick(self, peer: _Peer) -> None:
        peer.session.tick(asyncio.get_running_loop().time())
        if peer.session.close_code is not None:
            self.counted["refused_unidentified"] += 1
            peer.wake.set()

    def tell(self, event: Event) -> None:
        """Send an event to all who want events."""
        for peer in self._peers:
            peer.session.tell(event)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Wake all who have something to be told, at most once every PACK_S."""
        if self._flush_handle is None:
            loop = asyncio.get_running_loop()
            at_s = max(loop.time(), self._flushed_s + PACK_S)
            self._flush_handle = loop.call_at(at_s, self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        now_s = self._flushed_s = asyncio.get_running_loop().time()
        for peer in self._peers:
            if peer.session.has_news(now_s):
                peer.wake.set()

    def _set_timer(self, peer: _Peer) -> None:
        """Wake the peer when its next meters are due."""
        if peer.timer:
            peer.timer.cancel()
            peer.timer = None
        if (due_s := peer.session.due_s) != float("inf"):
            peer.timer = asyncio.get_running_loop().call_at(due_s, peer.wake.set)

    async def _send(self, peer: _Peer) -> None:
        """Send what a session has, until it closes; only here a connection waits for its client."""
        loop, connection, session = asyncio.get_running_loop(), peer.connection, peer.session
        peer.wake.set()  # hello
        try:
            while True:
                await peer.wake.wait()
                peer.wake.clear()
                frames = session.take(loop.time())
                async with asyncio.timeout(SEND_LIMIT_S):
                    for frame in frames:
                        await connection.send(frame)
                self.counted["frames_out"] += len(frames)
                if session.close_code is not None:
                    self.counted[f"closed_{session.close_code.name.lower()}"] += 1
                    await connection.close(
                        session.close_code, session.close_code.name.lower().replace("_", " ")
                    )
                    return
                self._set_timer(peer)
        except TimeoutError:
            self.counted["closed_too_slow"] += 1
            session.close_code = CloseCode.TOO_SLOW
            with contextlib.suppress(InvalidState):  # the client is closing already
                connection.protocol.send_close(CloseCode.TOO_SLOW, "too slow")
            connection.transport.abort()
        except ConnectionClosed:
            return


class _Watched(ServerConnection):
    """A connection that tells when it comes and goes, also where no handshake ever ends."""

    def __init__(
        self,
        on_arrival: Callable[[ServerConnection], None],
        on_leaving: Callable[[ServerConnection], None],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._on_arrival, self._on_leaving = on_arrival, on_leaving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell that a connection has come."""
        super().connection_made(transport)
        self._on_arrival(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that a connection has gone."""
        self._on_leaving(self)
        super().connection_lost(exc)


def _response(
    status: HTTPStatus, content_type: str, body: bytes, extra: Mapping[str, str] | None = None
) -> Response:
    headers = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"})
    for name, value in {**SECURITY_HEADERS, **(extra or {})}.items():
        headers[name] = value
    return Response(status, status.phrase, headers, body)
