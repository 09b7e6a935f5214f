"""A round trip by correlation: coded noise goes out, what comes back says how late, how loud, how sure.

    h(t) = IFFT[ FFT(heard) conj(FFT(sent)) ],   delay = argmax |h|

The probe has equal power at all frequencies of its band and random phases, so this is a matched filter: what
hums or rumbles outside the band is not seen. Pure functions, no device.
Two clocks that differ smear the peak: the delay is then that at the middle of the probe, and the level reads
low, more so for a longer probe (`tests/latency/test_loopback.py:test_clocks_that_differ`).
Source: Knapp & Carter 1976, The generalized correlation method for estimation of time delay, IEEE ASSP-24
(the plain cross-correlation; the probe is white in its band, so whitening would add only noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..rt.units import db_from_gain, gain_from_db

PROBE_PEAK_DB = -12.0
PROBE_BAND_HZ = (200.0, 8000.0)
"""What small loudspeakers and every converter pass."""

FADE_S = 0.01
BAND_EDGE = 0.1
"""Share of each band limit over which the probe's spectrum falls to nothing."""

GUARD_S = 1.0 / PROBE_BAND_HZ[0]
"""Nearer to the peak than a period of the lowest frequency, what the correlation shows is the peak's own."""

FLOOR_RMS = 5.5
"""Of 10^5 Gaussian values the largest is about 4.4 times their RMS, and above 5.5 once in 260 trials."""

FOUND_CONFIDENCE = 0.3
"""A peak of 5.5 / 0.7 = 7.9 times the RMS of the rest: nothing that noise does by itself."""

NEWTON_STEPS = 5
"""From half a sample away to far below a thousandth of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackResult:
    """What was heard of a probe; without it, delay_samples and level_db are None and polarity is 0.

    delay_samples: from `sent` to `heard`, with its fraction.  level_db: gain of the way.
    polarity: 1, or -1 for inverted.  confidence: 0 (noise) to 1 (one clear peak).
    """

    delay_samples: float | None
    confidence: float
    level_db: float | None
    polarity: int

    @property
    def found(self) -> bool:
        """Whether the probe was heard at all."""
        return self.delay_samples is not None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "found": self.found,
            "delay_samples": self.delay_samples,
            "confidence": self.confidence,
            "level_db": self.level_db,
            "polarity": self.polarity,
        }


def probe_signal(rate_hz: int, seconds: float = 1.0, seed: int = 1) -> np.ndarray:
    """Return noise of 200 Hz to 8 kHz (at most 0.45 of the rate), peak -12 dBFS, faded in and out.

    Shape: (sample,) float32.  The same seed gives the same probe.
    Raises: ValueError where it would be shorter than four fades, or the rate is too low for the band.

    >>> probe_signal(44_100, 0.5).shape
    (22050,)
    """
    n, n_fade = round(seconds * rate_hz), round(FADE_S * rate_hz)
    low, high = PROBE_BAND_HZ[0], min(PROBE_BAND_HZ[1], 0.45 * rate_hz)
    if n < 4 * n_fade or high < 2 * low:
        raise ValueError(f"a probe of {seconds:g} s at {rate_hz} Hz is too short or its rate too low")
    hz = np.fft.rfftfreq(n, 1.0 / rate_hz)
    rises = np.clip((hz / low - 1.0) / BAND_EDGE, 0.0, 1.0)
    falls = np.clip((1.0 - hz / high) / BAND_EDGE, 0.0, 1.0)
    phases = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi, len(hz))
    noise = np.fft.irfft(np.sin(np.pi / 2.0 * rises * falls) * np.exp(1j * phases), n)
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(n_fade) + 0.5) / n_fade)
    noise[:n_fade] *= fade
    noise[-n_fade:] *= fade[::-1]
    return (noise * (gain_from_db(PROBE_PEAK_DB) / np.abs(noise).max())).astype(np.float32)


def find_delay(
    sent: np.ndarray, heard: np.ndarray, *, rate_hz: int, max_delay_samples: int | None = None
) -> LoopbackResult:
    """Return how much later than `sent` it is in `heard`, if it is there.

    confidence = 1 - max(second, 5.5 rms) / peak of the absolute correlation: `second` is the largest value
    5 ms and more from the peak, `rms` that of all such values; echoes and noise both take from it.
    Delays from 0 to max_delay_samples are searched; None: as far as half of the probe is heard.  A filter's
    delay is part of the way's.
    Shape: sent (n,), heard (m,).
    Raises: ValueError for another shape, samples that are not finite, a silent probe, or nothing to search.
    """
    _check(sent, heard)
    limit = len(heard) - len(sent) // 2
    if max_delay_samples is not None:
        limit = min(limit, max_delay_samples)
    if limit < 1:
        raise ValueError(f"{len(heard)} samples heard are too few for a probe of {len(sent)}")
    spectrum, n_fft = _cross_spectrum(sent, heard)
    around = np.fft.irfft(spectrum, n_fft)
    guard = round(GUARD_S * rate_hz)
    # Positions from -guard on, so that a peak just outside the range does not pass for one inside.
    strength = np.abs(np.concatenate([around[-guard:], around[: limit + 1 + guard]]))
    if not strength.max():
        return _not_found(0.0)
    at = int(strength.argmax()) - guard
    confidence = _confidence(strength, at + guard, guard)
    if not 0 <= at <= limit:
        return _not_found(0.0)
    if confidence < FOUND_CONFIDENCE:
        return _not_found(confidence)
    delay, peak = _refined(spectrum, n_fft, at)
    overlap = sent[: len(heard) - at].astype(np.float64)
    gain = peak / float(overlap @ overlap)
    return LoopbackResult(
        delay_samples=delay,
        confidence=confidence,
        level_db=db_from_gain(abs(gain)),
        polarity=1 if gain > 0 else -1,
    )


def _check(sent: np.ndarray, heard: np.ndarray) -> None:
    for name, x in (("sent", sent), ("heard", heard)):
        if x.ndim != 1 or not len(x):
            raise ValueError(f"'{name}' must be one channel of samples, not of shape {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError(f"'{name}' holds samples that are not finite")
    if not np.any(sent):
        raise ValueError("the probe is silent: make one with probe_signal")


def _cross_spectrum(sent: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the spectrum of the linear cross-correlation, and the length it is made with."""
    n_fft = 1 << (len(sent) + len(heard) - 1).bit_length()
    spectrum = np.fft.rfft(heard.astype(np.float64), n_fft)
    spectrum *= np.fft.rfft(sent.astype(np.float64), n_fft).conj()
    return spectrum, n_fft


def _confidence(strength: np.ndarray, at: int, guard: int) -> float:
    """Return how far the peak stands above the rest, 0 to 1."""
    rest = np.concatenate([strength[: max(0, at - guard)], strength[at + guard + 1 :]])
    if not len(rest):
        return 0.0
    floor = FLOOR_RMS * float(np.sqrt(np.mean(rest**2)))
    return max(0.0, 1.0 - max(float(rest.max()), floor) / float(strength[at]))


def _refined(spectrum: np.ndarray, n_fft: int, at: int) -> tuple[float, float]:
    """Return position and value of the peak between samples: Newton on the correlation's Fourier series."""
    # What has no power costs only time.
    bins = np.flatnonzero(np.abs(spectrum) > 1e-9 * np.abs(spectrum).max())
    weights = np.where((bins == 0) | (bins == n_fft // 2), 1.0, 2.0) * spectrum[bins] / n_fft
    omega = 2.0 * np.pi * bins / n_fft
    position = float(at)
    for _ in range(NEWTON_STEPS):
        terms = weights * np.exp(1j * omega * position)
        value, slope = float(terms.real.sum()), -float(terms.imag @ omega)
        bend = -float(terms.real @ omega**2)
        if bend * value >= 0:  # not round like a peak: the sample itself will do
            break
        position = min(at + 1.0, max(at - 1.0, position - slope / bend))
    return position, float((weights * np.exp(1j * omega * position)).real.sum())


def _not_found(confidence: float) -> LoopbackResult:
    return LoopbackResult(delay_samples=None, confidence=confidence, level_db=None, polarity=0)
