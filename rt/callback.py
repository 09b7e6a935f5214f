"""The audio callback: native code over the shared block, and nothing else.

PortAudio calls `callback` with the block's address as its userdata. It takes the device's input into the
ring, wakes the worker at hop borders, takes new parameters, and gives out the stems that belong to the input
of D samples ago, or the dry mixture where there are none. It never allocates, locks, raises or runs Python: a
test reads the compiled code. `capture` serves a second, input-only device. Any number of samples is right.
"""

from __future__ import annotations

import numpy as np

from ..models.jit import OPTIONS, njit
from ..models.stems import N_STEMS
from .atomics import carray, cfunc, load, now_ns, store, types, view_f32, view_f64, view_i64
from .block import (
    ACK_POSITION,
    ACK_REVISION,
    AT_ACKS,
    AT_BUSES,
    AT_CAPTURE,
    AT_DRY,
    AT_FOLLOWER,
    AT_LIMITER,
    AT_METERS,
    AT_RAMPS,
    AT_RECORD,
    AT_RING,
    AT_SLOTS,
    AT_STAMPS,
    AT_STEMS,
    AT_TABLES,
    AT_WET,
    CAPTURE_READ,
    CAPTURE_SAMPLES,
    CAPTURE_TIME_NS,
    CAPTURE_WRITE,
    CEILING,
    DELAY_SAMPLES,
    FADE_DELAY,
    FOLLOWER_VALUES,
    HOP,
    IN_LEFT,
    IN_RIGHT,
    INPUT_FROM_DEVICE,
    INPUT_FROM_FEED,
    INPUT_SOURCE,
    LARGEST_BLOCK,
    LAST_BLOCK,
    LIMITER_COLUMNS,
    LIMITER_ROWS,
    LIMITER_SAMPLES,
    MAIN,
    METER_RUNNING,
    N_ACKS,
    N_BAD_INPUTS,
    N_BAD_STEMS,
    N_BUSES,
    N_CALLBACKS,
    N_CAPTURE_XRUNS,
    N_DRY_SAMPLES,
    N_IN_CHANNELS,
    N_IN_OVERFLOWS,
    N_IN_UNDERFLOWS,
    N_INPUT_DROPPED,
    N_INPUT_MISSING,
    N_METERS,
    N_OUT_CHANNELS,
    N_OUT_OVERFLOWS,
    N_OUT_UNDERFLOWS,
    N_PARAMETERS,
    N_RECORD_CHANNELS,
    N_SLOTS,
    N_WORDS,
    N_XRUNS,
    NEXT_WET_STATE,
    ORIGIN,
    POSITION,
    RATE_HZ,
    RECORD_POSITION,
    RECORD_SAMPLES,
    REVISION,
    RING_SAMPLES,
    SEMAPHORE,
    SMALLEST_BLOCK,
    SUB_BLOCK_SAMPLES,
    WET_STATE,
)
from .delay import cross_fade, end_change, is_changing, next_piece
from .drift import JUMPED, follow_into
from .fallback import plan_wet
from .limiter import limit_into, limiter_latency
from .mixer import hold_ceiling, meter_one, mix_into, send_out, serve_meters
from .ring import read_ring, read_slots, write_ring
from .smoothing import TARGET, retarget
from .wake import post

SIGNATURE = types.int32(
    types.CPointer(types.float32),
    types.CPointer(types.float32),
    types.ulong,
    types.voidptr,
    types.ulong,
    types.CPointer(types.int64),
)
"""PaStreamCallback: input, output, samples, time, status flags, userdata."""

IN_UNDERFLOW, IN_OVERFLOW, OUT_UNDERFLOW, OUT_OVERFLOW = 1, 2, 4, 8
"""PortAudio's paInputUnderflow and so on."""


@njit
def count_flags(words: np.ndarray, flags: int) -> None:
    """Count what PortAudio says of under- and overflows.  Thread: audio."""
    if flags & (IN_UNDERFLOW | IN_OVERFLOW | OUT_UNDERFLOW | OUT_OVERFLOW):
        words[N_XRUNS] += 1
    words[N_IN_UNDERFLOWS] += 1 if flags & IN_UNDERFLOW else 0
    words[N_IN_OVERFLOWS] += 1 if flags & IN_OVERFLOW else 0
    words[N_OUT_UNDERFLOWS] += 1 if flags & OUT_UNDERFLOW else 0
    words[N_OUT_OVERFLOWS] += 1 if flags & OUT_OVERFLOW else 0


@njit
def _take_parameters(words, tables, ramps, acks):
    revision = load(words, REVISION)
    if revision == words[ACK_REVISION]:
        return
    position = words[POSITION]
    retarget(ramps, tables[revision % 2], position)
    row = revision % N_ACKS
    acks[row, 1] = position
    acks[row, 0] = revision
    words[ACK_POSITION] = position
    store(words, ACK_REVISION, revision)


@njit
def _input_from_device(words, heard, at, n, dry):
    """Copy n samples of the device's block, from sample `at`, to dry; silence for what is not a number."""
    n_channels = words[N_IN_CHANNELS]
    left, right = words[IN_LEFT], words[IN_RIGHT]
    if n_channels == 0 or left < 0 or right < 0:
        dry[:, :n] = 0.0
        return
    for i in range(n):
        dry[0, i] = heard[(at + i) * n_channels + left]
        dry[1, i] = heard[(at + i) * n_channels + right]


@njit
def _input_from_feed(words, capture, n, dry):
    """Copy the next n samples of the player to dry, silence where it has none."""
    start = words[CAPTURE_READ]
    there = min(n, max(0, load(words, CAPTURE_WRITE) - start))
    read_ring(capture, start, dry, there)
    dry[:, there:n] = 0.0
    words[N_INPUT_MISSING] += n - there
    store(words, CAPTURE_READ, start + there)


@njit
def _input_from_capture(words, capture, follower, at, n, dry):
    """Draw n samples of the other device onto our clock; `at` samples of this block are drawn already."""
    write = load(words, CAPTURE_WRITE)
    age_ns = now_ns() - load(words, CAPTURE_TIME_NS)
    if load(words, CAPTURE_WRITE) != write:  # a block came in between: both anew
        write = load(words, CAPTURE_WRITE)
        age_ns = 0
    age_samples = max(0.0, min(words[RATE_HZ] * 0.1, age_ns * 1e-9 * words[RATE_HZ]))
    words[N_INPUT_MISSING] += follow_into(capture, write, age_samples + at, follower, dry, n)
    words[N_INPUT_DROPPED] = np.int64(follower[JUMPED])


@njit
def _clean(words, x, n):
    n_bad = 0
    for c in range(2):
        for i in range(n):
            if not np.isfinite(x[c, i]):
                x[c, i] = np.float32(0.0)
                n_bad += 1
    words[N_BAD_INPUTS] += n_bad


@njit
def _listen(words, follower, ring, capture, meters, heard, at, n, dry):
    """Take n samples of input into the ring and wake the worker if a hop became whole."""
    source = words[INPUT_SOURCE]
    if source == INPUT_FROM_DEVICE:
        _input_from_device(words, heard, at, n, dry)
    elif source == INPUT_FROM_FEED:
        _input_from_feed(words, capture, n, dry)
    else:
        _input_from_capture(words, capture, follower, at, n, dry)
    _clean(words, dry, n)
    meter_one(meters[0, 0], dry, n)
    position = words[POSITION]
    write_ring(ring, position, dry, n)
    store(words, POSITION, position + n)
    hop = words[HOP]
    if words[SEMAPHORE] != 0 and (position + n) // hop != position // hop:
        post(words[SEMAPHORE])


@njit
def _limit(words, ramps, limiter, buses, n):
    """Run the true-peak limiter on every bus, so that all keep together; returns its delay."""
    lookahead = words[LIMITER_SAMPLES]
    if lookahead <= 0:
        return 0
    for b in range(N_BUSES):
        limit_into(buses[b], n, limiter[b], ramps[TARGET, CEILING], lookahead)
    return limiter_latency(lookahead)


@njit
def _record(words, record, buses, stems, position, n, delay):
    """Put main and stems into the record ring; main, late from the limiter, goes back to its place."""
    write_ring(record[:2], position - delay, buses[MAIN], n)
    for s in range(N_STEMS):
        write_ring(record[2 + 2 * s : 4 + 2 * s], position, stems[s], n)
    store(words, RECORD_POSITION, position + n - delay)


@njit
def process(base: int, heard, out, n: int) -> None:
    """Give out n samples for n samples heard, with the block at address `base`.

    heard: float32, interleaved (n * input channels); out: float32 (n, output channels).  Thread: audio.
    """
    words = view_i64(base, (N_WORDS,))
    tables = view_f64(base + 8 * words[AT_TABLES], (2, 2, N_PARAMETERS))
    ramps = view_f64(base + 8 * words[AT_RAMPS], (4, N_PARAMETERS))
    acks = view_i64(base + 8 * words[AT_ACKS], (N_ACKS, 2))
    meters = view_f64(base + 8 * words[AT_METERS], (2, N_METERS, 4))
    follower = view_f64(base + 8 * words[AT_FOLLOWER], (FOLLOWER_VALUES,))
    stamps = view_i64(base + 8 * words[AT_STAMPS], (words[N_SLOTS],))
    ring = view_f32(base + 8 * words[AT_RING], (2, words[RING_SAMPLES]))
    slots = view_f32(base + 8 * words[AT_SLOTS], (words[N_SLOTS], N_STEMS, 2, words[HOP]))
    capture = view_f32(base + 8 * words[AT_CAPTURE], (2, words[CAPTURE_SAMPLES]))
    record = view_f32(base + 8 * words[AT_RECORD], (N_RECORD_CHANNELS, words[RECORD_SAMPLES]))
    wet = view_f32(base + 8 * words[AT_WET], (2, SUB_BLOCK_SAMPLES))
    dry = view_f32(base + 8 * words[AT_DRY], (2, 2, SUB_BLOCK_SAMPLES))
    stems = view_f32(base + 8 * words[AT_STEMS], (2, N_STEMS, 2, SUB_BLOCK_SAMPLES))
    buses = view_f32(base + 8 * words[AT_BUSES], (2, N_BUSES, 2, SUB_BLOCK_SAMPLES))
    limiter = view_f64(base + 8 * words[AT_LIMITER], (N_BUSES, LIMITER_ROWS, LIMITER_COLUMNS))
    out[:, :] = 0.0
    at = 0
    while at < n:
        position = words[POSITION]
        m = next_piece(words, stamps, position, min(SUB_BLOCK_SAMPLES, n - at))
        _take_parameters(words, tables, ramps, acks)
        _listen(words, follower, ring, capture, meters, heard, at, m, dry[0])
        n_dry = _mix(words, ramps, stamps, slots, ring, 0, position, m, dry, stems, wet, buses)
        if is_changing(words):
            _mix(words, ramps, stamps, slots, ring, 1, position, m, dry, stems, wet, buses)
            n_dry = cross_fade(words, position, m, stems, wet, buses)
            end_change(words, position + m)
        words[N_DRY_SAMPLES] += n_dry
        delay = _limit(words, ramps, limiter, buses[0], m)
        hold_ceiling(words, ramps, buses[0], m)
        for b in range(N_BUSES):
            meter_one(meters[0, 1 + b], buses[0, b], m)
        words[METER_RUNNING] += m
        send_out(words, buses[0], m, out, at)
        _record(words, record, buses[0], stems[0], position, m, delay)
        at += m
    serve_meters(words, meters)
    words[LAST_BLOCK] = n
    words[LARGEST_BLOCK] = max(n, words[LARGEST_BLOCK])
    words[SMALLEST_BLOCK] = min(n, words[SMALLEST_BLOCK])
    store(words, N_CALLBACKS, words[N_CALLBACKS] + 1)


@njit
def _mix(words, ramps, stamps, slots, ring, path, position, n, dry, stems, wet, buses):
    """Fill buses[path] with what was heard the path's delay ago; returns how many samples are not all wet."""
    start = position - words[DELAY_SAMPLES if path == 0 else FADE_DELAY]
    n_dry = plan_wet(words, stamps, WET_STATE if path == 0 else NEXT_WET_STATE, start, n, wet[path])
    _read_dry(words, ring, start, n, dry[path])
    words[N_BAD_STEMS] += read_slots(stamps, slots, words[ORIGIN], start, stems[path], n)
    mix_into(words, ramps, position, start, n, dry[path], stems[path], wet[path], buses[path])
    return n_dry


@njit
def _read_dry(words, ring, start, n, dry):
    """Copy the mixture of n samples from input position `start` to dry, silence before the stream began."""
    before = min(n, max(0, words[ORIGIN] - start))
    dry[:, :before] = 0.0
    read_ring(ring, start + before, dry[:, before:], n - before)


@cfunc(SIGNATURE, **OPTIONS)
def callback(heard, out, n, time, flags, base):
    """What PortAudio calls for each block of a stream with outputs."""
    words = carray(base, (N_WORDS,))
    count_flags(words, flags)
    n_samples = np.int64(n)
    played = carray(out, (n_samples, words[N_OUT_CHANNELS]))
    process(words.ctypes.data, carray(heard, (n_samples * words[N_IN_CHANNELS],)), played, n_samples)
    return np.int32(0)


@cfunc(SIGNATURE, **OPTIONS)
def capture(heard, out, n, time, flags, base):
    """What PortAudio calls for each block of an input-only stream: its samples go into the capture ring."""
    words = carray(base, (N_WORDS,))
    ring = view_f32(words.ctypes.data + 8 * words[AT_CAPTURE], (2, words[CAPTURE_SAMPLES]))
    mask = words[CAPTURE_SAMPLES] - 1
    words[N_CAPTURE_XRUNS] += 1 if flags & (IN_UNDERFLOW | IN_OVERFLOW) else 0
    n_samples, n_channels = np.int64(n), words[N_IN_CHANNELS]
    x = carray(heard, (n_samples * n_channels,))
    write = words[CAPTURE_WRITE]
    for i in range(n_samples):
        ring[0, (write + i) & mask] = x[i * n_channels + words[IN_LEFT]]
        ring[1, (write + i) & mask] = x[i * n_channels + words[IN_RIGHT]]
    store(words, CAPTURE_TIME_NS, now_ns())
    store(words, CAPTURE_WRITE, write + n_samples)
    return np.int32(0)
