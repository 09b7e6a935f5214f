"""Waking another process from the callback: the one place where the systems' semaphores differ."""

from __future__ import annotations

import sys
from typing import Any

from ..models.jit import njit
from .atomics import external, types

if sys.platform == "win32":  # pragma: no cover  (not tried: see README, Status)
    _release = external("ReleaseSemaphore", types.int32(types.intp, types.int32, types.intp))

    @njit
    def post(handle: int) -> None:
        """Add one to a semaphore.  Thread: any, never waits."""
        _release(handle, 1, 0)

else:
    _post = external("sem_post", types.int32(types.intp))

    @njit
    def post(handle: int) -> None:
        """Add one to a semaphore.  Thread: any, never waits."""
        _post(handle)


def address_of(semaphore: Any) -> int:
    """Return what `post` takes, valid in this process only, of a multiprocessing semaphore."""
    return int(semaphore._semlock.handle)
