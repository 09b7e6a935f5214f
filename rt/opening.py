"""Finds, tries, opens and closes devices, by orders to the audio process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from .atomics import load
from .audio import DeviceChoice, Resolved
from .block import N_CALLBACKS, Block
from .child import wait_until
from .errors import EngineStateError
from .stream import StreamPlan
from .supervisor import AudioWatch, Supervisor

STREAM_LIMIT_S = 10.0


class Opener:
    """The devices of an engine; lock: the supervisor's.  Thread: any but that which ticks the supervisor.

    Raises: EngineStateError, with what the audio process said of the device, or if it says nothing.
    """

    def __init__(self, block: Block, supervisor: Supervisor, lock: threading.RLock) -> None:
        self._block, self._supervisor, self._lock = block, supervisor, lock

    @property
    def _audio(self) -> AudioWatch:
        return self._supervisor.audio

    def _tell(self, order: str, *given: object) -> None:
        with self._lock:
            self._audio.tell(order, *given)

    def resolved(self, devices: DeviceChoice) -> Resolved:
        """Return the devices that are meant, and what they can do."""
        self._tell("resolve", devices)
        wait_for(lambda: self._audio.resolved or self._audio.error, STREAM_LIMIT_S, "looking for the devices")
        if not self._audio.resolved:
            raise EngineStateError(self._audio.error or "the audio process gave no answer")
        return self._audio.resolved

    def surveyed(self, devices: DeviceChoice, resolved: Resolved, plan: StreamPlan) -> Resolved:
        """Return what was resolved with the blocks that the device really gives; it is tried for a moment."""
        if devices.block_samples:
            return replace(resolved, block_samples=devices.block_samples)
        self._tell("survey", _choice(devices, resolved, plan), plan)
        wait_for(lambda: self._audio.surveyed or self._audio.error, STREAM_LIMIT_S, "trying the device")
        surveyed: tuple[int, int] | None = self._audio.surveyed
        if surveyed is None:
            raise EngineStateError(self._audio.error or "the audio process gave no answer")
        smallest, largest = surveyed
        return replace(resolved, block_samples=largest if smallest == largest else 0, largest_block=largest)

    def open(self, devices: DeviceChoice, resolved: Resolved, plan: StreamPlan) -> None:
        """Open the stream and wait for its first block."""
        room = self._block.delay_room
        if plan.delay_samples > room:
            said = f"the delay of {plan.delay_samples} samples has no room in this node, which has {room}"
            raise EngineStateError(f"{said}: take out what is that late")
        first = load(self._block.words, N_CALLBACKS)
        self._tell("open", _choice(devices, resolved, plan), plan)
        wait_for(
            lambda: self._audio.state == "running" or self._audio.error, STREAM_LIMIT_S, "opening the device"
        )
        if self._audio.error:
            raise EngineStateError(self._audio.error)
        wait_for(
            lambda: load(self._block.words, N_CALLBACKS) > first, STREAM_LIMIT_S, "the device's first block"
        )

    def close(self) -> None:
        """Fade out and close the stream, if there is one."""
        with self._lock:
            if self._audio.state != "running":
                return
            self._audio.tell("stop")
        wait_for(lambda: self._audio.state != "stopping", STREAM_LIMIT_S, "closing the device")


def _choice(devices: DeviceChoice, resolved: Resolved, plan: StreamPlan) -> DeviceChoice:
    return replace(
        devices,
        input=resolved.input if plan.n_in_channels else None,
        output=resolved.output,
        rate_hz=plan.rate_hz,
    )


def wait_for(done: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until `done`.  Raises: EngineStateError when that takes longer than `timeout_s`."""
    wait_until(lambda: bool(done()), lambda: None, timeout_s, what)
