"""The step of a third-party bundle: a hop of the mixture in, four stems in our order out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)

from .bundle_graph import read_graph, states_of
from .errors import ModelError, StreamingError
from .runners.onnx_cpu import GraphNames, OnnxCpuRunner, OnnxState
from .stems import N_STEMS, STEMS
from .streaming_bundle import BundleManifest, check_file, initial_state

RUNTIME_ERRORS = (
    RuntimeError,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)
"""What ONNX Runtime raises for graphs that it cannot load or run, the first of bound buffers."""
LOAD_ERRORS = (ModelError, *RUNTIME_ERRORS)


@dataclass(slots=True)
class BundleStreamState:
    """Everything one stereo stream remembers."""

    network: OnnxState
    mixture: np.ndarray
    """What the stems that come next belong to, float32 (2, latency_samples)."""


class BundleStep:
    """Runs the graph of a bundle hop by hop.  Thread: one at a time; any number of states.

    Raises: WeightsError for a file that is not the manifest's; ModelError or SpecError for a graph that
    does not fit it.
    """

    def __init__(self, manifest: BundleManifest, *, n_threads: int = 1) -> None:
        check_file(manifest)
        states = states_of(manifest, read_graph(manifest))
        self.states = states
        """Those of the manifest, or those that the graph has."""
        self.manifest = replace(manifest, states=states)
        self.initial = [initial_state(manifest, state) for state in states]
        names = GraphNames(
            x=manifest.input, y=manifest.output, states=tuple((s.input, s.output) for s in states)
        )
        try:
            self._runner = OnnxCpuRunner(
                [manifest.path],
                time_axes=(-1, -1),
                n_threads=n_threads,
                names=names,
                initial=self.initial,
            )
        except LOAD_ERRORS as error:
            said = _first_line(error.__cause__ or error)
            raise ModelError(f"{manifest.path} is no ONNX graph that runs here ({said})") from error
        self._places = [STEMS.index(stem) for stem in manifest.stems]
        self._residual = None if manifest.residual is None else STEMS.index(manifest.residual)
        self._line = np.empty((2, manifest.latency_samples + manifest.hop), np.float32)

    def init_state(self) -> BundleStreamState:
        """Return the state of a stream that has heard silence."""
        mixture = np.zeros((2, self.manifest.latency_samples), np.float32)
        return BundleStreamState(network=self._runner.init_state(), mixture=mixture)

    def raw(self, x: np.ndarray, state: BundleStreamState) -> np.ndarray:
        """Return what the graph itself says of a hop, in its own order; a buffer until its next step.

        Shape: (2, hop) -> (len(manifest.stems), 2, hop).  Does not move the state's mixture on.
        """
        try:
            y = self._runner.step(x, state.network)
        except RUNTIME_ERRORS as error:
            raise StreamingError(f"{self.manifest.file} cannot take a step ({_first_line(error)})") from error
        return y.reshape(len(self._places), 2, self.manifest.hop)

    def step(self, x: np.ndarray, state: BundleStreamState, out: np.ndarray) -> None:
        """Write the stems of the next hop, delayed by the latency; updates the state.

        Shape: x (2, hop), out (4, 2, hop), float32.
        """
        y = self.raw(x, state)
        if len(self._places) < N_STEMS:
            out[:] = 0.0
        for place, stem in zip(self._places, y, strict=True):
            out[place] = stem
        n = self.manifest.latency_samples
        self._line[:, :n] = state.mixture
        self._line[:, n:] = x
        state.mixture[:] = self._line[:, self.manifest.hop :]
        if self._residual is not None:
            out[self._residual] = 0.0
            out[self._residual] = self._line[:, : self.manifest.hop] - out.sum(axis=0)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
