"""The shared block: its whole layout, and Block, the view of it that Python code holds.

One `multiprocessing` RawArray of 64-bit words per node, handed to the children when they are spawned: it has
no name, so nothing can be left behind. First come the words listed here, then the arrays of `REGIONS`.

Who writes what: the names of a group say it. Positions count samples of the output device since the node
began, across all its streams; a stream begins at ORIGIN, a hop border.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np

from ..models.stems import N_STEMS

LAYOUT_VERSION = 1
N_WORDS = 256
LINE_WORDS = 8
"""A cache line: regions begin at one, and so do groups of words with different writers."""

# Geometry: the node, before anything is spawned.
VERSION, HOP, N_SLOTS, RING_SAMPLES, CAPTURE_SAMPLES, RECORD_SAMPLES = range(6)

# Stream: the audio process, before it opens the stream.
ORIGIN = 16
EPOCH = 17
"""Rises with every stream: the worker then begins anew at ORIGIN."""
DELAY_SAMPLES = 18
"""D of DESIGN 2: output position p plays input position p - D."""
RATE_HZ = 19
N_IN_CHANNELS, N_OUT_CHANNELS = 20, 21
INPUT_SOURCE = 22
IN_LEFT, IN_RIGHT = 23, 24
"""Channels of the device, from 0."""
SEMAPHORE = 25
"""Address of the worker's semaphore in the audio process; 0: nobody to wake."""
START_RAMP_SAMPLES = 26
LIMITER_SAMPLES = 27
"""Look-ahead of the true-peak limiter; 0: it is off and the ceiling is a clip."""
BUS_CHANNELS = 28
"""Two words for each of BUSES: device channels (from 0) of its left and right, -1 for none."""

INPUT_FROM_DEVICE, INPUT_FROM_CAPTURE, INPUT_FROM_FEED = 0, 1, 2
"""Values of INPUT_SOURCE: the stream's own input; another device, by the drift follower; the player."""

BUSES = ("main", "drums", "bass", "other", "vocals", "cue")
MAIN, FIRST_STEM_BUS, CUE = 0, 1, 5
N_BUSES = 6

# The callback.
POSITION = 48
"""Output position after the newest block; input up to here is in the ring."""
N_CALLBACKS = 49
ACK_REVISION, ACK_POSITION = 50, 51
"""The parameter table in force, and the position where it took effect."""
N_XRUNS, N_IN_UNDERFLOWS, N_IN_OVERFLOWS, N_OUT_UNDERFLOWS, N_OUT_OVERFLOWS = 52, 53, 54, 55, 56
"""Blocks with any flag of the device, and with each of them."""
N_LATE_HOPS, N_FALLBACKS, N_DRY_SAMPLES = 57, 58, 59
"""Hops whose stems were not there when wanted; fades to dry; samples that were not all wet."""
N_BAD_INPUTS, N_BAD_STEMS, N_CLIPPED = 60, 61, 62
"""Samples: not finite in the input, not finite in the stems, over the ceiling."""
LAST_BLOCK, LARGEST_BLOCK = 63, 64
SMALLEST_BLOCK = 79
RECORD_POSITION = 65
"""Output up to here is in the record ring."""
N_INPUT_MISSING = 66
"""Samples that the capture or feed ring did not have when they were wanted."""
N_INPUT_DROPPED = 67
"""Samples of the capture ring that were jumped over."""
LAST_LATE = 68
WET_STATE, WET_BEGIN = 69, 70
"""Direction of the newest cross-fade of wet and dry, and the input position where it began."""
STOP_BEGIN = 71
FADED = 72
"""1 once a stream that was asked to stop is silent."""
METER_SERVED = 73
CAPTURE_READ = 74
METER_RUNNING, METER_PUBLISHED = 77, 78
"""Samples in the running and in the published meter sums."""
FADE_BEGIN, FADE_DELAY = 80, 81
"""Output position where the change of delay that is under way began (NOWHERE: none is), and its new delay."""
NEXT_WET_STATE, NEXT_WET_BEGIN = 82, 83
"""WET_STATE and WET_BEGIN of the path with the new delay."""

TO_WET, TO_DRY = 0, 1
"""Values of WET_STATE; a fade that is over stays what it was."""

# The capture callback of a second device, or the player: whoever feeds.
CAPTURE_WRITE = 88
N_CAPTURE_XRUNS = 89
CAPTURE_TIME_NS = 90
"""When CAPTURE_WRITE was stored, by `clock.now_ns`."""

# Control (the node).
REVISION = 96
"""Of the newest parameter table; table REVISION % 2 holds it."""
METER_REQUEST = 97
STOPPING = 98
"""1: fade out, keep silent."""
NEXT_DELAY, DELAY_BEGIN = 99, 100
"""The delay that is wanted, and the output position from which the callback fades to it, see `delay`."""
EFFECTS_ALLOWED = 101
"""Latency of effects, in samples, that the delay has room for."""

# The worker: two sets of words, WORKER_SHIFT apart, as two run while the profile changes; see `of_worker`.
WORKER_SHIFT = 40
WORKER_HEARTBEAT_NS = 104
WORKER_PHASE = 105
WORKER_POSITION = 106
"""Input up to here has been taken."""
N_HOPS, N_SKIPPED_HOPS, N_BAD_HOPS = 107, 108, 109
"""Hops separated; jumped over to catch up; thrown away because a sample was not finite."""
HOP_TIMES_WRITTEN = 110
"""Of the active worker, whichever it is: this word is never shifted."""
WORKER_EPOCH = 111
"""The stream the worker is in, of EPOCH."""
WORKER_REALTIME = 112
"""1 if the worker got real-time priority."""
HANDED_OVER = 113
"""Position of the hop in `handover` that this worker has left for the next one."""

INSERT_NOW = 114
"""Insert that the hop loop is in, 1 + stem x MAX_INSERTS + place, its name in `insert_names`; 0: none."""
EFFECTS_REVISION = 115
"""Of the newest chains that are in force."""
EFFECTS_SAMPLES, EFFECTS_WANTED = 116, 117
"""Latency of the effects in force, and of those that are being built."""

IDLE, PREPARING, READY = 0, 1, 2
"""Values of WORKER_PHASE and AUDIO_PHASE."""

# The supervisor (the node).
NODE_HEARTBEAT_NS = 120
SHUTDOWN = 121
"""How far the node has come in ending its children; the worker goes last, so that the fade is not dry."""
SHUTDOWN_AUDIO, SHUTDOWN_ALL = 1, 2
ACTIVE_WORKER = 122
"""The set of words of the worker in charge, 0 or 1."""
PUT_FROM, PUT_UNTIL = 123, 124
"""A worker puts the stems of hops from the one to before the other; the second worker's: two words on."""

# The audio process.
AUDIO_HEARTBEAT_NS = 128
AUDIO_PHASE = 129

# What fault injection asks of the worker (tests and `stemrack soak`); 0: nothing.
FAULT = 136
FAULT_NONE, FAULT_NAN, FAULT_RAISE, FAULT_SLOW = 0, 1, 2, 3

OFFSETS = 160
"""A word for each region: where it begins, in words."""
(
    AT_TABLES,
    AT_RAMPS,
    AT_ACKS,
    AT_METERS,
    AT_FOLLOWER,
    AT_STAMPS,
    AT_RING,
    AT_SLOTS,
    AT_CAPTURE,
    AT_RECORD,
    AT_WET,
    AT_DRY,
    AT_STEMS,
    AT_BUSES,
    AT_LIMITER,
) = range(OFFSETS, OFFSETS + 15)

# Parameters: a table of float64 (TARGETS and RAMPS, parameter), see `params.table_of`.
TARGETS, RAMPS = 0, 1
"""Values, and the samples that each ramp takes."""
N_PARAMETERS = 32
GAIN_LEFT, GAIN_RIGHT = 0, 4
"""Four each, linear, with pan, mute and solo in them."""
MASTER, CUE_GAIN, CEILING = 8, 9, 10
"""Linear, linear, full scale."""

FADE_SAMPLES = 128
"""F of DESIGN 2: cross-fade between wet and dry."""
DELAY_FADE_SAMPLES = 1024
"""Cross-fade between two delays."""
LONGEST_SLOT_HOP = 512
"""Slots of a node are no longer, so that it can change to a profile with that hop or a multiple of it."""
SLOT_SAMPLES = 1 << 16
"""Stems that the slots hold at least, as long as the largest delay may be."""
SUB_BLOCK_SAMPLES = 512
"""The callback cuts longer blocks into pieces of this length."""
N_RECORD_CHANNELS = 2 + 2 * N_STEMS
"""Main, then the stems before their faders, left and right each."""
N_METERS = 1 + N_BUSES
"""The input, then the buses."""
N_ACKS = 64
FOLLOWER_VALUES = 16
LIMITER_ROWS, LIMITER_COLUMNS = 8, 1024
N_HOP_TIMES = 1 << 16
MESSAGE_BYTES = 2048
N_INSERTS = 32
"""In all stems."""
NAME_BYTES = 64


LONGEST_HOPS = 8
"""Hops of the separator that rings and slots hold at least: its latency, and some for being late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes of the rings: hop in samples of the device, lengths in samples (powers of two)."""

    hop: int
    n_slots: int = 0
    """0: 64, or as many as SLOT_SAMPLES take."""
    ring_samples: int = 1 << 17
    capture_samples: int = 1 << 17
    record_samples: int = 1 << 18

    def __post_init__(self) -> None:
        if not self.n_slots and self.hop > 0:
            n_slots = max(64, 1 << (-(-SLOT_SAMPLES // self.hop) - 1).bit_length())
            object.__setattr__(self, "n_slots", n_slots)
        for name in ("n_slots", "ring_samples", "capture_samples", "record_samples"):
            n = getattr(self, name)
            if n <= 0 or n & (n - 1):
                raise ValueError(f"{name} must be a power of two, got {n}")
        if not 0 < self.hop * 4 <= self.ring_samples:
            raise ValueError(f"hop must be 1 to a quarter of the ring ({self.ring_samples}), got {self.hop}")

    @classmethod
    def for_separator(cls, hop: int) -> Geometry:
        """Return the sizes for a separator's hop: what is longer than usual gets longer rings.

        >>> Geometry.for_separator(512) == Geometry(hop=512), Geometry.for_separator(65_536).ring_samples
        (True, 524288)
        """
        slots = slot_hop(hop)
        needed = 1 << (LONGEST_HOPS * hop - 1).bit_length()
        if needed <= SLOT_SAMPLES:
            return cls(hop=slots)
        return cls(hop=slots, n_slots=needed // slots, ring_samples=max(needed, 1 << 17))

    @property
    def regions(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name, type and shape of the arrays behind the words, in order."""
        f4, f8, i8 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)
        slots = (self.n_slots, N_STEMS, 2, self.hop)
        return {
            "tables": (f8, (2, 2, N_PARAMETERS)),
            "ramps": (f8, (4, N_PARAMETERS)),  # the callback's own, see `smoothing`
            "acks": (i8, (N_ACKS, 2)),  # revision, position where it took effect; row revision % N_ACKS
            "meter_sums": (f8, (2, N_METERS, 4)),  # running, published: peak L R, sum of squares L R
            "follower": (f8, (FOLLOWER_VALUES,)),  # the drift follower's state, see `drift`
            "stamps": (i8, (self.n_slots,)),
            "ring": (f4, (2, self.ring_samples)),
            "slots": (f4, slots),
            "capture": (f4, (2, self.capture_samples)),
            "record": (f4, (N_RECORD_CHANNELS, self.record_samples)),
            # the callback's work space, twice: with the delay there is, and with the one it fades to
            "wet": (f4, (2, SUB_BLOCK_SAMPLES)),
            "dry": (f4, (2, 2, SUB_BLOCK_SAMPLES)),
            "stems": (f4, (2, N_STEMS, 2, SUB_BLOCK_SAMPLES)),
            "buses": (f4, (2, N_BUSES, 2, SUB_BLOCK_SAMPLES)),
            "limiter": (f8, (N_BUSES, LIMITER_ROWS, LIMITER_COLUMNS)),  # the limiter's state, see `limiter`
            "hop_times_us": (f4, (N_HOP_TIMES,)),
            "handover": (f4, (N_STEMS, 2, self.hop)),  # stems of an ending worker where the next begins
            # UTF-8 of 'stem/insert' in each worker: the inserts in force, then the one that is being loaded
            "insert_names": (np.dtype(np.uint8), (2, N_INSERTS + 1, NAME_BYTES)),
            "messages": (np.dtype(np.uint8), (3, MESSAGE_BYTES)),  # last words of the children
        }

    @property
    def offsets(self) -> dict[str, int]:
        """Offset of each region in words."""
        at, offsets = N_WORDS, {}
        for name, (kind, shape) in self.regions.items():
            offsets[name] = at
            n_words = -(-int(np.prod(shape)) * kind.itemsize // 8)
            at += -(-n_words // LINE_WORDS) * LINE_WORDS
        return offsets | {"end": at}


class Block:
    """Arrays over the shared memory of a node, by the names of `Geometry.regions`.

    raw: pickles to a child only while it is spawned.  Thread: any; who may write which word, see above.
    """

    def __init__(self, raw: Any, geometry: Geometry) -> None:
        self.raw, self.geometry = raw, geometry
        whole = np.frombuffer(raw, np.int64)
        skipped = (-whole.ctypes.data // 8) % LINE_WORDS
        self.whole = whole[skipped : skipped + geometry.offsets["end"]]
        self.words = self.whole[:N_WORDS]
        offsets = geometry.offsets
        for name, (kind, shape) in geometry.regions.items():
            n_bytes = int(np.prod(shape)) * kind.itemsize
            flat = self.whole[offsets[name] :].view(np.uint8)[:n_bytes]
            setattr(self, name, flat.view(kind).reshape(shape))

    tables: np.ndarray
    ramps: np.ndarray
    acks: np.ndarray
    meter_sums: np.ndarray
    follower: np.ndarray
    stamps: np.ndarray
    ring: np.ndarray
    slots: np.ndarray
    capture: np.ndarray
    record: np.ndarray
    wet: np.ndarray
    dry: np.ndarray
    stems: np.ndarray
    buses: np.ndarray
    limiter: np.ndarray
    hop_times_us: np.ndarray
    handover: np.ndarray
    insert_names: np.ndarray
    messages: np.ndarray

    @property
    def address(self) -> int:
        """Where the block begins in this process: the callback's userdata."""
        return self.whole.ctypes.data

    @property
    def delay_room(self) -> int:
        """The longest delay in samples for which stems are kept."""
        w = self.words
        return int(w[N_SLOTS] * w[HOP]) - int(w[LARGEST_BLOCK]) - 2 * int(w[HOP])

    def say(self, who: int, text: str) -> None:
        """Leave the last words of a child (0, 2 workers, 1 audio process); what is too long is cut."""
        write_text(self.messages[who], text)

    def said(self, who: int) -> str:
        """Return the last words of a child."""
        return text_in(self.messages[who])


def write_text(row: np.ndarray, text: str) -> None:
    """Put text into a row of bytes; what is too long is cut."""
    data = text.encode()[: len(row) - 1]
    row[:] = 0
    row[: len(data)] = np.frombuffer(data, np.uint8)


def text_in(row: np.ndarray) -> str:
    """Return the text in a row of bytes."""
    return bytes(row).split(b"\0", 1)[0].decode(errors="replace")


def make_block(geometry: Geometry, context: BaseContext | None = None) -> Block:
    """Return a new block; with a multiprocessing context one that its processes can share."""
    n = geometry.offsets["end"] + LINE_WORDS
    raw = context.RawArray(ctypes.c_int64, n) if context else (ctypes.c_int64 * n)()
    block = Block(raw, geometry)
    w = block.words
    w[VERSION], w[HOP], w[N_SLOTS] = LAYOUT_VERSION, geometry.hop, geometry.n_slots
    w[RING_SAMPLES], w[CAPTURE_SAMPLES] = geometry.ring_samples, geometry.capture_samples
    w[RECORD_SAMPLES] = geometry.record_samples
    w[BUS_CHANNELS : BUS_CHANNELS + 2 * N_BUSES] = -1
    w[SMALLEST_BLOCK] = NO_BLOCK
    w[LAST_LATE] = STOPPED_NOWHERE
    w[STOP_BEGIN] = STOPPED_NOWHERE
    w[FADE_BEGIN] = NOWHERE
    w[PUT_FROM : PUT_FROM + 4] = NOWHERE, NEVER, NEVER, NEVER
    w[HANDED_OVER] = w[HANDED_OVER + WORKER_SHIFT] = NOWHERE
    block.stamps[:] = NO_STAMP
    places = list(geometry.offsets.values())[: AT_LIMITER - OFFSETS + 1]
    w[OFFSETS : OFFSETS + len(places)] = places
    return block


NO_STAMP = -1
NO_BLOCK = 1 << 30
"""SMALLEST_BLOCK before the first."""
NOWHERE = STOPPED_NOWHERE = -1
NEVER = 1 << 62
"""A position that no node reaches."""


def slot_hop(separator_hop: int) -> int:
    """Return the hop of the slots of a node that begins with a separator of some hop.

    >>> slot_hop(512), slot_hop(1024), slot_hop(128)
    (512, 512, 128)
    """
    return math.gcd(separator_hop, LONGEST_SLOT_HOP)


def of_worker(words: np.ndarray, index: int) -> int:
    """Return where a word of the worker in charge lies, given the first worker's."""
    return index + WORKER_SHIFT * int(words[ACTIVE_WORKER])
