"""Where training runs: device, precision, processes; the home of Lightning Fabric.

One process in single precision needs nothing but torch. More processes (`torchrun`) and other precisions
go through Fabric, which then has to be installed.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import SpecError

SINGLE = "32-true"


@dataclass(frozen=True, slots=True)
class Place:
    """A device in one of `n_ranks` processes; rank 0 is the one that writes."""

    device: torch.device
    rank: int = 0
    n_ranks: int = 1
    fabric: Any = None

    def set_up(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return network and optimiser as they are to be called here; the network is moved already."""
        return (network, optimiser) if self.fabric is None else self.fabric.setup(network, optimiser)

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients of a loss, averaged over the processes."""
        if self.fabric is None:
            loss.backward()
        else:
            self.fabric.backward(loss)


def find_place(device: str, precision: str) -> Place:
    """Return where this process trains; starts the process group when `torchrun` started several.

    device: `auto`, `cpu` or `cuda`; precision: Fabric's names (`32-true`, `bf16-mixed`, `16-mixed`).
    Raises: SpecError when Fabric is needed and not there, or the device is not.
    """
    chosen = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if chosen == "cuda" and not torch.cuda.is_available():
        raise SpecError("no CUDA device here: use --device cpu, or install torch's CUDA build")
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks == 1 and precision == SINGLE:
        return Place(torch.device(chosen))
    if importlib.util.find_spec("lightning_fabric") is None:
        raise SpecError(
            f"{n_ranks} processes in {precision} need lightning-fabric: pip install lightning-fabric"
        )
    from lightning_fabric import Fabric

    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=chosen,
        devices=per_node,
        num_nodes=max(1, n_ranks // per_node),
        strategy="ddp" if n_ranks > 1 else "auto",
        precision=precision,  # pyright: ignore[reportArgumentType]
    )
    fabric.launch()
    return Place(fabric.device, fabric.global_rank, fabric.world_size, fabric)
