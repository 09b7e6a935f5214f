"""Local attention at the U-Net's bottleneck: in blocks of time as published, over a past window causal.

Channels of the one convolution that makes queries, keys and values are head-major: each head owns its
queries, then its keys, then its values; the output is head-major again.

Source: Parmar et al. 2018, Image transformer (ICML), section 3.3. Layout: Danna-Sep's UNetAttn.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .unet_blocks import last_frames, with_past

SHUT_OUT = 1e9
"""Taken from the logit of a position that does not exist; its weight is then exactly zero."""

QUERY_FRAMES = 2
"""Frames of one block of the published attention."""

FLANGE_FRAMES = 3
"""Frames on each side of a block that its queries attend to as well."""

PADDING_LOGIT = -1e-9
"""Added where a key is padding: no mask at all in effect, but what the published weights learned with."""


class BlockAttention(nn.Module):
    """Attention of each block of frames to itself and its neighbours, all bins together.

    Shape: (batch, n_in, bin, frame) -> (batch, n_out, bin, frame).
    Padding takes part in the softmax with a logit of nearly zero and a value of zero.
    """

    def __init__(self, n_in: int, n_out: int, *, heads: int, width: int, kernel: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.qkv_conv = nn.Conv2d(n_in, 3 * heads * width, kernel, padding=kernel // 2)
        self.out_conv = nn.Conv2d(heads * width, n_out, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output over a whole excerpt."""
        n_frames = x.shape[3]
        n_added = -n_frames % QUERY_FRAMES
        y = self.qkv_conv(x).unflatten(1, (self.heads, 3, self.width)).permute(2, 0, 1, 5, 4, 3)
        q = functional.pad(y[0], (0, 0, 0, 0, 0, n_added)).unflatten(2, (-1, QUERY_FRAMES))
        flanges = (FLANGE_FRAMES, FLANGE_FRAMES + n_added)
        n_keys = QUERY_FRAMES + 2 * FLANGE_FRAMES
        # (batch, head, block, key frame * bin, width)
        k, v = (
            functional.pad(a, (0, 0, 0, 0, *flanges))
            .unfold(2, n_keys, QUERY_FRAMES)
            .permute(0, 1, 2, 5, 3, 4)
            .flatten(3, 4)
            for a in (y[1], y[2])
        )
        padding = functional.pad(x.new_zeros(n_frames), flanges, value=PADDING_LOGIT)
        padding = padding.unfold(0, n_keys, QUERY_FRAMES).repeat_interleave(x.shape[2], dim=1)
        logits = (q.flatten(3, 4) * self.width**-0.5) @ k.transpose(3, 4) + padding[:, None]
        y = (torch.softmax(logits, dim=-1) @ v).unflatten(3, (QUERY_FRAMES, -1)).flatten(2, 3)
        return self.out_conv(y[:, :, :n_frames].permute(0, 1, 4, 3, 2).flatten(1, 2))


def windows(x: torch.Tensor, axis: int, n: int) -> torch.Tensor:
    """Return every run of n neighbours along an axis, as a new axis behind it.

    By one gather of constant indices, which costs an exported graph one node.
    """
    count = x.shape[axis] - n + 1
    index = torch.arange(count, device=x.device)[:, None] + torch.arange(n, device=x.device)
    return x.index_select(axis, index.flatten()).unflatten(axis, (count, n))


class WindowAttention(nn.Module):
    """Attention of each frame's bins to all bins of the last `n_frames` frames, itself included.

    Shape: (batch, n_in, frame, bin) -> (batch, n_out, frame, bin).
    Frames before the start of the stream have no weight. Streams frame by frame with no latency.
    """

    def __init__(self, n_in: int, n_out: int, *, heads: int, width: int, n_frames: int, kernel: int) -> None:
        super().__init__()
        self.heads, self.width, self.n_frames, self.n_in = heads, width, n_frames, n_in
        self.span = kernel - 1
        pad = (0, kernel // 2)
        self.qkv_conv = nn.Conv2d(n_in, 3 * heads * width, kernel, padding=pad)
        self.out_conv = nn.Conv2d(heads * width, n_out, kernel, padding=pad, bias=False)

    def _parts(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values.  Shape: -> three of (batch, head, frame, bin, width)."""
        y = y.unflatten(1, (self.heads, 3, self.width)).permute(2, 0, 1, 4, 5, 3)
        return y[0], y[1], y[2]

    def _attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heard: torch.Tensor
    ) -> torch.Tensor:
        """Return what each query gathers.

        Shape: q (batch, head, frame, bin, width); keys, values (batch, head, frame, past, bin, width);
        heard (batch, frame, past), 1 where the frame exists -> (batch, head * width, frame, bin).
        """
        n_bins = q.shape[3]
        shut = ((heard - 1.0) * SHUT_OUT)[:, None, :, :, None].expand(-1, -1, -1, -1, n_bins)
        logits = (q * self.width**-0.5) @ keys.flatten(3, 4).transpose(3, 4)
        weights = torch.softmax(logits + shut.flatten(3, 4).unsqueeze(3), dim=-1)
        y = weights @ values.flatten(3, 4)
        return y.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output over a whole signal that starts from silence."""
        n, before = x.shape[2], self.n_frames - 1
        q, k, v = self._parts(self.qkv_conv(functional.pad(x, (0, 0, self.span, 0))))
        keys, values = (
            functional.pad(a, (0, 0, 0, 0, before, 0)).unfold(2, self.n_frames, 1).permute(0, 1, 2, 5, 3, 4)
            for a in (k, v)
        )
        heard = functional.pad(x.new_ones(n), (before, 0)).unfold(0, self.n_frames, 1)
        y = self._attend(q, keys, values, heard.expand(x.shape[0], -1, -1))
        return self.out_conv(functional.pad(y, (0, 0, self.span, 0)))

    def state_shapes(self, n_bins: int) -> list[tuple[int, ...]]:
        """Return the shapes of keys, values and, for a kernel over time, the convolutions' pasts."""
        cached = (self.heads, self.n_frames - 1, n_bins, self.width)
        pasts = [(self.n_in, self.span, n_bins), (self.heads * self.width, self.span, n_bins)]
        return [cached, cached, *(pasts if self.span else [])]

    def advance(
        self, x: torch.Tensor, heard: torch.Tensor, state: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the output of the next frames, and the new state.

        `heard` (batch, frame, n_frames): 1 for each frame of each window that exists (`windows`).
        """
        pasts = []
        if self.span:
            x = with_past(state[2], x)
            pasts.append(last_frames(x, self.span))
        q, k, v = self._parts(self.qkv_conv(x))
        keys, values = with_past(state[0], k), with_past(state[1], v)
        after = [last_frames(a, self.n_frames - 1) for a in (keys, values)]
        keys, values = (windows(a, 2, self.n_frames) for a in (keys, values))
        y = self._attend(q, keys, values, heard)
        if self.span:
            y = with_past(state[3], y)
            pasts.append(last_frames(y, self.span))
        return self.out_conv(y), after + pasts
