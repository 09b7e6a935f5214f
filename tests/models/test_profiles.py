"""Profiles: the shipped one, and every mistake in a file named with its key."""

from importlib import resources

import pytest

from stemrack.models.errors import SpecError
from stemrack.models.profiles import load_profile, parse_profile, profile_names

LIVE = (resources.files("stemrack.models.weights") / "live.toml").read_text()


def test_live_is_what_the_design_says():
    live = load_profile("live")
    assert (live.windows.analysis_samples, live.windows.synthesis_samples, live.windows.hop) == (
        4096,
        1024,
        512,
    )
    assert live.latency_samples == 512
    assert live.window_latency_ms == pytest.approx(23.22, abs=0.01)
    assert live.bands.n_bins == 2049
    assert live.member("xumx").config.n_in_bins == 3 * live.bands.n_bands
    assert live.member("xumx").config.directions == 1
    assert "live" in profile_names()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("hop = 512", "hop = 500", "hop must divide"),
        ("hop = 512", "hopp = 512", "hopp"),
        ("[wiener]", "[wieners]", "wieners"),
        ("forget_s = 2.0", "forget_s = 0", "forget_s must be above 0"),
        ("phases = 2", "phases = 0", "phases must be 1 or more"),
        ("share = 0.01", "share = 2", "share < 1"),
        ('name = "live"', 'name = "live', "is not TOML"),
    ],
)
def test_mistakes_are_named(old, new, says):
    assert old in LIVE
    with pytest.raises(SpecError, match=says):
        parse_profile(LIVE.replace(old, new), "mine.toml")


def test_unknown_names_list_what_there_is(tmp_path):
    with pytest.raises(SpecError, match="live"):
        load_profile("loud")
    with pytest.raises(SpecError, match="does not exist"):
        load_profile(str(tmp_path / "none.toml"))
    (tmp_path / "mine.toml").write_text(LIVE.replace("hidden = 224", "hidden = 32"))
    assert load_profile(str(tmp_path / "mine.toml")).member("xumx").config.hidden == 32
