"""`stemrack bench` on the command line: what is counted and shown, not how long it takes."""

import json
import sys
import types

import pytest
from fake_separator import FakeSeparator

from stemrack.rt import app
from stemrack.rt.app_effects import effects_of
from stemrack.rt.config import Config

N_HOPS = 86  # in a second


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """The fake in the place of rt/separate.py."""
    fake = types.ModuleType("stemrack.rt.separate")
    fake.load_separator = lambda profile, runner, weights, n_threads: FakeSeparator()
    monkeypatch.setitem(sys.modules, "stemrack.rt.separate", fake)


def bench(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        app.main(["bench", "--seconds", "1", *map(str, arguments)])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_a_preset_adds_its_inserts(capsys):
    code, out, err = bench(capsys, "--preset", "monitor-safe", "--json")
    assert (code, err) == (0, "")
    measured, control = json.loads(out)["series"]
    inserts = measured["insert_us"]
    stems = ("drums", "bass", "other", "vocals")
    assert list(inserts) == [f"{s}/{i}" for s in stems for i in ("highpass_filter", "brickwall_limiter")]
    for figures in inserts.values():
        assert figures["n_hops"] == measured["n_hops"] == N_HOPS
        assert 0 < figures["p50"] <= figures["p99"] <= figures["p99.9"] <= figures["max"]
        assert figures["share"] > 0
    assert list(measured["stage_ms"]) == ["effects"]
    assert "insert_us" not in control
    code, out, _ = bench(capsys, "--preset", "monitor-safe")
    assert code == 0
    assert "Inserts, cpu, hops of 11610 us" in out
    assert out.count("brickwall_limiter") == 4
    code, out, _ = bench(capsys, "--json")
    assert "insert_us" not in out


def test_inserts_lists_every_effect(capsys):
    keys = {effect.key for effect in effects_of(Config()).table}
    code, out, _ = bench(capsys, "--inserts", "--json")
    found = json.loads(out)
    assert code == 0
    assert {one["effect"] for one in found["effects"]} == {*keys, "control"}
    assert {one["n_hops"] for one in found["effects"]} == {N_HOPS}
    assert found["hop_us"] == pytest.approx(1e6 * 512 / 44_100)
    code, out, _ = bench(capsys, "--inserts")
    assert "Effects alone, hops of 11610 us" in out
    assert sum(any(key in line for key in keys) for line in out.splitlines()) == len(keys)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--inserts", "--preset", "karaoke"], "--inserts measures effects alone"),
        (["--config", "x.toml"], "--config says where presets and impulses are"),
        (["--preset", "loud"], "there is no preset 'loud': there are acapella-room"),
    ],
)
def test_wrong_usage(capsys, arguments, reason):
    code, out, err = bench(capsys, *arguments)
    assert (code, out) == (2, "")
    assert reason in err


def test_a_preset_without_effects_has_nothing_to_measure(capsys, tmp_path):
    (tmp_path / "a.toml").write_text('format = "stemrack preset 1"\n')
    code, _, err = bench(capsys, "--preset", tmp_path / "a.toml")
    assert code == 2
    assert "has no effects: nothing to measure" in err
