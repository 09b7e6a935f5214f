"""How well stems are separated: global SDR and its company, the mixture as floor, ideal masks as ceiling.

Symbols: s (channel, sample) a reference stem, e its estimate, x the mixture. All figures are in dB and
computed in float64 over a whole song and both channels at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, SpecError
from ..stems import STEMS

SDR_EPSILON = 1e-7
"""Added to both sides of the ratio by the MDX-21 challenge, so that silence has a figure."""

ORACLE_WINDOW, ORACLE_HOP = 2048, 512
"""STFT of the ideal ratio mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StemScore:
    """One stem of one song."""

    stem: str
    sdr_db: float | None
    """None where the song has no such stem."""
    si_sdr_db: float | None
    leakage_db: float | None
    """Level of the estimate relative to the mixture where the song has no such stem, else None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SongScore:
    """All stems of one song, in the order of STEMS."""

    song: str
    seconds: float
    stems: tuple[StemScore, ...]

    @property
    def mean_sdr_db(self) -> float:
        """Mean over the stems that the song has."""
        return float(np.mean([s.sdr_db for s in self.stems if s.sdr_db is not None]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanScore:
    """Means over songs, per stem in the order of STEMS; None where no song has the stem."""

    n_songs: int
    sdr_db: tuple[float | None, ...]
    si_sdr_db: tuple[float | None, ...]
    leakage_db: tuple[float | None, ...]

    @property
    def mean_sdr_db(self) -> float:
        """Mean of the stems' means (the challenge's figure for one system)."""
        return float(np.mean([v for v in self.sdr_db if v is not None]))


def global_sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the MDX-21 SDR: 10 lg((sum s^2 + 1e-7) / (sum (s - e)^2 + 1e-7)).

    Shape: both (..., sample), all of it one song.  Units: full scale in, dB out.
    Raises: SpecError if the shapes differ.
    Source: Mitsufuji et al. 2021, Music Demixing Challenge, section 2.2.

    >>> import numpy as np
    >>> round(global_sdr_db(np.ones((2, 100)), 0.9 * np.ones((2, 100))), 3)
    20.0
    """
    s, e = _pair(reference, estimate)
    error = s - e
    return float(10 * np.log10((np.vdot(s, s) + SDR_EPSILON) / (np.vdot(error, error) + SDR_EPSILON)))


def si_sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return the SDR against the best scaled reference: a wrong level costs nothing.

    Shape: both (..., sample).  Units: dB; -inf for a silent estimate, +inf for a perfect one.
    Raises: SpecError if the shapes differ or the reference is silent.
    Source: Le Roux et al. 2019, SDR: half-baked or well done?, ICASSP, equation 5.
    """
    s, e = _pair(reference, estimate)
    energy = np.vdot(s, s)
    if energy <= 0.0:
        raise SpecError("SI-SDR needs a reference that is not silent: use leakage_db for a missing stem")
    target = (np.vdot(s, e) / energy) * s
    noise = e - target
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.vdot(target, target) / np.vdot(noise, noise)
        return float("-inf") if np.isnan(ratio) else float(10 * np.log10(ratio))


def leakage_db(mixture: np.ndarray, estimate: np.ndarray) -> float:
    """Return the level of what should be silent, relative to the mixture: 10 lg(sum e^2 / sum x^2).

    Shape: both (..., sample).  Units: dB, floored at -200.
    Raises: SpecError if the shapes differ or the mixture is silent.
    """
    x, e = _pair(mixture, estimate)
    energy = np.vdot(x, x)
    if energy <= 0.0:
        raise SpecError("leakage needs a mixture that is not silent")
    return float(10 * np.log10(max(np.vdot(e, e) / energy, 1e-20)))


def score_song(
    song: str,
    references: Mapping[str, np.ndarray],
    estimates: np.ndarray,
    mixture: np.ndarray,
    rate_hz: int,
) -> SongScore:
    """Return the scores of one song; a stem that is missing (or silent throughout) gets its leakage instead.

    Shape: references name -> (channel, sample); estimates (stem, channel, sample) in the order of STEMS;
    mixture (channel, sample).  Raises: SpecError for other shapes, DataError for NaN or Inf in an estimate.
    """
    if estimates.shape != (len(STEMS), *mixture.shape):
        raise SpecError(f"{song}: estimates are {estimates.shape}, wanted {(len(STEMS), *mixture.shape)}")
    if not np.isfinite(estimates).all():
        raise DataError(f"{song}: the estimates hold NaN or Inf: check the weights")
    scores = []
    for stem, estimate in zip(STEMS, estimates, strict=True):
        reference = references.get(stem)
        if reference is None or not np.any(reference):
            leak = leakage_db(mixture, estimate)
            scores.append(StemScore(stem=stem, sdr_db=None, si_sdr_db=None, leakage_db=leak))
            continue
        scores.append(
            StemScore(
                stem=stem,
                sdr_db=global_sdr_db(reference, estimate),
                si_sdr_db=si_sdr_db(reference, estimate),
                leakage_db=None,
            )
        )
    return SongScore(song=song, seconds=mixture.shape[-1] / rate_hz, stems=tuple(scores))


def mean_score(songs: Sequence[SongScore]) -> MeanScore:
    """Return the means per stem over the songs that have it; DataError without songs."""
    if not songs:
        raise DataError("no song to take the mean of")
    columns = [[song.stems[j] for song in songs] for j in range(len(STEMS))]
    return MeanScore(
        n_songs=len(songs),
        sdr_db=tuple(_mean(s.sdr_db for s in column) for column in columns),
        si_sdr_db=tuple(_mean(s.si_sdr_db for s in column) for column in columns),
        leakage_db=tuple(_mean(s.leakage_db for s in column) for column in columns),
    )


def mixture_of(references: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the sum of the stems, (channel, sample) float32; DataError if none or of different shapes."""
    shapes = {name: x.shape for name, x in references.items()}
    if len(set(shapes.values())) != 1:
        raise DataError(f"stems of one song must have one shape, got {shapes or 'none'}")
    return np.sum([x.astype(np.float64) for x in references.values()], axis=0).astype(np.float32)


def mixture_as_estimate(mixture: np.ndarray) -> np.ndarray:
    """Return the mixture as every stem's estimate: the floor any separator must beat.

    Shape: (channel, sample) -> (stem, channel, sample).
    """
    return np.broadcast_to(mixture, (len(STEMS), *mixture.shape))


def oracle_ratio_mask(references: Mapping[str, np.ndarray], mixture: np.ndarray) -> np.ndarray:
    """Return the estimates of the ideal magnitude ratio mask |S_j| / sum_i |S_i|: a ceiling for mask methods.

    STFT 2048/512, Hann.  Shape: name -> (channel, sample), (channel, sample) -> (stem, channel, sample);
    a missing stem's estimate is silent.
    """
    x = _stft(mixture)
    magnitudes = {stem: np.abs(_stft(s)) for stem, s in references.items()}
    total = sum(magnitudes.values()) + np.float64(1e-12)
    out = np.zeros((len(STEMS), *mixture.shape), np.float32)
    for j, stem in enumerate(STEMS):
        if stem in magnitudes:
            out[j] = _istft(x * (magnitudes[stem] / total), mixture.shape[-1])
    return out


def bsseval_medians_db(
    references: Mapping[str, np.ndarray], estimates: np.ndarray, rate_hz: int
) -> dict[str, float]:
    """Return the BSSEval v4 SDR of the stems that are there: medians over windows of one second.

    Shape: name -> (channel, sample); (stem, channel, sample) in the order of STEMS.
    Raises: DataError if the package museval is not installed or fewer than one window is left.
    Source: Stoeter, Liutkus and Ito 2018, The 2018 Signal Separation Evaluation Campaign.
    """
    try:
        from museval.metrics import bss_eval
    except ImportError as error:
        raise DataError("BSSEval figures need the package museval: pip install museval") from error
    present = [j for j, stem in enumerate(STEMS) if np.any(references.get(stem, 0.0))]
    if not present or estimates.shape[-1] < rate_hz:
        raise DataError("BSSEval figures need a stem that is not silent and a second of it")
    s = np.stack([references[STEMS[j]].T for j in present])
    sdr, *_ = bss_eval(s, estimates[present].transpose(0, 2, 1), window=rate_hz, hop=rate_hz)
    return {STEMS[j]: float(np.nanmedian(row)) for j, row in zip(present, sdr, strict=True)}


def _pair(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if reference.shape != estimate.shape:
        raise SpecError(f"shapes differ: {reference.shape} and {estimate.shape}")
    return reference.astype(np.float64).ravel(), estimate.astype(np.float64).ravel()


def _mean(values) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


def _window() -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(ORACLE_WINDOW) / ORACLE_WINDOW)


def _stft(x: np.ndarray) -> np.ndarray:
    """Return (channel, frame, bin) of centred frames, zeros beyond both ends."""
    half = ORACLE_WINDOW // 2
    n_frames = -(-x.shape[-1] // ORACLE_HOP) + 1
    right = (n_frames - 1) * ORACLE_HOP + half - x.shape[-1]
    padded = np.pad(x.astype(np.float64), ((0, 0), (half, right)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, ORACLE_WINDOW, axis=-1)[:, ::ORACLE_HOP]
    return np.fft.rfft(frames * _window(), axis=-1)


def _istft(spectrum: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the least-squares signal of `_stft` frames."""
    n_channels, n_frames, _ = spectrum.shape
    window = _window()
    frames = np.fft.irfft(spectrum, ORACLE_WINDOW, axis=-1) * window
    pieces = ORACLE_WINDOW // ORACLE_HOP
    total = np.zeros((n_channels, n_frames + pieces - 1, ORACLE_HOP))
    weight = np.zeros((n_frames + pieces - 1, ORACLE_HOP))
    for i in range(pieces):
        part = slice(i * ORACLE_HOP, (i + 1) * ORACLE_HOP)
        total[:, i : i + n_frames] += frames[..., part]
        weight[i : i + n_frames] += window[part] ** 2
    signal = (total / np.maximum(weight, 1e-9)).reshape(n_channels, -1)
    return signal[:, ORACLE_WINDOW // 2 :][:, :n_samples]
