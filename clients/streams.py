"""Messages of one kind, in order and in bounded memory, for `async for`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ..rt.control.messages import Deltas, Event, Meters, ServerMessage, Snapshot

T = TypeVar("T")
WAITING_CHANGES = 10_000
WAITING_EVENTS = 200

Take = Callable[[deque[T], ServerMessage], None]
"""Puts what a stream wants of a message into the queue, and keeps the queue short."""


class Stream(Generic[T]):
    """What `async for` gives from the moment the stream was made; it ends when the session is closed.

    Raises: Refused where the node does not want this client any more.  Thread: the session's loop.
    """

    def __init__(self, take: Take[T], begin: Callable[[], Awaitable[None]] | None = None) -> None:
        self._take, self._begin = take, begin
        self._waiting: deque[T] = deque()
        self._news = asyncio.Event()
        self._is_over = False
        self._trouble: Exception | None = None

    def put(self, message: ServerMessage) -> None:
        """Take a message of the session's."""
        self._take(self._waiting, message)
        if self._waiting:
            self._news.set()

    def end(self, trouble: Exception | None) -> None:
        """Let the stream end after what waits, with an error if there was trouble."""
        self._is_over, self._trouble = True, trouble
        self._news.set()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        if self._begin is not None and not self._is_over:
            await self._begin()
            self._begin = None
        while not self._waiting:
            if self._is_over:
                if self._trouble is not None:
                    raise self._trouble
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


def whole_state(current: Callable[[], Snapshot]) -> Take:
    """Return a `Take` of single changes: `Delta`s, and a `Snapshot` where there was a gap.

    A reader that is too slow finds one snapshot in place of more than WAITING_CHANGES changes.
    """

    def take(waiting: deque, message: ServerMessage) -> None:
        if isinstance(message, Deltas):
            waiting.extend(message.changes)
        elif isinstance(message, Snapshot):
            waiting.append(message)
        if len(waiting) > WAITING_CHANGES:
            waiting.clear()
            waiting.append(current())

    return take


def whole_frames(current: Callable[[], Snapshot]) -> Take:
    """Return a `Take` of all messages that answer no request; a slow reader finds a snapshot instead."""

    def take(waiting: deque, message: ServerMessage) -> None:
        waiting.append(message)
        if len(waiting) > WAITING_CHANGES:
            waiting.clear()
            waiting.append(current())

    return take


def newest_meters(waiting: deque[Meters], message: ServerMessage) -> None:
    """Keep one frame for a slow reader: it then has the highest level of each row since the last."""
    if not isinstance(message, Meters):
        return
    if waiting:
        before = waiting.pop().levels
        levels = {
            name: tuple(map(max, before.get(name, row), row))  # type: ignore[misc]
            for name, row in message.levels.items()
        }
        message = Meters(position=message.position, levels=levels)  # type: ignore[arg-type]
    waiting.append(message)


def newest_events(waiting: deque[Event], message: ServerMessage) -> None:
    """Keep the newest events for a slow reader."""
    if isinstance(message, Event):
        waiting.append(message)
        if len(waiting) > WAITING_EVENTS:
            waiting.popleft()
