"""Resampling by a fraction of small whole numbers, with windowed-sinc kernels as buffers.

Source: Smith, Digital audio resampling (windowed sinc); parameters and layout of the kernels are those
of the package julius (`ResampleFrac`), because published checkpoints hold them.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

ZEROS = 24
ROLLOFF = 0.945


class FractionResampler(nn.Module):
    """A signal at new / old of its rate, in any leading shape.

    Shape: (..., sample) -> (..., floor(sample * new / old)).
    One kernel per output phase: output new * t + p reads around input old * t.
    """

    def __init__(self, old: int, new: int, *, zeros: int = ZEROS, rolloff: float = ROLLOFF) -> None:
        super().__init__()
        shared = math.gcd(old, new)
        self.old, self.new = old // shared, new // shared
        rate = min(self.old, self.new) * rolloff
        self.width = math.ceil(zeros * self.old / rate)
        kernel = _kernel(self.old, self.new, rate, zeros, self.width)
        self.register_buffer("kernel", kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the resampled signal; beyond its ends the first and last sample go on."""
        shape, n = x.shape[:-1], x.shape[-1]
        x = functional.pad(x.reshape(-1, 1, n), (self.width, self.width + self.old), mode="replicate")
        y = functional.conv1d(x, self.get_buffer("kernel"), stride=self.old)
        y = y.transpose(1, 2).reshape(*shape, -1)
        return y[..., : n * self.new // self.old]


def _kernel(old: int, new: int, rate: float, zeros: int, width: int) -> torch.Tensor:
    """Return the kernels of all phases, each of sum 1.  Shape: (new, 1, 2 width + old)."""
    at = torch.arange(-width, width + old, dtype=torch.float32)
    phase = torch.arange(new, dtype=torch.float32)[:, None]
    t = ((-phase / new + at / old) * rate).clamp(-zeros, zeros) * math.pi
    kernel = torch.sinc(t / math.pi) * torch.cos(t / zeros / 2) ** 2
    return (kernel / kernel.sum(-1, keepdim=True))[:, None]
