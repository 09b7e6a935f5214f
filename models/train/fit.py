"""Fit: shards in, weights out; needs torch, numpy and safetensors only.

`python -m stemrack.models.train.fit` runs it without the command line's packages, and
`torchrun --nproc-per-node N -m stemrack.models.train.fit` in N processes (see `place`).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from ..bundles import write_weights
from ..errors import SpecError
from ..profiles import Profile, load_profile
from ..stems import MODEL_RATE_HZ, STEMS
from ..xumx import Xumx
from .checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from .losses import BandSums, band_errors, band_loss, band_sums, spread_parts, stack_sums
from .mixing import Batch, MixConfig, Mixer, eq_curves
from .place import SINGLE, Place, find_place
from .progress import FitLog
from .shards import data_hash, read_index

STATISTICS_BATCHES = 12
VALIDATION_BATCHES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """One training run; `steps` may grow when it is resumed."""

    shards: Path
    out: Path
    profile: str = "live"
    steps: int = 5000
    decay_steps: int = 1500
    """Length of the linear decay at the end; before it the rate is constant."""
    warm_steps: int = 100
    batch: int = 8
    seconds: float = 4.0
    rate: float = 1e-3
    weight_decay: float = 1e-2
    average: float = 0.999
    balance: float = 0.1
    """Weight of the logarithm in `losses.band_loss`."""
    seed: int = 1
    checkpoint_steps: int = 100
    validate_steps: int = 200
    device: str = "auto"
    precision: str = SINGLE

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.checkpoint_steps, self.validate_steps) < 1 or self.seconds <= 0:
            raise SpecError("fit needs steps, batch, seconds, checkpoint_steps and validate_steps above zero")

    @property
    def n_samples(self) -> int:
        """Length of an example: whole frame steps of every profile."""
        return int(self.seconds * MODEL_RATE_HZ) // 4096 * 4096

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, constant, linear decay."""
        warm = min(1.0, (step + 1) / self.warm_steps)
        left = (self.steps - step) / max(1, min(self.decay_steps, self.steps))
        return self.rate * warm * min(1.0, max(0.0, left))


class Analysis:
    """From a batch of audio to what network and loss need, on the device of the network."""

    def __init__(self, profile: Profile, device: torch.device) -> None:
        self._windows, self._layout, self._device = profile.windows, profile.bands, device
        self._step = profile.frame_step_samples
        window = torch.tensor(profile.windows.analysis, dtype=torch.float32)
        # |X| = 1 for a full-scale sine: the scale that band_features is defined in
        self._window = (window * (2.0 / window.sum())).to(device)

    def spectra(self, audio: torch.Tensor) -> torch.Tensor:
        """Return spectra (..., frame, bin) of audio (..., sample)."""
        w = self._windows
        padded = torch.nn.functional.pad(audio, (w.analysis_samples - self._step, 0))
        return torch.fft.rfft(padded.unfold(-1, w.analysis_samples, self._step) * self._window)

    @torch.no_grad()
    def sums(self, batch: Batch) -> BandSums:
        """Return the band sums of a batch; one example at a time, its silent parts left out."""
        rows = []
        for audio, groups, eq_db in zip(batch.audio, batch.groups, batch.eq_db, strict=True):
            sounding = np.flatnonzero(audio.any((1, 2)))
            heard = sounding if len(sounding) else np.arange(1)
            curves = torch.from_numpy(eq_curves(eq_db[heard], self._windows.n_bins)).to(self._device)
            S = self.spectra(torch.from_numpy(audio[heard]).to(self._device))
            S.mul_(curves[:, None, None, :])
            places = torch.from_numpy(heard).to(self._device)
            known = torch.from_numpy(groups).to(self._device)
            rows.append(spread_parts(band_sums(S[None], known[None, places], self._layout), known, places))
        return stack_sums(rows)


def network_input(sums: BandSums) -> torch.Tensor:
    """Return the network's input (B, 1, 3K, T) of a batch."""
    return sums.features.transpose(1, 2)[:, None]


def prefetched(mixer: Mixer, config: FitConfig, first: int, place: Place) -> Iterator[Batch]:
    """Yield this process's batches from step `first` on: one is mixed while another is learnt."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = None
        for step in range(first, config.steps):
            number = step * place.n_ranks + place.rank
            mixing = pool.submit(mixer.batch, number, config.batch, config.n_samples)
            if ahead is not None:
                yield ahead.result()
            ahead = mixing
        if ahead is not None:
            yield ahead.result()


def measure_statistics(mixer: Mixer, analysis: Analysis, config: FitConfig, network: Xumx) -> None:
    """Set the network's input scaling from the training stream (batches that no step uses)."""
    rows = []
    for i in range(STATISTICS_BATCHES):
        features = analysis.sums(mixer.batch(10**9 + i, config.batch, config.n_samples)).features
        rows.append(features.flatten(0, 1)[::4])
    stacked = torch.cat(rows)
    network.standardise(stacked.mean(0), stacked.std(0).clamp_min(0.05))


@torch.no_grad()
def validate(network: Xumx, batches: list[BandSums]) -> dict[str, float]:
    """Return the mean SDR in dB per stem over held-out mixtures, and the mean of the stems.

    Counted where a stem is known alone and holds at least a hundredth of the mixture's energy.
    """
    network.eval()
    found: dict[str, list[float]] = {name: [] for name in STEMS}
    for sums in batches:
        errors = band_errors(network(network_input(sums)), sums).clamp_min(1e-9)
        audible = sums.parts > 0.01 * sums.mixture.sum((1, 2, 3))[:, None]
        alone = (sums.groups.sum(2) == 1) & audible
        for b, g in alone.nonzero().tolist():
            stem = STEMS[int(sums.groups[b, g].argmax())]
            found[stem].append(10 * math.log10(float(sums.parts[b, g]) / float(errors[b, g])))
    network.train()
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}
    return {**means, "mean": float(np.mean(list(means.values())))}


def average_into(averaged: Xumx, network: Xumx, decay: float) -> None:
    """Move the averaged network (weights and running statistics) towards the trained one, in place."""
    own = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(own[name], 1.0 - decay)


class Run:
    """One training run: networks, optimiser, progress.  Resumes from `config.out` when it is made."""

    def __init__(self, config: FitConfig, command: str) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.profile = load_profile(config.profile)
        self.shards = read_index(config.shards)
        self.place = find_place(config.device, config.precision)
        device = self.place.device
        self.analysis = Analysis(self.profile, device)
        self.network = Xumx(self.profile.xumx).to(device)
        self.averaged = Xumx(self.profile.xumx).to(device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.rate, weight_decay=config.weight_decay
        )
        self.mixer = Mixer(config.shards, self.shards, "train", MixConfig(), config.seed)
        held_out = Mixer(config.shards, self.shards, "valid", MixConfig(), seed=0)
        self.held_out = [
            self.analysis.sums(held_out.batch(i, config.batch, 2 * config.n_samples))
            for i in range(VALIDATION_BATCHES)
        ]
        found = latest_checkpoint(config.out)
        if found is None:
            measure_statistics(self.mixer, self.analysis, config, self.network)
            self.averaged.load_state_dict(self.network.state_dict())
            self.state = Checkpoint(step=0, best_db=-np.inf, seconds=0.0, stretches=[])
        else:
            self.state = found.restore(self.network, self.averaged, self.optimiser)
        self.state.begin(command, data_hash(self.shards))
        self.called, self.stepped = self.place.set_up(self.network, self.optimiser)

    def learn(self, batch: Batch) -> float:
        """Take one step on a batch; return its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate_at(self.state.step)
        sums = self.analysis.sums(batch)
        loss = band_loss(self.called(network_input(sums)), sums, balance=self.config.balance)
        self.stepped.zero_grad(set_to_none=True)
        self.place.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.stepped.step()
        self.state.step += 1
        decay = min(self.config.average, (self.state.step + 1) / (self.state.step + 10))
        average_into(self.averaged, self.network, decay)
        return float(loss.detach())

    def keep_best(self, scores: dict[str, float]) -> None:
        """Write the averaged network to `best.safetensors` if it beats all before."""
        if scores["mean"] <= self.state.best_db:
            return
        self.state.best_db = scores["mean"]
        settings = asdict(self.config) | {"shards": self.config.shards.name, "out": self.config.out.name}
        manifest = {
            "profile": self.profile.name,
            "steps": self.state.step,
            "seconds": round(self.state.seconds),
            "held_out_sdr_db": {name: round(value, 3) for name, value in scores.items()},
            "stretches": self.state.stretches,
            "settings": settings,
            "sources": sorted({name for shard in self.shards for name in shard.sources}),
        }
        write_weights(self.config.out / "best.safetensors", self.averaged, manifest)

    def save(self) -> None:
        """Write a checkpoint."""
        save_checkpoint(self.config.out, self.state, self.network, self.averaged, self.optimiser)


def fit(config: FitConfig, command: str = "") -> Path:
    """Train until `config.steps`, resuming from `config.out`; return the path of the best weights.

    Writes below `config.out`: checkpoints (the newest two), `log.csv`, TensorBoard events where it is
    installed, `best.safetensors` (float16, averaged weights) and `best.json` (manifest).
    """
    run = Run(config, command)
    writes = run.place.rank == 0
    log = FitLog(config.out, config.steps, run.state.step) if writes else None
    started = time.monotonic() - run.state.seconds
    for batch in prefetched(run.mixer, config, run.state.step, run.place):
        loss = run.learn(batch)
        run.state.seconds = time.monotonic() - started
        if log is not None:
            _record(run, log, loss)
    if log is not None:
        log.close()
    return config.out / "best.safetensors"


def _record(run: Run, log: FitLog, loss: float) -> None:
    config, step = run.config, run.state.step
    last = step == config.steps
    log.step(step, loss, config.rate_at(step))
    if step % config.validate_steps == 0 or last:
        scores = validate(run.averaged, run.held_out)
        log.validation(step, scores)
        run.keep_best(scores)
    if step % config.checkpoint_steps == 0 or last:
        run.save()


def main(arguments: list[str] | None = None) -> int:
    """Run `fit` from a command line; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="stemrack train fit", description="Shards in, weights out.")
    for field in fields(FitConfig):
        default = None if field.default is MISSING else field.default
        kind = Path if field.name in ("shards", "out") else type(default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=default, required=default is None
        )
    options = vars(parser.parse_args(given))
    weights = fit(FitConfig(**options), "stemrack train fit " + " ".join(given))
    print(weights)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
