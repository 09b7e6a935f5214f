"""The published X-UMX as a stream: forward states carried, backward passes made again for each hop.

Of a stack's two directions only the backward one needs what follows. Each hop the stacks run over
hop + look_ahead frames: forward from the states that the hop before left, backward from the window's
end. For the first layer the forward half is thus that of the whole track. Deeper layers hear backward
halves, of which each ended at its window's end; their states are carried as computed there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from .chunked import push_units
from .errors import SpecError, StreamingError
from .layers import Recurrent
from .stems import N_STEMS
from .xumx import Xumx

LstmState = tuple[torch.Tensor, torch.Tensor]
Block = tuple[int, int, int]
"""First frame that leaves, frame after the last that leaves, frame after the last that is known."""


def run_layer(
    stack: Recurrent, layer: int, x: torch.Tensor, state: LstmState | None = None
) -> tuple[torch.Tensor, LstmState]:
    """Return one direction of one layer and its last state: forward from `state`; backward if None.

    Shape: x (batch, frame, channel), state (1, batch, width) each -> (batch, frame, width).
    """
    suffix = "_reverse" if state is None else ""
    names = [f"{name}_l{layer}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    weights: list[torch.Tensor] = [stack.get_parameter(name) for name in names]
    backward = state is None
    if state is None:
        zeros = x.new_zeros(1, x.shape[0], stack.hidden_size)
        state = zeros, zeros
    x = x.flip(1) if backward else x
    y, hidden, cell = torch.lstm(x, state, weights, True, 1, 0.0, False, False, True)
    return y.flip(1) if backward else y, (hidden, cell)


def advance_stack(stack: Recurrent, x: torch.Tensor, n_leaving: int, carried: LstmState) -> torch.Tensor:
    """Return a stack's output over a window; `carried` is moved on by n_leaving frames in place.

    Shape: x (batch, frame, channel), carried (layer, batch, width) each -> (batch, frame, 2 width).
    """
    for layer in range(stack.num_layers):
        state = carried[0][layer : layer + 1], carried[1][layer : layer + 1]
        head, kept = run_layer(stack, layer, x[:, :n_leaving], state)
        parts = [head]
        if x.shape[1] > n_leaving:
            parts.append(run_layer(stack, layer, x[:, n_leaving:], kept)[0])
        back, _ = run_layer(stack, layer, x)
        state[0].copy_(kept[0])
        state[1].copy_(kept[1])
        x = torch.cat([torch.cat(parts, dim=1), back], dim=-1)
    return x


def recur_blocks(stack: Recurrent, x: torch.Tensor, blocks: Iterable[Block]) -> list[torch.Tensor]:
    """Return a stack's output over each block of a whole signal: layer after layer, not hop after hop.

    Shape: x (batch, frame, channel) -> [(batch, frame known - frame first, 2 width)].
    """
    blocks = list(blocks)
    windows = [x[:, first:known] for first, _, known in blocks]
    for layer in range(stack.num_layers):
        zeros = x.new_zeros(1, x.shape[0], stack.hidden_size)
        # What leaves is one unbroken sequence: its forward pass runs once, and gives the states between.
        states = [(zeros, zeros)]
        heads = []
        for (first, stop, _), window in zip(blocks, windows, strict=True):
            head, after = run_layer(stack, layer, window[:, : stop - first], states[-1])
            heads.append(head)
            states.append(after)
        outputs = []
        for (first, stop, known), window, head, after in zip(blocks, windows, heads, states[1:], strict=True):
            ahead = [run_layer(stack, layer, window[:, stop - first :], after)[0]] if known > stop else []
            outputs.append(torch.cat([torch.cat([head, *ahead], 1), run_layer(stack, layer, window)[0]], -1))
        windows = outputs
    return windows


def hop_blocks(n_frames: int, hop: int, look_ahead: int, *, late: int = 0, extra: int = 0) -> list[Block]:
    """Return the block that each step of n_frames frames lets go, and that of the flush.

    late: frames by which the known ones lag behind the heard ones. extra: frames that the flush adds.
    """
    blocks: list[Block] = []
    for heard in range(hop, n_frames + 1, hop):
        known = heard - late
        stop = known - look_ahead
        if stop > 0:
            blocks.append((max(0, stop - hop), stop, known))
    done, total = blocks[-1][1] if blocks else 0, n_frames + extra
    return [*blocks, (done, total, total)] if total > done else blocks


@dataclass(slots=True)
class ChunkedXumxState:
    """Bridged encodings not yet let go, newest last; how many are signal; states of each stack."""

    cross: torch.Tensor
    heard: torch.Tensor
    carried: list[LstmState]


class ChunkedXumx(nn.Module):
    """Masks of a bidirectional X-UMX as a stream of frames.  Latency: look_ahead frames.

    Shape: (batch, channel, bin, frame) -> (batch, stem, channel, bin, frame).
    Raises: SpecError for a network of one direction (it streams by itself) or sizes that cannot be.
    The network keeps its parameters, so one set of weights serves streams of any look-ahead.
    """

    ratio = Fraction(1)

    def __init__(self, network: Xumx, *, hop: int, look_ahead: int) -> None:
        super().__init__()
        if network.config.directions != 2:
            raise SpecError("this X-UMX has one direction: it streams without a ChunkedXumx")
        if hop < 1 or look_ahead < 0:
            raise SpecError(f"hop {hop} must be 1 or more, look_ahead {look_ahead} 0 or more frames")
        self.network = network.eval()
        self.hop, self.look_ahead, self.latency_samples = hop, look_ahead, look_ahead

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the time-aligned masks of a whole signal of whole hops."""
        self._whole_hops(x)
        net = self.network
        cross = net.encode(x)
        blocks = hop_blocks(x.shape[-1], self.hop, self.look_ahead)
        windows = [recur_blocks(stack, cross.transpose(1, 2), blocks) for stack in net.stacks]
        recurrent = []
        for i, (first, stop, _) in enumerate(blocks):
            recurrent.append(torch.stack([w[i][:, : stop - first] for w in windows]).mean(0))
        return net.decode(cross, torch.cat(recurrent, dim=1).transpose(1, 2))

    def init_state(self, batch: int) -> ChunkedXumxState:
        """Return the state of streams that have not begun."""
        carried = init_carried(self.network, batch)
        n_frames = self.hop + self.look_ahead
        cross = carried[0][0].new_zeros(batch, self.network.config.hidden, n_frames)
        return ChunkedXumxState(cross=cross, heard=torch.zeros(1, dtype=torch.int64), carried=carried)

    def step(self, x: torch.Tensor, state: ChunkedXumxState) -> tuple[torch.Tensor, ChunkedXumxState]:
        """Return the masks of the next hops, delayed by the latency, and the state updated in place."""
        self._whole_hops(x)
        if x.shape[0] != state.cross.shape[0]:
            raise StreamingError(f"input has {x.shape[0]} rows, the state {state.cross.shape[0]}")
        return torch.cat([self._hop(piece, state) for piece in x.split(self.hop, dim=-1)], dim=-1), state

    def _hop(self, x: torch.Tensor, state: ChunkedXumxState) -> torch.Tensor:
        push_units(state.cross, self.network.encode(x))
        state.heard.add_(self.hop).clamp_(max=self.hop + self.look_ahead)
        leaving = int(state.heard) - self.look_ahead
        if leaving <= 0:
            return self._nothing(x.shape[0], self.hop)
        cross = state.cross[..., -int(state.heard) :]
        recurrent = advance_stacks(self.network, cross, leaving, state.carried)
        masks = self.network.decode(cross[..., :leaving], recurrent[..., :leaving])
        return functional.pad(masks, (self.hop - leaving, 0))

    def flush(self, state: ChunkedXumxState) -> torch.Tensor:
        """Return the last `latency_samples` frames: the signal ends here."""
        leaving = min(self.look_ahead, int(state.heard))
        if leaving <= 0:
            return self._nothing(state.cross.shape[0], self.look_ahead)
        cross = state.cross[..., -leaving:]
        carried = [(hidden.clone(), cell.clone()) for hidden, cell in state.carried]
        masks = self.network.decode(cross, advance_stacks(self.network, cross, leaving, carried))
        return functional.pad(masks, (self.look_ahead - leaving, 0))

    def _nothing(self, batch: int, n_frames: int) -> torch.Tensor:
        c = self.network.config
        return self.network.input_means.new_zeros(batch, N_STEMS, c.n_out_channels, c.n_out_bins, n_frames)

    def _whole_hops(self, x: torch.Tensor) -> None:
        if x.shape[-1] % self.hop or not x.shape[-1]:
            raise StreamingError(f"{x.shape[-1]} frames are not whole hops of {self.hop}: pad with zeros")


def init_carried(network: Xumx, batch: int) -> list[LstmState]:
    """Return zeroed forward states (layer, batch, width) of each stack."""
    return [stack.init_state(batch) for stack in network.stacks]


def advance_stacks(
    network: Xumx, cross: torch.Tensor, n_leaving: int, carried: list[LstmState]
) -> torch.Tensor:
    """Return the mean of the stacks' outputs over a window; `carried` moves on in place.

    Shape: cross (batch, hidden, frame) -> like it.
    """
    x = cross.transpose(1, 2)
    outputs = [advance_stack(s, x, n_leaving, c) for s, c in zip(network.stacks, carried, strict=True)]
    return torch.stack(outputs).mean(0).transpose(1, 2)
