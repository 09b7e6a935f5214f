"""Fit: shards in, weights out; needs torch, numpy and safetensors only.

`python -m stemrack.models.train.fit` runs it without the command line's packages, and
`torchrun --nproc-per-node N -m stemrack.models.train.fit` in N processes (see `place`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..bundles import load_network, new_network, write_weights
from ..errors import SpecError
from ..profiles import SPECTRAL, load_profile
from ..stems import MODEL_RATE_HZ
from .checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from .mixing import Batch, MixConfig, Mixer
from .place import SINGLE, Place, find_place
from .progress import FitLog
from .shards import data_hash, read_index
from .spectral_task import SpectralTask, mean_sdr_db
from .waveform_task import WaveformTask


class Task(Protocol):
    """What differs between networks of frames and of samples; each knows its own form of a batch."""

    def prepared(self, batch: Batch, /) -> Any: ...

    def set_statistics(self, network: nn.Module, batches: list[Any], /) -> None: ...

    def loss(self, called: nn.Module, prepared: Any, /) -> torch.Tensor: ...

    def squared_errors(self, network: nn.Module, prepared: Any, /) -> torch.Tensor: ...

    def energies(self, prepared: Any, /) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...


STATISTICS_BATCHES = 12
VALIDATION_BATCHES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """One training run; `steps` may grow when it is resumed."""

    shards: Path
    out: Path
    profile: str = "live"
    network: str = "xumx"
    """Which of the profile's networks."""
    start: Path | None = None
    """Weights to start from, those of the same network in another profile."""
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

    @property
    def held_out_size(self) -> int:
        """Held-out mixtures a batch; fewer where each is kept as sound."""
        return self.batch if self.network in SPECTRAL else max(1, self.batch // 2)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, constant, linear decay."""
        warm = min(1.0, (step + 1) / self.warm_steps)
        left = (self.steps - step) / max(1, min(self.decay_steps, self.steps))
        return self.rate * warm * min(1.0, max(0.0, left))


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


@torch.no_grad()
def validate(network: nn.Module, task: Task, batches: list[Any]) -> dict[str, float]:
    """Return the mean SDR in dB per stem over held-out mixtures, and the mean of the stems."""
    network.eval()
    rows = [(task.squared_errors(network, batch), *task.energies(batch)) for batch in batches]
    network.train()
    return mean_sdr_db(rows)


def average_into(averaged: nn.Module, network: nn.Module, decay: float) -> None:
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
        member = self.profile.member(config.network)
        form = SpectralTask if config.network in SPECTRAL else WaveformTask
        self.task: Task = form(self.profile, device, balance=config.balance)
        self.network = new_network(member).to(device)
        if config.network == "unet":  # small convolutions: a step takes a fifth to a third less time so
            self.network.to(memory_format=torch.channels_last)
        self.averaged = new_network(member).to(device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.rate, weight_decay=config.weight_decay
        )
        self.mixer = Mixer(config.shards, self.shards, "train", MixConfig(), config.seed)
        held_out = Mixer(config.shards, self.shards, "valid", MixConfig(), seed=0)
        self.held_out = [
            self.task.prepared(held_out.batch(i, config.held_out_size, 2 * config.n_samples))
            for i in range(VALIDATION_BATCHES)
        ]
        found = latest_checkpoint(config.out)
        if found is None:
            self._begin(device)
            self.averaged.load_state_dict(self.network.state_dict())
            self.state = Checkpoint(step=0, best_db=-np.inf, seconds=0.0, stretches=[])
        else:
            self.state = found.restore(self.network, self.averaged, self.optimiser)
        self.state.begin(command, data_hash(self.shards))
        self.called, self.stepped = self.place.set_up(self.network, self.optimiser)

    def _begin(self, device: torch.device) -> None:
        """Set what a run starts from: the weights of another one, or the input's statistics."""
        config = self.config
        if config.start is not None:
            start = load_network(self.profile.member(config.network), config.start)
            self.network.load_state_dict(start.to(device).state_dict())
            return
        batches = [  # of numbers that no step uses
            self.task.prepared(self.mixer.batch(10**9 + i, config.batch, config.n_samples))
            for i in range(STATISTICS_BATCHES if config.network in SPECTRAL else 0)
        ]
        self.task.set_statistics(self.network, batches)

    def learn(self, batch: Batch) -> float:
        """Take one step on a batch; return its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate_at(self.state.step)
        loss = self.task.loss(self.called, self.task.prepared(batch))
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
        settings["start"] = self.config.start and self.config.start.parent.name
        manifest = {
            "profile": self.profile.name,
            "network": self.config.network,
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
        scores = validate(run.averaged, run.task, run.held_out)
        log.validation(step, scores)
        run.keep_best(scores)
    if step % config.checkpoint_steps == 0 or last:
        run.save()


def main(arguments: list[str] | None = None) -> int:
    """Run `fit` from a command line; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    torch.set_flush_denormal(True)  # gradients through silence decay into them
    parser = argparse.ArgumentParser(prog="stemrack train fit", description="Shards in, weights out.")
    for field in fields(FitConfig):
        default = None if field.default is MISSING else field.default
        kind = Path if field.name in ("shards", "out", "start") else type(default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=default, required=field.default is MISSING
        )
    options = vars(parser.parse_args(given))
    weights = fit(FitConfig(**options), "stemrack train fit " + " ".join(given))
    print(weights)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
