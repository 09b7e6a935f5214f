"""Promise 3 for the separator: measured latency is declared latency, to the sample."""

import numpy as np
import pytest
from fake_separator import FakeSeparator, OneStem
from small_profile import write_small_profile

from stemrack.latency.impulse import impulse_latency
from stemrack.rt.separate import load_separator


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("at", [2000, 2048, 2175])
def test_measured_is_declared(tmp_path_factory, at, block):
    profile, toml, weights = write_small_profile(tmp_path_factory.mktemp("profile"))
    separator = load_separator(str(toml), "torch-cpu", weights)
    assert separator.latency_samples == profile.windows.synthesis_samples - profile.windows.hop
    assert impulse_latency(separator, at=at, n_hops=24, block=block) == separator.latency_samples


def test_a_wrong_declaration_shows():
    class Late(OneStem):
        def step(self, x, state):
            y, state = super().step(x, state)
            return np.roll(y, 1, axis=-1), state

    assert impulse_latency(FakeSeparator(), at=3000, n_hops=12) == FakeSeparator.latency_samples
    assert impulse_latency(Late(), at=3000, n_hops=12) == FakeSeparator.latency_samples + 1
