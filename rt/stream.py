"""What the callback must know of a stream before its first block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .atomics import store
from .block import (
    BUS_CHANNELS,
    BUSES,
    CAPTURE_READ,
    CAPTURE_WRITE,
    DELAY_SAMPLES,
    EPOCH,
    FADE_BEGIN,
    FADE_SAMPLES,
    FADED,
    HOP,
    IN_LEFT,
    IN_RIGHT,
    INPUT_FROM_CAPTURE,
    INPUT_FROM_DEVICE,
    INPUT_SOURCE,
    LAST_LATE,
    LIMITER_SAMPLES,
    METER_REQUEST,
    METER_SERVED,
    N_IN_CHANNELS,
    N_OUT_CHANNELS,
    NEXT_DELAY,
    NOWHERE,
    ORIGIN,
    POSITION,
    RATE_HZ,
    RECORD_POSITION,
    SEMAPHORE,
    START_RAMP_SAMPLES,
    STOP_BEGIN,
    STOPPED_NOWHERE,
    STOPPING,
    TO_WET,
    WET_BEGIN,
    WET_STATE,
    Block,
)
from .drift import start_follower

START_RAMP_MS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Rates, channels and delay of a stream. Channels count from 0; a bus that is not named is not played."""

    rate_hz: int
    delay_samples: int
    n_in_channels: int = 2
    n_out_channels: int = 2
    input_source: int = INPUT_FROM_DEVICE
    input_channels: tuple[int, int] = (0, 1)
    bus_channels: Mapping[str, tuple[int, int]] = field(default_factory=lambda: {"main": (0, 1)})
    start_ramp_samples: int | None = None
    """None: START_RAMP_MS."""
    limiter_samples: int = 0
    capture_target_samples: int = 2048
    """Fill of the capture ring that the drift follower keeps."""

    @property
    def ramp_samples(self) -> int:
        """Length of the ramps at the beginning and at the end."""
        if self.start_ramp_samples is None:
            return round(START_RAMP_MS * self.rate_hz / 1000.0)
        return self.start_ramp_samples


def begin_stream(block: Block, plan: StreamPlan, semaphore_address: int = 0) -> int:
    """Return the position where the stream begins, a hop border, after writing the plan into the block.

    Thread: whoever will open the stream; no callback may be running.
    """
    w = block.words
    hop = int(w[HOP])
    origin = -(-int(w[POSITION]) // hop) * hop
    w[ORIGIN] = origin
    w[RATE_HZ], w[DELAY_SAMPLES] = plan.rate_hz, plan.delay_samples
    w[NEXT_DELAY], w[FADE_BEGIN] = plan.delay_samples, NOWHERE
    w[N_IN_CHANNELS], w[N_OUT_CHANNELS] = plan.n_in_channels, plan.n_out_channels
    w[INPUT_SOURCE] = plan.input_source
    w[IN_LEFT], w[IN_RIGHT] = plan.input_channels
    for index, bus in enumerate(BUSES):
        at = BUS_CHANNELS + 2 * index
        w[at], w[at + 1] = plan.bus_channels.get(bus, (-1, -1))
    w[START_RAMP_SAMPLES], w[LIMITER_SAMPLES] = plan.ramp_samples, plan.limiter_samples
    w[SEMAPHORE] = semaphore_address
    w[WET_STATE], w[WET_BEGIN] = TO_WET, origin - plan.delay_samples - FADE_SAMPLES
    w[LAST_LATE] = origin - 1
    w[STOPPING], w[STOP_BEGIN], w[FADED] = 0, STOPPED_NOWHERE, 0
    w[METER_SERVED] = w[METER_REQUEST]
    if plan.input_source == INPUT_FROM_CAPTURE:
        w[CAPTURE_READ] = w[CAPTURE_WRITE] = 0
        start_follower(block.follower, plan.capture_target_samples, plan.rate_hz)
    block.limiter[:] = 0.0
    store(w, RECORD_POSITION, origin)
    store(w, POSITION, origin)
    store(w, EPOCH, int(w[EPOCH]) + 1)
    return origin
