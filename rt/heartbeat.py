"""How the processes of a node know of each other's life, how a child ends, and what systems differ in."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from .atomics import load, store
from .block import NODE_HEARTBEAT_NS, SHUTDOWN, Block

LIMIT_S = 2.0
"""A process whose heartbeat is older is taken for gone."""

_PRIORITY = 5
"""SCHED_RR priority of the worker: below the audio thread's (20 with `jackd -P 20`), above what is normal."""


_parent_pid: int | None = None


def age_s(block: Block, index: int) -> float:
    """Return the age of a heartbeat word in seconds (the monotonic clock is the same for all processes)."""
    return (time.monotonic_ns() - load(block.words, index)) / 1e9


def beat(block: Block, index: int) -> None:
    """Store the present moment in a heartbeat word."""
    store(block.words, index, time.monotonic_ns())


def node_is_gone(block: Block, level: int) -> bool:
    """Return whether a child is to end: SHUTDOWN came to its level, or the node was silent for LIMIT_S.

    Also where the process is gone that it came from: the node takes it for dead then, and starts another.
    """
    told = load(block.words, SHUTDOWN) >= level or age_s(block, NODE_HEARTBEAT_NS) > LIMIT_S
    return told or (_parent_pid is not None and os.getppid() != _parent_pid)


def begin_child() -> None:
    """Leave Ctrl-C to the node, a terminal sends it to all processes; remember where this one came from."""
    global _parent_pid
    _parent_pid = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_process(code: int) -> None:
    """End this process at once: no library gets the chance to hang in its clean-up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def realtime_priority(*, of_all_threads: bool = False) -> bool:
    """Return whether this process got real-time priority; where not, it tried for a higher normal one.

    of_all_threads: also of those that run already (Linux); else those that are started later inherit it.
    """
    if hasattr(os, "sched_setscheduler"):
        threads = os.listdir("/proc/self/task") if of_all_threads and sys.platform == "linux" else ["0"]
        try:
            for thread in threads:
                os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(_PRIORITY))
        except OSError:
            pass
        else:
            return True
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(-10)
    return False
