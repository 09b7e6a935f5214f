"""Recording: what is heard, and the stems before their faders, from the record ring to files."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..models.stems import STEMS
from .atomics import load
from .block import (
    HOP,
    LIMITER_SAMPLES,
    N_RECORD_CHANNELS,
    ORIGIN,
    RATE_HZ,
    RECORD_POSITION,
    SUB_BLOCK_SAMPLES,
    Block,
)
from .errors import ConfigError, OutputError
from .files import SinkFormat, TakeFile
from .limiter import limiter_latency
from .ring import take

PIECE_SAMPLES = 8192
POLL_S = 0.05
FREE_CHECK_S = 1.0
STOP_LIMIT_S = 10.0
MIN_FREE_BYTES = 50_000_000
"""Below it a recording stops (as OBS does, obs-studio PR 1924), so that the system has room left."""

LOW_FACTOR = 10
"""A warning comes at this many times that: at 24 bits with stems and 44.1 kHz, 5 minutes before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """What is recorded and as what; a take is a folder of its own, named by its time, below `folder`."""

    folder: Path = Path("recordings")
    mix: bool = True
    stems: bool = False
    container: Literal["flac", "wav"] = "flac"
    subtype: Literal["int16", "int24", "float32"] = "int24"
    min_free_bytes: int = MIN_FREE_BYTES

    def __post_init__(self) -> None:
        if not (self.mix or self.stems):
            raise ConfigError("a recording needs mix, stems or both")
        if self.container not in ("flac", "wav"):
            raise ConfigError(f"a recording cannot be '{self.container}': choose flac or wav")
        if self.min_free_bytes < 0:
            raise ConfigError(f"min_free_bytes = {self.min_free_bytes}: must be 0 or more")
        _ = self.sink_format

    @property
    def sink_format(self) -> SinkFormat:
        """The format of the files.  Raises: ConfigError for what the container cannot hold."""
        return SinkFormat(container=self.container, subtype=self.subtype)

    @property
    def tracks(self) -> dict[str, slice]:
        """Names of the files and their rows of the record ring."""
        rows = {"mix": slice(0, 2)} if self.mix else {}
        if self.stems:
            rows |= {stem: slice(2 + 2 * i, 4 + 2 * i) for i, stem in enumerate(STEMS)}
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingReport:
    """What a recording gave. first_position: output position of the files' first sample."""

    paths: tuple[Path, ...]
    first_position: int
    n_samples: int
    n_lost_samples: int
    """Written as silence, because the disk could not keep up or no sound came."""
    n_saturated: int
    reason: str
    """Why it ended: `stopped`, `disk nearly full`, another rate, or what the disk said."""


class Recorder:
    """Drains the record ring to files until it is stopped or the disk runs out.

    Time stays aligned: what was overwritten before it could be read is written as silence and counted, and so
    are the samples between the end of a stream and the hop border where the next one begins.
    Thread: one of its own; `start` and `stop` from any.  Raises: OutputError from `start`.
    """

    def __init__(
        self,
        block: Block,
        settings: RecordSettings,
        on_event: Callable[[str, dict[str, object]], None] = lambda kind, facts: None,
    ) -> None:
        self._block, self._settings, self._on_event = block, settings, on_event
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stemrack-recorder", daemon=True)
        self._buffer = np.empty((N_RECORD_CHANNELS, PIECE_SAMPLES), np.float32)
        self._files: dict[str, TakeFile] = {}
        self._first = self._position = self._origin = self._rate_hz = 0
        self._n_lost = 0
        self._reason = ""
        self._checked_s = 0.0
        self._told_low = False

    @property
    def is_running(self) -> bool:
        """Whether it is writing."""
        return self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """Length so far."""
        return (self._position - self._first) / max(1, int(self._block.words[RATE_HZ]))

    def start(self) -> None:
        """Make the files and begin with the next sample."""
        folder = _new_folder(self._settings.folder)
        self._rate_hz = int(self._block.words[RATE_HZ])
        suffix = self._settings.container
        try:
            for name in self._settings.tracks:
                path = folder / f"{name}.{suffix}"
                self._files[name] = TakeFile(path, self._rate_hz, 2, self._settings.sink_format)
        except OutputError:
            self._close()
            raise
        self._origin = load(self._block.words, ORIGIN)
        self._first = self._position = load(self._block.words, RECORD_POSITION)
        self._thread.start()
        self._on_event("recording-started", {"folder": str(folder)})

    def stop(self) -> RecordingReport:
        """Return the report once all that was heard so far is written."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_LIMIT_S)
        if self._thread.is_alive():
            self._reason = self._reason or "the disk does not answer: the end may be missing"
        return RecordingReport(
            paths=tuple(f.path for f in self._files.values()),
            first_position=self._first,
            n_samples=self._position - self._first,
            n_lost_samples=self._n_lost,
            n_saturated=sum(f.n_saturated for f in self._files.values()),
            reason=self._reason or "stopped",
        )

    def _run(self) -> None:
        try:
            while not self._stopping.wait(POLL_S) and not self._reason:
                self._drain()
                self._check_space()
            if not self._reason:
                self._drain()
        except OutputError as error:
            self._reason = error.reason
        except OSError as error:  # of the look at the free space: the folder is gone
            self._reason = f"the disk cannot be looked at ({error.strerror})"
        self._close()
        if self._reason:
            n_samples = self._position - self._first
            facts = {"reason": self._reason, "samples": n_samples, "lost_samples": self._n_lost}
            self._on_event("recording-stopped", facts)

    def _drain(self) -> None:
        origin = load(self._block.words, ORIGIN)
        if origin > self._origin:
            self._cross_to(origin)
        if not self._reason:
            self._drain_to(load(self._block.words, RECORD_POSITION))

    def _cross_to(self, origin: int) -> None:
        """Write the end of a stream, then silence up to the origin of the next.

        Where the old stream ended is no longer known, but it was less than a hop and the limiter's delay
        before: in between the ring still holds what was heard a lap ago.
        """
        words = self._block.words
        longest = int(words[HOP]) - 1 + limiter_latency(int(words[LIMITER_SAMPLES]))
        self._drain_to(origin - longest)
        self._write_silence(origin - self._position)
        self._origin = origin
        rate_hz = int(words[RATE_HZ])
        if rate_hz != self._rate_hz:
            self._reason = f"the rate changed from {self._rate_hz} to {rate_hz} Hz: begin a new recording"

    def _drain_to(self, end: int) -> None:
        words, ring = self._block.words, self._block.record
        while (n := min(PIECE_SAMPLES, end - self._position)) > 0:
            piece = self._buffer[:, :n]
            taken = take(words, RECORD_POSITION, ring, self._position, piece)
            if taken and self._oldest() <= self._position:
                self._write(piece)
            else:
                self._write_silence(max(1, self._oldest() + SUB_BLOCK_SAMPLES - self._position))

    def _oldest(self) -> int:
        """Return the first position that is not being overwritten: stems run ahead by the limiter's delay."""
        words = self._block.words
        ahead = SUB_BLOCK_SAMPLES + limiter_latency(int(words[LIMITER_SAMPLES]))
        return load(words, RECORD_POSITION) + ahead - self._block.record.shape[1]

    def _write_silence(self, n: int) -> None:
        self._n_lost += max(0, n)
        while n > 0:
            silence = np.zeros((N_RECORD_CHANNELS, min(n, PIECE_SAMPLES)), np.float32)
            self._write(silence)
            n -= silence.shape[1]

    def _write(self, piece: np.ndarray) -> None:
        for name, rows in self._settings.tracks.items():
            self._files[name].write(piece[rows])
        self._position += piece.shape[1]

    def _check_space(self) -> None:
        if time.monotonic() - self._checked_s < FREE_CHECK_S:
            return
        self._checked_s = time.monotonic()
        folder = next(iter(self._files.values())).path.parent
        free = shutil.disk_usage(folder).free
        if free < self._settings.min_free_bytes:
            self._reason = "disk nearly full"
        elif free < LOW_FACTOR * self._settings.min_free_bytes and not self._told_low:
            self._told_low = True
            self._on_event("disk-low", {"free_mb": free // 1_000_000})

    def _close(self) -> None:
        for file in self._files.values():
            try:
                file.close()
            except OutputError as error:
                self._reason = self._reason or error.reason


def _new_folder(parent: Path) -> Path:
    """Return the path of a folder that does not exist yet, named by the time."""
    name = time.strftime("take-%Y%m%d-%H%M%S")
    folder, n = parent / name, 1
    while folder.exists():
        n += 1
        folder = parent / f"{name}-{n}"
    return folder
