"""A live engine in one process and one thread: virtual device, worker and control take turns."""

import math

import numpy as np
from fake_separator import FakeSeparator

from stemrack.rt.block import FADE_SAMPLES, Geometry, make_block
from stemrack.rt.meters import counters
from stemrack.rt.params import MixerState, ParameterWriter
from stemrack.rt.stream import StreamPlan, begin_stream
from stemrack.rt.virtual import VirtualDevice
from stemrack.rt.worker import HopLoop


def delay_for(hop, latency, blocks):
    """D of DESIGN 3, with the least allowance; `blocks` are the sizes that may come."""
    allowance = max(hop, max(blocks) + FADE_SAMPLES)
    first = hop - math.gcd(blocks[0], hop) if len(set(blocks)) == 1 else hop
    return first + latency + allowance


class LockStep:
    """Plays a signal through the callback in blocks of the given sizes, in turn."""

    def __init__(self, separator=None, *, blocks=(256,), delay=None, rate_hz=44_100, **plan):
        self.separator = separator or FakeSeparator()
        self.block = make_block(Geometry(hop=self.separator.hop))
        latency = self.separator.latency_samples
        self.delay = delay_for(self.separator.hop, latency, blocks) if delay is None else delay
        plan = {"start_ramp_samples": 0, "rate_hz": rate_hz, "delay_samples": self.delay} | plan
        self.plan = StreamPlan(**plan)
        begin_stream(self.block, self.plan)
        self.taken = []
        self.writer = ParameterWriter(self.block, rate_hz, lambda *taken: self.taken.append(taken))
        self.writer.set_target(MixerState())
        self.device = VirtualDevice(self.block)
        self.worker = HopLoop(self.block, self.separator)
        self.works = True
        self._sizes = self._turns(blocks)

    @staticmethod
    def _turns(blocks):
        while True:
            yield from blocks

    def play(self, x, before_block=lambda position: None):
        """Return what comes out while x goes in; the worker takes its turn after each block if it `works`."""
        outs, at = [], 0
        while at < x.shape[1]:
            n = min(next(self._sizes), x.shape[1] - at)
            before_block(at)
            outs.append(self.device.play(x[:, at : at + n]))
            if self.works:
                self.worker.poll()
            self.writer.poll()
            at += n
        return np.concatenate(outs, axis=1)

    @property
    def counters(self):
        return counters(self.block)


def music(n, seed=3):
    """Something with bass, tones and hits: (2, n) float32, peaks near 0.9."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 44_100
    tones = sum(
        np.sin(2 * np.pi * f * t + p) / k for k, (f, p) in enumerate([(82, 0), (220, 1), (331, 2)], 1)
    )
    hits = rng.standard_normal((2, n)) * np.exp(-((t * 4) % 1) * 20)
    x = np.stack([tones, np.roll(tones, 40)]) + 0.5 * hits
    return (0.9 * x / np.abs(x).max()).astype(np.float32)
