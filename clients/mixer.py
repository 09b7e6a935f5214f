"""A node's faders for programs that know nothing of asyncio.

with Mixer("http://127.0.0.1:8137/#token=...") as mixer:
    mixer.set("stem/vocals/gain_db", -6)
    mixer.set("stem/vocals/chain", "highpass_filter reverb")
    mixer.set("stem/vocals/fx/reverb/room_size", 0.8)
    print(mixer.values["stem/vocals/mute"])
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, TypeVar

from ..rt.control.messages import (
    Delta,
    Deltas,
    EffectInfo,
    Event,
    Meters,
    ParameterInfo,
    ServerMessage,
    Snapshot,
    Step,
    Value,
)
from .errors import ConnectionLost
from .session import Session

T = TypeVar("T")


class Mixer:
    """A `Session` in a thread of its own; its options are the session's. For use in a `with` block.

    Each call waits for the node's answer. Raises: RequestRefused if the node says no; ConnectionLost while
    there is no connection (it is made again by itself); on entering also NoConnection and Refused.
    Thread: any, several at a time.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._session = Session(url, **options)
        self._session.on_message.append(self._follow)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._values: Mapping[str, Value] = {}

    def __enter__(self) -> Mixer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stemrack-mixer", daemon=True)
        self._thread.start()
        is_open = False
        try:
            self._wait(self._session.__aenter__())
            is_open = True
        finally:
            if not is_open:
                self.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; nothing can be asked any more."""
        if self._loop is not None:
            try:
                self._wait(self._session.close())
            finally:
                self._stop()

    # -- state --------------------------------------------------------------------------------------------

    @property
    def values(self) -> Mapping[str, Value]:
        """The node's state by path, whole changes only; a later change makes a new mapping."""
        return self._values

    @property
    def session(self) -> Session:
        """What does the work; it belongs to the mixer's own thread, and may be looked at from others."""
        return self._session

    # -- requests, as in `Session` ------------------------------------------------------------------------

    def set(self, path: str, value: Value, ramp_ms: float | None = None) -> Value:
        """Set a parameter; returns the value in force."""
        return self._wait(self._session.set(path, value, ramp_ms))

    def adjust(self, path: str, by: float, ramp_ms: float | None = None) -> Value:
        """Move a number by a difference, within its range; returns the value in force."""
        return self._wait(self._session.adjust(path, by, ramp_ms))

    def get(self, *paths: str) -> dict[str, Value]:
        """Ask the node for values; no path: for all."""
        return self._wait(self._session.get(*paths))

    def batch(self, steps: Iterable[Step]) -> dict[str, Value]:
        """Carry out `Set`, `Adjust` and `RecallScene` in order and together, or none of them."""
        return self._wait(self._session.batch(steps))

    def store_scene(self, name: str, stems: Iterable[str] = ()) -> None:
        """Keep faders and chains under a name."""
        self._wait(self._session.store_scene(name, stems))

    def recall_scene(self, name: str, fade_ms: float = 0.0, stems: Iterable[str] = ()) -> dict[str, Value]:
        """Set faders and chains as they were stored; returns what is in force."""
        return self._wait(self._session.recall_scene(name, fade_ms, stems))

    def delete_scene(self, name: str) -> None:
        """Forget a scene."""
        self._wait(self._session.delete_scene(name))

    def learn(self, path: str = "") -> None:
        """Bind the next MIDI control that is moved to a parameter; no path ends the waiting."""
        self._wait(self._session.learn(path))

    def unlearn(self, path: str) -> None:
        """Take a parameter's MIDI controls away."""
        self._wait(self._session.unlearn(path))

    def describe(self) -> dict[str, ParameterInfo]:
        """Return what is known about each parameter, by path."""
        return self._wait(self._session.describe())

    def effects(self) -> dict[str, EffectInfo]:
        """Return what can be put into a chain, by its name there."""
        return self._wait(self._session.effects())

    def ping(self) -> float:
        """Return how long the node took to answer, in seconds."""
        return self._wait(self._session.ping())

    def subscribe(
        self, *, meters_hz: float | None = None, counters_hz: float | None = None, events: bool | None = None
    ) -> None:
        """Choose what comes beside the state; None: as it was."""
        self._wait(self._session.subscribe(meters_hz=meters_hz, counters_hz=counters_hz, events=events))

    def ready(self, timeout_s: float | None = None) -> None:
        """Wait for the connection, as after ConnectionLost.  Raises: TimeoutError."""
        self._wait(asyncio.wait_for(self._session.ready(), timeout_s))

    # -- streams ------------------------------------------------------------------------------------------

    def changes(self) -> Iterator[Delta | Snapshot]:
        """Give every change from now on, in order; a `Snapshot` stands for changes that were missed."""
        return self._each(self._session.changes)

    def meters(self, rate_hz: float | None = None) -> Iterator[Meters]:
        """Give levels as they come."""
        return self._each(lambda: self._session.meters(rate_hz))

    def events(self) -> Iterator[Event]:
        """Give xruns, late hops, worker restarts and the like as they happen."""
        return self._each(self._session.events)

    # -- between the threads ------------------------------------------------------------------------------

    def _follow(self, message: ServerMessage) -> None:
        if isinstance(message, Snapshot | Deltas):
            self._values = dict(self._session.values)

    def _each(self, make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Give what a stream gives; the stream begins now, not with the first item that is asked for."""

        async def begin() -> AsyncIterator[T]:
            return make()

        stream = self._wait(begin())

        async def following() -> T | None:
            return await anext(stream, None)

        def items() -> Iterator[T]:
            while (item := self._wait(following())) is not None:
                yield item

        return items()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what work in the mixer's thread gives; what interrupts the waiting ends the work too."""
        with self._lock:
            if self._loop is None:
                work.close()
                raise ConnectionLost("the mixer is not open: use it in a with block")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise ConnectionLost("the mixer has been closed meanwhile") from None
        finally:
            future.cancel()

    def _stop(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            return
        # whoever waits in another thread gets its answer before the loop stops
        asyncio.run_coroutine_threadsafe(_finish_tasks(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()


async def _finish_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
