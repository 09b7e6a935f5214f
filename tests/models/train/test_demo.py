"""The demo song: stems that sum to it exactly, a voice on its beats, drums that rest in the break."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from train_material import RATE_HZ, tone, vowel

from stemrack.models.errors import DataError
from stemrack.models.stems import STEMS
from stemrack.models.train.demo import LENGTH_S, PEAK, first_onset, make_demo
from stemrack.models.train.demo_score import (
    BREAK_BEATS,
    PHRASES,
    VOICE,
    VOICE_FILE,
    band,
    beat_sample,
    demo_sheet,
    drum_notes,
)

E_MAJOR = {4, 6, 8, 9, 11, 1, 3}
DEMO = Path(__file__).parents[3] / "demo"


def add_instrument(root, folder, rows, hz, regions, **facts):
    """Add a folder with one decaying tone that all regions (low, high, root) play."""
    x = tone(hz, 0.5) * np.exp(-8 * np.arange(RATE_HZ // 2) / RATE_HZ)
    (root / folder).mkdir(parents=True)
    soundfile.write(root / folder / "a.wav", x, RATE_HZ)
    regions = [{"file": "a.wav", "key_low": a, "key_high": b, "key_root": c} for a, b, c in regions]
    text = json.dumps({"kind": "melodic", **facts, "regions": regions})
    (root / folder / "instrument.json").write_text(text)
    facts = {"category": folder.split("/")[0], "licence": "CC0 1.0", "attribution": f"maker of {folder}"}
    rows.append({"file": f"{folder}/a.wav", **facts})


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """Every folder the score names with one tone in it; phrases begin after 80 ms of nothing."""
    root = tmp_path_factory.mktemp("material")
    rows = []
    for folder in {voicing.folder for voicing in band(np.random.default_rng(0))}:
        if folder.startswith("drums"):
            keys = [(k, k, k) for k in (36, 38, 41, 42, 45, 46, 48, 49)]
            add_instrument(root, folder, rows, 180.0, keys, kind="drums")
        else:
            add_instrument(root, folder, rows, 220.0, [(20, 110, 57)])
    (root / VOICE).mkdir(parents=True)
    phrase = np.concatenate([np.zeros(int(0.08 * RATE_HZ), np.float32), vowel(330.0, 0.4)])
    for _, words in PHRASES:
        name = f"{VOICE}/{VOICE_FILE.format(words)}"
        soundfile.write(root / name, phrase, RATE_HZ)
        rows.append({"file": name, "licence": "CC0 1.0", "attribution": "a singer"})
    (root / "index.json").write_text(json.dumps(rows))
    return root


@pytest.fixture(scope="module")
def made(material, tmp_path_factory) -> dict[str, Path]:
    """The song made of it, once for all tests: it takes a few seconds, as it has its real length."""
    return {path.stem: path for path in make_demo(material, tmp_path_factory.mktemp("out"))}


def read(path):
    x, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate_hz == RATE_HZ
    return x.T.astype(np.int64)


def level(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def assert_sums(folder):
    stems = {name: read(folder / f"{name}.flac") for name in STEMS}
    mixture = read(folder / "mixture.flac")
    assert {x.shape for x in stems.values()} == {mixture.shape} == {(2, round(LENGTH_S * RATE_HZ))}
    np.testing.assert_array_equal(sum(stems.values()), mixture)
    assert all(level(x) > 300 for x in stems.values())
    assert 0.98 * PEAK < np.abs([*stems.values(), mixture]).max() / 32767 < PEAK + 1e-4


def test_stems_sum_to_the_mixture_exactly_and_do_not_clip(made):
    assert_sums(made["mixture"].parent)


def test_the_files_that_ship_do_so_too():
    assert_sums(DEMO)
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 10 << 20


def test_the_voice_rests_in_the_intro_and_begins_every_phrase_on_its_beat(made):
    voice = read(made["vocals"])
    assert np.abs(voice[:, : beat_sample(8)]).max() == 0
    for beat, _ in PHRASES:
        at = beat_sample(beat)
        around = np.abs(voice[:, at - 4410 : at + 4410]).max(axis=0)
        onset = np.argmax(around > 0.3 * around.max()) - 4410
        assert abs(onset) < 0.015 * RATE_HZ, beat


def test_drums_rest_in_the_break_while_the_others_play(made):
    begin, end = beat_sample(BREAK_BEATS[0] + 2), beat_sample(BREAK_BEATS[1])
    drums = read(made["drums"])
    assert level(drums[:, begin:end]) < 0.001 * level(drums)
    assert level(drums[:, end : beat_sample(32)]) > 0.5 * level(drums)
    for stem in ("bass", "other", "vocals"):
        assert level(read(made[stem])[:, begin:end]) > 100, stem


def test_the_readme_names_the_command_and_every_source(made, material):
    text = made["README"].read_text()
    assert "stemrack train demo" in text
    assert "nothing about how well the separation works" in text
    folders = {voicing.folder for voicing in band(np.random.default_rng(0))}
    for folder in folders:
        assert f"- {folder}: maker of {folder} (CC0 1.0)" in text
    assert f"- {VOICE}: a singer (CC0 1.0)" in text


def test_the_sheet_has_no_gaps_and_stays_in_e_major():
    sheet = demo_sheet()
    ends = [chord.start_beat + chord.length_beats for chord in sheet.chords]
    assert [chord.start_beat for chord in sheet.chords] == [0.0, *ends[:-1]]
    assert ends[-1] == sheet.length_beats == 60.0
    keys = [note.key for note in sheet.melody]
    keys += [chord.root + tone for chord in sheet.chords for tone in chord.tones]
    assert {key % 12 for key in keys} <= E_MAJOR


def test_drums_keep_the_beat_outside_the_break():
    kicks = {note.start for note in drum_notes() if note.key == 36}
    assert kicks >= {float(beat) for beat in (*range(8, 24), *range(32, 57))}
    assert not [n for n in drum_notes() if BREAK_BEATS[0] <= n.start < BREAK_BEATS[1]]
    strokes = [(n.start, n.key) for n in drum_notes()]
    assert len(strokes) == len(set(strokes)), "a drum is struck twice at once"


def test_the_bass_is_on_the_root_when_a_chord_comes():
    bass = next(v.part for v in band(np.random.default_rng(1)) if v.part.stem == "bass")
    for chord in demo_sheet().chords:
        start_s = beat_sample(chord.start_beat) / RATE_HZ
        nearest = min(bass.notes, key=lambda n: abs(n.start - start_s))
        assert abs(nearest.start - start_s) < 0.02
        assert nearest.key % 12 == chord.root


def test_a_seed_gives_the_same_band():
    first, again, other = (band(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert [v.part for v in first] == [v.part for v in again] != [v.part for v in other]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 20_000), st.floats(0.001, 1.0))
def test_an_onset_is_found_wherever_it_lies_and_however_loud(at, gain):
    x = np.zeros((2, 44_100), np.float32)
    x[:, at : at + 13_230] = gain * tone(300.0, 0.3)
    assert abs(first_onset(x) - at) < 0.005 * RATE_HZ


def test_a_missing_phrase_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match=PHRASES[0][1]):
        make_demo(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
