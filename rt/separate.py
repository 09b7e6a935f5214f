"""The separation itself on the CPU: the ensemble of `models.danna` in numpy, numba and runners.

    x -> frames -> FFT -> band features -> networks of frames -> masks -> Wiener -> sum -> inverse FFT
    x -> network of samples -> delay -> sum with what the overlap-add gives

The arithmetic is numpy's FFT and our numba kernels; each network runs in a runner. Frames come before
bins in memory here, as an FFT writes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..models.band_kernels import features_into, spread_into
from ..models.blend_kernels import add_delayed, add_shares
from ..models.bundles import find_weights, load_network
from ..models.chunked_profile import is_chunked
from ..models.network_configs import DemucsConfig
from ..models.overlap_add import frame_into, frame_tail, overlap_add_into, overlap_tail
from ..models.profiles import FEATURES_PER_BAND, SPECTRAL, Member, Profile, load_profile
from ..models.runners.interleaved import InterleavedRunner, Runner
from ..models.stems import N_STEMS
from ..models.streaming_bundle import is_bundle
from ..models.wiener_kernels import WienerState, forgetting_factor, stream_scale, wiener_frames
from .errors import ConfigError
from .profile_kinds import ACAPELLA, tdc_weights
from .runner_choice import CUDA, choose_runner
from .state_folder import bundles_home, models_home

FFT: Any = np.fft
"""numpy's own, in single precision where it is given that (which its annotations do not know)."""

RUNNERS = ("auto", "cpu", "int8-cpu", "onnx-cpu", "torch-cpu", "cuda")
"""`cpu`: the best for each network there, which `auto` takes where there is no CUDA."""
PIECE_FRAMES = 64
"""Frames that `run` takes at once: enough for the matrix products to fill a core, 30 MB of buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What a measurement changes to see what it is worth; as it stands, nothing."""

    wiener: bool = True
    """False: the masks alone, each a gain for both channels."""
    forget_s: float | None = None
    """Memory of the Wiener filter, if not the profile's."""


@dataclass(slots=True)
class SeparatorState:
    """Everything one stereo stream remembers."""

    frames: np.ndarray
    overlap: np.ndarray
    wieners: list[WienerState]
    networks: list[Any]
    """In the profile's order."""
    delayed: list[np.ndarray]
    """What each network of samples said too early, (stem, 2, sample)."""


class _Buffers:
    """Arrays for k frames at once, made once and used again."""

    def __init__(self, profile: Profile, k: int) -> None:
        w, layout = profile.windows, profile.bands
        self.framed = np.empty((2, k, w.analysis_samples), np.float32)
        self.X = np.empty((2, k, w.n_bins), np.complex64)
        self.features = np.empty((k, FEATURES_PER_BAND * layout.n_bands), np.float32)
        self.masks = np.empty((N_STEMS, 2, k, layout.n_bins), np.float32)
        self.Y = np.empty((N_STEMS, 2, k, w.n_bins), np.complex64)
        self.total = self.Y if len(profile.members) == 1 else np.empty_like(self.Y)
        self.waves = np.empty((N_STEMS, 2, k, w.analysis_samples), np.float32)


class Separator:
    """Four stems from a stereo mixture at the model's rate, in steps of a hop or in long pieces.

    Implements `models.streaming.Streaming` over numpy arrays without a batch axis:
    (2, sample) float32 -> (4, 2, sample) float32.  Latency: synthesis window - hop.
    Thread: one at a time (the buffers are its own); any number of states. overlaps: the networks of samples
    and the first of several of frames run in a second thread, beside the others; the arithmetic is the same.
    """

    ratio = Fraction(1)

    def __init__(
        self,
        profile: Profile,
        runners: Mapping[str, Runner],
        ablation: Ablation | None = None,
        *,
        overlaps: bool = False,
    ) -> None:
        changed = ablation or Ablation()
        self.profile = profile
        self._filters = changed.wiener
        shares = {k: np.array(row, np.float32) for k, row in zip(profile.kinds, profile.blend, strict=True)}
        self._of_frames = [
            (kind, InterleavedRunner(runners[kind], profile.phases), shares[kind])
            for kind in profile.kinds
            if kind in SPECTRAL
        ]
        self._of_samples = [
            (kind, runners[kind], shares[kind]) for kind in profile.kinds if kind not in SPECTRAL
        ]
        several = len(self._of_frames) + len(self._of_samples) > 1
        self._beside = ThreadPoolExecutor(1, "beside") if overlaps and several else None
        order = list(range(len(self._of_frames)))
        self._order: list[int] = order[1:] + order[:1] if self._beside else order
        """Of the networks of frames; the one that runs beside the others is waited for last."""
        w = profile.windows
        self.hop, self.latency_samples = w.hop, w.latency_samples
        self._delays = [
            self.latency_samples - _look_ahead(profile.member(kind)) for kind, _, _ in self._of_samples
        ]
        self._analysis = w.analysis.astype(np.float32)
        self._synthesis = w.synthesis.astype(np.float32)
        self._starts = profile.bands.starts
        self._gain = 1.0 / w.sine_magnitude
        self._decay = forgetting_factor(changed.forget_s or profile.forget_s, w.hop)
        self._scale = stream_scale(w)
        self._buffers: dict[int, _Buffers] = {}
        self.on_stage: Callable[[str], None] | None = None
        """Called with each of `stages` as it ends, where somebody measures (`latency.deadline`)."""

    @property
    def stages(self) -> tuple[str, ...]:
        """What a hop goes through, in this order."""
        kinds = [self._of_frames[m][0] for m in self._order]
        frames = [stage for kind in kinds for stage in (kind, f"{kind} Wiener")]
        around = ["analysis", *frames, "synthesis"] if frames else []
        return (*around, *(kind for kind, _, _ in self._of_samples))

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
            wieners=[WienerState.fresh(n_bins=w.n_bins) for _ in self._of_frames],
            networks=[r.init_state() for _, r, _ in (*self._of_frames, *self._of_samples)],
            delayed=[np.zeros((N_STEMS, 2, n), np.float32) for n in self._delays],
        )

    def step(self, x: np.ndarray, state: SeparatorState) -> tuple[np.ndarray, SeparatorState]:
        """Return the stems of the next hops, delayed by `latency_samples`, and the state updated in place."""
        out = np.empty((N_STEMS, 2, x.shape[-1]), np.float32)
        for start in range(0, x.shape[-1], self.hop):
            stop = start + self.hop
            self._hops(x[:, start:stop], state, out[:, :, start:stop])
        return out, state

    def run(self, x: np.ndarray, state: SeparatorState) -> tuple[np.ndarray, SeparatorState]:
        """Return what `step` returns (to 1e-4), many hops at once and so faster."""
        out = np.empty((N_STEMS, 2, x.shape[-1]), np.float32)
        piece = PIECE_FRAMES * self.hop
        for start in range(0, x.shape[-1], piece):
            stop = min(start + piece, x.shape[-1])
            self._hops(x[:, start:stop], state, out[:, :, start:stop])
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

    def _hops(self, x: np.ndarray, state: SeparatorState, out: np.ndarray) -> None:
        beside = self._beside.submit(self._samples, x, state) if self._beside else None
        if self._of_frames:
            self._frames(x, state, out)
        else:
            out[:] = 0.0
        ended = self.on_stage or _nobody
        answers = beside.result() if beside else self._samples(x, state)
        for (kind, _, shares), y, waiting in zip(self._of_samples, answers, state.delayed, strict=True):
            add_delayed(y.reshape(out.shape), shares, waiting, out)
            ended(kind)

    def _samples(self, x: np.ndarray, state: SeparatorState) -> list[np.ndarray]:
        """Return what the networks of samples answer.  Thread: the second, where they overlap."""
        networks = state.networks[len(self._of_frames) :]
        return [
            runner.step(x, network)
            for (_, runner, _), network in zip(self._of_samples, networks, strict=True)
        ]

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
        features_into(b.X, self._starts, self._gain, b.features)
        ended("analysis")
        first = self._of_frames[0][1]
        shared = self._beside if len(self._order) > 1 else None
        ahead = shared.submit(first.step, b.features, state.networks[0]) if shared else None
        for m in self._order:
            kind, runner, shares = self._of_frames[m]
            masks = ahead.result() if ahead and m == 0 else runner.step(b.features, state.networks[m])
            ended(kind)
            # The masks are gains, shares of power; the filter takes shares of magnitude (see `models.danna`).
            spread_into(np.sqrt(masks), self._starts, b.masks)
            if self._filters:
                wiener = state.wieners[m]
                wiener_frames(b.X, b.masks, wiener.N, wiener.d, self._decay, self._scale, b.Y)
            else:
                np.multiply(b.X, np.square(b.masks), out=b.Y)
            if b.total is not b.Y:
                add_shares(b.Y, shares, m == self._order[0], b.total)
            ended(f"{kind} Wiener")
        FFT.irfft(b.total, out=b.waves)
        overlap_add_into(b.waves[..., -len(self._synthesis) :], self._synthesis, state.overlap, out)
        ended("synthesis")


def _look_ahead(member: Member) -> int:
    config = member.config
    return config.look_ahead_samples if isinstance(config, DemucsConfig) else 0


def _nobody(stage: str) -> None:
    """Hear of a stage while nobody measures: 6 calls of nothing a hop."""


def load_separator(
    profile: str = "live",
    runner: str = "auto",
    weights: Path | None = None,
    *,
    n_threads: int = 2,
    ablation: Ablation | None = None,
) -> Any:
    """Return the separator of a profile of any kind, its networks in the runner asked for.

    n_threads: in all, at most one a core. Several networks: some run beside the others; one network: its
    own threads, in ONNX Runtime.

    Raises: ConfigError for an unknown runner; SpecError, WeightsError from the profile and its weights.
    """
    if runner not in RUNNERS:
        raise ConfigError(f"no runner '{runner}': there are {', '.join(RUNNERS)}")
    n_threads = min(n_threads, os.cpu_count() or 1)
    if is_bundle(profile):
        from .separate_bundle import load_bundle_separator

        return load_bundle_separator(profile, bundles_home(), _on_cpu(runner), n_threads=n_threads)
    if profile == ACAPELLA:
        from .separate_tdc import load_tdc_separator

        return load_tdc_separator(tdc_weights(weights), _on_cpu(runner), n_threads=n_threads)
    name, _ = choose_runner(runner)
    if is_chunked(profile):
        from .separate_chunked import load_chunked_separator

        return load_chunked_separator(profile, models_home(), "cuda" if name == CUDA else "cpu")
    if name == CUDA:
        from .separate_cuda import load_cuda_separator

        return load_cuda_separator(profile, weights)
    chosen = load_profile(profile)
    paths = find_weights(chosen, weights)
    overlaps = n_threads > 1 and len(chosen.members) > 1
    n_each = 1 if overlaps else n_threads
    runners = {
        member.kind: _runner(chosen, member, runner, paths[member.kind], profile, n_each)
        for member in chosen.members
    }
    return Separator(chosen, runners, ablation, overlaps=overlaps)


def _on_cpu(runner: str) -> str:
    """Return what the engines of other kinds of profiles call the CPU's best."""
    return "auto" if runner in ("cpu", "int8-cpu", "cuda") else runner


def _runner(chosen: Profile, member: Member, runner: str, path: Path, profile: str, n_threads: int) -> Runner:
    if runner == "torch-cpu":
        from ..models.runners.torch_cpu import TorchCpuRunner

        return TorchCpuRunner(load_network(member, path))
    from ..models.runners.exported import INT8, ONNX, exported

    if member.kind == "xumx" and runner != "onnx-cpu":  # the one network with compiled loops
        from ..models.runners.int8_cpu import Int8CpuRunner, load_packed

        return Int8CpuRunner(load_packed(exported(profile, member.kind, path, INT8)))
    from ..models.runners.onnx_cpu import OnnxCpuRunner

    if member.kind == "xumx":
        return OnnxCpuRunner([exported(profile, "xumx", path, ONNX)], n_threads=n_threads)
    of_frames = member.kind in SPECTRAL
    sizes = (1, PIECE_FRAMES // chosen.phases) if of_frames else (chosen.hop, PIECE_FRAMES * chosen.hop)
    graphs = [exported(profile, member.kind, path, ONNX, size) for size in sizes]
    axes = (0, 2) if of_frames else (-1, -1)
    return OnnxCpuRunner(graphs, time_axes=axes, n_threads=n_threads)
