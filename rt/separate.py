"""The separation itself on the CPU: mixture spectrum, network, Wiener filter, four stems.

    x -> frames -> FFT -> band features -> network -> masks -> Wiener -> inverse FFT -> overlap-add

The arithmetic is numpy's FFT and our numba kernels; the network runs in a runner. Frames come before
bins in memory here, as an FFT writes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..models.band_kernels import features_into, spread_into
from ..models.bundles import find_weights, load_xumx
from ..models.overlap_add import frame_into, frame_tail, overlap_add_into, overlap_tail
from ..models.profiles import Profile, load_profile
from ..models.runners.interleaved import InterleavedRunner, Runner
from ..models.stems import N_STEMS
from ..models.wiener_kernels import WienerState, forgetting_factor, stream_scale, wiener_frames
from .errors import ConfigError

FFT: Any = np.fft
"""numpy's own, in single precision where it is given that (which its annotations do not know)."""

RUNNERS = ("auto", "int8-cpu", "onnx-cpu", "torch-cpu")
PIECE_FRAMES = 64
"""Frames that `run` takes at once: enough for the matrix products to fill a core, 30 MB of buffers."""

STAGES = ("analysis", "features", "network", "masks", "Wiener", "synthesis")
"""What a hop goes through, in this order."""


@dataclass(slots=True)
class SeparatorState:
    """Everything one stereo stream remembers."""

    frames: np.ndarray
    overlap: np.ndarray
    wiener: WienerState
    network: Any


class _Buffers:
    """Arrays for k frames at once, made once and used again."""

    def __init__(self, profile: Profile, k: int) -> None:
        w, layout = profile.windows, profile.bands
        self.framed = np.empty((2, k, w.analysis_samples), np.float32)
        self.X = np.empty((2, k, w.n_bins), np.complex64)
        self.features = np.empty((k, profile.xumx.n_in_bins), np.float32)
        self.masks = np.empty((N_STEMS, 2, k, layout.n_bins), np.float32)
        self.Y = np.empty((N_STEMS, 2, k, w.n_bins), np.complex64)
        self.waves = np.empty((N_STEMS, 2, k, w.analysis_samples), np.float32)


class Separator:
    """Four stems from a stereo mixture at the model's rate, in steps of a hop or in long pieces.

    Implements `models.streaming.Streaming` over numpy arrays without a batch axis:
    (2, sample) float32 -> (4, 2, sample) float32.  Latency: synthesis window - hop.
    Thread: one at a time (the buffers are its own); any number of states.
    """

    ratio = Fraction(1)

    def __init__(self, profile: Profile, runner: Runner) -> None:
        self.profile, self.runner = profile, InterleavedRunner(runner, profile.phases)
        w = profile.windows
        self.hop, self.latency_samples = w.hop, w.latency_samples
        self._analysis = w.analysis.astype(np.float32)
        self._synthesis = w.synthesis.astype(np.float32)
        self._starts = profile.bands.starts
        self._gain = 1.0 / w.sine_magnitude
        self._decay = forgetting_factor(profile.forget_s, w.hop)
        self._scale = stream_scale(w)
        self._buffers: dict[int, _Buffers] = {}
        self.on_stage: Callable[[str], None] | None = None
        """Called with each of STAGES as it ends, where somebody measures (`latency.deadline`)."""

    def init_state(self, batch: int = 1) -> SeparatorState:
        """Return the state of a stream that has heard silence; `batch` can only be 1."""
        if batch != 1:
            raise ConfigError(
                f"the CPU path separates one stream per state, not {batch}: make several states"
            )
        w = self.profile.windows
        return SeparatorState(
            frames=frame_tail(2, w.analysis_samples, w.hop),
            overlap=overlap_tail(N_STEMS, 2, w.synthesis_samples, w.hop),
            wiener=WienerState.fresh(n_bins=w.n_bins),
            network=self.runner.init_state(),
        )

    def step(self, x: np.ndarray, state: SeparatorState) -> tuple[np.ndarray, SeparatorState]:
        """Return the stems of the next hops, delayed by `latency_samples`, and the state updated in place."""
        out = np.empty((N_STEMS, 2, x.shape[-1]), np.float32)
        for start in range(0, x.shape[-1], self.hop):
            stop = start + self.hop
            self._frames(x[:, start:stop], state, out[:, :, start:stop])
        return out, state

    def run(self, x: np.ndarray, state: SeparatorState) -> tuple[np.ndarray, SeparatorState]:
        """Return what `step` returns (to 1e-4), many hops at once and so faster."""
        out = np.empty((N_STEMS, 2, x.shape[-1]), np.float32)
        piece = PIECE_FRAMES * self.hop
        for start in range(0, x.shape[-1], piece):
            stop = min(start + piece, x.shape[-1])
            self._frames(x[:, start:stop], state, out[:, :, start:stop])
        return out, state

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops."""
        state = self.init_state()
        late, _ = self.run(x, state)
        return np.concatenate([late[..., self.latency_samples :], self.flush(state)], axis=-1)

    def flush(self, state: SeparatorState) -> np.ndarray:
        """Return the last `latency_samples` of the stems, as if silence followed."""
        n_hops = -(-self.latency_samples // self.hop)
        rest, _ = self.step(np.zeros((2, n_hops * self.hop), np.float32), state)
        return rest[..., : self.latency_samples]

    def _frames(self, x: np.ndarray, state: SeparatorState, out: np.ndarray) -> None:
        k = x.shape[-1] // self.hop
        b = self._buffers.get(k)
        if b is None:
            if k not in (1, PIECE_FRAMES):  # the odd rest of a signal: only the last such size is kept
                self._buffers = {n: kept for n, kept in self._buffers.items() if n in (1, PIECE_FRAMES)}
            b = self._buffers[k] = _Buffers(self.profile, k)
        ended = self.on_stage or _nobody
        frame_into(x, state.frames, self._analysis, b.framed)
        FFT.rfft(b.framed, out=b.X)
        ended("analysis")
        features_into(b.X, self._starts, self._gain, b.features)
        ended("features")
        masks = self.runner.step(b.features, state.network)
        ended("network")
        # The masks are gains, shares of power; the filter takes shares of magnitude (see `models.spectral`).
        spread_into(np.sqrt(masks), self._starts, b.masks)
        ended("masks")
        wiener_frames(b.X, b.masks, state.wiener.N, state.wiener.d, self._decay, self._scale, b.Y)
        ended("Wiener")
        FFT.irfft(b.Y, out=b.waves)
        overlap_add_into(b.waves[..., -len(self._synthesis) :], self._synthesis, state.overlap, out)
        ended("synthesis")


def _nobody(stage: str) -> None:
    """Hear of a stage while nobody measures: 6 calls of nothing a hop."""


def load_separator(
    profile: str = "live", runner: str = "auto", weights: Path | None = None, *, n_threads: int = 2
) -> Separator:
    """Return the separator of a profile, its network in the runner asked for (`auto`: int8-cpu).

    n_threads: of the network in ONNX Runtime, at most one a core.

    Raises: ConfigError for an unknown runner; SpecError, WeightsError from the profile and its weights.
    """
    if runner not in RUNNERS:
        raise ConfigError(f"no runner '{runner}': there are {', '.join(RUNNERS)}")
    chosen = load_profile(profile)
    path = find_weights(chosen, weights)
    if runner == "torch-cpu":
        from ..models.runners.torch_cpu import TorchCpuRunner

        return Separator(chosen, TorchCpuRunner(load_xumx(chosen, path)))
    from ..models.runners.exported import INT8, ONNX, exported

    if runner == "onnx-cpu":
        from ..models.runners.onnx_cpu import OnnxCpuRunner

        graph = exported(profile, path, ONNX)
        return Separator(chosen, OnnxCpuRunner(graph, n_threads=min(n_threads, os.cpu_count() or 1)))
    from ..models.runners.int8_cpu import Int8CpuRunner, load_packed

    return Separator(chosen, Int8CpuRunner(load_packed(exported(profile, path, INT8))))
