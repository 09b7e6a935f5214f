"""Checkpoints: what a training run resumes from."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

KEPT = 2


@dataclass(slots=True)
class Checkpoint:
    """Where a run stands: steps done, best validation so far, seconds of training, how it came here."""

    step: int
    best_db: float
    seconds: float
    stretches: list[dict[str, Any]]
    """A row for each start and resumption that changed something: from_step, command, data_sha256."""

    def begin(self, command: str, data_sha256: str) -> None:
        """Note that training goes on from here; other data void the best score: its mixtures differ."""
        last = self.stretches[-1] if self.stretches else {}
        if last.get("data_sha256") != data_sha256:
            self.best_db = -math.inf
        if (last.get("command"), last.get("data_sha256")) != (command, data_sha256):
            self.stretches.append({"from_step": self.step, "command": command, "data_sha256": data_sha256})


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
            stretches=data["stretches"],
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
        "stretches": state.stretches,
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
