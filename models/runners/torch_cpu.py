"""Torch on the CPU, eager: the reference that every other runner must agree with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .step_graph import step_of

RunnerState = list[torch.Tensor]


class TorchCpuRunner:
    """Runs the step of a network eagerly.  Thread: one at a time."""

    name = "torch-cpu"

    def __init__(self, network: Any) -> None:
        self._step = step_of(network)

    def init_state(self) -> RunnerState:
        """Return the state of a stream that has heard nothing."""
        return [tensor.clone() for tensor in self._step.initial()]

    def step(self, x: np.ndarray, state: RunnerState) -> np.ndarray:
        """Return the answer to the next frames (k, n_in) or samples (channel, n); updates the state."""
        with torch.inference_mode():
            y, *following = self._step(torch.from_numpy(np.ascontiguousarray(x)), *state)
            for own, new in zip(state, following, strict=True):
                own.copy_(new)
            return y.contiguous().numpy()
