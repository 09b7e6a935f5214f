"""Nonsense through the sessions: only errors of the protocol come out, and bad frames change nothing."""

import pytest
from control_fuzz import Fuzz


def assert_was_wild(counted, n_frames):
    """All kinds of frames were there, and they reached every kind of check."""
    assert counted["frames to the server"] + counted["frames to a client"] == n_frames
    for code in (100, 101, 102, 200, 203, 204, 300, 301, 302, 303, 305, 400):
        assert any(name.startswith(f"error {code} ") for name in counted), code
    assert any(name.startswith("close 4002 ") for name in counted)
    assert counted["carried out, with a change"] > n_frames // 100


def test_frames_of_nonsense():
    assert_was_wild(Fuzz(seed=20).run(20_000), 20_000)


@pytest.mark.slow
def test_a_million_frames_of_nonsense():
    assert_was_wild(Fuzz(seed=1_000_000).run(1_000_000), 1_000_000)
