"""Figures of merit against values worked out by hand, and against museval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.errors import DataError, SpecError
from stemrack.models.stems import STEMS
from stemrack.models.train import evaluation as ev

RATE_HZ = 8000


def noise(seed, n=RATE_HZ, scale=0.1):
    return (np.random.default_rng(seed).standard_normal((2, n)) * scale).astype(np.float32)


def song(n=RATE_HZ, seed=0):
    return {stem: noise(seed + j, n) for j, stem in enumerate(STEMS)}


class TestGlobalSdr:
    def test_tenth_of_the_amplitude_missing_is_20_db(self):
        s = np.ones((2, 500))
        assert ev.global_sdr_db(s, 0.9 * s) == pytest.approx(20.0, abs=1e-4)

    def test_perfect_estimate_is_bounded_by_the_epsilon(self):
        s = np.full((2, 5), 0.1)  # energy 0.1
        assert ev.global_sdr_db(s, s) == pytest.approx(10 * math.log10((0.1 + 1e-7) / 1e-7))

    def test_silence_for_silence_is_0_db(self):
        assert ev.global_sdr_db(np.zeros((2, 9)), np.zeros((2, 9))) == 0.0

    def test_both_channels_count_in_one_ratio(self):
        s, e = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        assert ev.global_sdr_db(s, e) == pytest.approx(10 * math.log10(5 / 5), abs=1e-6)

    def test_shapes_must_agree(self):
        with pytest.raises(SpecError, match="shapes differ"):
            ev.global_sdr_db(np.zeros((2, 9)), np.zeros((2, 8)))

    def test_float32_input_loses_nothing_over_a_long_signal(self):
        s = np.full((2, 2_000_000), 0.1, np.float32)
        e = np.full((2, 2_000_000), 0.11, np.float32)
        assert ev.global_sdr_db(s, e) == pytest.approx(20.0, abs=1e-4)


class TestSiSdr:
    @given(gain=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_level_of_the_estimate_costs_nothing(self, gain, seed):
        s, e = noise(seed, 300), noise(seed, 300) + noise(seed + 1, 300, 0.03)
        assert ev.si_sdr_db(s, gain * e.astype(float)) == pytest.approx(ev.si_sdr_db(s, e), abs=1e-4)

    def test_orthogonal_error_by_hand(self):
        assert ev.si_sdr_db(np.array([3.0, 0.0]), np.array([3.0, 1.0])) == pytest.approx(10 * math.log10(9))

    def test_silent_estimate_is_minus_infinity(self):
        assert ev.si_sdr_db(np.ones(4), np.zeros(4)) == -math.inf

    def test_silent_reference_is_refused(self):
        with pytest.raises(SpecError, match="leakage_db"):
            ev.si_sdr_db(np.zeros(4), np.ones(4))


class TestLeakage:
    def test_half_the_amplitude_is_6_db_down(self):
        assert ev.leakage_db(np.ones((2, 7)), 0.5 * np.ones((2, 7))) == pytest.approx(-6.0206, abs=1e-4)

    def test_silence_is_the_floor(self):
        assert ev.leakage_db(np.ones((2, 7)), np.zeros((2, 7))) == pytest.approx(-200.0)


class TestScores:
    def test_missing_stem_gets_leakage_and_stays_out_of_the_means(self):
        references = song()
        del references["vocals"]
        x = ev.mixture_of(references)
        estimates = np.stack([references["drums"], references["bass"], references["other"], 0.1 * x])
        score = ev.score_song("a", references, estimates, x, RATE_HZ)
        vocals = score.stems[STEMS.index("vocals")]
        assert vocals.sdr_db is None
        assert vocals.leakage_db == pytest.approx(-20.0, abs=1e-4)
        assert score.mean_sdr_db == pytest.approx(np.mean([s.sdr_db for s in score.stems[:3]]))
        assert score.seconds == 1.0

    def test_stem_file_of_pure_silence_counts_as_missing(self):
        references = {**song(), "bass": np.zeros((2, RATE_HZ), np.float32)}
        x = ev.mixture_of(references)
        score = ev.score_song("a", references, ev.mixture_as_estimate(x), x, RATE_HZ)
        assert score.stems[1].sdr_db is None
        assert score.stems[1].leakage_db == pytest.approx(0.0, abs=1e-9)

    def test_mean_takes_each_stem_over_the_songs_that_have_it(self):
        full, part = song(seed=1), song(seed=9)
        del part["vocals"]
        rows = []
        for name, references in (("full", full), ("part", part)):
            x = ev.mixture_of(references)
            rows.append(ev.score_song(name, references, ev.mixture_as_estimate(x), x, RATE_HZ))
        mean = ev.mean_score(rows)
        assert mean.n_songs == 2
        assert mean.sdr_db[3] == rows[0].stems[3].sdr_db
        assert mean.sdr_db[0] == pytest.approx((rows[0].stems[0].sdr_db + rows[1].stems[0].sdr_db) / 2)
        assert mean.leakage_db == (None, None, None, pytest.approx(0.0, abs=1e-9))
        assert mean.mean_sdr_db == pytest.approx(np.mean(mean.sdr_db))

    def test_no_song_no_mean(self):
        with pytest.raises(DataError, match="no song"):
            ev.mean_score([])

    def test_nan_in_an_estimate_is_an_error_and_not_a_figure(self):
        references = song(100)
        x = ev.mixture_of(references)
        estimates = np.array(ev.mixture_as_estimate(x))
        estimates[2, 0, 50] = np.nan
        with pytest.raises(DataError, match="NaN"):
            ev.score_song("a", references, estimates, x, RATE_HZ)

    def test_stems_of_different_lengths_have_no_mixture(self):
        with pytest.raises(DataError, match="one shape"):
            ev.mixture_of({"drums": noise(0, 10), "bass": noise(0, 11)})


class TestOracle:
    @pytest.mark.parametrize("n", [1, 511, 512, 2048, 5000])
    def test_one_stem_alone_comes_back_as_it_is(self, n):
        references = {"bass": noise(3, n)}
        estimates = ev.oracle_ratio_mask(references, references["bass"])
        np.testing.assert_allclose(estimates[1], references["bass"], atol=1e-6)
        assert not estimates[[0, 2, 3]].any()

    def test_stems_that_share_no_bin_come_apart(self):
        t = np.arange(RATE_HZ) / RATE_HZ
        low, high = (np.tile(0.3 * np.sin(2 * np.pi * f * t), (2, 1)).astype(np.float32) for f in (200, 3000))
        references = {"bass": low, "vocals": high}
        x = ev.mixture_of(references)
        score = ev.score_song("a", references, ev.oracle_ratio_mask(references, x), x, RATE_HZ)
        assert score.stems[1].sdr_db > 35
        assert score.stems[3].sdr_db > 35
        assert score.stems[0].leakage_db == pytest.approx(-200.0)

    def test_masks_sum_to_the_mixture(self):
        references = song()
        x = ev.mixture_of(references)
        np.testing.assert_allclose(ev.oracle_ratio_mask(references, x).sum(0), x, atol=1e-5)


class TestBsseval:
    def test_agrees_with_global_sdr_where_the_error_is_another_stem(self):
        rate_hz = 2000  # seconds of work: importing museval, and its 512-tap filters
        references = {"drums": noise(1, 2 * rate_hz), "bass": noise(2, 2 * rate_hz)}
        estimates = np.zeros((4, 2, 2 * rate_hz), np.float32)
        estimates[0] = references["drums"] + 0.1 * references["bass"]
        estimates[1] = references["bass"] + 0.1 * references["drums"]
        medians = ev.bsseval_medians_db(references, estimates, rate_hz)
        assert set(medians) == {"drums", "bass"}
        for j, stem in ((0, "drums"), (1, "bass")):
            assert medians[stem] == pytest.approx(ev.global_sdr_db(references[stem], estimates[j]), abs=0.3)

    def test_less_than_a_window_is_refused(self):
        with pytest.raises(DataError, match="second"):
            ev.bsseval_medians_db(song(100), np.zeros((4, 2, 100)), RATE_HZ)
