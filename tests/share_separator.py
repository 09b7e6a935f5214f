"""Separators of any hop and latency whose stems are shares of the mixture: what is heard tells whose."""

import time

import numpy as np


class Shares:
    """Each stem is a share of the delayed mixture."""

    def __init__(self, hop, latency_samples, shares):
        self.hop, self.latency_samples = hop, latency_samples
        self.shares = np.array(shares, np.float32)

    def init_state(self):
        return {"past": np.zeros((2, self.latency_samples), np.float32)}

    def step(self, x, state):
        assert x.shape == (2, self.hop)
        heard = np.concatenate([state["past"], x], axis=1)
        state["past"] = heard[:, self.hop :].copy()
        return self.shares[:, None, None] * heard[None, :, : self.hop], state

    run = step


def live(shares=(0.5, 0.25, 0.125, 0.125)):
    return Shares(512, 512, shares)


def club():
    return Shares(1024, 3072, (0.125, 0.25, 0.5, 0.125))


def live_of_other_networks():
    return live((0.25, 0.125, 0.125, 0.5))


def broken():
    raise RuntimeError("weights that are none")


def sleepy():
    time.sleep(60)


class Short(Shares):
    """Raises once it has heard a second: it is warmed up and listens by then."""

    def step(self, x, state):
        self.n = getattr(self, "n", 0) + 1
        if self.n > 44_100 // self.hop:
            raise RuntimeError("enough heard")
        return super().step(x, state)

    run = step


class Slow(Shares):
    """Takes longer than a hop for those steps that `is_slow` names."""

    def __init__(self, is_slow, seconds):
        super().__init__(1024, 3072, (0.125, 0.25, 0.5, 0.125))
        self.is_slow, self.seconds, self.n = is_slow, seconds, 0

    def step(self, x, state):
        self.n += 1
        if self.is_slow(self.n):
            time.sleep(self.seconds)
        return super().step(x, state)

    run = step


def too_slow():
    return Slow(lambda n: True, 0.1)


def held_up_once():
    return Slow(lambda n: n == 20, 1.0)


def short_lived():
    return Short(1024, 3072, (0.25, 0.25, 0.25, 0.25))
