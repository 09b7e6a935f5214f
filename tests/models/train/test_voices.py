"""The pool of voices: who sings, what is planned, and that a rendered section is at its level and pitch."""

from itertools import pairwise

import numpy as np
import pytest
from train_material import Material, add_sheet, add_voices, cents, phrase, pitch_hz, tone, vowel

from stemrack.models.errors import DataError
from stemrack.models.train import voices as vo
from stemrack.models.train.audio_files import rms_dbfs

RATE_HZ = 44_100


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = Material(tmp_path_factory.mktemp("material"))
    add_voices(made, 24)
    held = vowel(160.0, 0.5)
    for i in range(12):
        file = f"vocals_singing/loops/m_{i}.wav"
        made.add(file, held, voice="loops", sex="m", floor_db=-1.0, attribution="loops")
    add_sheet(made)
    return made.save()


@pytest.fixture(scope="module")
def voices(root):
    return vo.voices_of(root)


def voice(voices, name):
    return next(v for v in voices if v.name == name)


def test_voices_have_their_files_sex_and_kind(voices):
    assert len(voices) == 49
    loops = voice(voices, "loops")
    assert (loops.held, loops.sung, loops.deep, len(loops.files)) == (True, True, True, 12)
    spoken = voice(voices, "speech0")
    assert (spoken.held, spoken.sung, spoken.deep) == (False, False, False)
    assert spoken.seconds == pytest.approx(3.2)


def test_no_maker_is_in_both_splits(voices):
    makers = {
        split: {f.maker for v in voices if v.split == split for f in v.files} for split in ("train", "valid")
    }
    assert makers["train"].isdisjoint(makers["valid"])
    for sung, most in ((True, 0.04), (False, 0.1)):
        seconds = {
            split: sum(v.seconds for v in voices if (v.sung, v.split) == (sung, split)) for split in makers
        }
        assert 0.0 < seconds["valid"] <= most * sum(seconds.values()) + 1e-9


def test_plans_fill_the_minutes_by_mode_and_repeat(voices):
    plans = vo.plan_shards(voices, minutes=30.0, seed=1, with_melodies=True)
    assert plans == vo.plan_shards(voices, minutes=30.0, seed=1, with_melodies=True)
    assert len({p.name for p in plans}) == len(plans)
    made = {mode: sum(p.seconds for p in plans if p.mode == mode) / 60.0 for mode in ("sung", "vowels")}
    # Sung has 58 of 68 parts; vowels 10, of which the 9 % for validation have no voice.
    assert made["sung"] == pytest.approx(30.0 * 58 / 68, abs=1.2)
    assert made["vowels"] == pytest.approx(30.0 * 10 / 68 * 0.91, abs=1.2)
    assert {p.mode for p in plans[: len(plans) // 3]} == {"sung", "vowels"}
    more = vo.plan_shards(voices, minutes=60.0, seed=1, with_melodies=True)
    assert {p.name for p in plans} <= {p.name for p in more}


def test_without_melodies_nothing_is_sung_anew(voices):
    modes = {p.mode for p in vo.plan_shards(voices, minutes=5.0, seed=1, with_melodies=False)}
    assert modes == {"sung"}


@pytest.mark.parametrize(("mode", "name"), [("sung", "singing1"), ("vowels", "loops"), ("resung", "speech3")])
def test_a_shard_is_at_its_level_and_repeatable(root, voices, mode, name):
    # Slower than most: a few seconds of voice are taken apart by the vocoder.
    plan = vo.Plan(name="x", mode=mode, voice=voice(voices, name), seconds=4.0)
    sheets = [root / "midi_songs/sheets/scale.json"]
    x = vo.render(plan, np.random.default_rng(5), sheets, [])
    assert x.shape[0] == 2
    assert 4.0 <= x.shape[1] / RATE_HZ < 4.0 + 12.0 / 0.68 + 4.0
    assert np.isfinite(x).all()
    assert rms_dbfs(x) == pytest.approx(vo.TARGET_DBFS, abs=0.5)
    if mode == "sung":
        assert np.array_equal(x, vo.render(plan, np.random.default_rng(5), sheets, []))


def test_resung_phrases_follow_the_sheet(root, voices):
    rng = np.random.default_rng(2)
    x = next(vo.resung_phrases(voice(voices, "loops"), rng, [root / "midi_songs/sheets/scale.json"], 1.0))
    assert np.array_equal(x[0], x[1])
    # One note is 0.6 s (100 a minute); steps of the scale from its start: 2, 2, 1, 2 semitones, then back 7.
    found = [pitch_hz(x[0, int((0.6 * i + 0.2) * RATE_HZ) :][:9000]) for i in range(6)]
    steps = [cents(b, a) for a, b in pairwise(found)]
    assert steps == pytest.approx([200, 200, 100, 200, -700], abs=60)


def test_a_voice_without_pitch_is_refused(root, tmp_path):
    made = Material(tmp_path)
    noise = (0.05 * np.random.default_rng(0).standard_normal(RATE_HZ // 2)).astype(np.float32)
    made.add("vocals_speech/set/hiss.wav", noise, voice="hiss")
    (hiss,) = vo.voices_of(made.save())
    with pytest.raises(DataError, match="hiss"):
        next(vo.resung_phrases(hiss, np.random.default_rng(0), [root / "midi_songs/sheets/scale.json"], 1.0))


def test_long_takes_are_cut_where_they_are_quiet():
    x = np.repeat(np.tile(phrase(150.0, 8), 8)[None], 2, axis=0)
    pieces = vo.phrases(x)
    assert sum(p.shape[1] for p in pieces) == x.shape[1]
    assert all(p.shape[1] <= 12.1 * RATE_HZ for p in pieces)
    starts = np.cumsum([0] + [p.shape[1] for p in pieces])[1:-1]
    assert len(starts) >= 2
    for start in starts:
        assert np.abs(x[:, start - 400 : start + 400]).max() < 1e-3


def test_a_double_is_late_detuned_and_on_both_sides():
    x = np.stack([tone(400.0, 1.0)] * 2)
    treatment = vo.Treatment(double_cents=10.0, double_db=0.0, spread=1.0)
    y = vo.thicken(x, treatment, np.random.default_rng(0)) - x
    late = [int(np.flatnonzero(np.abs(side) > 1e-4)[0]) for side in y]
    assert all(0.011 * RATE_HZ < n < 0.031 * RATE_HZ for n in late)
    assert cents(pitch_hz(y[0, 5000:30000]), 400.0) == pytest.approx(-10.0, abs=1.0)
    assert cents(pitch_hz(y[1, 5000:30000]), 400.0) == pytest.approx(10.0, abs=1.0)


def test_a_harmony_is_a_second_voice_at_its_interval():
    x = np.stack([vowel(220.0, 0.6)] * 2)
    treatment = vo.Treatment(harmony_semitones=(7.0,), harmony_db=0.0, spread=1.0)
    y = vo.thicken(x, treatment, np.random.default_rng(0)) - x
    assert np.abs(y[0]).max() == 0.0
    assert cents(pitch_hz(y[1, 8000:20000]), 220.0) == pytest.approx(700.0, abs=25.0)


def test_treatments_and_pauses_have_their_shares():
    rng = np.random.default_rng(0)
    drawn = [vo.draw_treatment(rng) for _ in range(3000)]
    assert np.mean([t.double_cents > 0 for t in drawn]) == pytest.approx(0.25, abs=0.03)
    assert np.mean([bool(t.harmony_semitones) for t in drawn]) == pytest.approx(0.14, abs=0.03)
    gaps = np.array([vo.gap_s(rng, 5.0) for _ in range(3000)])
    assert gaps.min() >= 0.05
    assert gaps.max() <= 4.0
    assert np.mean(gaps < 1.4) == pytest.approx(0.85, abs=0.03)
    assert max(vo.gap_s(rng, 0.5) for _ in range(300)) == pytest.approx(0.6)
