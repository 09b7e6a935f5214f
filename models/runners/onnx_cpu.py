"""ONNX Runtime on the CPU, in float32; never imports torch. Its graphs come from `exported`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

from ..errors import ModelError

KEPT_SIZES = 4
"""Lengths that stay bound per state, where a graph takes any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNames:
    """What the inputs and outputs of a step graph are called; states pair an input with an output."""

    x: str = "x"
    y: str = "y"
    states: tuple[tuple[str, str], ...] = ()
    """Empty: every input `state_i` with its output `next_state_i`."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class OnnxState:
    """Two sets of state buffers that take turns: one is read while the other is written."""

    turns: tuple[list[np.ndarray], list[np.ndarray]]
    turn: np.ndarray
    """int64 (1,): the set that holds the present state."""


@dataclass(slots=True)
class _Bound:
    x: np.ndarray
    y: np.ndarray
    bindings: list[onnxruntime.IOBinding]
    """One for each turn of the state."""


class _Graph:
    """One session: the step for a fixed length, or (length 0) for any."""

    def __init__(self, path: Path, names: GraphNames, axis: int, n_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except (InvalidProtobuf, InvalidGraph, Fail) as error:
            raise ModelError(
                f"{path} is no ONNX graph that runs here: delete it if stemrack exported it, "
                "it will be made anew"
            ) from error
        inputs = {v.name: v.shape for v in self.session.get_inputs()}
        outputs = {v.name: v.shape for v in self.session.get_outputs()}
        pairs = names.states or tuple((name, f"next_{name}") for name in inputs if name.startswith("state_"))
        missing = [n for n in (names.x, *(a for a, _ in pairs)) if n not in inputs]
        missing += [n for n in (names.y, *(b for _, b in pairs)) if n not in outputs]
        if missing:
            raise ModelError(f"{path.name} has no input or output called {', '.join(missing)}")
        self.names = GraphNames(x=names.x, y=names.y, states=pairs)
        self.x_shape, self.y_shape = list(inputs[names.x]), list(outputs[names.y])
        self.state_shapes = [tuple(int(n) for n in inputs[name]) for name, _ in pairs]
        length = self.x_shape[axis]
        self.length = length if isinstance(length, int) else 0

    def bind(self, state: OnnxState, x: np.ndarray, y: np.ndarray) -> _Bound:
        """Return the graph bound to arrays of a length and to a state's buffers."""
        bindings = []
        for turn in (0, 1):
            binding = self.session.io_binding()
            before, after = state.turns[turn], state.turns[1 - turn]
            ins = [(self.names.x, x), *zip((a for a, _ in self.names.states), before, strict=True)]
            outs = [(self.names.y, y), *zip((b for _, b in self.names.states), after, strict=True)]
            for name, array in ins:
                binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            for name, array in outs:
                binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            bindings.append(binding)
        return _Bound(x, y, bindings)


class OnnxCpuRunner:
    """Runs exported step graphs of one network.  Thread: one at a time; a state belongs to one runner.

    graphs: one that takes any length, or several for fixed lengths (the smallest must divide what comes);
    time_axes: axis of time in what goes in and in what comes out. Buffers for a length are made once per
    state and stay bound. initial: values of the states at the start, zero where none are given.
    Raises: ModelError for files that are no such graphs.
    """

    name = "onnx-cpu"

    def __init__(
        self,
        graphs: Sequence[Path],
        *,
        time_axes: tuple[int, int] = (0, 2),
        n_threads: int = 1,
        names: GraphNames | None = None,
        initial: Sequence[np.ndarray] | None = None,
    ) -> None:
        names = names or GraphNames()
        self._graphs = [_Graph(path, names, time_axes[0], n_threads) for path in graphs]
        self._graphs.sort(key=lambda graph: -graph.length)
        self._axes = time_axes
        shapes = self._graphs[0].state_shapes
        self._initial = list(initial) if initial else [np.zeros(shape, np.float32) for shape in shapes]
        self._bound: WeakKeyDictionary[OnnxState, dict[int, _Bound]] = WeakKeyDictionary()

    def init_state(self) -> OnnxState:
        """Return the state of a stream that has heard nothing."""
        turns = ([a.copy() for a in self._initial], [a.copy() for a in self._initial])
        return OnnxState(turns=turns, turn=np.zeros(1, np.int64))

    def step(self, x: np.ndarray, state: OnnxState) -> np.ndarray:
        """Return what the graph answers to the next frames or samples; updates the state.

        The array returned is a buffer of this state: it holds until its next step of the same length.
        """
        length = x.shape[self._axes[0]]
        graph = self._graph_for(length)
        if graph.length in (0, length):
            return self._run(graph, x, state)
        axis_in, axis_out = self._axes
        pieces, done = [], 0
        while done < length:
            graph = self._graph_for(length - done)
            piece = np.take(x, range(done, done + graph.length), axis=axis_in)
            pieces.append(self._run(graph, piece, state).copy())
            done += graph.length
        return np.concatenate(pieces, axis=axis_out)

    def _graph_for(self, length: int) -> _Graph:
        for graph in self._graphs:
            if graph.length <= length:
                return graph
        raise ValueError(f"a step of {length} is shorter than the shortest graph, {self._graphs[-1].length}")

    def _run(self, graph: _Graph, x: np.ndarray, state: OnnxState) -> np.ndarray:
        length = x.shape[self._axes[0]]
        bound = self._bound.setdefault(state, {})
        if length not in bound:
            while len(bound) >= KEPT_SIZES:  # live steps and full pieces are bound first and asked for most
                bound.pop(next(reversed(bound)))
            bound[length] = graph.bind(state, *self._buffers(graph, length))
        b = bound[length]
        np.copyto(b.x, x.reshape(b.x.shape))
        graph.session.run_with_iobinding(b.bindings[int(state.turn[0])])
        state.turn[0] = 1 - state.turn[0]
        return b.y

    def _buffers(self, graph: _Graph, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return input and output for a length; an open axis is time, or a batch of one."""
        arrays = []
        for shape, axis in zip((graph.x_shape, graph.y_shape), self._axes, strict=True):
            sizes = [n if isinstance(n, int) else 1 for n in shape]
            if not isinstance(shape[axis], int):
                sizes[axis] = length
            arrays.append(np.zeros(sizes, np.float32))
        return arrays[0], arrays[1]
