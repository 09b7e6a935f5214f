"""One port for everything: the protocol on websockets, the page, /healthz and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.http11 import Request, Response
from websockets.protocol import State

from ..errors import ConfigError, EngineStateError
from .auth import Gate
from .codec import MAX_CLIENT_FRAME_BYTES, SUBPROTOCOLS, Codec
from .messages import CloseCode, Delta, Event
from .protocol import IDENTIFY_LIMIT_S, Node, ServerSession
from .site import SECURITY_HEADERS, Answer, Page, Site, plain

PACK_S = 0.01
"""Changes within it travel in one frame: one frame a change to 50 clients kept up with 1060 a second only."""
SEND_LIMIT_S = 5.0
"""A client that takes nothing for so long is cut off."""
CLOSE_LIMIT_S = 2.0
"""A client that does not answer the end of its connection for so long is hung up on."""
WRITE_LIMIT_BYTES = 32_768
SEND_BUFFER_BYTES = 65_536
"""Of the system, for each client: without it megabytes of old levels wait for a client that stalls."""
TURN_FRAMES = 64
"""After so many frames who sent the last gets its answers, and the others have their turn."""
MAX_CLIENTS = 64
MAX_STRANGERS = 128
"""Connections that have not identified, handshakes included; the oldest makes room for the newest."""
FAILED_TOKEN_DELAYS_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
MAX_DELAYED = 32
"""Wrong tokens that are made to wait at a time; more are turned away at once."""
MAX_ADDRESSES = 1_000
"""Of wrong tokens that are remembered; after that all are forgotten."""
OPEN_LIMIT_S = 10.0
BROKEN = {1002: "refused_malformed", 1007: "refused_malformed", 1009: "refused_too_big"}
"""What is counted by the code with which a frame that is none of RFC 6455's ends a connection."""


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
        self.wake, self.is_free = asyncio.Event(), asyncio.Event()
        self.is_free.set()
        self.timer: asyncio.TimerHandle | None = None
        self.delay_s = 0.0

    @property
    def is_client(self) -> bool:
        """Whether it takes one of the places."""
        is_open = self.connection.state is State.OPEN and self.session.close_code is None
        return is_open and self.session.is_identified


class ControlServer:
    """Speaks the protocol with many clients.  Thread: all of it in one event loop.

    Raises: EngineStateError from `start` if the port is taken; ConfigError if the files for TLS are wrong.
    """

    def __init__(
        self,
        node: Node,
        settings: ServerSettings,
        pages: Mapping[str, Page],
        metrics: Callable[[Mapping[str, int]], str],
    ) -> None:
        self._node, self._settings = node, settings
        self._site = Site(
            pages, self._count_refusal, lambda: metrics({**self.counted, "clients": self._n_clients})
        )
        self._peers: set[_Peer] = set()
        self._strangers: OrderedDict[ServerConnection, None] = OrderedDict()
        self._changed: Callable[[Delta], None] = lambda delta: self.flush_soon()
        self._n_delayed = 0
        self._failures: Counter[str] = Counter()
        self._n_opened = 0
        self._flush_handle: asyncio.TimerHandle | None = None
        self._flushed_s = 0.0
        self._server: Server | None = None
        self.counted: Counter[str] = Counter()
        """What was refused, and why; and connections, frames and answers."""

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Begin to listen; returns the port."""
        settings = self._settings
        try:
            self._server = await serve(
                self._talk,
                settings.host,
                settings.port,
                ssl=_tls_context(*settings.tls) if settings.tls else None,
                select_subprotocol=self._select_subprotocol,  # type: ignore[arg-type]
                process_request=self._process_request,
                process_response=self._process_response,
                compression=None,  # a frame that inflates a thousandfold cannot be sent
                max_size=MAX_CLIENT_FRAME_BYTES,
                max_queue=16,
                write_limit=WRITE_LIMIT_BYTES,
                open_timeout=OPEN_LIMIT_S,
                server_header=None,
                create_connection=self._connection,  # type: ignore[arg-type]
            )
        except OSError as error:
            where = f"port {settings.port} of {settings.host}"
            raise EngineStateError(f"{where} cannot be used ({_reason(error)}): choose another") from error
        self._node.board.on_change.append(self._changed)
        return next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Tell all clients that the node stops, and close; who does not answer is hung up on."""
        if self._server is None:
            return
        self._node.board.on_change.remove(self._changed)
        for peer in self._peers:
            peer.session.close_code = peer.session.close_code or CloseCode.STOPPING
            peer.wake.set()
        for connection in [c for c in self._strangers if c.state is State.CONNECTING]:
            connection.transport.abort()
        await asyncio.sleep(PACK_S)
        self._server.close(code=CloseCode.STOPPING, reason="the node stops")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), CLOSE_LIMIT_S)
        for connection in [*self._strangers, *(p.connection for p in self._peers)]:
            connection.transport.abort()
        await self._server.wait_closed()
        self._server = None

    def _connection(self, *args: Any, **kwargs: Any) -> ServerConnection:
        connection = _Watched(*args, **kwargs)
        connection.on_arrival, connection.on_leaving = self._arrived, self._left
        return connection

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
        if connection.request is None:
            self.counted["refused_half_open"] += 1

    # -- http ---------------------------------------------------------------------------------------------

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the answer to a request that is no websocket's, or the refusal of one that is."""
        gate, headers = self._settings.gate, request.headers
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or not gate.lets_host_in(hosts[0]):
            return self._refuse("host", HTTPStatus.MISDIRECTED_REQUEST, "this host name is not the node's")
        if len(origins) > 1 or not gate.lets_origin_in(origins[0] if origins else None, hosts[0]):
            return self._refuse("origin", HTTPStatus.FORBIDDEN, "pages of other sites may not steer the node")
        if "upgrade" in ",".join(headers.get_all("Connection")).lower():
            return None
        known = headers.get_all("If-None-Match")
        return _response(self._site.answer(request.method, request.path, known))

    def _process_response(self, connection: ServerConnection, request: Request, response: Response) -> None:
        self.counted[f"http_{response.status_code}"] += 1
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers.update(SECURITY_HEADERS)

    def _select_subprotocol(self, connection: ServerConnection, offered: Sequence[str]) -> str:
        """Return the first of the client's that is known."""
        for subprotocol in offered:
            if subprotocol in SUBPROTOCOLS:
                return subprotocol
        self.counted["refused_subprotocol"] += 1
        raise NegotiationError(f"ask for a subprotocol: {' or '.join(SUBPROTOCOLS)}")

    def _refuse(self, why: str, status: HTTPStatus, said: str) -> Response:
        self._count_refusal(why)
        return _response(plain(status, said))

    def _count_refusal(self, why: str) -> None:
        self.counted[f"refused_{why}"] += 1

    # -- websocket ----------------------------------------------------------------------------------------

    async def _talk(self, connection: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        self._n_opened += 1
        codec = Codec(connection.subprotocol or SUBPROTOCOLS[0])
        session = ServerSession(
            self._node, codec, f"c{self._n_opened}", loop.time(), needs_token=self._settings.needs_token
        )
        connection.close_timeout = CLOSE_LIMIT_S
        peer = _Peer(connection, session)
        session.wake = self.flush_soon
        self._peers.add(peer)
        sender = asyncio.create_task(self._send(peer))
        sender.add_done_callback(lambda task: task.cancelled() or connection.transport.abort())
        late = loop.call_later(IDENTIFY_LIMIT_S + PACK_S, self._tick, peer)
        try:
            async for frame in connection:
                self.counted["frames_in"] += 1
                self._take_frame(peer, frame)
                if self.counted["frames_in"] % TURN_FRAMES == 0:
                    peer.wake.set()
                    await asyncio.sleep(0)
                await peer.is_free.wait()  # who does not take answers is not listened to
        except ConnectionClosed as closed:
            if session.close_code is None:
                word = None if closed.rcvd_then_sent else closed.sent
                self.counted[BROKEN.get(word.code if word else 0, "closed_oddly")] += 1
        finally:
            late.cancel()
            sender.cancel()
            if peer.timer:
                peer.timer.cancel()
            self._peers.discard(peer)
            self._left(connection)
            self._node.forget(session.client.client_id)
            with contextlib.suppress(asyncio.CancelledError):
                await sender

    def _take_frame(self, peer: _Peer, frame: str | bytes) -> None:
        session, was = peer.session, peer.session.is_identified
        if session.close_code is not None:
            return
        session.receive(frame, asyncio.get_running_loop().time())
        if session.has_wrong_token:
            self._count_failure(peer)
        if session.is_identified and not was:
            if self._n_clients > self._settings.max_clients:
                self.counted["refused_too_many"] += 1
                session.close_code = CloseCode.TOO_MANY_CLIENTS  # and stays a stranger until it has gone
            else:
                self._left(peer.connection)
            self._set_timer(peer)
        if session.close_code is not None or not was:
            peer.wake.set()

    @property
    def _n_clients(self) -> int:
        return sum(p.is_client for p in self._peers)

    def _count_failure(self, peer: _Peer) -> None:
        """Choose how long a wrong token waits: longer each time one comes from the same address."""
        self.counted["refused_token"] += 1
        address = str((peer.connection.remote_address or ("",))[0])
        peer.delay_s = FAILED_TOKEN_DELAYS_S[min(self._failures[address], len(FAILED_TOKEN_DELAYS_S) - 1)]
        self._failures[address] += 1
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.clear()

    async def _delay(self, delay_s: float) -> None:
        if self._n_delayed < MAX_DELAYED:
            self._n_delayed += 1
            try:
                await asyncio.sleep(delay_s)
            finally:
                self._n_delayed -= 1

    def _tick(self, peer: _Peer) -> None:
        has_ended = peer.session.close_code is not None
        peer.session.tick(asyncio.get_running_loop().time())
        if peer.session.close_code is not None and not has_ended:
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
            while session.close_code is None:
                await peer.wake.wait()
                peer.wake.clear()
                if peer.delay_s:
                    await self._delay(peer.delay_s)
                frames = session.take(loop.time())
                peer.is_free.clear()
                try:
                    async with asyncio.timeout(SEND_LIMIT_S):
                        for frame in frames:
                            await connection.send(frame)
                except TimeoutError:
                    session.close_code = CloseCode.TOO_SLOW
                peer.is_free.set()
                self.counted["frames_out"] += len(frames)
                self._set_timer(peer)
            word = session.close_code.name.lower()
            self.counted[f"closed_{word}"] += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):  # time to read up to the reason
                    await connection.close(session.close_code, word.replace("_", " "))
        except ConnectionClosed:
            return
        finally:
            peer.is_free.set()


class _Watched(ServerConnection):
    """A connection that tells when it comes and goes, also where no handshake ever ends."""

    on_arrival: Callable[[ServerConnection], None]
    on_leaving: Callable[[ServerConnection], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell that a connection has come."""
        super().connection_made(transport)
        plug = transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.on_arrival(self)

    def pause_writing(self) -> None:
        """Stop to read, too: pings are answered at once, and the pongs of a flood would pile up."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on to read, unless frames wait to be taken."""
        super().resume_writing()
        if not self.recv_messages.paused:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that a connection has gone."""
        self.on_leaving(self)
        super().connection_lost(exc)


def _tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # a locked key must not ask at the terminal
    except OSError as error:
        reason = error.strerror or error
        said = f"{certificate}, {key}: no certificate and its key without a password ({reason})"
        raise ConfigError(f"{said}: name others, or none") from error
    return context


def _reason(error: OSError) -> str:
    """Return what is wrong, without the address, which asyncio puts into its text."""
    return os.strerror(error.errno) if error.errno else str(error)


def _response(answer: Answer) -> Response:
    return Response(answer.status, answer.status.phrase, Headers(answer.headers), answer.body)
