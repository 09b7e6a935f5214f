"""Replay: the mix that was heard live, rendered again from the file and the log of its fader moves.

The callback and the worker's loop are those of the live engine, on an array in place of a device; the blocks
are cut where faders moved. So what comes out is what was heard, bit for bit, as long as nothing was late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .block import Geometry, make_block, slot_hop
from .chain_builder import ChainBuilder
from .chains import chains_of
from .control_log import ControlLog
from .effect_builtin import BUILT_IN
from .effect_table import Effects
from .effects import Rack
from .errors import InputError
from .files import AudioSink, AudioSource, SinkFormat
from .limiter import limiter_latency
from .meters import counters
from .params import ParameterWriter
from .pipeline import Separator
from .stream import StreamPlan, begin_stream
from .virtual import VirtualDevice
from .worker import HopLoop

BLOCK_SAMPLES = 64
"""Short enough for every delay that a live stream can have had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay gave; n_late_hops is 0 unless the log's delay is too short for its hop."""

    target: Path
    n_samples: int
    n_moves: int
    n_late_hops: int


def replay(
    source: Path,
    log: ControlLog,
    separator: Separator,
    target: Path,
    sink_format: SinkFormat | None = None,
    on_progress: Callable[[float], None] = lambda audio_s: None,
    effects: Effects = Effects(table=BUILT_IN),
) -> ReplayReport:
    """Return the report of the mix written to `target`: as long as the source, its delay taken off.

    effects: what the log's chains are made of.
    Raises: InputError if the source is of another rate than the log, or if the profile or chains were
    changed in it; ConfigError for chains that cannot be made; OutputError.
    """
    if log.profiles:
        change = log.profiles[0]
        at_s = (change.position - log.origin) / log.rate_hz
        said = f"the control log changes the profile to {change.profile} at {at_s:.3f} s"
        raise InputError(source, f"{said}: only one with a single profile can be replayed")
    if log.chain_edits:
        at_s = (log.chain_edits[0] - log.origin) / log.rate_hz
        said = f"the control log changes effect chains at about {at_s:.1f} s"
        raise InputError(source, f"{said}: only one whose chains stay can be replayed")
    sink_format = sink_format or SinkFormat(subtype="float32")
    with AudioSource(source) as heard:
        if heard.rate_hz != log.rate_hz:
            raise InputError(
                source, f"has {heard.rate_hz} Hz, the control log {log.rate_hz}: convert it first"
            )
        player = _Player(log, separator, effects)
        with AudioSink(target, heard.rate_hz, 2, heard.n_samples, sink_format) as sink:
            for block in heard.blocks():
                x = np.repeat(block, 2, axis=0) if block.shape[0] == 1 else block
                sink.write(player.play(x))
                on_progress(block.shape[1] / heard.rate_hz)
            sink.write(player.finish())
            sink.finish()
            sink.commit()
    return ReplayReport(
        target=target, n_samples=player.n_out, n_moves=len(log.entries), n_late_hops=player.n_late_hops
    )


class _StillRack:
    """Gives the hop loop a rack whose chains stay."""

    def __init__(self, rack: Rack) -> None:
        self._rack = rack

    def rack_at(self, rate_hz: int) -> Rack:
        """Return the rack, at its beginning."""
        self._rack.restart()
        return self._rack


class _Player:
    """The engine's callback and worker, taking turns."""

    def __init__(self, log: ControlLog, separator: Separator, effects: Effects) -> None:
        self._block = make_block(Geometry.for_separator(separator.hop))
        begin_stream(
            self._block,
            StreamPlan(
                rate_hz=log.rate_hz,
                delay_samples=log.delay_samples,
                start_ramp_samples=log.start_ramp_samples,
                limiter_samples=log.limiter_samples,
            ),
        )
        rack = Rack(slot_hop(separator.hop), log.rate_hz)
        builder = ChainBuilder(rack, effects.table, effects.impulses, slow_share=math.inf)
        builder.begin(1, chains_of(effects.table, log.chains))
        self._device = VirtualDevice(self._block)
        self._worker = HopLoop(self._block, separator, effects=_StillRack(rack))
        self._writer = ParameterWriter(self._block, log.rate_hz)
        self._moves = [(position - log.origin, state) for position, state in log.entries]
        self._grid = math.gcd(BLOCK_SAMPLES, slot_hop(separator.hop))
        self._late = log.delay_samples + limiter_latency(log.limiter_samples)
        self._to_drop = self._late
        self._at = 0
        self.n_out = 0

    def play(self, x: np.ndarray) -> np.ndarray:
        """Return what is heard while x (2, n) goes in, without the delay."""
        outs = [self._device_block(x[:, start:stop]) for start, stop in self._pieces(x.shape[1])]
        y = np.concatenate(outs, axis=1) if outs else np.zeros((2, 0), np.float32)
        dropped = min(self._to_drop, y.shape[1])
        self._to_drop -= dropped
        self.n_out += y.shape[1] - dropped
        return y[:, dropped:]

    def finish(self) -> np.ndarray:
        """Return the rest, as if silence followed."""
        return self.play(np.zeros((2, self._late), np.float32))

    @property
    def n_late_hops(self) -> int:
        """Hops whose stems were not there."""
        return counters(self._block)["late_hops"]

    def _pieces(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield the blocks of the next n samples: on a grid that divides the hop, cut at each move."""
        start = 0
        while start < n:
            while self._moves and self._moves[0][0] <= self._at:
                self._writer.set_target(self._moves.pop(0)[1])
            stop = start + self._grid - self._at % self._grid
            if self._moves:
                stop = min(stop, start + self._moves[0][0] - self._at)
            stop = min(stop, n)
            yield start, stop
            start = stop

    def _device_block(self, x: np.ndarray) -> np.ndarray:
        y = self._device.play(x)
        self._at += x.shape[1]
        self._worker.poll()
        self._writer.poll()
        return y
