"""Streaming conversion between two fixed sample rates; soxr's one home."""

from __future__ import annotations

import numpy as np
import soxr

QUALITY = "HQ"
"""soxr's 20-bit recipe: pass band to 0.913 of the lower Nyquist frequency, ripple below -120 dB."""

_TAIL_SAMPLES = 64
"""Silence fed before soxr's flush, so that rounding of the length never leaves it one sample short."""


def converted_length(n_samples: int, from_hz: int, to_hz: int) -> int:
    """Return how many samples cover `n_samples` at another rate (rounded up).

    >>> converted_length(48_000, 48_000, 44_100), converted_length(1, 192_000, 44_100)
    (44100, 1)
    """
    return -(-n_samples * to_hz // from_hz)


class RateConverter:
    """A stream at one rate in, the same stream at another rate out.

    Sample k of the output lies at the time of input sample k * from_hz / to_hz: soxr takes its filter's
    delay off itself, so output comes later but not delayed. How the input was cut changes no sample.

    Shape: (n_channels, sample) float32.  Latency: none in the samples; `held_samples` are still inside.
    Source: libsoxr 0.1.3 (`soxr_process`), rate recipe SOXR_HQ.
    """

    def __init__(self, from_hz: int, to_hz: int, n_channels: int) -> None:
        if from_hz <= 0 or to_hz <= 0 or n_channels <= 0:
            raise ValueError(f"rates and channels must be positive: {from_hz}, {to_hz}, {n_channels}")
        self.from_hz = from_hz
        self.to_hz = to_hz
        self.n_channels = n_channels
        self._stream = soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32", quality=QUALITY)
        self._n_in = 0
        self._n_out = 0
        self._finished = False

    @property
    def held_samples(self) -> int:
        """Output samples that the input so far will still give."""
        return converted_length(self._n_in, self.from_hz, self.to_hz) - self._n_out

    def push(self, x: np.ndarray) -> np.ndarray:
        """Return the output that became ready, (n_channels, m); m may be 0.

        Raises: ValueError for another number of channels or after `finish`.
        """
        if self._finished:
            raise ValueError("the stream is finished: make a new RateConverter")
        if x.ndim != 2 or x.shape[0] != self.n_channels:
            raise ValueError(f"expected ({self.n_channels}, sample), got {x.shape}")
        self._n_in += x.shape[1]
        y = self._convert(x, last=False)
        self._n_out += y.shape[1]
        return y

    def finish(self, n_total: int | None = None) -> np.ndarray:
        """Return the rest, so that `n_total` samples have come out in all.

        The default is `converted_length` of the input. Past its end the input counts as silence.
        Raises: ValueError if more than `n_total` samples are out already.
        """
        if self._finished:
            raise ValueError("the stream is finished: make a new RateConverter")
        self._finished = True
        wanted = converted_length(self._n_in, self.from_hz, self.to_hz) if n_total is None else n_total
        rest = wanted - self._n_out
        if rest < 0:
            raise ValueError(f"{self._n_out} samples are out already, {wanted} were asked for")
        missing = max(0, wanted - converted_length(self._n_in, self.from_hz, self.to_hz))
        n_silence = _TAIL_SAMPLES + converted_length(missing + _TAIL_SAMPLES, self.to_hz, self.from_hz)
        y = self._convert(np.zeros((self.n_channels, n_silence), np.float32), last=True)
        self._n_out = wanted
        return y[:, :rest]

    def _convert(self, x: np.ndarray, *, last: bool) -> np.ndarray:
        rows = np.ascontiguousarray(x.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(rows, last=last).T)
