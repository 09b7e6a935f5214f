"""Checks that a third-party bundle keeps to the streaming contract, made once, when it is imported.

What `bundle_graph` reads without running (names, types, shapes) has been checked before. Here the graph
runs: what it says must be finite, depend on nothing but its input and its explicit state, and be as late
as the manifest says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bundle_step import BundleStep, BundleStreamState
from .errors import StreamingError
from .stems import N_STEMS

LEAST_HOPS = 24
LEAST_SAMPLES = 8192
"""Length of the signals beyond the latency: for hops of 128, 64 of them."""
LOUD = 40.0
"""Amplitude of what is far beyond full scale."""
SAME = 1e-5
"""Allowed difference of two runs, as a share of the loudest value."""
CLEAR = 0.5
"""Correlation of the stems' sum with the mixture from which its lag is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """What the checks found; a bundle that failed one has none."""

    name: str
    hop: int
    latency_samples: int
    window_samples: int
    measured_samples: int | None
    """Lag of the stems' sum behind noise; None where they are too unlike it, and the manifest is believed."""
    states: tuple[str, ...]
    n_values: int
    """In all states."""
    notes: tuple[str, ...]
    licence: str


def check_bundle(step: BundleStep) -> BundleReport:
    """Return what a bundle is, once every check has passed.

    Raises: StreamingError naming the check that failed, and the facts.
    """
    manifest = step.manifest
    n_hops = max(LEAST_HOPS, -(-LEAST_SAMPLES // manifest.hop)) + -(-manifest.latency_samples // manifest.hop)
    n = n_hops * manifest.hop
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal((2, n))).astype(np.float32)
    other = (0.1 * rng.standard_normal((2, n))).astype(np.float32)
    square = np.sign(np.sin(np.arange(n) * 0.05)).astype(np.float32)
    signals = {
        "silence": np.zeros((2, n), np.float32),
        "noise": noise,
        "an impulse": np.eye(1, n, n // 2, dtype=np.float32).repeat(2, axis=0),
        "a square wave at full scale": np.stack([square, square]),
        f"noise of amplitude {LOUD:g}": (LOUD * 10.0) * noise,
    }
    state = step.init_state()
    for told, x in signals.items():
        state = step.init_state()
        _check_finite(step, x, state, told)
    want = _run(step, noise, step.init_state())
    _check_same("a second stream from the start", _run(step, noise, step.init_state()), want)
    _reset(step, state)
    _check_same("a stream after its states were set back", _run(step, noise, state), want)
    _check_alternating(step, noise, other, want)
    _check_split(step, noise, want)
    measured = _check_latency(step, noise)
    _check_residual(step, noise, want)
    return BundleReport(
        name=manifest.name,
        hop=manifest.hop,
        latency_samples=manifest.latency_samples,
        window_samples=manifest.window_samples,
        measured_samples=measured,
        states=tuple(s.input for s in step.states),
        n_values=sum(value.size for value in step.initial),
        notes=_notes(step, state, measured),
        licence=manifest.licence,
    )


def _run(step: BundleStep, x: np.ndarray, state: BundleStreamState) -> np.ndarray:
    hop = step.manifest.hop
    out = np.empty((N_STEMS, *x.shape), np.float32)
    for start in range(0, x.shape[-1], hop):
        step.step(x[:, start : start + hop], state, out[..., start : start + hop])
    return out


def _check_finite(step: BundleStep, x: np.ndarray, state: BundleStreamState, told: str) -> None:
    y = _run(step, x, state)
    if not np.isfinite(y).all():
        first = int(np.argmin(np.isfinite(y).all(axis=(0, 1)))) // step.manifest.hop
        raise StreamingError(f"finite: {told} gives NaN or Inf in hop {first}")
    for known, value in zip(step.states, _values(state), strict=True):
        if not np.isfinite(value).all():
            raise StreamingError(f"finite: {told} leaves NaN or Inf in state '{known.input}'")


def _values(state: BundleStreamState) -> list[np.ndarray]:
    return state.network.turns[int(state.network.turn[0])]


def _reset(step: BundleStep, state: BundleStreamState) -> None:
    """Set a used stream back to the start, in its own storage."""
    fresh = step.init_state()
    _copy(fresh, state)


def _copy(source: BundleStreamState, target: BundleStreamState) -> None:
    for mine, theirs in zip(target.network.turns, source.network.turns, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            a[...] = b
    target.network.turn[...] = source.network.turn
    target.mixture[...] = source.mixture


def _check_same(told: str, got: np.ndarray, want: np.ndarray) -> None:
    error = float(np.abs(got - want).max())
    allowed = SAME * max(float(np.abs(want).max()), 1e-3)
    if error > allowed:
        raise StreamingError(
            f"state: {told} differs by {error:.2e} (allowed {allowed:.2e}): the graph remembers or draws "
            "something beyond its states"
        )


def _check_alternating(step: BundleStep, x: np.ndarray, other: np.ndarray, want: np.ndarray) -> None:
    hop, out, rest = step.manifest.hop, np.empty_like(want), np.empty_like(want)
    first, second = step.init_state(), step.init_state()
    for start in range(0, x.shape[-1], hop):
        piece = slice(start, start + hop)
        step.step(x[:, piece], first, out[..., piece])
        step.step(other[:, piece], second, rest[..., piece])
    _check_same("a stream that takes turns with another", out, want)


def _check_split(step: BundleStep, x: np.ndarray, want: np.ndarray) -> None:
    """Go on from copies of the state after 1, 2, 7 and more hops, as a saved stream would."""
    hop, pieces, done = step.manifest.hop, [], 0
    state = step.init_state()
    for n_hops in (1, 2, 7, x.shape[-1]):
        stop = min(x.shape[-1], done + n_hops * hop)
        pieces.append(_run(step, x[:, done:stop], state))
        moved = step.init_state()
        _copy(state, moved)
        state, done = moved, stop
    _check_same("a stream that goes on from copies of its states", np.concatenate(pieces, axis=-1), want)


def _check_latency(step: BundleStep, x: np.ndarray) -> int | None:
    """Return the lag of the graph's own stems behind the mixture, None where they are too unlike it."""
    manifest = step.manifest
    hop, state = manifest.hop, step.init_state()
    sums = []
    for start in range(0, x.shape[-1], hop):
        sums.append(step.raw(x[:, start : start + hop], state).sum(axis=0))
        state.mixture[...] = 0.0
    y = np.concatenate(sums, axis=-1)
    n = 2 * x.shape[-1]
    product = np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n))
    scale = float(np.linalg.norm(x)) * max(float(np.linalg.norm(y)), 1e-9)
    likeness = np.fft.irfft(product, n).sum(axis=0)[: x.shape[-1]] / scale
    lag = int(np.argmax(likeness))
    if likeness[lag] < CLEAR:
        return None
    if lag != manifest.latency_samples:
        raise StreamingError(
            f"latency: the stems' sum is {lag} samples behind the mixture, the manifest says "
            f"latency_samples = {manifest.latency_samples}"
        )
    return lag


def _check_residual(step: BundleStep, x: np.ndarray, y: np.ndarray) -> None:
    if step.manifest.residual is None:
        return
    n = step.manifest.latency_samples
    delayed = np.zeros_like(x)
    delayed[:, n:] = x[:, : x.shape[-1] - n]
    error = float(np.abs(y.sum(axis=0) - delayed).max())
    if error > SAME * max(float(np.abs(y).max()), 1.0):
        raise StreamingError(f"residual: the stems miss the delayed mixture by {error:.2e}")


def _notes(step: BundleStep, state: BundleStreamState, measured: int | None) -> tuple[str, ...]:
    notes = []
    if measured is None:
        notes.append("the latency is the manifest's: the stems' sum is too unlike noise to measure it")
    for known, value, initial in zip(step.states, _values(state), step.initial, strict=True):
        if np.array_equal(value, initial):
            notes.append(f"state '{known.input}' is after noise what it was at the start")
    if step.manifest.residual is None and len(step.manifest.stems) < N_STEMS:
        notes.append("some stems are silent and none is the residual: the rest of the mixture is missing")
    return tuple(notes)
