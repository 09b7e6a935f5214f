"""Shares per block with a network whose answer is known."""

import numpy as np
import pytest
import soundfile
import torch

from stemrack.models.errors import DataError
from stemrack.models.tdc import TdcVocals
from stemrack.models.train.shards import read_slice
from stemrack.models.train.teacher import prepare_unlabelled, vocals_share


class Gain(TdcVocals):
    """Stands for the teacher: calls the right channel the vocals."""

    def separate(self, mixture):
        vocals = mixture.clone()
        vocals[:, 0] = 0
        return vocals


def test_share_is_the_energy_ratio_of_each_block():
    x = np.zeros((2, 2500), np.float32)
    x[0] = 0.1
    x[1, 1000:2000] = 0.2
    share = vocals_share(x, Gain(), block_samples=1000)
    np.testing.assert_allclose(share, [0.0, 0.04 / 0.05, 0.0], atol=1e-6)


def test_silence_has_no_vocals():
    x = np.full((2, 3000), 1e-4, np.float32)
    np.testing.assert_array_equal(vocals_share(x, Gain(), block_samples=1000), [0, 0, 0])


@pytest.mark.parametrize(("n", "n_blocks"), [(0, 0), (1, 1), (1000, 1), (1001, 2), (61_500, 62)])
def test_one_share_for_each_block_begun(n, n_blocks):
    x = np.full((2, n), 0.5, np.float32)
    np.testing.assert_allclose(vocals_share(x, Gain(), block_samples=1000), np.full(n_blocks, 0.5), atol=1e-6)


def test_borders_of_the_minute_pieces_leave_no_seam():
    """With context the network hears what it would hear in one go: here, frames of 2048 every 1024."""

    class Smooth(TdcVocals):
        def forward(self, x):
            return x * 0.5

    x = np.random.default_rng(0).standard_normal((2, 125 * 1024)).astype(np.float32) * 0.1
    share = vocals_share(x, Smooth(), block_samples=1024)
    np.testing.assert_allclose(share, np.full(125, 0.25), atol=1e-5)
    assert torch.is_grad_enabled()


def test_labelled_songs_are_shards_that_sum_to_the_song(tmp_path):
    rng = np.random.default_rng(0)
    song = (0.1 * rng.standard_normal((2, 9000))).astype(np.float32)
    (tmp_path / "songs" / "album").mkdir(parents=True)
    soundfile.write(tmp_path / "songs" / "album" / "one.wav", song.T, 44_100, subtype="FLOAT")
    torch.manual_seed(0)
    torch.save(TdcVocals().state_dict(), tmp_path / "teacher.pt")
    shards = prepare_unlabelled(tmp_path / "songs", tmp_path / "teacher.pt", tmp_path / "shards")
    assert [(s.pool, s.parts, s.split, s.sources) for s in shards] == [
        ("unlabelled", ("vocals", "drums+bass+other"), "train", ("teacher:songs",))
    ]
    parts = dict(read_slice(tmp_path / "shards", shards[0], 0, 9000))
    total = sum(x.astype(np.float64) for x in parts.values())
    scale = np.vdot(total, song) / np.vdot(song, song)
    np.testing.assert_allclose(total / scale, song, atol=1e-4)
    with pytest.raises(DataError, match="no sound files"):
        prepare_unlabelled(tmp_path / "shards", tmp_path / "teacher.pt", tmp_path / "other")
