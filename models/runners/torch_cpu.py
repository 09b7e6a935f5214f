"""Torch on the CPU, eager: the reference that every other runner must agree with."""

from __future__ import annotations

import numpy as np
import torch

from ..xumx import Xumx
from .step_graph import XumxStep

RunnerState = list[torch.Tensor]


class TorchCpuRunner:
    """Runs the step of a network eagerly.  Thread: one at a time."""

    name = "torch-cpu"

    def __init__(self, network: Xumx) -> None:
        self._step = XumxStep(network)

    def init_state(self) -> RunnerState:
        """Return the zeroed state of a stream."""
        return [torch.zeros(self._step.state_shape), torch.zeros(self._step.state_shape)]

    def step(self, features: np.ndarray, state: RunnerState) -> np.ndarray:
        """Return the masks (stem, channel, k, band) of k frames of features (k, n_in); updates the state."""
        with torch.inference_mode():
            masks, hidden, cell = self._step(torch.from_numpy(features), *state)
            state[0].copy_(hidden)
            state[1].copy_(cell)
            return masks.contiguous().numpy()
