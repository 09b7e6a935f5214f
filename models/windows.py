"""Windows of analysis and synthesis: a long one to see with, a short one to answer with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .errors import SpecError

OVERLAP_ADD_TOLERANCE = 1e-12


@lru_cache(maxsize=32)
def _design(analysis_samples: int, synthesis_samples: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two windows, float64 and read-only; see `WindowPair`."""
    fall = synthesis_samples // 2
    rise = analysis_samples - fall
    analysis = np.concatenate(
        [np.sin(np.pi * np.arange(rise) / (2 * rise)), np.cos(np.pi * np.arange(fall) / (2 * fall))]
    )
    target = np.sin(np.pi * np.arange(synthesis_samples) / synthesis_samples) ** 2
    target *= 2.0 * hop / synthesis_samples
    end = analysis[-synthesis_samples:]
    synthesis = np.divide(target, end, out=np.zeros_like(target), where=end > 0)
    for window in (analysis, synthesis):
        window.setflags(write=False)
    return analysis, synthesis


@dataclass(frozen=True, kw_only=True)
class WindowPair:
    """A long analysis window and a short synthesis window whose product overlap-adds to one.

    analysis: a rising sine half over analysis - synthesis/2 samples, a falling one over synthesis/2.
    synthesis: Hann(synthesis) * 2 hop / synthesis, divided by the end of the analysis window.
    Equal lengths give the usual pair of square-root Hann windows.
    Raises: SpecError for lengths that cannot overlap-add to one.
    Source: Mauler & Martin 2007, A low delay, variable resolution, perfect reconstruction spectral
    analysis-synthesis system for speech enhancement, EUSIPCO; Wang et al. 2021, STFT-domain neural
    speech enhancement with very low algorithmic latency.

    >>> WindowPair().latency_samples, WindowPair().n_bins
    (512, 2049)
    """

    analysis_samples: int = 4096
    synthesis_samples: int = 1024
    hop: int = 512

    def __post_init__(self) -> None:
        sizes = f"analysis {self.analysis_samples}, synthesis {self.synthesis_samples}, hop {self.hop}"
        if self.hop < 1 or self.synthesis_samples % 2 or self.synthesis_samples < 2 * self.hop:
            raise SpecError(f"windows ({sizes}): synthesis must be even and at least two hops of 1 or more")
        if self.analysis_samples < self.synthesis_samples:
            raise SpecError(f"windows ({sizes}): analysis must be at least as long as synthesis")
        if self.analysis_samples % self.hop or self.synthesis_samples % self.hop:
            raise SpecError(f"windows ({sizes}): hop must divide both window lengths")
        product = self.analysis[-self.synthesis_samples :] * self.synthesis
        total = product.reshape(-1, self.hop).sum(axis=0)
        worst = float(np.max(np.abs(total - 1.0)))
        if min(self.analysis.min(), self.synthesis.min()) < 0.0 or not worst <= OVERLAP_ADD_TOLERANCE:
            raise SpecError(f"windows ({sizes}): the product overlap-adds to one only within {worst:.1e}")

    @property
    def analysis(self) -> np.ndarray:
        """Analysis window, float64 (analysis_samples,), read-only."""
        return _design(self.analysis_samples, self.synthesis_samples, self.hop)[0]

    @property
    def synthesis(self) -> np.ndarray:
        """Window for the last synthesis_samples of an inverse frame, float64, read-only."""
        return _design(self.analysis_samples, self.synthesis_samples, self.hop)[1]

    @property
    def n_bins(self) -> int:
        """Number of frequency bins, 0 Hz to half the rate."""
        return self.analysis_samples // 2 + 1

    @property
    def latency_samples(self) -> int:
        """Delay of analysis and synthesis together."""
        return self.synthesis_samples - self.hop

    @property
    def sine_magnitude(self) -> float:
        """|X| of a full-scale sine on a bin: half the sum of the analysis window."""
        return float(self.analysis.sum()) / 2.0
