"""The player: a sound file, looped, in place of a device's input."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
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

    At equal rates the samples are the file's own, bit for bit. The loop has no gap: the rate converter runs
    through its seam.
    Raises: InputError for a file that cannot be read, when it is made.
    Thread: one of its own, a reader of disks; the ring gives it about three seconds to be late.
    """

    def __init__(self, block: Block, path: Path, rate_hz: int, *, loop: bool = True) -> None:
        self._block, self._path, self._rate_hz, self._loop = block, path, rate_hz, loop
        with AudioSource(path) as source:
            self.seconds = source.seconds
        self._pieces = self._cut()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stemrack-player", daemon=True)
        self.finished = False
        self.error: str | None = None

    def _cut(self) -> Generator[np.ndarray, None, None]:
        """Yield what `_read` does in pieces that are not too long for the ring."""
        for x in self._read():
            for start in range(0, x.shape[1], PIECE_SAMPLES):
                yield x[:, start : start + PIECE_SAMPLES]

    def _read(self) -> Iterator[np.ndarray]:
        """Yield the file's samples (2, n), again and again if it is looped."""
        converter = None
        while True:
            with AudioSource(self._path) as source:
                shape = (source.rate_hz, source.n_channels)
                if source.rate_hz == self._rate_hz:
                    converter = None
                elif converter is None or (converter.from_hz, converter.n_channels) != shape:
                    converter = RateConverter(source.rate_hz, self._rate_hz, source.n_channels)
                for block in source.blocks(PIECE_SAMPLES):
                    yield _on_both_sides(converter.push(block) if converter else block)
            if not self._loop:
                break
        if converter:
            yield _on_both_sides(converter.finish())

    def prefill(self) -> None:
        """Fill the ring, so that the stream's first block finds samples."""
        while self._fill_one():
            pass

    def start(self) -> None:
        """Begin to keep the ring full."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let the file go; what is in the ring stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        if not self._thread.is_alive():  # a generator that runs cannot be closed
            self._pieces.close()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            while self._fill_one():
                pass

    def _fill_one(self) -> bool:
        """Return whether a piece was put into the ring and another may fit."""
        words, ring = self._block.words, self._block.capture
        write = load(words, CAPTURE_WRITE)
        if self.finished or write - load(words, CAPTURE_READ) > ring.shape[1] - PIECE_SAMPLES:
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
