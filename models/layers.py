"""Layers that stream: recurrence with its state carried, and streams dealt to several phases."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from .errors import SpecError, StreamingError


class Recurrent(nn.LSTM):
    """A stack of LSTM layers over time, run whole or in steps; direction is its property.

    Shape: (batch, channel, frame) -> (batch, width * directions, frame).
    Forward-only stacks stream with no latency; a stack of both directions knows `forward` alone,
    because its backward half needs the end of the signal.
    Parameters carry `nn.LSTM`'s names, so published checkpoints load as they are.
    """

    hop = 1
    latency_samples = 0
    ratio = Fraction(1)

    def __init__(self, n_in: int, width: int, n_layers: int, *, directions: int = 1, dropout: float = 0.0):
        super().__init__(
            n_in,
            width,
            n_layers,
            batch_first=True,
            bidirectional=directions == 2,
            dropout=dropout if n_layers > 1 else 0.0,
        )

    def init_state(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return zeroed hidden and cell state, each (layer, batch, width)."""
        weight = self.get_parameter("weight_hh_l0")
        shape = (self.num_layers, batch, self.hidden_size)
        return weight.new_zeros(shape), weight.new_zeros(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the output over a whole signal that starts from silence."""
        y, _ = super().forward(x.transpose(1, 2))
        return y.transpose(1, 2)

    def step(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the output of the next frames, and the state updated in place.

        Raises: StreamingError for a stack of both directions.
        """
        if self.bidirectional:
            raise StreamingError("a stack of both directions cannot stream: build it with directions=1")
        y, (hidden, cell) = super().forward(x.transpose(1, 2), state)
        state[0].copy_(hidden)
        state[1].copy_(cell)
        return y.transpose(1, 2), state

    def flush(self, state: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return nothing: the stack has no latency."""
        directions = 2 if self.bidirectional else 1
        return state[0].new_zeros(state[0].shape[1], self.hidden_size * directions, 0)


@dataclass(slots=True)
class InterleavedState:
    """States of the phases, and whose turn it is (int64, one element: updated in place)."""

    phases: list[Any]
    turn: torch.Tensor


class Interleaved(nn.Module):
    """A network of frames run as `n_phases` independent streams, frame t on stream t mod n_phases.

    So a network that was trained on frames 1024 samples apart runs at a hop of 512 just as it was
    trained, its recurrence stepping over the frames between: a dilated recurrence.
    Shape: that of the network; its hop must be one frame.  Latency: the network's.
    Source: Chang et al. 2017, Dilated recurrent neural networks (NeurIPS), with one layer of dilation.
    """

    hop = 1
    latency_samples = 0
    ratio = Fraction(1)

    def __init__(self, network: Any, n_phases: int) -> None:
        super().__init__()
        if n_phases < 1 or network.hop != 1 or network.latency_samples != 0:
            raise SpecError("Interleaved needs 1 or more phases and a network of one frame per hop")
        self.network, self.n_phases = network, n_phases

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of a whole signal: each phase on its own, put together again."""
        ys = [self.network(x[..., p :: self.n_phases]) for p in range(min(self.n_phases, x.shape[-1]))]
        y = ys[0].new_empty((*ys[0].shape[:-1], x.shape[-1]))
        for p, part in enumerate(ys):
            y[..., p :: self.n_phases] = part
        return y

    def init_state(self, batch: int) -> InterleavedState:
        """Return the states of fresh phases; the first frame goes to phase 0."""
        phases = [self.network.init_state(batch) for _ in range(self.n_phases)]
        return InterleavedState(phases=phases, turn=torch.zeros(1, dtype=torch.int64))

    def step(self, x: torch.Tensor, state: InterleavedState) -> tuple[torch.Tensor, InterleavedState]:
        """Return the output of the next frames, and the state updated in place."""
        outputs = []
        for t in range(x.shape[-1]):
            phase = state.phases[int(state.turn)]
            outputs.append(self.network.step(x[..., t : t + 1], phase)[0])
            state.turn.copy_((state.turn + 1) % self.n_phases)
        return torch.cat(outputs, dim=-1), state

    def flush(self, state: InterleavedState) -> torch.Tensor:
        """Return nothing: there is no latency."""
        return self.network.flush(state.phases[0])
