"""ONNX Runtime on the CPU, in float32; never imports torch. Its graph comes from `exported`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf

from ..errors import ModelError

INPUTS = ("features", "hidden", "cell")
OUTPUTS = ("masks", "next_hidden", "next_cell")
KEPT_SIZES = 4
"""Numbers of frames that stay bound per state."""

Bound = tuple[np.ndarray, np.ndarray, list[onnxruntime.IOBinding]]
"""Input features, output masks, and a binding for each turn of the state."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class OnnxState:
    """Two sets of state buffers that take turns: one is read while the other is written."""

    buffers: np.ndarray
    """float32 (turn, hidden or cell, stem, layer, 1, width)."""
    turn: np.ndarray
    """int64 (1,): the set that holds the present state."""


class OnnxCpuRunner:
    """Runs an exported step graph.  Thread: one at a time; a state belongs to one runner.

    Buffers for a number of frames are made once per state and stay bound.
    """

    name = "onnx-cpu"

    def __init__(self, graph: Path, *, n_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except InvalidProtobuf as error:
            raise ModelError(f"{graph} is not an ONNX file: delete it, it will be exported anew") from error
        by_name = {v.name: v for v in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._n_in = int(by_name["features"].shape[1])
        self._state_shape = tuple(int(n) for n in by_name["hidden"].shape)
        masks = by_name["masks"].shape
        self._masks_shape = (int(masks[0]), int(masks[1]), int(masks[3]))
        self._bound: WeakKeyDictionary[OnnxState, dict[int, Bound]] = WeakKeyDictionary()

    def init_state(self) -> OnnxState:
        """Return the zeroed state of a stream."""
        return OnnxState(buffers=np.zeros((2, 2, *self._state_shape), np.float32), turn=np.zeros(1, np.int64))

    def step(self, features: np.ndarray, state: OnnxState) -> np.ndarray:
        """Return the masks (stem, channel, k, band) of k frames of features (k, n_in); updates the state.

        The array returned is a buffer of this state: it holds until its next step of as many frames.
        """
        k = features.shape[0]
        bound = self._bound.setdefault(state, {})
        if k not in bound:
            while len(bound) >= KEPT_SIZES:  # live frames and full pieces are bound first and asked for most
                bound.pop(next(reversed(bound)))
            bound[k] = self._bind(k, state)
        inputs, masks, bindings = bound[k]
        np.copyto(inputs, features)
        self._session.run_with_iobinding(bindings[int(state.turn[0])])
        state.turn[0] = 1 - state.turn[0]
        return masks

    def _bind(self, k: int, state: OnnxState) -> Bound:
        inputs = np.zeros((k, self._n_in), np.float32)
        n_stems, n_channels, n_bands = self._masks_shape
        masks = np.zeros((n_stems, n_channels, k, n_bands), np.float32)
        bindings = []
        for turn in (0, 1):
            binding = self._session.io_binding()
            before, after = state.buffers[turn], state.buffers[1 - turn]
            for name, array in zip(INPUTS, (inputs, before[0], before[1]), strict=True):
                binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            for name, array in zip(OUTPUTS, (masks, after[0], after[1]), strict=True):
                binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            bindings.append(binding)
        return inputs, masks, bindings
