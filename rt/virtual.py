"""A device without hardware: the native callback, called on arrays, on a clock of its own."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np

from .atomics import load
from .block import (
    ACTIVE_WORKER,
    EPOCH,
    HOP,
    N_IN_CHANNELS,
    N_OUT_CHANNELS,
    POSITION,
    RATE_HZ,
    READY,
    WORKER_EPOCH,
    WORKER_PHASE,
    WORKER_POSITION,
    WORKER_SHIFT,
    Block,
)
from .callback import callback

_FLOATS = ctypes.POINTER(ctypes.c_float)
_WORDS = ctypes.POINTER(ctypes.c_int64)


class VirtualDevice:
    """Plays blocks of any size through the callback of a block.  Thread: one; the caller is the clock."""

    def __init__(self, block: Block, function: Any = callback) -> None:
        self._block, self._function = block, function
        self._words = ctypes.cast(block.address, _WORDS)

    def play(self, heard: np.ndarray, flags: int = 0) -> np.ndarray:
        """Return what goes to the outputs, (output channel, n), for what is heard, (input channel, n).

        flags: PortAudio's, of under- and overflows.
        """
        n = heard.shape[1]
        given = np.ascontiguousarray(heard[: self._block.words[N_IN_CHANNELS]].T, np.float32)
        out = np.empty((n, int(self._block.words[N_OUT_CHANNELS])), np.float32)
        self._function.ctypes(
            given.ctypes.data_as(_FLOATS), out.ctypes.data_as(_FLOATS), n, None, flags, self._words
        )
        return out.T


class VirtualClock:
    """Calls the callback at the pace of a clock: what runs where there is no device.

    waits: time stands still while the worker has a whole hop to do, so that nothing is ever late.
    A clock that was held up by more than a second goes on from now instead of hurrying.  Thread: one.
    """

    def __init__(
        self,
        block: Block,
        block_samples: int,
        *,
        pace: float = 1.0,
        waits: bool = False,
        function: Any = callback,
    ) -> None:
        self._block, self._n = block, block_samples
        self._device = VirtualDevice(block, function)
        self._heard = np.zeros((0, block_samples), np.float32)
        self._period_s = block_samples / int(block.words[RATE_HZ]) / pace
        self._waits = waits
        self._due_s = time.monotonic()

    def run_due(self) -> float:
        """Play the blocks that are due; returns seconds until the next one."""
        now = time.monotonic()
        if now - self._due_s > 1.0:
            self._due_s = now
        while self._due_s <= now:
            if self._waits and not self._worker_is_done():
                return 0.001
            self._device.play(self._heard)
            self._due_s += self._period_s
        return max(0.0, self._due_s - time.monotonic())

    def _worker_is_done(self) -> bool:
        w = self._block.words
        for which in (0, 1):
            at = which * WORKER_SHIFT
            if load(w, ACTIVE_WORKER) != which and load(w, at + WORKER_PHASE) != READY:
                continue
            if load(w, at + WORKER_EPOCH) != load(w, EPOCH):
                return False
            if load(w, POSITION) - load(w, at + WORKER_POSITION) >= w[HOP]:
                return False
        return True
