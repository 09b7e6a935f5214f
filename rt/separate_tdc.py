"""The profile `acapella`: vocals by the published TDC network, and all the rest of the mixture as `other`.

    x -> frames -> FFT -> network -> inverse FFT -> overlap-add = vocals;   other = delayed x - vocals

Framing is that of the network's training: Hann over 2048 samples, hop 1024, synthesis by the same window
divided by the sum of the overlapping squares. Drums and bass are silent. So 2048 samples (46.4 ms) must have
gone in until a sample's answer is out: a hop is collected, and the output is 1024 samples behind the input.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..models.overlap_add import frame_into, frame_tail, overlap_add_into, overlap_tail
from ..models.runners.onnx_cpu import OnnxCpuRunner
from ..models.runners.tdc_export import exported_tdc, frame_step, load_tdc_network
from ..models.stems import MODEL_RATE_HZ, N_STEMS, STEMS
from .errors import ConfigError

FFT: Any = np.fft
"""numpy's own, in single precision where it is given that (which its annotations do not know)."""

RUNNERS = ("auto", "onnx-cpu", "torch-cpu")
WINDOW_SAMPLES, HOP_SAMPLES = 2048, 1024
N_BINS = WINDOW_SAMPLES // 2 + 1
VOCALS, OTHER = STEMS.index("vocals"), STEMS.index("other")


class FrameRunner(Protocol):
    """Parts (1, 4, bin) of a frame -> parts of the vocals; the state holds nothing of them."""

    name: str

    def init_state(self) -> Any:
        """Return a state for `step`."""
        ...

    def step(self, x: np.ndarray, state: Any, /) -> np.ndarray:
        """Return left real, left imaginary, right real and right imaginary part of the vocals."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TdcProfile:
    """Sizes of `acapella`, as the host asks a profile for them."""

    name: str = "acapella"
    hop: int = HOP_SAMPLES
    window_samples: int = WINDOW_SAMPLES

    @property
    def latency_samples(self) -> int:
        """Delay between the concatenated inputs and outputs: window - hop."""
        return self.window_samples - self.hop

    @property
    def window_latency_ms(self) -> float:
        """Length of the window: what must go in until a sample's answer is out, 46.4 ms."""
        return 1000.0 * self.window_samples / MODEL_RATE_HZ


@dataclass(slots=True)
class TdcState:
    """Everything one stereo stream remembers."""

    frames: np.ndarray
    """The last hop of the mixture, (2, 1024)."""
    overlap: np.ndarray
    network: Any


class TdcSeparator:
    """Vocals and their complement from a stereo mixture at the model's rate.

    Implements `models.streaming.Streaming` over numpy arrays without a batch axis:
    (2, sample) float32 -> (4, 2, sample) float32.  Latency: 1024 samples (window - hop); steps equal
    `models.tdc.TdcVocals.separate` to rounding.
    Thread: one at a time; any number of states.
    """

    ratio = Fraction(1)
    stages = ("analysis", "tdc", "synthesis")

    def __init__(self, runner: FrameRunner) -> None:
        self.profile = TdcProfile()
        self.hop, self.latency_samples = self.profile.hop, self.profile.latency_samples
        self.window_latency_ms = self.profile.window_latency_ms
        self._runner = runner
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
        self._analysis = hann.astype(np.float32)
        self._synthesis = (hann / (hann**2 + np.roll(hann, HOP_SAMPLES) ** 2)).astype(np.float32)
        self.on_stage: Callable[[str], None] | None = None
        """Called with each of `stages` as it ends, where somebody measures (`latency.deadline`)."""

    def init_state(self, batch: int = 1) -> TdcState:
        """Return the state of a stream that has heard silence; `batch` can only be 1."""
        if batch != 1:
            raise ConfigError(
                f"the CPU path separates one stream per state, not {batch}: make several states"
            )
        return TdcState(
            frames=frame_tail(2, WINDOW_SAMPLES, HOP_SAMPLES),
            overlap=overlap_tail(1, 2, WINDOW_SAMPLES, HOP_SAMPLES),
            network=self._runner.init_state(),
        )

    def step(self, x: np.ndarray, state: TdcState) -> tuple[np.ndarray, TdcState]:
        """Return the stems of the next hops, delayed by `latency_samples`, and the state updated in place."""
        out = np.zeros((N_STEMS, 2, x.shape[-1]), np.float32)
        for start in range(0, x.shape[-1], HOP_SAMPLES):
            stop = start + HOP_SAMPLES
            self._hop(x[:, start:stop], state, out[..., start:stop])
        return out, state

    run = step
    """Frame by frame too: 16 at once took longer, 7.6 ms of processor a hop instead of 6.9."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops."""
        state = self.init_state()
        late, _ = self.run(x, state)
        return np.concatenate([late[..., self.latency_samples :], self.flush(state)], axis=-1)

    def flush(self, state: TdcState) -> np.ndarray:
        """Return the last `latency_samples` of the stems, as if silence followed."""
        rest, _ = self.step(np.zeros((2, self.latency_samples), np.float32), state)
        return rest

    def _hop(self, x: np.ndarray, state: TdcState, out: np.ndarray) -> None:
        ended = self.on_stage or _nobody
        late = state.frames.copy()  # the hop that this frame completes: window - hop is a hop
        framed = np.empty((2, 1, WINDOW_SAMPLES), np.float32)
        frame_into(x, state.frames, self._analysis, framed)
        X = FFT.rfft(framed[:, 0]).astype(np.complex64, copy=False)
        parts = np.ascontiguousarray(X.view(np.float32).reshape(2, N_BINS, 2).transpose(0, 2, 1))
        ended("analysis")
        if framed.any():  # the network makes a faint hum of digital silence: it is not asked
            parts = self._runner.step(parts.reshape(1, 4, N_BINS), state.network).reshape(2, 2, N_BINS)
        ended("tdc")
        Y = np.ascontiguousarray(parts.transpose(0, 2, 1)).view(np.complex64)[..., 0]
        waves = FFT.irfft(Y, n=WINDOW_SAMPLES).astype(np.float32, copy=False)
        overlap_add_into(waves[None, :, None], self._synthesis, state.overlap, out[VOCALS : VOCALS + 1])
        out[OTHER] = late - out[VOCALS]
        ended("synthesis")


class TorchFrames:
    """The network in torch, eager: the reference for ONNX Runtime."""

    name = "torch-cpu"

    def __init__(self, weights: Path) -> None:
        self._step = frame_step(load_tdc_network(weights))

    def init_state(self) -> np.ndarray:
        """Return nothing: a frame remembers nothing."""
        return np.zeros(0, np.float32)

    def step(self, x: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return the vocals' parts of the next frames."""
        import torch

        with torch.inference_mode():
            return self._step(torch.from_numpy(x)).contiguous().numpy()


def _nobody(stage: str) -> None:
    """Hear of a stage while nobody measures."""


def load_tdc_separator(weights: Path, runner: str = "auto", *, n_threads: int = 2) -> TdcSeparator:
    """Return the separator of `acapella` with the weights of a file, safetensors or as published.

    n_threads: of ONNX Runtime (`auto`), at most one a core.
    Raises: ConfigError for an unknown runner; WeightsError and ModelError from the weights.
    """
    if runner not in RUNNERS:
        raise ConfigError(f"'acapella' runs in {', '.join(RUNNERS)}, not in '{runner}'")
    if runner == "torch-cpu":
        return TdcSeparator(TorchFrames(weights))
    threads = min(n_threads, os.cpu_count() or 1)
    return TdcSeparator(OnnxCpuRunner([exported_tdc(weights)], time_axes=(0, 0), n_threads=threads))
