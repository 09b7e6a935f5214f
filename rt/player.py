"""The player: a sound file, looped, in place of a device's input."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .atomics import load, store
from .block import CAPTURE_READ, CAPTURE_WRITE, Block
from .errors import InputError
from .files import AudioSource
from .resample import RateConverter
from .ring import write_ring

PIECE_SAMPLES = 4096
POLL_S = 0.03


class Player:
    """Keeps the capture ring full of a file's samples, at the stream's rate; mono plays on both sides.

    At equal rates the samples are the file's own, bit for bit, and the loop has no gap.
    Raises: InputError for a file that cannot be read, when it is made.
    Thread: one of its own, a reader of disks; the ring gives it about three seconds to be late.
    """

    def __init__(self, block: Block, path: Path, rate_hz: int, *, loop: bool = True) -> None:
        self._block, self._path, self._rate_hz, self._loop = block, path, rate_hz, loop
        with AudioSource(path) as source:
            self.seconds = source.seconds
        self._pieces = self._read()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stemrack-player", daemon=True)
        self.finished = False
        self.error: str | None = None

    def _read(self) -> Iterator[np.ndarray]:
        """Yield the file's samples (2, n) in pieces, again and again if it is looped."""
        while True:
            n_read = 0
            with AudioSource(self._path) as source:
                converts = source.rate_hz != self._rate_hz
                converter = (
                    RateConverter(source.rate_hz, self._rate_hz, source.n_channels) if converts else None
                )
                for block in source.blocks(PIECE_SAMPLES):
                    n_read += block.shape[1]
                    yield _on_both_sides(converter.push(block) if converter else block)
                if converter:
                    yield _on_both_sides(converter.finish())
            if not self._loop or not n_read:
                return

    def _converter(self, source: AudioSource) -> RateConverter:
        return RateConverter(source.rate_hz, self._rate_hz, source.n_channels)

    def prefill(self) -> None:
        """Fill the ring, so that the stream's first block finds samples."""
        while self._fill_one():
            pass

    def start(self) -> None:
        """Begin to keep the ring full."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is in the ring stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            while self._fill_one():
                pass

    def _fill_one(self) -> bool:
        """Return whether a piece was put into the ring and another may fit."""
        words, ring = self._block.words, self._block.capture
        write = load(words, CAPTURE_WRITE)
        # a decoder or a converter may give more than a piece at a time: an eighth of the ring is left free
        if self.finished or write - load(words, CAPTURE_READ) > ring.shape[1] * 7 // 8 - PIECE_SAMPLES:
            return False
        try:
            piece = next(self._pieces, None)
        except InputError as error:
            self.error, piece = str(error), None
        if piece is None:
            self.finished = True
            return False
        write_ring(ring, write, np.ascontiguousarray(piece, np.float32), piece.shape[1])
        store(words, CAPTURE_WRITE, write + piece.shape[1])
        return True


def _on_both_sides(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=0) if x.shape[0] == 1 else x
