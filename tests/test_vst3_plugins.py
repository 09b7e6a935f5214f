"""The plugins of the tests do what the tests count on: real ones sound, hostile ones are as bad as said."""

import json
import subprocess
import sys

import numpy as np
import pytest
import vst3_plugins
from vst3_plugins import hostile_plugins, real_plugins

OPENED = """
import json, os, sys
import numpy as np
import pedalboard

plugin = pedalboard.VST3Plugin(sys.argv[1])
x = (0.1 * np.random.default_rng(0).standard_normal((2, 512))).astype(np.float32)
told = {"is_same": [], "is_finite": [], "rms": []}
for block in range(1, 1 + int(sys.argv[2])):
    y = plugin.process(x, 44100, 512, reset=False)
    told["is_same"].append(bool(np.array_equal(x, y)))
    told["is_finite"].append(bool(np.isfinite(y).all()))
    told["rms"].append(float(np.sqrt(np.mean(np.square(y)))))
    print(block, flush=True)
print(json.dumps(told), flush=True)
os._exit(0)
"""

DELAYED = """
import json, os, sys
import numpy as np
import pedalboard

plugin = pedalboard.VST3Plugin(sys.argv[1])
x = np.zeros((2, 512), np.float32)
pieces = []
for block in range(8):
    x[:, 0] = block == 0
    pieces.append(plugin.process(x, 44100, 512, reset=False))
y = np.concatenate(pieces, axis=1)
at = [int(n) for n in np.flatnonzero(y[0])]
print(json.dumps({"reported": plugin.reported_latency_samples, "at": at}), flush=True)
os._exit(0)
"""

LEVELLED = """
import json, os, sys
import numpy as np
import pedalboard

plugin = pedalboard.VST3Plugin(sys.argv[1])
plugin.level_db = -6.0
x = np.full((2, 4096), 0.5, np.float32)
y = plugin.process(x, 44100, 4096, reset=False)
limits = list(plugin.parameters["level_db"].range[:2])
print(json.dumps({"limits": limits, "heard": [float(v) for v in y[:, -1]]}), flush=True)
os._exit(0)
"""


def told_by(script, path, *arguments, timeout_s=60.0):
    """Return (exit code, last line) of a process that runs a script on a plugin."""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    lines = ran.stdout.splitlines()
    return ran.returncode, json.loads(lines[-1]) if lines else None


@pytest.mark.parametrize("name", vst3_plugins.REAL)
def test_real_plugins_make_something_else_of_noise(name):
    code, told = told_by(OPENED, real_plugins()[name], 8)
    assert code == 0
    assert all(told["is_finite"])
    assert not told["is_same"][-1]
    assert told["rms"][-1] > 0.01


def test_a_crasher_is_a_wire_before_it_aborts():
    code, told = told_by(OPENED, hostile_plugins()["Crasher"], 50)
    assert (code, all(told["is_same"])) == (0, True)
    code, told = told_by(OPENED, hostile_plugins()["Crasher"], 1100)
    assert code == -6
    assert 900 < told < 1000  # in its 1000th call; the first ones are the host's own, while it loads


def test_a_nanner_is_a_wire_until_its_200th_block():
    code, told = told_by(OPENED, hostile_plugins()["Nanner"], 205)
    assert code == 0
    assert told["is_same"] == [True] * 199 + [False] * 6
    assert told["is_finite"] == [True] * 199 + [False] * 6


def test_a_sleeper_is_a_wire():
    code, told = told_by(OPENED, hostile_plugins()["Sleeper"], 1)
    assert (code, told["is_same"]) == (0, [True])


def test_one_that_crashes_and_one_that_hangs_while_loading():
    assert told_by(OPENED, hostile_plugins()["LoadCrash"], 1) == (-6, None)
    with pytest.raises(subprocess.TimeoutExpired):
        told_by(OPENED, hostile_plugins()["LoadHang"], 1, timeout_s=3.0)


def test_a_latent_delays_by_what_it_reports():
    code, out = told_by(DELAYED, hostile_plugins()["Latent"])
    assert code == 0
    assert out == {"reported": 2048, "at": [2048]}


def test_they_are_built_once(monkeypatch):
    before = real_plugins()["MVerb"]
    monkeypatch.setattr(vst3_plugins, "_build", lambda work, archive: pytest.fail("built again"))
    vst3_plugins._built.cache_clear()
    assert real_plugins()["MVerb"] == before
    assert before.is_relative_to(vst3_plugins.cache_folder())


def test_another_source_is_another_folder(monkeypatch, tmp_path):
    (tmp_path / "Hostile.cpp").write_text("// other")
    before = vst3_plugins._fingerprint()
    monkeypatch.setattr(vst3_plugins, "SOURCES", tmp_path)
    assert vst3_plugins._fingerprint() != before


def test_without_apt_the_tests_skip_and_say_why(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vst3_plugins.shutil, "which", lambda tool: None)
    vst3_plugins._built.cache_clear()
    with pytest.raises(pytest.skip.Exception, match="no apt-get here to fetch the source of dpf-plugins"):
        real_plugins()
    vst3_plugins._built.cache_clear()


def test_an_archive_of_other_contents_is_refused(tmp_path, monkeypatch):
    (tmp_path / vst3_plugins.ARCHIVE).write_bytes(b"something else")
    monkeypatch.setattr(vst3_plugins, "fetch", lambda home: None)
    with pytest.raises(ValueError, match="is not the 15492ec9"):
        vst3_plugins._archive(tmp_path)


def test_they_have_a_level_in_db():
    code, told = told_by(LEVELLED, hostile_plugins()["Latent"])
    assert code == 0
    assert told["limits"] == [-60.0, 12.0]
    np.testing.assert_allclose(told["heard"], 0.5 * 10 ** (-6 / 20), rtol=1e-5)  # held as a share of 72 dB
