"""A child process of the node, and the events that are told of children."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from typing import Any

from .errors import EngineStateError

REAP_S = 1.0

_LOADED_ONCE = ["stemrack.rt.worker", "stemrack.rt.audio", "stemrack.rt.separate"]
"""What children are made of.  Importing it opens no device and starts no thread but OpenBLAS's, which that
library ends before a fork and starts again when it needs them."""


def process_context() -> BaseContext:
    """Return how children are started: on Linux forked from one process that has our code loaded already.

    Importing it takes over a second, and after a worker's death that second would be played dry.  The server
    itself is spawned: it has none of the node's threads, locks and devices.  Elsewhere children are spawned.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED_ONCE)
    return context


def child_process(
    context: BaseContext, name: str, target: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """Return a process, not started yet, that has the environment which this one has now."""
    given = (dict(os.environ), target, arguments)
    return context.Process(target=_in_environment, args=given, name=name, daemon=True)  # type: ignore[attr-defined]


def _in_environment(
    environment: dict[str, str], target: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person would want to know: what, when (monotonic seconds), and its facts."""

    kind: str
    at_s: float
    facts: dict[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


class Child:
    """A process that is spawned, watched and, if need be, killed."""

    def __init__(self, spawn: Callable[[], Any]) -> None:
        self._spawn = spawn
        self.process: Any = None
        self.spawned_s = 0.0

    def start(self) -> None:
        """Spawn it."""
        self.process = self._spawn()
        self.process.start()
        self.spawned_s = time.monotonic()

    @property
    def pid(self) -> int | None:
        """Process id, until it is reaped."""
        process = self.process  # another thread may bury it meanwhile
        return process.pid if process is not None else None

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.is_alive()

    def kill(self) -> int | None:
        """Return the exit code once the process is gone and reaped; None: it hangs in the system still."""
        if self.process is None:
            return None
        self.process.kill()
        self.process.join(REAP_S)
        code = self.process.exitcode
        if code is not None:
            self.process.close()
            self.process = None
        return code

    def end(self, timeout_s: float) -> None:
        """Wait for a process that was asked to end, then make sure."""
        if self.process is not None:
            self.process.join(timeout_s)
            self.kill()


def wait_until(
    done: Callable[[], bool], tick: Callable[[], None], timeout_s: float, what: str, period_s: float = 0.005
) -> None:
    """Tick until `done`.  Raises: EngineStateError when that takes longer than `timeout_s`."""
    stop = time.monotonic() + timeout_s
    while not done():
        tick()
        if time.monotonic() > stop:
            raise EngineStateError(f"{what} took more than {timeout_s:g} s")
        time.sleep(period_s)
