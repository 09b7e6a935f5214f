"""The drift follower between two simulated clocks: no real time passes, every run is the same."""

import numpy as np
import pytest

from stemrack.models.jit import njit
from stemrack.rt import drift

RATE_HZ = 44100
CAPACITY = 1 << 17
TARGET = 2048
LEVEL = 0.5

POSITION, WRITTEN, LOST, N_BLOCKS, N_CALLS, NEWEST, RESUMED = range(7)
"""Of `clocks`: engine position; samples in the ring; samples that the other device threw away; its blocks and
the engine's; engine time of the newest block; engine time at which a stalled device came back."""


@njit(cache=False)
def play(clocks, ring, state, ratio, size, angle, late, blocks, heard, fills, errors):
    """Fill `heard`; returns how many samples were missing. A ratio of 0: the other device is stalled."""
    begin, n_missing, call = clocks[POSITION], 0, 0
    mask = ring.shape[1] - 1
    while clocks[POSITION] - begin < heard.shape[1]:
        at = np.int64(clocks[POSITION] - begin)
        n = min(blocks[np.int64(clocks[N_CALLS]) % len(blocks)], heard.shape[1] - at)
        while ratio > 0.0:
            due = (clocks[WRITTEN] + clocks[LOST] + size) / ratio
            due += late[np.int64(clocks[N_BLOCKS]) % len(late)]
            if due > clocks[POSITION]:
                break
            for i in range(np.int64(clocks[WRITTEN]), np.int64(clocks[WRITTEN]) + size):
                ring[0, i & mask] = ring[1, i & mask] = LEVEL * np.sin(angle * i)
            clocks[WRITTEN] += size
            clocks[N_BLOCKS] += 1
            clocks[NEWEST] = max(due, clocks[RESUMED])
        age_samples = min(4410.0, clocks[POSITION] - clocks[NEWEST])
        n_missing += drift.follow_into(ring, np.int64(clocks[WRITTEN]), age_samples, state, heard[:, at:], n)
        fills[call], errors[call] = state[drift.SLOW], state[drift.ERROR]
        call += 1
        clocks[POSITION] += n
        clocks[N_CALLS] += 1
    return n_missing, call


class TwoDevices:
    """An engine that listens to a sine of another device, whose clock is `ppm` faster."""

    def __init__(self, ppm=0.0, size=480, blocks=(256,), frequency_hz=1000.0, target=TARGET, late=(0.0,)):
        self.ratio, self.size, self.frequency_hz = 1.0 + 1e-6 * ppm, size, frequency_hz
        self.blocks, self.late = np.array(blocks, np.int64), np.array(late, np.float64)
        self.ring = np.zeros((2, CAPACITY), np.float32)
        self.state, self.clocks = np.zeros(16), np.zeros(7)
        drift.start_follower(self.state, target, RATE_HZ)
        self.fills = self.errors = np.zeros(0)
        self.n_missing = 0

    def play(self, seconds, stalled=False):
        """Return what the engine heard (2, n); fills, errors and n_missing are those of this stretch."""
        heard = np.full((2, round(seconds * RATE_HZ)), np.nan, np.float32)
        fills, errors = np.zeros((2, heard.shape[1] // min(self.blocks) + 2))
        angle = 2.0 * np.pi * self.frequency_hz / RATE_HZ
        self.n_missing, n_calls = play(
            self.clocks,
            self.ring,
            self.state,
            0.0 if stalled else self.ratio,
            self.size,
            angle,
            self.late,
            self.blocks,
            heard,
            fills,
            errors,
        )
        self.fills, self.errors = fills[:n_calls], errors[:n_calls]
        return heard

    def resume(self, backlog):
        """The stalled device comes back, with all that it missed or without it."""
        self.clocks[RESUMED] = self.clocks[POSITION]
        if not backlog:
            due = self.clocks[POSITION] * self.ratio - self.clocks[WRITTEN] - self.clocks[LOST]
            self.clocks[LOST] += max(0.0, due)


def snr_db(x, frequency_hz):
    """Return level and signal-to-noise ratio of a sine near a frequency, both in dB, by least squares."""
    t = (np.arange(x.size) - x.size / 2) / RATE_HZ
    omega = 2.0 * np.pi * frequency_hz
    for _ in range(4):  # the tangent in omega, until it stands still
        s, c = np.sin(omega * t), np.cos(omega * t)
        (a, b, d, e), *_ = np.linalg.lstsq(np.stack([s, c, t * s, t * c], 1), x.astype(float), rcond=None)
        omega += (a * e - b * d) / (a * a + b * b)
    s, c = np.sin(omega * t), np.cos(omega * t)
    (a, b), *_ = np.linalg.lstsq(np.stack([s, c], 1), x.astype(float), rcond=None)
    power, rest = (a * a + b * b) / 2.0, np.mean((x - a * s - b * c) ** 2)
    return 10.0 * np.log10(2.0 * power / LEVEL**2), 10.0 * np.log10(power / rest)
