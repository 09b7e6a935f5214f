"""Arithmetic of a comparison, on signals whose figures are known beforehand."""

import numpy as np

from stemrack.models.stems import STEMS
from stemrack.models.train.comparison import (
    AGES_S,
    leakage_inputs,
    level_dbfs,
    mean_present,
    restart_slices,
    sdr_by_age_db,
)

RATE_HZ = 100


def ones(seconds, gain=0.5):
    return np.full((2, int(seconds * RATE_HZ)), gain, np.float32)


class TestAges:
    def test_each_stretch_has_its_own_sdr(self):
        references = {stem: ones(24) for stem in STEMS}
        errors = np.concatenate(
            [
                ones(seconds, 0.5 * 10 ** (-sdr / 20))
                for seconds, sdr in ((1, 3.0), (1, 6.0), (2, 9.0), (4, 12.0), (8, 15.0), (8, 18.0))
            ],
            axis=1,
        )
        estimates = np.stack([x + errors for x in references.values()])
        mixture = sum(references.values())
        found = sdr_by_age_db(references, estimates, mixture, RATE_HZ)
        expected = np.repeat([[3.0], [6.0], [9.0], [12.0], [15.0], [18.0]], 4, axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_a_stretch_that_is_not_half_there_has_no_figure(self):
        references = {"drums": ones(5.5)}
        found = sdr_by_age_db(references, np.zeros((4, 2, 550)), references["drums"], RATE_HZ)
        assert np.isfinite(found[:3, 0]).all()
        assert np.isnan(found[3:, 0]).all()
        longer = {"drums": ones(6)}
        assert sdr_by_age_db(longer, np.zeros((4, 2, 600)), longer["drums"], RATE_HZ)[3, 0] == 0.0

    def test_a_stem_that_cannot_be_heard_has_no_figure(self):
        bass = ones(4, 0.001)
        bass[:, 100:200] = 0.3
        references = {"drums": ones(4), "bass": bass}
        found = sdr_by_age_db(references, np.zeros((4, 2, 400)), references["drums"] + bass, RATE_HZ)
        assert np.isfinite(found[:, 1]).tolist() == [False, True, False, False, False, False]
        assert np.isnan(found[:, 2:]).all()

    def test_restarts_lie_in_the_song_and_end_with_it(self):
        slices = restart_slices(20 * RATE_HZ, RATE_HZ)
        assert [(s.start, s.stop) for s in slices] == [(400, 2000), (800, 2000), (1200, 2000)]
        long = restart_slices(100 * RATE_HZ, RATE_HZ)
        assert all(s.stop - s.start == AGES_S[-1] * RATE_HZ for s in long)


def test_means_leave_out_what_is_not_there():
    rows = [np.array([[1.0, np.nan]]), np.array([[np.nan, np.nan]]), np.array([[2.0, np.nan]])]
    np.testing.assert_array_equal(mean_present(rows), [[1.5, np.nan]])


def test_levels():
    assert level_dbfs(np.zeros((2, 9))) == -200.0
    np.testing.assert_allclose(level_dbfs(ones(1, 0.5)), -6.0206, atol=1e-4)


class TestLeakageInputs:
    def test_the_voice_alone_and_all_but_the_voice(self):
        references = {"drums": ones(1, 0.1), "other": ones(1, 0.2), "vocals": ones(1, 0.4)}
        found = leakage_inputs(references)
        x, silent = found["instrumental"]
        np.testing.assert_allclose(x, 0.3, atol=1e-7)
        assert silent == ("vocals",)
        x, silent = found["vocals"]
        np.testing.assert_array_equal(x, references["vocals"])
        assert silent == ("drums", "bass", "other")

    def test_nothing_to_measure_without_a_voice_or_without_instruments(self):
        assert leakage_inputs({"drums": ones(1)}) == {}
        assert leakage_inputs({"drums": ones(1), "vocals": 0 * ones(1)}) == {}
        assert leakage_inputs({"drums": 0 * ones(1), "vocals": ones(1)}) == {}
