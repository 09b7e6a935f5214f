"""The audio process: opens the stream whose callback is native, and does nothing else.

It holds nothing that matters. The node kills it when callbacks cease (PortAudio can hang for ever in stop and
close once its server has died) and spawns it anew.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Literal

from .atomics import load, store
from .awake import keep_awake
from .block import (
    AUDIO_HEARTBEAT_NS,
    AUDIO_PHASE,
    EPOCH,
    FADED,
    INPUT_FROM_CAPTURE,
    LARGEST_BLOCK,
    N_CALLBACKS,
    N_CLIPPED,
    N_XRUNS,
    NO_BLOCK,
    READY,
    SHUTDOWN_AUDIO,
    SMALLEST_BLOCK,
    STOPPING,
    WORKER_EPOCH,
    WORKER_PHASE,
    Block,
    Geometry,
    of_worker,
)
from .callback import callback, capture
from .errors import DeviceError
from .heartbeat import beat, begin_child, end_process, node_is_gone
from .measuring import control, probe
from .stream import StreamPlan, begin_stream
from .virtual import VirtualClock
from .wake import address_of

POLL_S = 0.05
RETRY_S = 0.2
"""Between two looks for a device that is not there."""
FADE_LIMIT_S = 0.5
SURVEY_LIMIT_S = 2.0
WORKER_LIMIT_S = 0.5
SURVEY_CALLBACKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """The devices wanted, by name or index. output None: the virtual clock; input None: no input device."""

    input: str | int | None = "default"
    output: str | int | None = "default"
    rate_hz: int = 0
    """0: the output device's own."""
    block_samples: int = 0
    """0: as the device likes, and it may change."""
    latency: Literal["low", "high"] | float = "low"
    pace: float = 1.0
    """Virtual clock only: times real time."""
    function: Literal["engine", "control", "probe"] = "engine"
    """The callback: the real one, or one of `measuring`."""
    keeps_awake: bool = False
    """Whether the processors are kept from sleeping (`awake`) once a stream was opened."""
    waits: bool = False
    """Virtual clock only: time stands still while the worker has a hop to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The devices found: names to find them by again, channels, the stream's rate."""

    input: str | None
    output: str | None
    n_inputs: int
    n_outputs: int
    rate_hz: int
    separate_input: bool
    block_samples: int = 0
    """What the device gives, 0 if it changes; known once it has been surveyed."""
    largest_block: int = 0


FUNCTIONS = {"engine": callback, "control": control, "probe": probe}
AUTO = "auto"
"""As an output: the default device, or the virtual clock where there is none."""
VIRTUAL_CHANNELS = 8
VIRTUAL_BLOCK = 256


def resolve(choice: DeviceChoice) -> Resolved:
    """Return what the wanted devices are.  Raises: DeviceError if one is not there.

    PortAudio is loaded here and not before: on the virtual clock nothing of it can hang.
    """
    if choice.output is None:
        rate = choice.rate_hz or 44_100
        return Resolved(
            input=None,
            output=None,
            n_inputs=0,
            n_outputs=VIRTUAL_CHANNELS,
            rate_hz=rate,
            separate_input=False,
            block_samples=choice.block_samples or VIRTUAL_BLOCK,
        )
    from .device import find_device

    try:
        output = find_device("default" if choice.output == AUTO else choice.output, "output")
    except DeviceError:
        if choice.output != AUTO:
            raise
        return resolve(replace(choice, output=None))
    given = None if choice.input is None else find_device(choice.input, "input")
    return Resolved(
        input=given.name if given else None,
        output=output.name,
        n_inputs=given.n_inputs if given else 0,
        n_outputs=output.n_outputs,
        rate_hz=choice.rate_hz or round(output.rate_hz),
        separate_input=given is not None and given.index != output.index,
    )


def address_of_function(compiled: Any) -> int:
    """Return where a native callback begins in this process."""
    return int(compiled.address)


class _Streams:
    """The open stream, or the two of separate devices, or the virtual clock."""

    def __init__(self, block: Block, choice: DeviceChoice, plan: StreamPlan, semaphore_address: int) -> None:
        self.clock: VirtualClock | None = None
        self._block = block
        self._streams: list[Any] = []
        if choice.output is None:
            begin_stream(block, plan, semaphore_address)
            self.clock = VirtualClock(
                block,
                choice.block_samples or VIRTUAL_BLOCK,
                pace=choice.pace,
                waits=choice.waits,
                function=FUNCTIONS[choice.function],
            )
            return
        from .device import StreamSpec, find_device, open_stream

        output = find_device(choice.output, "output")
        given = None if choice.input is None else find_device(choice.input, "input")
        spec = StreamSpec(
            input=given.index if given else None,
            output=output.index,
            rate_hz=plan.rate_hz,
            block_samples=choice.block_samples,
            n_inputs=plan.n_in_channels,
            n_outputs=plan.n_out_channels,
            latency=choice.latency,
        )
        self.origin = begin_stream(block, plan, semaphore_address)
        if plan.input_source == INPUT_FROM_CAPTURE:
            heard = replace(spec, output=None)
            self._streams.append(open_stream(heard, address_of_function(capture), block.address))
            spec = replace(spec, input=None)
        self._streams.append(
            open_stream(spec, address_of_function(FUNCTIONS[choice.function]), block.address)
        )

    def start(self) -> None:
        """Start the stream once the worker has made itself ready for it; without one, at once."""
        w = self._block.words
        stop = time.monotonic() + WORKER_LIMIT_S
        phase, epoch = of_worker(w, WORKER_PHASE), of_worker(w, WORKER_EPOCH)
        while load(w, phase) == READY and load(w, epoch) != load(w, EPOCH):
            if time.monotonic() > stop:
                break
            time.sleep(0.002)
        for stream in self._streams:
            stream.start()

    @property
    def reported_latency_ms(self) -> Any:
        return self._streams[-1].reported_latency_ms if self._streams else None

    def stop(self) -> None:
        """Fade out, then close what still calls back; what does not is left to the process's end."""
        w = self._block.words
        store(w, STOPPING, 1)
        stop = time.monotonic() + FADE_LIMIT_S
        seen, moved = load(w, N_CALLBACKS), time.monotonic()
        while load(w, FADED) == 0 and time.monotonic() < stop:
            if self.clock:
                self.clock.run_due()
            time.sleep(0.002)
            if load(w, N_CALLBACKS) != seen:
                seen, moved = load(w, N_CALLBACKS), time.monotonic()
        if not self.clock and time.monotonic() - moved > FADE_LIMIT_S / 2:
            raise DeviceError("stream", "its callbacks have ceased: not closing it")
        for stream in reversed(self._streams):
            stream.stop()
            stream.close()


def _survey(block: Block, choice: DeviceChoice, plan: StreamPlan) -> tuple[int, int]:
    """Return the smallest and the largest block that a device gives in a moment of silence."""
    w = block.words
    streams = _Streams(block, choice, plan, 0)
    store(w, STOPPING, 1)
    w[SMALLEST_BLOCK], w[LARGEST_BLOCK] = NO_BLOCK, 0
    first = load(w, N_CALLBACKS)
    streams.start()
    stop = time.monotonic() + SURVEY_LIMIT_S
    while load(w, N_CALLBACKS) < first + SURVEY_CALLBACKS and time.monotonic() < stop:
        beat(block, AUDIO_HEARTBEAT_NS)
        time.sleep(0.005)
    if load(w, N_CALLBACKS) == first:
        raise DeviceError("stream", "is open but does not call back: is the device in use elsewhere?")
    streams.stop()
    w[N_XRUNS : N_CLIPPED + 1] = 0  # nobody was waiting for its sound
    return int(w[SMALLEST_BLOCK]), int(w[LARGEST_BLOCK])


class _AudioLoop:
    """Answers the node's commands and keeps the heartbeat."""

    def __init__(self, block: Block, semaphore: Any, commands: Connection) -> None:
        self._block, self._semaphore, self._commands = block, semaphore, commands
        self._streams: _Streams | None = None
        self._wanted: tuple[DeviceChoice, StreamPlan] | None = None
        self._next_try = 0.0

    def run(self) -> None:
        """Return once the node is gone or asks for the end."""
        while not node_is_gone(self._block, SHUTDOWN_AUDIO):
            beat(self._block, AUDIO_HEARTBEAT_NS)
            clock = self._streams.clock if self._streams else None
            told = self._commands.poll(clock.run_due() if clock else POLL_S)
            if told and not self._obey(*self._commands.recv()):
                break
            if self._wanted and time.monotonic() >= self._next_try:
                self._try_again()
        if self._streams:
            self._streams.stop()

    def _obey(self, order: str, *given: Any) -> bool:
        if order == "end":
            return False
        try:
            if order == "resolve":
                self._commands.send(("resolved", resolve(given[0])))
            elif order == "survey":
                self._commands.send(("surveyed", _survey(self._block, *given)))
            elif order == "open":
                self._open(*given)
            elif order == "wait":  # for a device that was lost
                self._wanted = (given[0], given[1])
            elif order == "stop" and self._streams:
                self._streams.stop()
                self._streams = None
                self._commands.send(("stopped", None))
        except DeviceError as error:
            self._commands.send(("failed", str(error)))
        return True

    def _open(self, choice: DeviceChoice, plan: StreamPlan) -> None:
        if choice.keeps_awake:
            keep_awake()
        streams = _Streams(self._block, choice, plan, address_of(self._semaphore))
        streams.start()
        self._streams, self._wanted = streams, None
        self._commands.send(("opened", streams.reported_latency_ms))

    def _try_again(self) -> None:
        assert self._wanted
        try:
            if self._wanted[0].output is not None:
                from .device import refresh

                refresh()
            self._open(*self._wanted)
        except DeviceError:
            self._next_try = time.monotonic() + RETRY_S


def run_audio(raw: Any, geometry: Geometry, semaphore: Any, commands: Connection) -> None:
    """Be the audio process until the node asks for the end or is gone.  Process: its own; never returns."""
    begin_child()
    block = Block(raw, geometry)
    beat(block, AUDIO_HEARTBEAT_NS)
    try:
        store(block.words, AUDIO_PHASE, READY)
        _AudioLoop(block, semaphore, commands).run()
    except (EOFError, BrokenPipeError):  # the node has gone
        end_process(0)
    finally:
        if sys.exc_info()[0] is not None:
            block.say(1, traceback.format_exc().strip().splitlines()[-1])
            print(traceback.format_exc(), file=sys.stderr, flush=True)
        end_process(1 if sys.exc_info()[0] is not None else 0)
