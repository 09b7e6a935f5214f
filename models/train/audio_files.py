"""Audio files in, float32 stereo at the model's rate out (home of soundfile and soxr)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..errors import DataError
from ..stems import MODEL_RATE_HZ


def load_audio(path: Path) -> np.ndarray:
    """Return a file's audio at the model's rate; mono is given to both sides, of more channels the first two.

    Shape: (2, n) float32.  Units: full scale.  Raises: DataError if the file cannot be read, holds
    nothing, or holds NaN or Inf.
    """
    try:
        x, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error
    if not len(x):
        raise DataError(f"{path} holds no samples: remove it from the material")
    if not np.isfinite(x).all():
        raise DataError(f"{path} holds NaN or Inf: remove it from the material")
    # Converting one channel and copying it costs half of converting two equal ones.
    y = resample(x.T[:2], rate_hz, MODEL_RATE_HZ)
    return y if len(y) == 2 else np.repeat(y, 2, axis=0)


def resample(x: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Return x at another rate, the same array if the rates are equal.

    Shape: (channel, n) -> (channel, about n * to_hz / from_hz) float32.
    """
    if from_hz == to_hz:
        return np.ascontiguousarray(x, dtype=np.float32)
    return np.ascontiguousarray(soxr.resample(x.T, from_hz, to_hz, quality="HQ").T, dtype=np.float32)


def replay(x: np.ndarray, factor: float) -> np.ndarray:
    """Return x played `factor` times as fast: pitch, formants and tempo move together.

    Shape: (channel, n) -> (channel, about n / factor) float32.  Below 1 a woman's voice becomes like a
    man's; the band ends at `factor` times half the rate.
    """
    if not 0.25 <= factor <= 4.0:
        raise DataError(f"replay factor {factor} is outside 0.25 to 4")
    return resample(x, MODEL_RATE_HZ * factor, MODEL_RATE_HZ)


def duration_s(path: Path) -> float:
    """Return the length of an audio file from its header; DataError if it cannot be read."""
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from error


def rms_dbfs(x: np.ndarray, active_only: bool = True) -> float:
    """Return the RMS level in dB of full scale; with `active_only`, of the parts that sound.

    Active are the 50 ms stretches within 40 dB of the loudest one, so that pauses do not make a voice
    look quiet.  Shape: x (channel, n).  Silence gives -200.
    """
    length = MODEL_RATE_HZ // 20
    n_frames = max(1, x.shape[-1] // length)
    whole = x[..., : n_frames * length]
    power = np.mean(np.square(whole, dtype=np.float64).reshape(len(x), n_frames, -1), axis=(0, 2))
    if active_only and power.max() > 0:
        power = power[power > power.max() * 1e-4]
    return float(10.0 * np.log10(max(float(power.mean()), 1e-20)))


def save_flac(path: Path, samples: np.ndarray) -> None:
    """Write 16-bit samples (2, n) at the model's rate as FLAC."""
    soundfile.write(path, samples.T, MODEL_RATE_HZ, format="FLAC", subtype="PCM_16")
