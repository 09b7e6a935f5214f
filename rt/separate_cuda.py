"""The separation on an NVIDIA GPU: what `separate.Separator` is on the CPU, the whole hop on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..models.bundles import find_weights, load_network
from ..models.danna import Ensemble
from ..models.profiles import Profile, load_profile
from ..models.runners.torch_cuda import TorchCuda
from ..models.runners.torch_hop import STAGES, HopState
from .errors import ConfigError


class CudaSeparator:
    """Four stems from a stereo mixture at the model's rate, in steps of a hop or in long pieces.

    Implements `models.streaming.Streaming` over numpy arrays without a batch axis:
    (2, sample) float32 -> (4, 2, sample) float32.  Latency: the profile's.
    networks: by kind, each of the profile's members. device: 'cpu' runs the same eagerly, for tests.
    Thread: one at a time; any number of states.  Raises: CudaError (a ModelError), here and in each call.
    """

    ratio = Fraction(1)
    stages = STAGES

    def __init__(self, profile: Profile, networks: Mapping[str, Any], device: str = "cuda") -> None:
        self.profile = profile
        self.runner = TorchCuda(Ensemble(profile, networks), device)
        self.hop, self.latency_samples = self.runner.hop, self.runner.latency_samples
        self.on_stage: Callable[[str], None] | None = None
        """Called with each of `stages` as it ends, where somebody measures (`latency.deadline`)."""

    def init_state(self, batch: int = 1) -> HopState:
        """Return the state of a stream that has heard silence; `batch` can only be 1."""
        if batch != 1:
            raise ConfigError(
                f"the CUDA path separates one stream per state, not {batch}: make several states"
            )
        return self.runner.init_state()

    def step(self, x: np.ndarray, state: HopState) -> tuple[np.ndarray, HopState]:
        """Return the stems of the next hops, delayed by `latency_samples`, and the state updated in place."""
        return self.runner.step(x, state, self.on_stage), state

    def run(self, x: np.ndarray, state: HopState) -> tuple[np.ndarray, HopState]:
        """Return what `step` returns: many hops cross over at once there too."""
        return self.step(x, state)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops."""
        return self.runner.forward(x)

    def flush(self, state: HopState) -> np.ndarray:
        """Return the last `latency_samples` of the stems, as if silence followed."""
        return self.runner.flush(state)


def load_cuda_separator(
    profile: str = "live", weights: Path | None = None, *, device: str = "cuda"
) -> CudaSeparator:
    """Return the separator of a profile, its graphs recorded.

    Raises: SpecError, WeightsError from the profile and its weights; CudaError.
    """
    chosen = load_profile(profile)
    paths = find_weights(chosen, weights)
    networks = {m.kind: load_network(m, paths[m.kind]) for m in chosen.members}
    return CudaSeparator(chosen, networks, device)
