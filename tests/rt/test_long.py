"""What takes minutes: an hour in the memory of six minutes, silence as cheap as music (`make slow`)."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import signals
import soundfile

from stemrack.rt.separate import load_separator

pytestmark = pytest.mark.slow

MUSIC = Path(__file__).parents[2] / "demo" / "mixture.flac"

RENDER = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "stemrack.rt.app", "render", *sys.argv[1:]], capture_output=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"code": done.returncode, "peak_kib": peak, "error": done.stderr.decode()[-500:]}))
"""


def _render(source: Path, out: Path) -> int:
    """Return the peak memory in KiB of rendering a file in a process of its own."""
    command = [sys.executable, "-c", RENDER, str(source), "-o", str(out), "--flac"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result["code"] == 0, result["error"]
    return result["peak_kib"]


def test_an_hour_takes_the_memory_of_six_minutes(tmp_path):
    music, rate_hz = soundfile.read(MUSIC, dtype="int16")
    peaks_kib = {}
    for minutes in (6, 60):
        path = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(path, "w", rate_hz, 2, "PCM_16") as file:
            for _ in range(round(minutes * 60 * rate_hz / len(music))):
                file.write(music)
        peaks_kib[minutes] = _render(path, tmp_path / "out")
    print(f"peak memory in MiB: { ({m: round(k / 1024) for m, k in peaks_kib.items()}) }")
    assert peaks_kib[60] < 1.1 * peaks_kib[6]


def test_ten_minutes_of_silence_cost_no_more_per_hop_than_music():
    """Decaying sums and states must not reach denormals, where a hop cost seven times as much."""
    separator = load_separator("live")
    state = separator.init_state()
    music = soundfile.read(MUSIC, dtype="float32")[0].T
    hop = separator.hop
    hops = [np.ascontiguousarray(music[:, i * hop : (i + 1) * hop]) for i in range(music.shape[1] // hop)]
    silence = [signals.silence(hop)] * round(600 * 44_100 / hop)
    taken_s = []
    for x in hops + silence:
        started = time.perf_counter()
        separator.step(x, state)
        taken_s.append(time.perf_counter() - started)
    heard, last_minute = np.array(taken_s[: len(hops)]), np.array(taken_s[-len(silence) // 10 :])
    figures = [np.percentile(t, q) * 1e3 for t in (heard, last_minute) for q in (50, 99)]
    print(
        "ms per hop, music p50 {:.2f} p99 {:.2f}, tenth minute of silence p50 {:.2f} p99 {:.2f}".format(
            *figures
        )
    )
    assert np.median(last_minute) < 1.5 * np.median(heard)
