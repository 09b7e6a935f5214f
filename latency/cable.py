"""`stemrack measure`: the round trip of a device, by coded noise through a cable from output to input."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..rt.atomics import load, store
from ..rt.block import CAPTURE_WRITE, POSITION, RECORD_POSITION
from ..rt.engine import Engine, EngineSettings
from ..rt.errors import DeviceError
from ..rt.stream import StreamPlan
from ..rt.worker import WorkerSettings
from .loopback import LoopbackResult, find_delay, probe_signal
from .soak import SpinningSeparator

PROBE_S = 1.0
LONGEST_S = 1.5
"""Of a round trip that would still be found."""


def measure_cable(
    settings: EngineSettings,
    plan_for: Callable[..., StreamPlan],
    on_progress: Callable[[str], None] = lambda text: None,
) -> tuple[LoopbackResult, int]:
    """Return what came back through the cable, and the rate in Hz.

    settings: of an engine on the devices; its worker is replaced by one that does nothing.
    Raises: DeviceError, EngineStateError.
    """
    idle = WorkerSettings(load=SpinningSeparator(settings.hop, 0, 0.0), realtime=False)
    devices = replace(settings.devices, function="probe")
    with Engine(
        replace(settings, worker=idle, devices=devices, plan_for=plan_for, input_file=None)
    ) as engine:
        engine.start(on_progress)
        assert engine.resolved
        if not engine.resolved.input:
            raise DeviceError("input", "is none: a measurement needs an input; see `stemrack devices`")
        rate_hz = engine.resolved.rate_hz
        sent = probe_signal(rate_hz, PROBE_S)
        engine.stop_stream()
        engine.block.capture[0, : sent.size] = sent
        store(engine.block.words, CAPTURE_WRITE, sent.size)
        on_progress("playing a second of noise")
        engine.start_stream()
        wanted = round((PROBE_S + LONGEST_S) * rate_hz)
        stop = time.monotonic() + 2 * (PROBE_S + LONGEST_S) + 5.0
        while load(engine.block.words, RECORD_POSITION) < wanted:
            if time.monotonic() > stop:
                position = load(engine.block.words, POSITION)
                raise DeviceError("stream", f"stood still at sample {position}: is the device there?")
            time.sleep(0.02)
        heard = engine.block.record[0, :wanted].copy()
    return find_delay(sent, heard, rate_hz=rate_hz), rate_hz
