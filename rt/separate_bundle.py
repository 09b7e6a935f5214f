"""The separator of a third-party streaming bundle: its graph in ONNX Runtime, its stems in our order."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..models.bundle_step import BundleStep, BundleStreamState
from ..models.stems import N_STEMS
from ..models.streaming_bundle import BundleManifest, find_bundle, read_manifest
from .errors import ConfigError

RUNNERS = ("auto", "onnx-cpu")


class BundleSeparator:
    """Four stems from a stereo mixture at the model's rate, a hop of the bundle's at a time.

    Implements `models.streaming.Streaming` over numpy arrays without a batch axis:
    (2, sample) float32 -> (4, 2, sample) float32.  Latency: what the manifest says.
    Thread: one at a time (buffers are its own); any number of states.
    """

    ratio = Fraction(1)

    def __init__(self, step: BundleStep) -> None:
        self._step = step
        self.profile: BundleManifest = step.manifest
        self.hop, self.latency_samples = step.manifest.hop, step.manifest.latency_samples
        self.window_latency_ms = step.manifest.window_latency_ms
        self.stages = (step.manifest.name,)
        self.on_stage: Callable[[str], None] | None = None
        """Called as the graph ends, where somebody measures (`latency.deadline`)."""

    def init_state(self, batch: int = 1) -> BundleStreamState:
        """Return the state of a stream that has heard silence; `batch` can only be 1."""
        if batch != 1:
            raise ConfigError(
                f"the CPU path separates one stream per state, not {batch}: make several states"
            )
        return self._step.init_state()

    def step(self, x: np.ndarray, state: BundleStreamState) -> tuple[np.ndarray, BundleStreamState]:
        """Return the stems of the next hops, delayed by `latency_samples`, and the state updated in place."""
        out = np.empty((N_STEMS, 2, x.shape[-1]), np.float32)
        for start in range(0, x.shape[-1], self.hop):
            stop = start + self.hop
            self._step.step(x[:, start:stop], state, out[..., start:stop])
            if self.on_stage:
                self.on_stage(self.stages[0])
        return out, state

    run = step
    """A bundle's graph takes one hop: there is no faster way."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops."""
        state = self.init_state()
        late, _ = self.step(x, state)
        return np.concatenate([late[..., self.latency_samples :], self.flush(state)], axis=-1)

    def flush(self, state: BundleStreamState) -> np.ndarray:
        """Return the last `latency_samples` of the stems, as if silence followed until the window is full."""
        n_hops = -(-(self.profile.window_samples - self.hop) // self.hop)
        rest, _ = self.step(np.zeros((2, n_hops * self.hop), np.float32), state)
        return rest[..., : self.latency_samples]


def load_bundle_separator(
    path_or_name: str, home: Path | None = None, runner: str = "auto", *, n_threads: int = 2
) -> BundleSeparator:
    """Return the separator of a bundle: a manifest's path, or `bundle:NAME` in a folder of bundles.

    n_threads: of ONNX Runtime, at most one a core.
    Raises: ConfigError for a runner other than ONNX Runtime; SpecError, WeightsError and ModelError from
    the manifest, its file and its graph.
    """
    if runner not in RUNNERS:
        raise ConfigError(f"a bundle runs in {' or '.join(RUNNERS)}, not in '{runner}'")
    manifest = read_manifest(find_bundle(path_or_name, home))
    return BundleSeparator(BundleStep(manifest, n_threads=min(n_threads, os.cpu_count() or 1)))
