"""Framing and overlap-add on the CPU path: numba kernels that carry their tails explicitly.

Here frames come before bins in memory, (channel, frame, sample) and (channel, frame, bin), because an
FFT reads and writes one frame as one row. The torch modules in `stft` keep time last instead.
Kernels work in place, allocate nothing, and take any number of whole hops, so steps of 1 and of 7 hops
give the same bits.

    hop = len(window) - tail.shape[-1]
"""

from __future__ import annotations

import numpy as np

from .jit import njit


def frame_tail(n_channels: int, window_samples: int, hop: int) -> np.ndarray:
    """Return the tail of a stream that has heard silence, float32 (channel, window_samples - hop)."""
    return np.zeros((n_channels, window_samples - hop), dtype=np.float32)


def overlap_tail(n_stems: int, n_channels: int, window_samples: int, hop: int) -> np.ndarray:
    """Return the tail of a silent overlap-add, float32 (stem, channel, window_samples - hop)."""
    return np.zeros((n_stems, n_channels, window_samples - hop), dtype=np.float32)


@njit
def frame_into(x: np.ndarray, tail: np.ndarray, window: np.ndarray, out: np.ndarray) -> None:
    """Write the windowed frames that end with each hop of x, and keep the newest samples in tail.

    Shape: x (channel, k * hop), tail (channel, W - hop), window (W,), out (channel, k, W); float32.
    """
    n_channels, n_tail = tail.shape
    n_window = window.shape[0]
    hop = n_window - n_tail
    n_new = out.shape[1] * hop
    for c in range(n_channels):
        for i in range(out.shape[1]):
            start = i * hop
            n_old = max(0, n_tail - start)
            for n in range(n_old):
                out[c, i, n] = tail[c, start + n] * window[n]
            first = start - n_tail
            for n in range(n_old, n_window):
                out[c, i, n] = x[c, first + n] * window[n]
        kept = max(0, n_tail - n_new)
        for n in range(kept):
            tail[c, n] = tail[c, n + n_new]
        for n in range(kept, n_tail):
            tail[c, n] = x[c, n_new - n_tail + n]


@njit
def overlap_add_into(frames: np.ndarray, window: np.ndarray, tail: np.ndarray, out: np.ndarray) -> None:
    """Write the next hop of output for each frame, and keep in tail what it adds to later ones.

    Shape: frames (stem, channel, k, W) (the last W samples of inverse frames; may be a view),
    window (W,), tail (stem, channel, W - hop), out (stem, channel, k * hop); float32.
    """
    n_window = window.shape[0]
    n_tail = tail.shape[2]
    hop = n_window - n_tail
    for s in range(frames.shape[0]):
        for c in range(frames.shape[1]):
            for i in range(frames.shape[2]):
                first = i * hop
                for n in range(min(hop, n_tail)):
                    out[s, c, first + n] = tail[s, c, n] + frames[s, c, i, n] * window[n]
                for n in range(n_tail, hop):
                    out[s, c, first + n] = frames[s, c, i, n] * window[n]
                for n in range(hop, n_tail):
                    tail[s, c, n - hop] = tail[s, c, n] + frames[s, c, i, n] * window[n]
                for n in range(max(hop, n_tail), n_window):
                    tail[s, c, n - hop] = frames[s, c, i, n] * window[n]
