"""Separators without networks: they keep the engine's contract and cost next to nothing.

`FakeSeparator` splits by short causal filters with a state; its stems sum to the input, delayed.
`OneStem` gives the whole delayed mixture to one stem, which shows any misalignment.
"""

import os
import signal
import time

import numpy as np

HOP = 512
LATENCY = 512
N_TAPS = 24


def _taps(seed, decay):
    taps = np.random.default_rng(seed).standard_normal(N_TAPS) * decay ** np.arange(N_TAPS)
    return taps / np.abs(taps).sum()


class FakeSeparator:
    """Four stems by two filters, a mid signal and the rest."""

    hop = HOP
    latency_samples = LATENCY

    def __init__(self, gain=1.0):
        self.gain = gain
        self.n_steps = 0
        self.n_runs = 0
        self._filters = (_taps(1, 0.9), _taps(2, 0.6))

    def init_state(self):
        return {"past": np.zeros((2, LATENCY + N_TAPS - 1), np.float32)}

    def step(self, x, state):
        assert x.shape == (2, HOP)
        assert x.dtype == np.float32
        self.n_steps += 1
        return self._split(x, state), state

    def run(self, x, state):
        assert x.shape[1] % HOP == 0
        assert x.dtype == np.float32
        self.n_runs += 1
        return self._split(x, state), state

    def _split(self, x, state):
        n = x.shape[1]
        heard = np.concatenate([state["past"], x], axis=1)
        state["past"] = heard[:, n:].copy()
        late = heard[:, : n + N_TAPS - 1]
        delayed = late[:, N_TAPS - 1 :]
        drums, bass = (np.stack([np.convolve(row, taps, "valid") for row in late]) for taps in self._filters)
        vocals = np.repeat(delayed.mean(axis=0, keepdims=True), 2, axis=0) * 0.7
        # louder parts than the whole, as real stems can be: the rest makes up for it
        stems = np.stack([drums, bass, vocals]) * self.gain
        return np.insert(stems, 2, delayed - stems.sum(axis=0), axis=0).astype(np.float32)


class OneStem(FakeSeparator):
    """Everything in the last stem."""

    def _split(self, x, state):
        heard = np.concatenate([state["past"], x], axis=1)
        state["past"] = heard[:, x.shape[1] :].copy()
        stems = np.zeros((4, 2, x.shape[1]), np.float32)
        stems[3] = heard[:, N_TAPS - 1 : N_TAPS - 1 + x.shape[1]]
        return stems


class Deadly(FakeSeparator):
    """Kills its own process when it hears something louder than 0.9: what running out of memory does."""

    def _split(self, x, state):
        if np.abs(x).max() > 0.9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._split(x, state)


class Slow(FakeSeparator):
    """Takes its time, so that a test can interrupt it."""

    def _split(self, x, state):
        time.sleep(0.02)
        return super()._split(x, state)
