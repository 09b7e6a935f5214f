"""Callbacks that measure and play no music: the soak's control, and the probe of a cable."""

from __future__ import annotations

import numpy as np

from ..models.jit import OPTIONS, njit
from .atomics import carray, cfunc, load, store, view_f32, view_i64
from .block import (
    AT_CAPTURE,
    AT_RECORD,
    AT_STAMPS,
    CAPTURE_SAMPLES,
    CAPTURE_WRITE,
    DELAY_SAMPLES,
    FADE_SAMPLES,
    FADED,
    HOP,
    IN_LEFT,
    LARGEST_BLOCK,
    LAST_BLOCK,
    N_CALLBACKS,
    N_IN_CHANNELS,
    N_OUT_CHANNELS,
    N_RECORD_CHANNELS,
    N_SLOTS,
    N_WORDS,
    ORIGIN,
    POSITION,
    RECORD_POSITION,
    RECORD_SAMPLES,
    SEMAPHORE,
    SMALLEST_BLOCK,
    STOPPING,
)
from .callback import SIGNATURE, count_flags
from .fallback import count_late
from .wake import post


@njit
def _count_block(words, n):
    words[LAST_BLOCK] = n
    words[LARGEST_BLOCK] = max(n, words[LARGEST_BLOCK])
    words[SMALLEST_BLOCK] = min(n, words[SMALLEST_BLOCK])
    if load(words, STOPPING) == 1:
        store(words, FADED, 1)
    store(words, N_CALLBACKS, words[N_CALLBACKS] + 1)


@cfunc(SIGNATURE, **OPTIONS)
def control(heard, out, n, time, flags, base):
    """The control of `latency.soak`: silence, the position, the worker's wake-up, the count of late hops."""
    words = carray(base, (N_WORDS,))
    count_flags(words, flags)
    n_samples = np.int64(n)
    carray(out, (n_samples, words[N_OUT_CHANNELS]))[:, :] = 0.0
    position, hop = words[POSITION], words[HOP]
    store(words, POSITION, position + n_samples)
    if words[SEMAPHORE] != 0 and (position + n_samples) // hop != position // hop:
        post(words[SEMAPHORE])
    stamps = view_i64(words.ctypes.data + 8 * words[AT_STAMPS], (words[N_SLOTS],))
    start = position - words[DELAY_SAMPLES]
    count_late(words, stamps, start, start + n_samples + FADE_SAMPLES)
    _count_block(words, n_samples)
    return np.int32(0)


@cfunc(SIGNATURE, **OPTIONS)
def probe(heard, out, n, time, flags, base):
    """The probe of a cable: plays what is in the capture ring once, on all channels; records the input."""
    words = carray(base, (N_WORDS,))
    count_flags(words, flags)
    n_samples, n_inputs, n_outputs = np.int64(n), words[N_IN_CHANNELS], words[N_OUT_CHANNELS]
    played = carray(out, (n_samples, n_outputs))
    x = carray(heard, (n_samples * n_inputs,))
    sent = view_f32(words.ctypes.data + 8 * words[AT_CAPTURE], (2, words[CAPTURE_SAMPLES]))
    record = view_f32(words.ctypes.data + 8 * words[AT_RECORD], (N_RECORD_CHANNELS, words[RECORD_SAMPLES]))
    silent = load(words, STOPPING) == 1
    for i in range(n_samples):
        at = words[POSITION] - words[ORIGIN] + i
        v = sent[0, at] if at < words[CAPTURE_WRITE] and not silent else np.float32(0.0)
        for c in range(n_outputs):
            played[i, c] = v
        record[0, at & (words[RECORD_SAMPLES] - 1)] = x[i * n_inputs + words[IN_LEFT]]
    store(words, POSITION, words[POSITION] + n_samples)
    store(words, RECORD_POSITION, words[POSITION] - words[ORIGIN])
    _count_block(words, n_samples)
    return np.int32(0)
