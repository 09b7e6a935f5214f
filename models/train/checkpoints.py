"""Checkpoints: what a training run resumes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

KEPT = 2


@dataclass(slots=True)
class Checkpoint:
    """Where a run stands: steps done, best validation so far and on which data, seconds of training."""

    step: int
    best_db: float
    seconds: float
    data_sha256: str


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint on disk."""

    path: Path

    def restore(
        self, network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer
    ) -> Checkpoint:
        """Return the progress, after loading networks and optimiser in place."""
        data = torch.load(self.path, weights_only=True, map_location="cpu")
        network.load_state_dict(data["network"])
        averaged.load_state_dict(data["averaged"])
        optimiser.load_state_dict(data["optimiser"])
        torch.set_rng_state(data["rng"])
        return Checkpoint(
            step=data["step"],
            best_db=data["best_db"],
            seconds=data["seconds"],
            data_sha256=data.get("data_sha256", ""),
        )


def latest_checkpoint(folder: Path) -> FoundCheckpoint | None:
    """Return the newest checkpoint of a run, or None."""
    paths = sorted(folder.glob("step-*.pt"))
    return FoundCheckpoint(paths[-1]) if paths else None


def save_checkpoint(
    folder: Path, state: Checkpoint, network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Write a checkpoint whole or not at all, and drop all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "step": state.step,
        "best_db": float(state.best_db),
        "seconds": state.seconds,
        "data_sha256": state.data_sha256,
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rng": torch.get_rng_state(),
    }
    unfinished = folder / "step.unfinished"
    torch.save(data, unfinished)
    os.replace(unfinished, folder / f"step-{state.step:08d}.pt")
    for path in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        path.unlink()
