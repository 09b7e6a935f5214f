"""The demo song as it ships: stems that sum to it exactly, a voice that comes in on its bars."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemrack.models.errors import DataError
from stemrack.models.stems import STEMS
from stemrack.models.train.demo import BREAK_BARS, N_BARS, PHRASES, bar_sample, demo_sheet, make_demo

DEMO = Path(__file__).parents[3] / "demo"


@pytest.fixture(scope="module")
def shipped() -> dict[str, np.ndarray]:
    return {
        name: soundfile.read(DEMO / f"{name}.flac", dtype="int16")[0].T.astype(np.int64)
        for name in (*STEMS, "mixture")
    }


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x.astype(float) ** 2)))


def test_stems_sum_to_the_mixture_exactly(shipped):
    np.testing.assert_array_equal(sum(shipped[name] for name in STEMS), shipped["mixture"])
    assert shipped["mixture"].shape == (2, bar_sample(N_BARS))
    assert 20_000 < np.abs(shipped["mixture"]).max() < 32_767


def test_every_stem_sounds_and_the_break_has_no_drums(shipped):
    for name in STEMS:
        assert _rms(shipped[name]) > 500, name
    tail = bar_sample(1) // 2  # cymbals ring on
    rest = shipped["drums"][:, bar_sample(BREAK_BARS[0]) + tail : bar_sample(BREAK_BARS[1])]
    assert _rms(rest) < 0.05 * _rms(shipped["drums"])


def test_phrases_begin_on_their_bars(shipped):
    """Where the last phrase and its echo have ended; a longer one runs into the next."""
    loud = np.abs(shipped["vocals"]).max(axis=0)
    measured = {}
    for bar, words in PHRASES:
        start = bar_sample(bar)
        window = loud[start - 2205 : start + 8820]
        if window[:1000].max() < 0.1 * window.max():
            measured[words] = int(np.argmax(window > 0.1 * window.max())) - 2205
    assert len(measured) >= 3
    assert max(abs(onset) for onset in measured.values()) < 0.015 * 44_100, measured


def test_the_sheet_fills_its_bars():
    sheet = demo_sheet()
    assert len(sheet.chords) == N_BARS
    assert sheet.chord_at(5.0) == sheet.chords[1]
    assert {chord.root for chord in sheet.chords} == {4, 1, 9, 11}


def test_missing_material_is_said(tmp_path):
    with pytest.raises(DataError):
        make_demo(tmp_path, tmp_path / "out")
