"""Multidilated dense blocks (D2, D3), as published and causal.

The published blocks work on (batch, channel, bin, frame) and look both ways in time. The causal ones
work on (batch, channel, frame, bin), so that the bins of one frame lie together in memory, and their
time kernels look back only: whole signals are padded with silence on the left, steps carry the past.

Source: Takahashi, Mitsufuji 2021, Densely connected multi-dilated convolutional networks for dense
prediction tasks (CVPR), section 3. Layout of the tensors: Danna-Sep's UNetAttn.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

BIN_KERNEL = 3
"""Width of every dense convolution along the bins."""


def with_past(past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return x behind the frames before it.  Shape: (batch, channel, frame, ...)."""
    return torch.cat([past, x], dim=2)


def last_frames(x: torch.Tensor, n: int) -> torch.Tensor:
    """Return the last n frames.  Shape: (batch, channel, frame, ...)."""
    return x[:, :, x.shape[2] - n :]


class D2Block(nn.Module):
    """A dense block whose connections from layer i all have dilation 2^i.

    Layer i's convolution gives `growth` channels to each layer from i on; a layer is the sum of what
    it was given, normalised and rectified. The block's output is all layers side by side.
    Shape: (batch, n_in, ...) -> (batch, growth * n_layers, ...).
    `time_kernel` makes it causal: frames seen by each convolution, the current one included.
    """

    def __init__(self, n_in: int, growth: int, n_layers: int, *, time_kernel: int | None = None) -> None:
        super().__init__()
        self.n_in, self.growth, self.n_layers = n_in, growth, n_layers
        self.spans = [0 if time_kernel is None else (time_kernel - 1) * 2**i for i in range(n_layers)]
        self.conv_layers = nn.ModuleList()
        self.bn_layers = nn.ModuleList()
        for i in range(n_layers):
            dilation = 2**i
            self.conv_layers.append(
                nn.Conv2d(
                    growth if i else n_in,
                    growth * (n_layers - i),
                    (time_kernel or BIN_KERNEL, BIN_KERNEL),
                    dilation=dilation,
                    padding=dilation if time_kernel is None else (0, dilation),
                    bias=False,
                )
            )
            self.bn_layers.append(nn.Sequential(nn.BatchNorm2d(growth), nn.ReLU()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layers' outputs over a whole signal."""
        outputs, carried = [], None
        for i, span in enumerate(self.spans):
            given = self.conv_layers[i](functional.pad(x, (0, 0, span, 0)) if span else x)
            x, carried = self._layer(i, given, carried)
            outputs.append(x)
        return torch.cat(outputs, dim=1)

    def _layer(
        self, i: int, given: torch.Tensor, carried: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return layer i's output, and what is carried to the layers after it."""
        given = given if carried is None else given + carried
        rest = given.shape[1] - self.growth
        if not rest:
            return self.bn_layers[i](given), None
        given, carried = given.split([self.growth, rest], dim=1)
        return self.bn_layers[i](given), carried

    def advance(
        self, extended: torch.Tensor, state: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the outputs of the next frames, and the new past of layers 1 and up.

        `extended` is the input with `spans[0]` frames of its past in front.
        """
        outputs, after, carried = [], [], None
        for i, span in enumerate(self.spans):
            if i:
                extended = with_past(state[i - 1], outputs[-1])
                after.append(last_frames(extended, span))
            y, carried = self._layer(i, self.conv_layers[i](extended), carried)
            outputs.append(y)
        return torch.cat(outputs, dim=1), after


class D3Block(nn.Module):
    """D2 blocks in a row, each over the input and all outputs before it.

    Shape: (batch, n_in, ...) -> (batch, n_in + n_blocks * growth * n_layers, ...).
    """

    def __init__(
        self, n_in: int, growth: int, n_layers: int, n_blocks: int, *, time_kernel: int | None = None
    ) -> None:
        super().__init__()
        wide = growth * n_layers
        self.n_in, self.n_out = n_in, n_in + n_blocks * wide
        self.d2_layers = nn.ModuleList(
            D2Block(n_in + m * wide, growth, n_layers, time_kernel=time_kernel) for m in range(n_blocks)
        )

    @property
    def blocks(self) -> list[D2Block]:
        """The D2 blocks in order."""
        return list(self.d2_layers)  # pyright: ignore[reportReturnType]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return input and outputs over a whole signal."""
        for block in self.d2_layers:
            x = torch.cat([x, block(x)], dim=1)
        return x

    def state_shapes(self, n_bins: int) -> list[tuple[int, int, int]]:
        """Return (channel, frame, bin) of each state: the shared past of the inputs, then the layers'."""
        last = self.blocks[-1]
        shapes = [(last.n_in, last.spans[0], n_bins)]
        for block in self.blocks:
            shapes += [(block.growth, span, n_bins) for span in block.spans[1:]]
        return shapes

    def advance(self, x: torch.Tensor, state: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return input and outputs of the next frames, and the new state.

        The first layers of all blocks share one past: each reads the leading channels of the last's.
        """
        past, after, start = state[0], [], 1
        extended = x
        for block in self.blocks:
            extended = with_past(past[:, : block.n_in], x)
            stop = start + block.n_layers - 1
            y, layers = block.advance(extended, state[start:stop])
            x, start = torch.cat([x, y], dim=1), stop
            after += layers
        return x, [last_frames(extended, past.shape[2]), *after]
