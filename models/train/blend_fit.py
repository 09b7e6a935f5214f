"""Shares of a blend, fitted to held-out mixtures: from inner products alone, by convex solves.

What the ensemble puts out is linear in the shares: with y_mj the estimate that network m gives of stem j,
x the mixture, J stems and mixture consistency last,

    z_i = sum_m w_mi y_mi + (x - sum_mj w_mj y_mj) / J,      w >= 0,  sum_m w_mi = 1.

So the inner products of all y_mj and x with each other, and with the true stems, hold the error of every
blend of every subset of networks: nothing is separated twice.

What is made greatest is the figure that is reported, the mean SDR: the mean of -10 lg |s_i - z_i|^2 over
mixtures. A first solve weighs squared errors by 1 / |s_i|^2 (what the mean SDR is to first order where
errors are as large as stems); then each mixture is weighed by 1 / |s_i - z_i|^2 at the shares found so
far, and so on. The logarithm lies below its tangents, so no round can lower the mean SDR. Within a round
the error is quadratic in the shares and they are bounded stem by stem: solving for one stem after the
other (`blend.best_shares`, exact) until nothing moves gives its minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..blend import PAPER, Table, best_shares, blend_table
from ..errors import DataError
from ..stems import N_STEMS, STEMS
from .mixing import Mixer, eq_curves

AUDIBLE = 0.01
"""Share of a mixture's energy from which a stem counts, as in `spectral_task.mean_sdr_db`."""
ROUNDS = 30
SWEEPS = 500
STILL = 1e-7
"""Change of a share below which a sweep, or a round, is the last."""

Network = Callable[[np.ndarray], np.ndarray]
"""(2, sample) mixture -> (stem, 2, sample), time-aligned, without mixture consistency, from a fresh state."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A mixture (2, sample) and those of its stems that are known alone and can be heard, by number."""

    mixture: np.ndarray
    stems: dict[int, np.ndarray]


def held_out_mixtures(mixer: Mixer, n_batches: int, size: int, n_samples: int) -> Iterator[HeldOut]:
    """Yield `n_batches` times `size` mixtures of a mixer, coloured as in training.

    A part that joins several stems is in the mixture and no reference.
    """
    for step in range(n_batches):
        batch = mixer.batch(step, size, n_samples)
        for audio, groups, eq_db in zip(batch.audio, batch.groups, batch.eq_db, strict=True):
            curves = eq_curves(eq_db, n_samples // 2 + 1)
            parts = np.fft.irfft(np.fft.rfft(audio) * curves[:, None], n=n_samples).astype(np.float32)
            mixture = parts.sum(axis=0)
            least = AUDIBLE * float(np.vdot(mixture, mixture))
            alone = [g for g in range(N_STEMS) if groups[g].sum() == 1]
            stems = {
                int(groups[g].argmax()): parts[g] for g in alone if float(np.vdot(parts[g], parts[g])) > least
            }
            yield HeldOut(mixture, stems)


@dataclass(frozen=True, slots=True)
class Products:
    """Inner products of the estimates of some networks over N mixtures.

    Vectors are those of all networks, stem by stem, and the mixture last: n = networks * stems + 1.
    Shape: estimates (N, n, n), targets (N, stem, n) with the true stem, energies (N, stem) of the true stem,
    zero where it does not count.
    """

    networks: tuple[str, ...]
    estimates: np.ndarray
    targets: np.ndarray
    energies: np.ndarray

    def only(self, networks: Sequence[str]) -> Products:
        """Return the products of some of the networks."""
        numbers = [self.networks.index(name) for name in networks]
        kept = [m * N_STEMS + j for m in numbers for j in range(N_STEMS)] + [len(self.networks) * N_STEMS]
        return Products(
            tuple(networks),
            self.estimates[:, kept][:, :, kept],
            self.targets[:, :, kept],
            self.energies,
        )


def measure_products(
    mixtures: Iterator[HeldOut], networks: Mapping[str, Network], advance: Callable[[float], None]
) -> Products:
    """Return the products of networks over mixtures; `advance` hears of each network's each mixture.

    Raises: DataError unless each stem is known in some mixture.
    """
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for mixture in mixtures:
        vectors = []
        for network in networks.values():
            vectors.append(network(mixture.mixture).reshape(N_STEMS, -1))
            advance(1.0)
        rows.append(_products(np.concatenate([*vectors, mixture.mixture.reshape(1, -1)]), mixture.stems))
    if not rows:
        raise DataError("no held-out mixture to fit a blend to: ask for one batch at least")
    found = Products(tuple(networks), *(np.stack(column) for column in zip(*rows, strict=True)))
    unknown = [STEMS[j] for j in np.flatnonzero(found.energies.sum(axis=0) == 0.0)]
    if unknown:
        raise DataError(f"no held-out mixture where {', '.join(unknown)} is known alone: take more batches")
    return found


def _products(
    vectors: np.ndarray, stems: Mapping[int, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    v = vectors.astype(np.float64)
    targets, energies = np.zeros((N_STEMS, len(v))), np.zeros(N_STEMS)
    for j, stem in stems.items():
        s = stem.reshape(-1).astype(np.float64)
        targets[j], energies[j] = v @ s, s @ s
    return v @ v.T, targets, energies


def squared_errors(products: Products, shares: np.ndarray) -> np.ndarray:
    """Return |s_i - z_i|^2 of every mixture for shares (network, stem); zero where a stem does not count.

    Shape: -> (N, stem).
    """
    errors = np.zeros_like(products.energies)
    for i in range(N_STEMS):
        z = np.append(_reach(i, len(shares)) * shares.ravel(), 1.0 / N_STEMS)
        power = np.einsum("nab,a,b->n", products.estimates, z, z)
        errors[:, i] = products.energies[:, i] - 2.0 * products.targets[:, i] @ z + power
    # rounding can leave a perfect estimate below zero
    return np.where(products.energies > 0, np.maximum(errors, 1e-12 * products.energies), 0.0)


def mean_sdr_db(products: Products, shares: np.ndarray) -> np.ndarray:
    """Return the mean SDR in dB per stem, over the mixtures where the stem counts.  Shape: -> (stem,)."""
    counts = products.energies > 0
    errors = np.where(counts, squared_errors(products, shares), 1.0)
    sdr_db = 10 * np.log10(np.where(counts, products.energies, 1.0) / errors)
    return sdr_db.sum(axis=0) / counts.sum(axis=0)


def fit_shares(products: Products) -> np.ndarray:
    """Return the shares (network, stem) with the greatest mean SDR, taken over mixtures and stems."""
    counts = products.energies > 0
    n_counted = counts.sum(axis=0)
    shares = np.full((len(products.networks), N_STEMS), 1.0 / len(products.networks))
    weights = np.where(counts, 1.0 / np.where(counts, products.energies, 1.0), 0.0) / n_counted
    for _ in range(ROUNDS):
        before, shares = shares, _solved(products, weights, shares)
        errors = squared_errors(products, shares)
        weights = np.where(counts, 1.0 / np.where(counts, errors, 1.0), 0.0) / n_counted
        if np.abs(shares - before).max() < STILL:
            break
    return shares


def _reach(i: int, n_networks: int) -> np.ndarray:
    """Return how much each estimate y_mj has in z_i for a share of one."""
    return np.tile(np.arange(N_STEMS) == i, n_networks) - 1.0 / N_STEMS


def _solved(products: Products, weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the shares with the least sum of weights (N, stem) times squared errors, found from `shares`."""
    n = products.estimates.shape[1] - 1
    P, t = np.zeros((n, n)), np.zeros(n)
    for i in range(N_STEMS):
        reach = _reach(i, len(shares))
        estimates = np.tensordot(weights[:, i], products.estimates, 1)
        P += np.outer(reach, reach) * estimates[:n, :n]
        t += reach * (weights[:, i] @ products.targets[:, i, :n] - estimates[:n, n] / N_STEMS)
    w = shares.ravel().copy()
    for _ in range(SWEEPS):
        before = w.copy()
        for j in range(N_STEMS):
            own = np.arange(j, n, N_STEMS)
            rest = t[own] - P[own] @ w + P[np.ix_(own, own)] @ w[own]
            w[own] = best_shares(P[np.ix_(own, own)], rest)
        if np.abs(w - before).max() < STILL:
            break
    return w.reshape(shares.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A set of networks, its shares [network][stem] as they are written down, and what they bring."""

    networks: tuple[str, ...]
    shares: Table
    sdr_db: tuple[float, ...]
    """Mean SDR per stem on the mixtures that the shares were fitted to."""
    usual_sdr_db: tuple[float, ...]
    """The same with the shares that are taken where none were fitted: the paper's."""

    @property
    def mean_sdr_db(self) -> float:
        """Mean of the stems."""
        return float(np.mean(self.sdr_db))

    @property
    def usual_mean_sdr_db(self) -> float:
        """Mean of the stems with the paper's shares."""
        return float(np.mean(self.usual_sdr_db))


def fit_blends(products: Products) -> list[Fitted]:
    """Return the shares of every set of networks, single ones first."""
    names, fitted = products.networks, []
    for size in range(1, len(names) + 1):
        for chosen in combinations(names, size):
            own = products.only(chosen)
            shares = rounded(fit_shares(own))
            usual = np.array(blend_table(chosen, PAPER))
            fitted.append(
                Fitted(
                    networks=chosen,
                    shares=tuple(tuple(float(v) for v in row) for row in shares),
                    sdr_db=tuple(float(v) for v in mean_sdr_db(own, shares)),
                    usual_sdr_db=tuple(float(v) for v in mean_sdr_db(own, usual)),
                )
            )
    return fitted


def rounded(shares: np.ndarray) -> np.ndarray:
    """Return shares (network, stem) to three digits that still sum to one: the largest takes the rest.

    >>> rounded(np.full((3, 1), 1 / 3)).ravel().tolist()
    [0.334, 0.333, 0.333]
    """
    thousandths = np.rint(1000.0 * shares)
    stems = np.arange(shares.shape[1])
    thousandths[thousandths.argmax(axis=0), stems] += 1000.0 - thousandths.sum(axis=0)
    return thousandths / 1000.0


def blend_toml(fitted: Sequence[Fitted]) -> str:
    """Return the tables of a profile's TOML for the sets of two networks or more."""
    lines: list[str] = []
    for blend in fitted:
        if len(blend.networks) < 2:
            continue
        lines.append(f'[blend."{"+".join(blend.networks)}"]')
        for j, stem in enumerate(STEMS):
            lines.append(f"{stem} = [{', '.join(f'{row[j]:g}' for row in blend.shares)}]")
        lines.append("")
    return "\n".join(lines)
