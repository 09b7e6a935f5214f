"""Processors kept from sleeping, for machines that wake them late.

A processor with nothing to do is halted. To wake it takes microseconds on most machines; where the host of a
virtual machine has given it away meanwhile, it takes longer than a block now and then, whatever the priority
of the thread that is waited for. So one thread for each processor does nothing all the time, at a priority
below everything else.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..models.jit import njit
from .atomics import load, pause, store
from .heartbeat import realtime_priority

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
ROUNDS = 64
"""Pauses between two looks at the words; a pause leaves the core to its other hardware thread."""
SLEEP_S = 0.002
BEGIN_LIMIT_S = 60.0
"""For compiling, the first time."""
SPINS, ENDS = 0, 1
"""Words: whether the loop has begun, and whether it shall end."""


@njit
def _spin(words: Any) -> None:
    store(words, SPINS, 1)
    while load(words, ENDS) == 0:
        for _ in range(ROUNDS):
            pause()


def why_not_awake() -> str:
    """Return why processors cannot be kept awake here; nothing where they can."""
    if sys.platform != "linux":
        return "only Linux has a priority below all others"
    if _has_quota():
        return "this container has a quota of processor time, and doing nothing would use it up"
    return ""


def _has_quota() -> bool:
    """Return whether the processor time of this process is limited: `cpu.max` of cgroup 2, or that of 1."""
    folders = [CGROUPS, CGROUPS / "cpu"]
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                own = CGROUPS / ("cpu" if controllers else "") / path.lstrip("/")
                folders += [own, *(p for p in own.parents if p.is_relative_to(CGROUPS))]
    for folder in folders:
        for name, unlimited in (("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")):
            with suppress(OSError):
                if (folder / name).read_text().split()[0] != unlimited:
                    return True
    return False


_awake: list[np.ndarray] = []


def keep_awake() -> int:
    """Return how many processors are kept awake, from now until this process ends.

    A second call changes nothing.  Thread: any but one of real-time priority; it may wait for the compiler.
    Other programs of normal priority go first only within the same group of the scheduler (`sched`(7)); what
    has real-time priority always does.
    """
    if not _awake and not why_not_awake():
        for processor in sorted(os.sched_getaffinity(0)):
            words = np.zeros(2, np.int64)
            if _is_spinning(words, processor):
                _awake.append(words)
    return len(_awake)


def _is_spinning(words: np.ndarray, processor: int) -> bool:
    """Start one thread.  Its priority is lowered when it needs Python no more, which others wait for."""
    thread = threading.Thread(target=_spin, args=(words,), name=f"stemrack-awake-{processor}", daemon=True)
    thread.start()
    stop = time.monotonic() + BEGIN_LIMIT_S
    while load(words, SPINS) == 0 and thread.is_alive() and time.monotonic() < stop:
        time.sleep(0.001)
    assert thread.native_id
    try:
        os.sched_setscheduler(thread.native_id, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(thread.native_id, {processor})
    except OSError:  # a sandbox that forbids it: at normal priority it would be in the way
        store(words, ENDS, 1)
        return False
    return True


def lateness_ms(n: int, *, keeps_awake: bool) -> tuple[float, float, float]:
    """Return how late n sleeps of 2 ms end in milliseconds: p50, p99 and the longest.

    With real-time priority where that is allowed.  Process: one of its own, whose priority it changes.
    """
    if keeps_awake:
        keep_awake()
    realtime_priority()
    late = np.zeros(n)
    for at in range(n):
        began = time.perf_counter()
        time.sleep(SLEEP_S)
        late[at] = 1e3 * (time.perf_counter() - began - SLEEP_S)
    p50, p99 = np.percentile(late, [50, 99])
    return float(p50), float(p99), float(late.max())
