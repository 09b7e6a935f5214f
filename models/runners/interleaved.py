"""A runner for profiles whose network runs as several phases (see `layers.Interleaved`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Runner(Protocol):
    """The step of a network in some engine; the state is of its own making."""

    name: str

    def init_state(self) -> Any:
        """Return the zeroed state of a stream."""
        ...

    def step(self, x: np.ndarray, state: Any, /) -> np.ndarray:
        """Return the answer to what comes next; updates the state.

        Networks of frames: features (k, n_in) of k frames -> masks (stem, channel, k, band).
        Networks of samples: (channel, n) -> (stem, channel, n).
        """
        ...


@dataclass(slots=True)
class PhaseStates:
    """A state for each phase, and whose turn it is."""

    phases: list[Any]
    turn: np.ndarray
    """int64 (1,)."""


class InterleavedRunner:
    """Runs frame t on stream t mod n_phases of another runner; equal to `layers.Interleaved`."""

    def __init__(self, runner: Runner, n_phases: int) -> None:
        self.name = runner.name
        self._runner, self._n_phases = runner, n_phases

    def init_state(self) -> PhaseStates:
        """Return the states of fresh phases; the first frame goes to phase 0."""
        phases = [self._runner.init_state() for _ in range(self._n_phases)]
        return PhaseStates(phases=phases, turn=np.zeros(1, np.int64))

    def step(self, features: np.ndarray, state: PhaseStates) -> np.ndarray:
        """Return the masks (stem, channel, k, band) of k frames of features (k, n_in); updates the state."""
        k = features.shape[0]
        if k == 1:
            masks = self._runner.step(features, state.phases[int(state.turn[0])])
        else:
            masks = self._many(features, state)
        state.turn[0] = (state.turn[0] + k) % self._n_phases
        return masks

    def _many(self, features: np.ndarray, state: PhaseStates) -> np.ndarray:
        masks = np.empty(0, np.float32)
        for first in range(min(self._n_phases, features.shape[0])):
            phase = state.phases[int(state.turn[0] + first) % self._n_phases]
            part = self._runner.step(np.ascontiguousarray(features[first :: self._n_phases]), phase)
            if not masks.size:
                masks = np.empty((*part.shape[:2], features.shape[0], part.shape[3]), np.float32)
            masks[:, :, first :: self._n_phases] = part
        return masks
