"""The control server in a thread of its own beside the engine: start, address, stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from ..errors import HostError
from .auth import is_loopback
from .metrics import metrics_text
from .node import EngineNode
from .server import ControlServer, Page, ServerSettings

TICK_S = 0.1
START_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is. The token stands behind #, so that it is in no log and no Referer."""

    host: str
    port: int
    tls: bool

    def url(self, token: str = "") -> str:
        """Return the page's address.

        >>> Address("0.0.0.0", 8137, False).url("abc")
        'http://localhost:8137/#token=abc'
        """
        scheme = "https" if self.tls else "http"
        host = "localhost" if self.host in ("0.0.0.0", "::", "") else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{self.port}/{f'#token={token}' if token else ''}"


class ControlService:
    """Runs a `ControlServer` for a node.  Thread: its own; `start` and `stop` from any.

    Raises: EngineStateError from `start` if the port is taken; ConfigError if the files for TLS are wrong.
    """

    def __init__(self, node: EngineNode, settings: ServerSettings, pages: Mapping[str, Page]) -> None:
        self._node, self._settings = node, settings
        self.server = ControlServer(
            node, settings, pages, lambda counted: metrics_text(node.counters().values, counted)
        )
        self._thread = threading.Thread(target=self._run, name="stemrack-control", daemon=True)
        self._started: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    def start(self) -> Address:
        """Begin to listen; returns where."""
        self._thread.start()
        port = self._started.result(START_LIMIT_S)
        return Address(self._settings.host, port, self._settings.tls is not None)

    def stop(self) -> None:
        """Tell the clients, close, and end the thread."""
        if self._loop is not None and self._ending is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._ending.set)
        if self._thread.is_alive():
            self._thread.join()
        self._node.close()

    def post(self, call: Callable[[], None]) -> None:
        """Run a function in the control loop, soon; nothing happens once that has ended."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self._settings.host)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._node.post = self.post
        try:
            port = await self.server.start()
        except HostError as error:
            self._started.set_exception(error)
            return
        self._node.on_event.append(self.server.tell)
        self._started.set_result(port)
        try:
            while not self._ending.is_set():
                self._node.tick()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), TICK_S)
        finally:
            await self.server.stop()
