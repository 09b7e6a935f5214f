"""The latency budget: what each stage adds, in samples, and how long the worker has.

    D = (grid - gcd(block, grid)) + latency + allowance + effects      (block 0: the first term is grid)
    allowance = max(hop, block + F), and as much more as gives the worker hop - F samples for every hop

grid: the pieces in which stems come, which is the hop where nothing is converted (`pipeline.grid_hop`).

The second condition is ours: with blocks of 256 and hops of 512 the first leaves the worker half a hop, and
128 samples more give it a whole one.

Output position p plays input position p - D.  A sample waits for its block to be whole before that, which the
total counts; device and converters are beyond what can be known without measuring (`stemrack measure`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..rt.block import FADE_SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a sample waits for, stage by stage; all in samples of the device's rate.

    hop: the separator's, or the slots' where that is longer.  grid_samples: 0 where stems come in hops.
    block_samples: 0 where it changes, up to largest_block.  separator_samples: latency of the separation,
    with rate conversion.  allowance_samples: 0 takes the least that is safe, `least_allowance`;
    effects_allowance_samples comes on top of it.
    """

    rate_hz: int
    hop: int
    block_samples: int
    separator_samples: int
    grid_samples: int = 0
    largest_block: int = 0
    allowance_samples: int = 0
    effects_samples: int = 0
    effects_allowance_samples: int = 0
    limiter_samples: int = 0
    follower_samples: int = 0
    """Fill of the capture ring where input and output are separate devices."""
    window_ms: float = 0.0
    """Length of the synthesis window: the figure that papers give."""

    def __post_init__(self) -> None:
        if not self.block_samples and not self.largest_block:
            raise ValueError("a changing block needs largest_block")

    @property
    def _grid(self) -> int:
        return self.grid_samples or self.hop

    @property
    def alignment_samples(self) -> int:
        """Wait for a piece to be whole, at worst, where blocks and pieces do not meet."""
        return self._grid - math.gcd(self.block_samples, self._grid) if self.block_samples else self._grid

    @property
    def least_allowance(self) -> int:
        """A hop, or the block with its cross-fade if that is longer; both where the block changes.

        For a fixed block also what brings the worker's time to a hop less the cross-fade.
        """
        if not self.block_samples:
            return self.largest_block + FADE_SAMPLES + self.hop
        first = max(self.hop, self.block_samples + FADE_SAMPLES)
        wanted = self.hop - FADE_SAMPLES
        return next(a for a in range(first, first + 2 * self.hop) if self._worker_time(a) >= wanted)

    def _worker_time(self, allowance: int) -> int:
        block, grid = self.block_samples, self._grid
        behind = self.alignment_samples + self.separator_samples + allowance + self.effects_samples
        times = []
        for p in range(0, math.lcm(block, grid), block):
            wanted = p - behind + block + FADE_SAMPLES
            end_of_piece = -(-wanted // grid) * grid
            needed = end_of_piece + self.separator_samples + self.effects_samples
            there_at = -(-needed // block) * block
            times.append(p + block - there_at)
        return min(times)

    @property
    def allowance(self) -> int:
        """Time given to the worker, with the cross-fade that must still fit in."""
        return max(self.allowance_samples, self.least_allowance) + self.effects_allowance_samples

    @property
    def delay_samples(self) -> int:
        """D: output position less the input position it plays."""
        return self.alignment_samples + self.separator_samples + self.allowance + self.effects_samples

    @property
    def total_samples(self) -> int:
        """From a sample at the input to the same sample at the output, without device and converters."""
        return (self.block_samples or self.largest_block) + self._around

    @property
    def _around(self) -> int:
        return self.follower_samples + self.delay_samples + self.limiter_samples

    def ms(self, n_samples: int) -> float:
        """Return samples as milliseconds."""
        return 1000.0 * n_samples / self.rate_hz

    @property
    def stages(self) -> list[tuple[str, int]]:
        """Name and samples of each stage, in the order of the path."""
        return [
            ("block until it is whole", self.block_samples or self.largest_block),
            ("clock of the input", self.follower_samples),
            ("block against hop", self.alignment_samples),
            ("separation", self.separator_samples),
            ("worker and cross-fade", self.allowance),
            ("effects", self.effects_samples),
            ("limiter", self.limiter_samples),
        ]

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "rate_hz": self.rate_hz,
            "block_samples": self.block_samples,
            "stages": {name: n for name, n in self.stages},
            "delay_samples": self.delay_samples,
            "total_samples": self.total_samples,
            "total_ms": round(self.ms(self.total_samples), 3),
            "worker_time_samples": worker_time_samples(self),
            "window_ms": self.window_ms,
        }


def budget_rows(budget: Budget) -> list[tuple[str, str, str]]:
    """Return the table a person reads: stage, samples, milliseconds."""
    rows = [(name, str(n), f"{budget.ms(n):.1f}") for name, n in budget.stages if n]
    rows.append(("device and converters", "unknown", "stemrack measure"))
    return rows


def worker_time_samples(budget: Budget) -> int:
    """Return the least time the worker has for a hop, from its last sample in the ring to its stems wanted.

    By enumeration of all the ways in which blocks and hops meet: the callback at position p has input up to
    p + block, and wants the stems of input before p - D + block + fade.  Where the block changes: a hop, as
    the allowance has one to spare (a long block may come just before a short one).
    """
    if not budget.block_samples:
        return budget.hop + budget.allowance - budget.least_allowance
    return budget._worker_time(budget.allowance)
