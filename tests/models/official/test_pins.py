"""The lock file of hashes: first use pins, another hash is refused, damage is said."""

import json

import pytest

from stemrack.models.errors import WeightsError
from stemrack.models.official.pins import Pins

URL, ELSEWHERE = "https://example.org/a.pth", "https://example.org/b.pth"


def test_first_use_pins_and_the_same_passes(tmp_path):
    pins = Pins(tmp_path / "models")
    pins.check(URL, "aa")
    pins.check(ELSEWHERE, "bb")
    pins.check(URL, "aa")
    assert json.loads(pins.path.read_text()) == {URL: "aa", ELSEWHERE: "bb"}
    assert [p.name for p in pins.home.iterdir()] == ["pins.json"]


def test_another_hash_is_refused_until_its_line_is_deleted(tmp_path):
    pins = Pins(tmp_path)
    pins.check(URL, "aa")
    with pytest.raises(WeightsError, match=r"sha256 bb, pinned aa.*delete its line in .*pins\.json"):
        pins.check(URL, "bb")
    assert pins.read() == {URL: "aa"}
    pins.path.write_text("{}")
    pins.check(URL, "bb")
    assert pins.read() == {URL: "bb"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_damage_is_said(tmp_path, text):
    (tmp_path / "pins.json").write_text(text)
    with pytest.raises(WeightsError, match=r"pins\.json .*delete it to pin anew"):
        Pins(tmp_path).read()


def test_home_that_cannot_be_written(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(WeightsError, match="cannot be"):
        Pins(tmp_path / "home").check(URL, "aa")
