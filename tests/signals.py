"""Test signals: float32 (channel, sample) at full scale, the same on every run."""

from __future__ import annotations

import numpy as np

RATE_HZ = 44_100


def impulse(n_samples: int, at: int = 0, n_channels: int = 2) -> np.ndarray:
    """Return one sample of 1 at index `at`, zeros elsewhere."""
    x = np.zeros((n_channels, n_samples), dtype=np.float32)
    x[:, at] = 1.0
    return x


def tone(n_samples: int, cycles_per_sample: float, n_channels: int = 2) -> np.ndarray:
    """Return a full-scale sine; channel c lags by c quarter turns of 1/8."""
    t = np.arange(n_samples)
    lag = np.arange(n_channels)[:, None] * np.pi / 4
    return np.sin(2 * np.pi * cycles_per_sample * t - lag).astype(np.float32)


def tone_on_bin(n_samples: int, bin_index: int = 100, n_fft: int = 4096) -> np.ndarray:
    """Return a full-scale sine in the middle of a bin."""
    return tone(n_samples, bin_index / n_fft)


def tone_off_bin(n_samples: int, bin_index: int = 100, n_fft: int = 4096) -> np.ndarray:
    """Return a full-scale sine half-way between two bins."""
    return tone(n_samples, (bin_index + 0.5) / n_fft)


def sweep(n_samples: int, n_channels: int = 2) -> np.ndarray:
    """Return a full-scale sine that rises from 20 Hz to 20 kHz, equally long in every octave."""
    ratio = np.log(1000.0)
    t = np.arange(n_samples) / max(1, n_samples)
    phase = 2 * np.pi * 20.0 / RATE_HZ * n_samples / ratio * (np.exp(ratio * t) - 1.0)
    return np.tile(np.sin(phase).astype(np.float32), (n_channels, 1))


def noise(n_samples: int, seed: int = 0, level: float = 0.1, n_channels: int = 2) -> np.ndarray:
    """Return white Gaussian noise of RMS `level`, independent between channels."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal((n_channels, n_samples))).astype(np.float32)


def silence(n_samples: int, n_channels: int = 2) -> np.ndarray:
    """Return zeros."""
    return np.zeros((n_channels, n_samples), dtype=np.float32)


def constant(n_samples: int, value: float = 0.5, n_channels: int = 2) -> np.ndarray:
    """Return one value throughout."""
    return np.full((n_channels, n_samples), value, dtype=np.float32)


def denormals(n_samples: int, seed: int = 0, n_channels: int = 2) -> np.ndarray:
    """Return noise of about 1e-40: every sample too small for a normal float32."""
    rng = np.random.default_rng(seed)
    return (1e-40 * rng.uniform(-1, 1, (n_channels, n_samples))).astype(np.float32)


def square(n_samples: int, period: int = 100, n_channels: int = 2) -> np.ndarray:
    """Return +1 and -1 in turns: the loudest signal that fits full scale."""
    wave = np.where(np.arange(n_samples) % period < period // 2, 1.0, -1.0)
    return np.tile(wave.astype(np.float32), (n_channels, 1))


def loud(n_samples: int, seed: int = 0, n_channels: int = 2) -> np.ndarray:
    """Return noise that peaks at 40 times full scale (where unit-range tests miss faults)."""
    x = noise(n_samples, seed, 1.0, n_channels)
    return x * np.float32(40.0 / max(1e-9, float(np.abs(x).max())))


def spoiled(n_samples: int, at: int, seed: int = 0) -> np.ndarray:
    """Return noise with one NaN at index `at` of the first channel."""
    x = noise(n_samples, seed)
    x[0, at] = np.nan
    return x


SIGNALS = {
    "impulse": impulse,
    "tone on a bin": tone_on_bin,
    "tone off a bin": tone_off_bin,
    "sweep": sweep,
    "noise": noise,
    "silence": silence,
    "constant": constant,
    "denormals": denormals,
    "square": square,
    "amplitude 40": loud,
}
"""Every finite signal, by name: each value takes n_samples."""
