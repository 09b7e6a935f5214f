"""Mixture in, four stems out, at any rate: the one path that renders files and runs live.

mixture -> stereo -> model rate -> separator -> the mixture's rate -> its channels -> mixture consistency

Consistency is taken last, at the mixture's own rate and channels, so that the stems sum to it whatever the
converters and the networks did.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Protocol

import numpy as np

from ..models.consistency_kernels import checked_weights, project_into
from ..models.stems import MODEL_RATE_HZ, N_STEMS
from .resample import RateConverter

PIECE_S = 5.0
"""Length of what the fast path takes at once: long enough to vectorise, short enough for bounded memory.
Rounded to 64 hops: separators keep buffers for such numbers of hops."""


LONG_HOP = 16_384
"""A separator of such a hop has buffers for one at a time."""


class Separator(Protocol):
    """What a Pipeline needs of an engine (`separate.load_separator` makes one)."""

    hop: int
    latency_samples: int

    def init_state(self) -> Any: ...

    def step(self, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]: ...

    def run(self, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]: ...


class Pipeline:
    """One stream of a mixture on its way to four stems.

    Output sample k belongs to input sample k: latency shows only in how much comes out of which `push`. In
    all exactly as many samples come out as went in. live: one hop at a time through `step`, as the live
    engine does; otherwise pieces of `piece_s` through `run`, which agrees to 1e-4.
    Shape: (n_channels, sample) -> (stem, n_channels, sample), float32.
    Raises: ValueError for channels other than 1 or 2, for a wrong shape, and after `finish`.
    Thread: any, one at a time.
    """

    def __init__(
        self,
        separator: Separator,
        *,
        rate_hz: int,
        n_channels: int,
        live: bool = False,
        piece_s: float = PIECE_S,
    ) -> None:
        if n_channels not in (1, 2):
            raise ValueError(f"a pipeline takes 1 or 2 channels, not {n_channels}")
        self.separator = separator
        self.rate_hz = rate_hz
        self.n_channels = n_channels
        self.live = live
        self.n_in = 0
        self.n_out = 0
        self.n_separated = 0
        hops = 1 if live else _piece_hops(separator.hop, piece_s)
        # What takes everything at once waits for the end.
        self._piece_samples = sys.maxsize if getattr(separator, "takes_all", False) else hops * separator.hop
        converts = rate_hz != MODEL_RATE_HZ
        self._to_model = RateConverter(rate_hz, MODEL_RATE_HZ, n_channels) if converts else None
        self._from_model = RateConverter(MODEL_RATE_HZ, rate_hz, N_STEMS * n_channels) if converts else None
        self._mixture = _SampleQueue(n_channels)  # at its own rate, until its stems are there
        self._waiting = _SampleQueue(n_channels)  # at the model's rate, until there is a whole piece
        self._to_drop = separator.latency_samples  # the separator's first outputs belong to no input
        self._state = separator.init_state()
        self._weights = checked_weights()
        self._finished = False

    def push(self, x: np.ndarray) -> np.ndarray:
        """Return the stems that became ready, (stem, n_channels, m); m may be 0."""
        self._check(x)
        x = np.array(x, dtype=np.float32, order="C")  # a copy: the caller may use its buffer again
        self.n_in += x.shape[1]
        self._mixture.push(x)
        self._waiting.push(self._to_model.push(x) if self._to_model else x)
        n_ready = self._waiting.n_samples - self._waiting.n_samples % self._piece_samples
        return self._emit(self._separate(n_ready))

    def finish(self) -> np.ndarray:
        """Return the rest of the stems, as if silence followed."""
        if self._finished:
            raise ValueError("the pipeline is finished: make a new one")
        self._finished = True
        if self._to_model:
            self._waiting.push(self._to_model.finish())
        n_rest = self._waiting.n_samples + self.separator.latency_samples  # silence pushes the last stems out
        n_whole = -(-n_rest // self.separator.hop) * self.separator.hop
        self._waiting.push(np.zeros((self.n_channels, n_whole - self._waiting.n_samples), np.float32))
        return self._emit(self._separate(n_whole), excess=n_whole - n_rest)

    def _separate(self, n: int) -> np.ndarray:
        """Return the stems of the next n waiting samples at the model's rate, latency taken off."""
        self.n_separated += n
        stems = np.empty((N_STEMS, self.n_channels, n), np.float32)
        step = self.separator.step if self.live else self.separator.run
        for start in range(0, n, self._piece_samples):
            stop = min(n, start + self._piece_samples)
            x = self._waiting.pop(stop - start)
            y, _ = step(np.repeat(x, 2, axis=0) if self.n_channels == 1 else x, self._state)
            stems[..., start:stop] = y if self.n_channels == 2 else y.mean(axis=1, keepdims=True)
        dropped = min(n, self._to_drop)
        self._to_drop -= dropped
        return stems[..., dropped:]

    def _emit(self, stems: np.ndarray, *, excess: int | None = None) -> np.ndarray:
        """Return stems at the mixture's rate, summing to it; `excess` (last call) is cut off the end."""
        if excess is not None:
            stems = stems[..., : stems.shape[-1] - excess]
        if self._from_model:
            rows = self._from_model.push(stems.reshape(N_STEMS * self.n_channels, -1))
            if excess is not None:
                rows = np.concatenate([rows, self._from_model.finish(self.n_in)], axis=1)
            stems = rows.reshape(N_STEMS, self.n_channels, -1)
        stems = np.ascontiguousarray(stems)
        self.n_out += stems.shape[-1]
        project_into(stems, self._mixture.pop(stems.shape[-1]), self._weights, stems)
        return stems

    def _check(self, x: np.ndarray) -> None:
        if self._finished:
            raise ValueError("the pipeline is finished: make a new one")
        if x.ndim != 2 or x.shape[0] != self.n_channels:
            raise ValueError(f"expected ({self.n_channels}, sample), got {x.shape}")


def _piece_hops(hop: int, piece_s: float) -> int:
    """Return the hops of a piece: one where a hop is long."""
    return 64 * max(1, round(piece_s * MODEL_RATE_HZ / hop / 64)) if hop < LONG_HOP else 1


class _SampleQueue:
    """Samples in order, pushed and popped in pieces of any length."""

    def __init__(self, n_channels: int) -> None:
        self.n_samples = 0
        self._n_channels = n_channels
        self._pieces: deque[np.ndarray] = deque()

    def push(self, x: np.ndarray) -> None:
        if x.shape[1]:
            self._pieces.append(x)
            self.n_samples += x.shape[1]

    def pop(self, n: int) -> np.ndarray:
        assert n <= self.n_samples, (n, self.n_samples)
        self.n_samples -= n
        out = np.empty((self._n_channels, n), np.float32)
        done = 0
        while done < n:
            piece = self._pieces.popleft()
            take = min(n - done, piece.shape[1])
            out[:, done : done + take] = piece[:, :take]
            if take < piece.shape[1]:
                self._pieces.appendleft(piece[:, take:])
            done += take
        return out


def live_latency_samples(separator_hop: int, separator_latency: int, rate_hz: int, hop: int) -> int:
    """Return how long stems take at a device's rate, in its samples, when input comes and stems go in hops.

    At the model's rate that is the separator's own latency.  At another the converters hold samples back,
    by amounts that change from hop to hop: the most that happens in some seconds of silence is taken.
    """
    counting = _Counting(separator_hop, separator_latency)
    pipeline = Pipeline(counting, rate_hz=rate_hz, n_channels=2, live=True)
    silence, most = np.zeros((2, hop), np.float32), 0
    for n_in in range(hop, SURVEY_S * rate_hz, hop):
        pipeline.push(silence)
        most = max(most, n_in - pipeline.n_out // hop * hop)
    return most


def grid_hop(separator_hop: int, rate_hz: int, slot_hop: int) -> int:
    """Return the pieces in which stems come: of a separator's hop where that fits, of the slots' hop else.

    >>> grid_hop(1024, 44_100, 512), grid_hop(128, 44_100, 512), grid_hop(1024, 48_000, 512)
    (1024, 512, 512)
    """
    return separator_hop if rate_hz == MODEL_RATE_HZ and separator_hop % slot_hop == 0 else slot_hop


SURVEY_S = 8
"""Longer than the pattern of every common pair of rates."""


class _Counting:
    """A separator that only keeps time."""

    def __init__(self, hop: int, latency_samples: int) -> None:
        self.hop, self.latency_samples = hop, latency_samples
        self._stems = np.zeros((N_STEMS, 2, hop), np.float32)

    def init_state(self) -> None:
        return None

    def step(self, x: np.ndarray, state: None) -> tuple[np.ndarray, None]:
        return self._stems, state

    run = step
