"""Shares fitted to mixtures: those of independent errors are found, and what is promised is what comes."""

import tomllib
from itertools import product

import numpy as np
import pytest

from stemrack.models.blend import blend_table, checked_table
from stemrack.models.consistency_kernels import checked_weights, project_into
from stemrack.models.errors import DataError
from stemrack.models.stems import STEMS
from stemrack.models.train.blend_fit import (
    Fitted,
    HeldOut,
    blend_toml,
    fit_blends,
    fit_shares,
    held_out_mixtures,
    mean_sdr_db,
    measure_products,
    rounded,
    squared_errors,
)
from stemrack.models.train.mixing import ACCOMPANIMENT, MixConfig, Mixer
from stemrack.models.train.shards import read_index, write_shard

N = 20_000


def songs(n_mixtures, known=(0, 1, 2, 3), seed=0):
    """Return mixtures of four noises, and all four true stems of each."""
    rng = np.random.default_rng(seed)
    truths = [rng.standard_normal((4, 2, N)).astype(np.float32) * 0.1 for _ in range(n_mixtures)]
    return [HeldOut(s.sum(axis=0), {j: s[j] for j in known}) for s in truths], truths


class Wrong:
    """A network that knows the truth and adds noise of its own, of a level for each stem."""

    def __init__(self, truths, levels, seed, offset=0.0):
        self.rng = np.random.default_rng(seed)
        self.truths, self.levels, self.offset = iter(truths), np.array(levels), offset
        self.said = []

    def __call__(self, mixture):
        s = next(self.truths)
        errors = self.rng.standard_normal(s.shape) * self.levels[:, None, None]
        self.said.append((s + errors + self.offset * mixture).astype(np.float32))
        return self.said[-1]


def products_of(levels, n_mixtures=3, offset=0.0):
    mixtures, truths = songs(n_mixtures)
    networks = {
        name: Wrong(truths, level, seed + 10, offset)
        for seed, (name, level) in enumerate(zip(("xumx", "unet", "demucs"), levels, strict=False))
    }
    return measure_products(iter(mixtures), networks, lambda n: None), networks, truths


def deployed_sdr_db(networks, truths, shares):
    """Return the mean SDR per stem of blend and mixture consistency, done sample by sample."""
    found = []
    for i, s in enumerate(truths):
        z = sum(
            w[:, None, None] * network.said[i] for w, network in zip(shares, networks.values(), strict=True)
        )
        z = np.ascontiguousarray(z, np.float32)
        project_into(z, s.sum(axis=0), checked_weights(), z)
        found.append(10 * np.log10(np.square(s).sum((1, 2)) / np.square(s - z).sum((1, 2))))
    return np.mean(found, axis=0)


def _sdr_db(products, errors):
    """Return the SDR of each stem in the first mixture."""
    return 10 * np.log10(products.energies[0] / errors[0])


class TestProducts:
    def test_the_promised_sdr_is_that_of_the_deployed_graph(self):
        products, networks, truths = products_of(
            ([0.02, 0.05, 0.03, 0.04], [0.05, 0.02, 0.04, 0.03], [0.03] * 4), offset=0.1
        )
        shares = np.array([[0.2, 0.1, 0.0, 0.2], [0.2, 0.2, 0.5, 0.4], [0.6, 0.7, 0.5, 0.4]])
        expected = deployed_sdr_db(networks, truths, shares)
        np.testing.assert_allclose(mean_sdr_db(products, shares), expected, atol=1e-3)
        assert np.ptp(expected) > 0.3

    def test_only_leaves_the_others_out(self):
        products, networks, truths = products_of(([0.02] * 4, [0.05] * 4, [0.03] * 4))
        own = products.only(("xumx", "demucs"))
        shares = np.array([[0.25] * 4, [0.75] * 4])
        del networks["unet"]
        np.testing.assert_allclose(
            mean_sdr_db(own, shares), deployed_sdr_db(networks, truths, shares), atol=1e-3
        )

    def test_a_stem_that_is_not_known_has_no_error(self):
        mixtures, truths = songs(2)
        del mixtures[1].stems[0], mixtures[1].stems[2]
        networks = {"xumx": Wrong(truths, [0.05] * 4, 1)}
        products = measure_products(iter(mixtures), networks, lambda n: None)
        errors = squared_errors(products, np.ones((1, 4)))
        assert (errors[1] > 1.0).tolist() == [False, True, False, True]
        assert (errors[1, [0, 2]] == 0).all()
        np.testing.assert_allclose(mean_sdr_db(products, np.ones((1, 4)))[0], _sdr_db(products, errors)[0])

    def test_every_stem_must_be_known_somewhere(self):
        mixtures, truths = songs(2, known=(1, 3))
        with pytest.raises(DataError, match="drums, other is known alone"):
            measure_products(iter(mixtures), {"xumx": Wrong(truths, [0.1] * 4, 1)}, lambda n: None)
        with pytest.raises(DataError, match="no held-out mixture"):
            measure_products(iter([]), {"xumx": lambda x: x}, lambda n: None)


class TestFit:
    def test_independent_errors_are_weighed_by_the_other_ones_power(self):
        # w_a = b^2 / (a^2 + b^2); equal for all stems, so mixture consistency moves nothing
        products, _, _ = products_of(([0.02] * 4, [0.04] * 4))
        shares = fit_shares(products)
        np.testing.assert_allclose(shares[0], 0.8, atol=0.02)
        np.testing.assert_allclose(shares.sum(axis=0), 1.0)

    def test_each_stem_goes_to_the_network_that_is_better_at_it(self):
        products, _, _ = products_of(([0.01, 0.05, 0.01, 0.05], [0.05, 0.01, 0.05, 0.01]))
        shares = fit_shares(products)
        assert (shares[0, [0, 2]] > 0.9).all()
        assert (shares[1, [1, 3]] > 0.9).all()

    def test_no_other_shares_have_a_higher_mean(self):
        products, _, _ = products_of(([0.02, 0.05, 0.03, 0.04], [0.05, 0.02, 0.04, 0.03]), offset=0.05)
        best = mean_sdr_db(products, fit_shares(products)).mean()
        for first in product(np.linspace(0, 1, 6), repeat=4):
            assert mean_sdr_db(products, np.array([first, 1 - np.array(first)])).mean() <= best + 1e-9

    def test_a_network_that_is_of_no_use_gets_nothing(self):
        products, _, _ = products_of(([0.02] * 4, [0.02] * 4))
        products.targets[...] = products.estimates[:, :4]  # the first is right, with all that it says
        products.energies[...] = products.estimates[:, range(4), range(4)]
        np.testing.assert_allclose(fit_shares(products)[0], 1.0, atol=1e-3)

    def test_a_mixture_with_a_large_error_counts_no_more_than_the_others(self):
        mixtures, truths = songs(9)
        networks = {"xumx": Wrong(truths, [0.02] * 4, 1), "unet": Wrong(truths, [0.04] * 4, 2)}
        loud = [HeldOut(100 * mixtures[0].mixture, {j: 100 * s for j, s in mixtures[0].stems.items()})]
        said = {name: [network(m.mixture) for m in mixtures] for name, network in networks.items()}
        said["xumx"][0], said["unet"][0] = 100 * said["unet"][0], 100 * said["xumx"][0]  # the other way round
        calls = {name: iter(answers) for name, answers in said.items()}
        products = measure_products(
            iter(loud + mixtures[1:]),
            {name: lambda x, name=name: next(calls[name]) for name in networks},
            lambda n: None,
        )
        assert (fit_shares(products)[0] > 0.6).all()


class TestBlends:
    def test_every_set_of_networks_with_its_gain(self):
        products, _, _ = products_of(([0.02] * 4, [0.04] * 4, [0.03] * 4))
        fitted = fit_blends(products)
        assert [len(f.networks) for f in fitted] == [1, 1, 1, 2, 2, 2, 3]
        singles, whole = fitted[:3], fitted[-1]
        assert singles[0].shares == ((1.0,) * 4,)
        assert whole.mean_sdr_db > max(f.mean_sdr_db for f in fitted[:-1])
        for f in fitted:
            assert f.mean_sdr_db >= f.usual_mean_sdr_db - 0.01  # shares are rounded
        usual = np.array(blend_table(("xumx", "unet", "demucs")))
        np.testing.assert_allclose(whole.usual_sdr_db, mean_sdr_db(products, usual))

    def test_what_is_printed_can_be_read_as_a_profile(self):
        shares = rounded(np.array([[1 / 3, 0.2, 0.0, 0.5], [1 / 3, 0.2, 1.0, 0.25], [1 / 3, 0.6, 0.0, 0.25]]))
        blend = Fitted(
            networks=("xumx", "unet", "demucs"),
            shares=tuple(tuple(map(float, row)) for row in shares),
            sdr_db=(0.0,) * 4,
            usual_sdr_db=(0.0,) * 4,
        )
        data = tomllib.loads(blend_toml([blend]))["blend"]
        assert list(data) == ["xumx+unet+demucs"]
        rows = data["xumx+unet+demucs"]
        assert rows["drums"] == [0.334, 0.333, 0.333]
        assert checked_table(blend.networks, rows, "test") == pytest.approx(np.array(blend.shares))


class TestHeldOut:
    def test_stems_known_alone_are_references_and_all_parts_sound(self, tmp_path):
        rng = np.random.default_rng(3)
        noises = {stem: 0.2 * rng.standard_normal((2, N)) for stem in STEMS}
        song = {stem: noises[stem] for stem in STEMS[:3]}
        write_shard(tmp_path, "s", song, pool="songs", split="valid", sources=())
        write_shard(tmp_path, "v", {"vocals": noises["vocals"]}, pool="voices", split="valid", sources=())
        both = {ACCOMPANIMENT: sum(song.values())}
        write_shard(tmp_path, "i", both, pool="instrumental", split="valid", sources=())
        config = MixConfig(absent=(0.0,) * 4, over_instrumental=0.5)
        mixer = Mixer(tmp_path, read_index(tmp_path), "valid", config, seed=1)
        found = list(held_out_mixtures(mixer, 2, 5, 4096))
        assert len(found) == 10
        alone = [set(m.stems) for m in found]
        assert {3} in alone  # over an instrumental only the voice is known
        assert {0, 1, 2, 3} in alone
        for m in found:
            if len(m.stems) == len(STEMS):
                np.testing.assert_allclose(sum(m.stems.values()), m.mixture, atol=1e-6)
