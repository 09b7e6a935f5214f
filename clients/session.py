"""A connection to a node that heals itself: its state mirrored, requests, streams of what happens.

async with Session("http://127.0.0.1:8137/#token=...") as session:
    await session.set("stem/vocals/gain_db", -6.0, ramp_ms=500)
    async for change in session.changes():
        print(change)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from weakref import WeakSet

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from ..rt.control.codec import JSON, Codec, ProtocolError
from ..rt.control.messages import (
    NO_RETRY,
    VERSIONS,
    Adjust,
    Counters,
    Delta,
    Deltas,
    Described,
    Error,
    ErrorCode,
    Event,
    Hello,
    Identify,
    Meters,
    RecallScene,
    Reply,
    Resume,
    ServerMessage,
    Set,
    Snapshot,
    Subscribe,
    Subscriptions,
    Value,
)
from ..rt.control.protocol import ClientSession
from .address import find_address
from .errors import ConnectionLost, NoConnection, Refused, RequestRefused, SessionError
from .requests import Requests
from .streams import Stream, Take, newest_events, newest_meters, whole_frames, whole_state

__all__ = ["Adjust", "Delta", "RecallScene", "Session", "Set", "Snapshot", "Subscriptions"]

LONGEST_WAIT_S = 5.0
"""Between two tries; the n-th try in a row waits n seconds, and never longer."""
OPEN_LIMIT_S = 10.0
READY_LIMIT_S = 15.0
"""From the handshake to the state: longer than a wrong token is made to wait for its answer."""
ALIVE_S = 5.0
"""Between two signs of life; a node that owes one for twice as long counts as gone."""
MAX_FRAME_BYTES = 16 * 2**20
METERS_HZ = 30.0
_CLOSED = "the session is closed: open another"
_TOLD = (Snapshot, Deltas, Meters, Counters, Event)


class Session(Requests):
    """A node as a client sees it.  Thread: all of it in one event loop.

    `async with` connects; raises NoConnection, ConnectionLost or Refused if that does not work. Later the
    session connects again by itself, and goes on where it was: `values` stays a true copy of the node's
    state, old while `state` is not "ready". What is asked meanwhile raises ConnectionLost.

    url, token: as in `find_address`. ca_file: certificate of a node that signed its own. is_patient: enter
    at once, and try until a node is there (`ready` waits for it). reconnects: whether a broken connection is
    made again.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        name: str = "stemrack python",
        subscribe: Subscriptions | None = None,
        encoding: str = JSON,
        ca_file: Path | None = None,
        is_patient: bool = False,
        reconnects: bool = True,
    ) -> None:
        self.address = find_address(url, token)
        self._codec, self._name, self._ca_file = Codec(encoding), name, ca_file
        self._is_patient, self._reconnects = is_patient, reconnects
        self._subscriptions = subscribe or Subscriptions()
        self._core: ClientSession | None = None
        self._socket: ClientConnection | None = None
        self._waiting: dict[int, asyncio.Future[Reply | Described]] = {}
        self._streams: WeakSet[Stream[Any]] = WeakSet()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._over: SessionError | None = None
        self._told: SessionError | None = None
        self._n_tries, self._was_ready = 0, False
        self.state = "new"
        """new, connecting, ready, waiting (to try again) or closed."""
        self.trouble = ""
        """Why there is no connection, for people; empty while there is one."""
        self.counters: dict[str, int] = {}
        """What the node last counted, if `subscribe` asked for it."""
        self.on_message: list[Callable[[ServerMessage], None]] = []
        """Called with each message after the mirror has followed it; must return at once."""

    # -- life ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Session:
        self._task = asyncio.create_task(self._keep_connected())
        is_open = self._is_patient
        try:
            if not is_open:
                await self.ready()
                is_open = True
        finally:
            if not is_open:  # refused, or cancelled: nothing may stay open
                await self.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def ready(self) -> None:
        """Wait until the mirror shows the node's state.  Raises: SessionError if that will not be."""
        while self.state != "ready":
            if self._over is not None:
                raise self._over
            self._settled.clear()
            await self._settled.wait()

    async def close(self) -> None:
        """End the connection and all streams."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error  # of a function in on_message
        self._finish(ConnectionLost(_CLOSED), told=None)

    async def _keep_connected(self) -> None:
        try:
            await self._connect_again_and_again()
        finally:
            self._finish(ConnectionLost(_CLOSED), told=None)

    async def _connect_again_and_again(self) -> None:
        while True:
            self.state = "connecting"
            try:
                await self._connection()
            except SessionError as error:
                self._n_tries += 1
                self._fail_requests(error)
                may_retry = self._reconnects if self._was_ready else self._is_patient
                if isinstance(error, Refused) or not may_retry:
                    self._finish(error, told=error)
                    return
                self.state, self.trouble = "waiting", str(error)
            await asyncio.sleep(min(self._n_tries, LONGEST_WAIT_S))

    async def _connection(self) -> None:
        """Hold one connection as long as it lasts.  Raises: SessionError, always."""
        socket = await self._open()
        identify = Identify(
            versions=VERSIONS,
            client=self._name,
            token=self.address.token,
            subscribe=self._subscriptions,
            resume=Resume(epoch=self.epoch, revision=self.revision) if self.epoch else None,
        )
        self._core, self._socket = ClientSession(self._codec, identify, self._core), socket
        try:
            async with asyncio.timeout(READY_LIMIT_S) as limit:
                while True:
                    self._receive(await socket.recv(), self._core)
                    if self.state == "ready":
                        continue
                    await self._flush(self._core, socket)
                    if self._core.is_ready:
                        limit.reschedule(None)
                        self._become_ready()
        except TimeoutError as error:
            said = f"{self._where} does not answer: is it a stemrack node, and does it still run?"
            raise NoConnection(said) from error
        except ConnectionClosed as closed:
            raise _error_of(closed, self._where) from closed
        except ProtocolError as error:
            if error.code == ErrorCode.NO_COMMON_VERSION:
                raise Refused(error.code, error.message) from error
            self._core.epoch = ""  # ask for the whole state, which mends a mirror that missed something
            raise ConnectionLost(f"{self._where} broke the protocol: {error}") from error
        finally:
            self.state, self._socket = "waiting", None
            await socket.close()

    def _become_ready(self) -> None:
        self.state, self.trouble = "ready", ""
        self._n_tries, self._was_ready = 0, True
        self._settled.set()

    async def _open(self) -> ClientConnection:
        context = self._tls() if self.address.is_secure else None
        try:
            return await connect(
                self.address.websocket_url,
                ssl=context,
                subprotocols=cast(Any, [self._codec.subprotocol]),
                compression=None,
                proxy=None,
                open_timeout=OPEN_LIMIT_S,
                close_timeout=1.0,
                ping_interval=ALIVE_S,
                ping_timeout=2.0 * ALIVE_S,
                max_size=MAX_FRAME_BYTES,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            said = (error.response.body or b"").decode(errors="replace").strip()[:200]
            if 400 <= status < 500:
                raise Refused(status, said or f"{self._where} is no stemrack node") from error
            raise NoConnection(f"{self._where} answers with HTTP {status}: try later") from error
        except ssl.SSLCertVerificationError as error:
            said = f"{self._where} has a certificate that is not trusted here: name it with --ca-file"
            raise NoConnection(said) from error
        except TimeoutError as error:
            raise NoConnection(f"{self._where} does not answer: is the address right?") from error
        except (OSError, InvalidHandshake) as error:
            number = getattr(error, "errno", None) or 0
            own = getattr(error, "strerror", None) or str(error) or type(error).__name__
            why = os.strerror(number) if number > 0 else own
            said = f"no node at {self._where} ({why}): start `stemrack run`, or give its address"
            raise NoConnection(said) from error

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise NoConnection(f"{self._ca_file}: is no certificate ({error}): name the node's") from error

    def _receive(self, frame: str | bytes, core: ClientSession) -> None:
        message = core.receive(frame)
        if isinstance(message, Hello) and message.token and not self.address.token:
            said = "it wants a token: give the address with #token=... as the node prints it"
            raise Refused(ErrorCode.WRONG_TOKEN, said)
        if isinstance(message, Reply | Described | Error):
            self._answered(message)
        elif isinstance(message, Counters):
            self.counters = message.values
        for told in self.on_message:
            told(message)
        if isinstance(message, _TOLD):
            for stream in list(self._streams):
                stream.put(message)

    def _answered(self, message: Reply | Described | Error) -> None:
        if isinstance(message, Error) and self.state != "ready":  # to identify: another try gets the same
            raise Refused(message.code, message.message)
        future = self._waiting.pop(message.id, None) if message.id is not None else None
        if future is None or future.done():
            return
        if isinstance(message, Error):
            future.set_exception(RequestRefused(message.code, message.name, message.path, message.message))
        else:
            future.set_result(message)

    def _fail_requests(self, error: SessionError) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(f"no answer came before the connection broke: {error}"))
        self._waiting.clear()

    def _finish(self, error: SessionError, told: SessionError | None) -> None:
        if self._over is None:
            self._over, self._told, self.trouble = error, told, str(error)
            self._fail_requests(error)
            for stream in list(self._streams):
                stream.end(told)
        self.state = "closed"
        self._settled.set()

    @property
    def _where(self) -> str:
        return self.address.websocket_url

    # -- the mirror ---------------------------------------------------------------------------------------

    @property
    def values(self) -> Mapping[str, Value]:
        """The node's state by path, as far as it is known here; not to be written to."""
        return self._core.values if self._core else {}

    @property
    def revision(self) -> int:
        """Of `values`."""
        return self._core.revision if self._core else 0

    @property
    def epoch(self) -> str:
        """Of this life of the node; empty before the first snapshot."""
        return self._core.epoch if self._core else ""

    @property
    def client_id(self) -> str:
        """Origin of this session's own changes, since it last connected."""
        return self._core.client_id if self._core else ""

    @property
    def role(self) -> str:
        """What the token allows: viewer, operator or admin."""
        return self._core.role if self._core else ""

    @property
    def server_name(self) -> str:
        """Name and version of the node."""
        return self._core.server_name if self._core else ""

    # -- requests (see Requests) -------------------------------------------------------------------------

    async def subscribe(
        self, *, meters_hz: float | None = None, counters_hz: float | None = None, events: bool | None = None
    ) -> None:
        """Choose what comes beside the state, also after a reconnection; None: as it was."""
        was = self._subscriptions
        wanted = Subscriptions(
            meters_hz=was.meters_hz if meters_hz is None else meters_hz,
            counters_hz=was.counters_hz if counters_hz is None else counters_hz,
            events=was.events if events is None else events,
        )
        await self._ask(Subscribe, subscribe=wanted)
        self._subscriptions = wanted

    async def _ask(self, kind: Callable[..., Any], **fields: Any) -> Reply | Described:
        core, socket = self._core, self._socket
        if self.state != "ready" or core is None or socket is None:
            raise ConnectionLost(f"there is no connection now: {self.trouble or self.state}")
        request_id = core.request(kind, **fields)
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            with contextlib.suppress(ConnectionClosed):  # whoever reads notices too, and fails the future
                await self._flush(core, socket)
            return await future
        finally:
            self._waiting.pop(request_id, None)

    @staticmethod
    async def _flush(core: ClientSession, socket: ClientConnection) -> None:
        frames, core.outgoing = core.outgoing, []
        for frame in frames:
            await socket.send(frame)

    # -- streams ------------------------------------------------------------------------------------------

    def changes(self) -> Stream[Delta | Snapshot]:
        """Give every change from now on, in order; a `Snapshot` stands for changes that were missed."""
        return self._stream(whole_state(self.snapshot))

    def messages(self) -> Stream[ServerMessage]:
        """Give all that comes and answers no request: Snapshot, Deltas, Meters, Counters, Event."""
        return self._stream(whole_frames(self.snapshot))

    def meters(self, rate_hz: float | None = None) -> Stream[Meters]:
        """Give levels, the newest to a slow reader. rate_hz: none is what `subscribe` said, or else 30."""
        wanted_hz = rate_hz or self._subscriptions.meters_hz or METERS_HZ
        return self._stream(newest_meters, lambda: self._subscribe_when_ready(meters_hz=wanted_hz))

    def events(self) -> Stream[Event]:
        """Give xruns, late hops, worker restarts and the like as they happen."""
        return self._stream(newest_events, lambda: self._subscribe_when_ready(events=True))

    def _stream(self, take: Take, begin: Callable[[], Awaitable[None]] | None = None) -> Stream[Any]:
        stream: Stream[Any] = Stream(take, begin)
        self._streams.add(stream)
        if self._over is not None:
            stream.end(self._told)
        return stream

    async def _subscribe_when_ready(self, **wanted: Any) -> None:
        while True:
            await self.ready()
            with contextlib.suppress(ConnectionLost):
                return await self.subscribe(**wanted)

    def snapshot(self) -> Snapshot:
        """Return the state as it is here now."""
        return Snapshot(epoch=self.epoch, revision=self.revision, values=dict(self.values))


def _error_of(closed: ConnectionClosed, where: str) -> SessionError:
    """Return the error for a connection that ended, from the code it was closed with."""
    if closed.rcvd is None:
        return ConnectionLost(f"the connection to {where} broke")
    code, reason = closed.rcvd.code, closed.rcvd.reason or "without a reason"
    if code in NO_RETRY:
        return Refused(code, reason)
    return ConnectionLost(f"{where} closed the connection: {reason} (code {code})")
