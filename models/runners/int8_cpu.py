"""The step of a live network with weights of 8 bits, in compiled loops: what a small machine has time for.

A step reads every weight once and does little with it, so its time is that of the memory: 22 MB in float32,
5.5 MB here. Only weights are rounded (symmetric, a scale for each column); inputs, sums and states stay
float32. No thread, no allocation, nothing of torch; weights come packed from `int8_export`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..jit import njit

N_GATES = 4
"""Input, forget, cell, output: torch's order."""
FIELDS = ("encode", "cross", "inward", "again", "head")
"""Products, in the order in which a frame goes through them; `inward` and `again` are the recurrence's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStep:
    """A network's step as arrays. Weights: int8 (..., in, out); scales and biases: float32 (..., out)."""

    encode: np.ndarray
    encode_scale: np.ndarray
    encode_bias: np.ndarray
    cross: np.ndarray
    cross_scale: np.ndarray
    cross_bias: np.ndarray
    inward: np.ndarray
    """(stem, layer, width, 4 * width)."""
    inward_scale: np.ndarray
    again: np.ndarray
    again_scale: np.ndarray
    gate_bias: np.ndarray
    head: np.ndarray
    """(stem, width, channel * band)."""
    head_scale: np.ndarray
    head_bias: np.ndarray
    is_softmax: np.ndarray
    """bool (1,): shares of the stems; else each by itself, at least 0."""
    n_channels: np.ndarray
    """int64 (1,)."""


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 weights and float32 scales, one a column, whose products are nearest to `weight`.

    Shape: weight (..., in, out) -> the same, (..., out).

    >>> w, scale = quantised(np.array([[1.0, -4.0], [-0.5, 2.0]]))
    >>> w.tolist(), (scale * 127).tolist()
    ([[127, -127], [-64, 64]], [1.0, 4.0])
    """
    scale = np.abs(weight).max(axis=-2) / 127.0
    rounded = np.rint(weight / np.maximum(scale, 1e-30)[..., None, :])
    return rounded.astype(np.int8), scale.astype(np.float32)


def load_packed(path: Path) -> PackedStep:
    """Return the step in a file that `int8_export` wrote.  Raises: ModelError."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return PackedStep(**{name: found[name] for name in found.files})
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no packed network: delete it, it will be made anew") from error


@dataclass(slots=True, eq=False)
class Int8State:
    """Hidden and cell states, float32 (stem, layer, width)."""

    hidden: np.ndarray
    cell: np.ndarray


@njit(fastmath={"contract", "reassoc", "nsz"})
def _add_product(x: np.ndarray, w: np.ndarray, scale: np.ndarray, sums: np.ndarray, y: np.ndarray) -> None:
    """Add x @ (w * scale) to y; four rows at a time: `sums` is read and written a quarter as often."""
    n, m = w.shape
    for j in range(m):
        sums[j] = 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(m):
            sums[j] += (
                a * np.float32(w[i, j])
                + b * np.float32(w[i + 1, j])
                + c * np.float32(w[i + 2, j])
                + d * np.float32(w[i + 3, j])
            )
    for i in range(whole, n):
        a = x[i]
        for j in range(m):
            sums[j] += a * np.float32(w[i, j])
    for j in range(m):
        y[j] += sums[j] * scale[j]


@njit
def _sigmoid(x: float) -> float:
    return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))


@njit
def _recur(gates: np.ndarray, hidden: np.ndarray, cell: np.ndarray) -> None:
    """Update hidden and cell (width,) by the gates (4 * width,), as torch's LSTM does."""
    n = hidden.shape[0]
    for k in range(n):
        kept = _sigmoid(gates[n + k]) * cell[k]
        cell[k] = kept + _sigmoid(gates[k]) * np.tanh(gates[2 * n + k])
        hidden[k] = _sigmoid(gates[3 * n + k]) * np.tanh(cell[k])


@njit
def _stacks(
    cross: np.ndarray,
    inward: np.ndarray,
    inward_scale: np.ndarray,
    again: np.ndarray,
    again_scale: np.ndarray,
    gate_bias: np.ndarray,
    hidden: np.ndarray,
    cell: np.ndarray,
    sums: np.ndarray,
    gates: np.ndarray,
) -> None:
    """Step the recurrence of all stems; its outputs are the last layer's hidden states."""
    for s in range(inward.shape[0]):
        for layer in range(inward.shape[1]):
            x = cross if layer == 0 else hidden[s, layer - 1]
            gates[:] = gate_bias[s, layer]
            _add_product(x, inward[s, layer], inward_scale[s, layer], sums, gates)
            _add_product(hidden[s, layer], again[s, layer], again_scale[s, layer], sums, gates)
            _recur(gates, hidden[s, layer], cell[s, layer])


@njit
def _mean_into(rows: np.ndarray, out: np.ndarray) -> None:
    """Set out to the mean of rows (row, width)."""
    for k in range(out.shape[0]):
        total = np.float32(0.0)
        for r in range(rows.shape[0]):
            total += rows[r, k]
        out[k] = total / np.float32(rows.shape[0])


@njit
def _mask_into(y: np.ndarray, is_softmax: bool, masks: np.ndarray) -> None:
    """Set masks (stem, channel, band) by the head's outputs y (stem, channel * band)."""
    n_stems, n_channels, n_bands = masks.shape
    for c in range(n_channels):
        for b in range(n_bands):
            j = c * n_bands + b
            if not is_softmax:
                for s in range(n_stems):
                    masks[s, c, b] = max(y[s, j], np.float32(0.0))
                continue
            top = y[0, j]
            for s in range(1, n_stems):
                top = max(top, y[s, j])
            total = np.float32(0.0)
            for s in range(n_stems):
                masks[s, c, b] = np.exp(y[s, j] - top)
                total += masks[s, c, b]
            for s in range(n_stems):
                masks[s, c, b] /= total


class Int8CpuRunner:
    """Runs a packed step.  Thread: one at a time (buffers are its own); any number of states.

    Error against float32: the weights' rounding; what it costs in SDR stands in the model card.
    """

    name = "int8-cpu"

    def __init__(self, step: PackedStep) -> None:
        self._step = step
        self._n_channels = int(step.n_channels[0])
        n_stems, width, n_out = step.head.shape
        self._n_bands = n_out // self._n_channels
        self._state_shape = (n_stems, step.inward.shape[1], width)
        self._encoded = np.empty((n_stems, width), np.float32)
        self._both = np.empty(2 * width, np.float32)
        self._crossed = np.empty((n_stems, width), np.float32)
        self._sums = np.empty(max(step.encode.shape[1], N_GATES * width, n_out), np.float32)
        self._gates = np.empty(N_GATES * width, np.float32)
        self._y = np.empty((n_stems, n_out), np.float32)
        self._one = np.empty((n_stems, self._n_channels, 1, self._n_bands), np.float32)

    def init_state(self) -> Int8State:
        """Return the zeroed state of a stream."""
        return Int8State(np.zeros(self._state_shape, np.float32), np.zeros(self._state_shape, np.float32))

    def step(self, features: np.ndarray, state: Int8State) -> np.ndarray:
        """Return the masks (stem, channel, k, band) of k frames of features (k, n_in); updates the state.

        The array returned for a single frame is a buffer of this runner: it holds until the next step.
        """
        k = features.shape[0]
        n_stems = self._state_shape[0]
        masks = self._one if k == 1 else np.empty((n_stems, self._n_channels, k, self._n_bands), np.float32)
        for t in range(k):
            self._frame(features[t], state, masks[:, :, t])
        return masks

    def _frame(self, features: np.ndarray, state: Int8State, masks: np.ndarray) -> None:
        p = self._step
        width = self._state_shape[2]
        encoded, crossed = self._encoded.reshape(-1), self._crossed.reshape(-1)
        encoded[:] = p.encode_bias
        _add_product(features, p.encode, p.encode_scale, self._sums, encoded)
        np.tanh(encoded, out=encoded)
        cross, outputs = self._both[:width], self._both[width:]
        _mean_into(self._encoded, cross)
        recurrent = (p.inward, p.inward_scale, p.again, p.again_scale, p.gate_bias)
        _stacks(cross, *recurrent, state.hidden, state.cell, self._sums, self._gates)
        _mean_into(state.hidden[:, -1], outputs)
        crossed[:] = p.cross_bias
        _add_product(self._both, p.cross, p.cross_scale, self._sums, crossed)
        np.maximum(crossed, 0.0, out=crossed)
        self._y[:] = p.head_bias
        for s in range(self._state_shape[0]):
            _add_product(self._crossed[s], p.head[s], p.head_scale[s], self._sums, self._y[s])
        _mask_into(self._y, bool(p.is_softmax[0]), masks)
