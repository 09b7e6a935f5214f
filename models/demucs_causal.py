"""The causal Demucs: convolutions padded at the left, a forward recurrence, normalisation as it runs.

One frame of the deepest level is one hop of stride ** depth samples. What leaves at a step belongs to
`look_ahead_samples` earlier: the recurrence has heard up to the newest sample, while the skips wait
in queues, so that both speak of the same instant when they meet.

`advance` is a pure function of plain tensors for export; `forward` is written apart from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import torch
from torch.nn import functional

from .demucs import DemucsLayers
from .errors import SpecError, StreamingError
from .network_configs import DemucsConfig
from .stems import MODEL_RATE_HZ, N_STEMS

ENERGY_FLOOR = 1e-20
"""Least mean square to divide by: silence stays silence (float32 holds it as a normal number)."""

SUDDEN = 16.0
"""A hop is never normalised by less than its own energy over this: an onset after silence enters at most
12 dB over the usual level, where the running mean alone (2 s, hops of 256) would let it in 25 dB over."""


class Tape:
    """Reads the old states in order and collects the new ones; a state of no length does not exist."""

    def __init__(self, state: list[torch.Tensor]) -> None:
        self.old: Iterator[torch.Tensor] = iter(state)
        self.new: list[torch.Tensor] = []

    def turn(self) -> torch.Tensor:
        """Return the next old state; the caller puts its successor into `new`."""
        return next(self.old)

    def joined(self, x: torch.Tensor, n: int) -> torch.Tensor:
        """Return x with the n units before it, and keep its last n."""
        if n == 0:
            return x
        x = torch.cat([self.turn(), x], dim=-1)
        self.new.append(x[..., x.shape[-1] - n :])
        return x

    def delayed(self, x: torch.Tensor, n: int) -> torch.Tensor:
        """Return what entered n units ago."""
        return self.joined(x, n)[..., : x.shape[-1]]


def forgetting_sum(x: torch.Tensor, keep: float) -> torch.Tensor:
    """Return y[t] = x[t] + keep * y[t - 1] along the last axis, in log2(T) passes.

    Each pass adds what lies 1, 2, 4, ... units back; nothing later is ever touched, not even times 0.
    """
    back = 1
    while back < x.shape[-1]:
        x = x + keep**back * functional.pad(x[..., :-back], (back, 0))
        back *= 2
    return x


class CausalDemucs(DemucsLayers):
    """Stems of a mixture, hop by hop.

    Shape: (batch, channel, sample) -> (batch, stem, channel, sample).  Latency: `look_ahead_samples`.
    Normalised by the root of the exponentially forgetting mean square of both channels (their mono mix
    would vanish for a signal in antiphase); the output is multiplied by the root of the hop it belongs
    to. No mean is taken off: audio carries no offset to speak of, and a running mean would be a
    high-pass filter over the stems.
    """

    ratio = Fraction(1)

    def __init__(self, config: DemucsConfig) -> None:
        if not config.causal:
            raise SpecError("CausalDemucs needs DemucsConfig(causal=True): the published variant is Demucs")
        super().__init__(config)
        self.hop = config.hop
        self.latency_samples = config.look_ahead_samples
        self.keep = math.exp(-self.hop / (config.normalise_s * MODEL_RATE_HZ))
        with torch.no_grad():
            # Quiet at first, so that training starts from the residual and not from noise.
            self.get_parameter(f"decoder.{config.depth - 1}.0.weight").mul_(0.1)
            self.get_parameter(f"decoder.{config.depth - 1}.0.bias").zero_()

    def delay_frames(self, level: int) -> int:
        """Return the frames that the skip of a level (0 is the outermost) waits."""
        return self.latency_samples // self.config.stride ** (level + 1)

    def multiply_adds_per_hop(self) -> int:
        """Return the multiplications by weights that one hop takes: weights times frames, summed."""
        c, total = self.config, 0
        for name, p in self.named_parameters():
            part, _, rest = name.partition(".")
            if p.dim() < 2:
                continue
            if part in ("lstm", "lstm_linear"):
                total += p.numel()
                continue
            level = int(rest.split(".")[0])
            level = level if part == "encoder" else c.depth - 1 - level
            total += p.numel() * c.stride ** (c.depth - 1 - level)
        return total

    # normalisation -----------------------------------------------------------------------------------

    def _energy(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean square of every hop.  Shape: -> (B, 1, hop count)."""
        return x.square().mean(1, keepdim=True).unflatten(-1, (-1, self.hop)).mean(-1)

    def _root(self, energy: torch.Tensor, total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the level of every hop from its energy and the forgetting sums."""
        return torch.maximum(total / weight, energy / SUDDEN).clamp(min=ENERGY_FLOOR).sqrt()

    def _held(self, root: torch.Tensor) -> torch.Tensor:
        """Return one value per sample from one per hop."""
        return root.unsqueeze(-1).expand(-1, -1, -1, self.hop).flatten(2)

    # whole -------------------------------------------------------------------------------------------

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stems of a whole signal of any length, time-aligned, as if silence followed."""
        n, late = x.shape[-1], self.latency_samples
        x = functional.pad(x, (0, late + -n % self.hop))
        energy = self._energy(x)
        ages = torch.arange(1, energy.shape[-1] + 1, dtype=torch.float64, device=x.device)
        weight = ((1 - self.keep**ages) / (1 - self.keep)).to(x.dtype)
        root = self._root(energy, forgetting_sum(energy, self.keep), weight)
        y, skips = x / self._held(root), []
        for level in self.encoder:
            y = level(functional.pad(y, (self.config.kernel - self.config.stride, 0)))
            skips.append(y)
        y = self.lstm_linear(self.lstm(y.transpose(1, 2))[0]).transpose(1, 2)
        y = self._decode_whole(y, skips)[..., late : late + n].unflatten(1, (N_STEMS, -1))
        y = y * self._held(root)[..., :n].unsqueeze(1)
        return y + x[..., :n].unsqueeze(1) / N_STEMS if self.config.residual else y

    def _decode_whole(self, y: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Return the stems' channels, late by the look-ahead."""
        c = self.config
        for j, up in enumerate(self.decoder):
            level = c.depth - 1 - j
            wait, skip = self.delay_frames(level), skips[level]
            skip = functional.pad(skip[..., : skip.shape[-1] - wait], (wait + c.skip_context - 1, 0))
            own = self.dec_pre_convs[j](functional.pad(y, (c.context - 1, 0)))
            y = self.gate(own + self.convs_1x1[j](skip))
            y = up(y)[..., : y.shape[-1] * c.stride]
        return y

    # steps -------------------------------------------------------------------------------------------

    def state_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Return the shape of every state, in the order `advance` takes them."""
        c, late = self.config, self.latency_samples
        overlap = c.kernel - c.stride
        shapes: list[tuple[int, ...]] = [(batch, 1, 1), (batch, 1, 1)]
        shapes += [(batch, n, overlap) for n in (c.n_channels, *c.widths[:-1])]
        shapes += [(c.n_lstm_layers, batch, c.hidden)] * 2
        for j in range(c.depth):
            level = c.depth - 1 - j
            shapes.append((batch, 2 * c.widths[level], c.context - 1))
            shapes.append((batch, c.widths[level], self.delay_frames(level) + c.skip_context - 1))
            shapes.append((batch, self.get_parameter(f"decoder.{j}.0.bias").shape[0], overlap))
        shapes.append((batch, 1, late // self.hop))
        if c.residual:
            shapes.append((batch, c.n_channels, late))
        return [shape for shape in shapes if shape[-1]]

    def init_state(self, batch: int) -> list[torch.Tensor]:
        """Return zeroed states."""
        return [self.lstm_linear.weight.new_zeros(shape) for shape in self.state_shapes(batch)]

    def _levels(self, x: torch.Tensor, tape: Tape) -> torch.Tensor:
        """Return the level of every hop, going on from the sums so far."""
        energy = self._energy(x)
        n = energy.shape[-1]
        fade = [self.keep ** (k + 1) for k in range(n)]
        counts = [(1 - f) / (1 - self.keep) for f in fade]
        fades = energy.new_tensor(fade)
        total = forgetting_sum(energy, self.keep) + tape.turn() * fades
        weight = energy.new_tensor(counts) + tape.turn() * fades
        tape.new += [total[..., n - 1 :], weight[..., n - 1 :]]
        return self._root(energy, total, weight)

    def _decode_on(self, y: torch.Tensor, skips: list[torch.Tensor], tape: Tape) -> torch.Tensor:
        """Return the stems' channels of the next hops."""
        c = self.config
        overlap = c.kernel - c.stride
        for j in range(c.depth):
            level = c.depth - 1 - j
            own = self.dec_pre_convs[j](tape.joined(y, c.context - 1))
            wait, history = self.delay_frames(level), c.skip_context - 1
            skip = tape.joined(skips[level], wait + history)
            skip = self.convs_1x1[j](skip[..., : skip.shape[-1] - wait])
            y = self.gate(own + skip)
            n = y.shape[-1] * c.stride
            # The bias comes last: in the overlap it would be added twice.
            weight, bias = (
                self.get_parameter(f"decoder.{j}.0.weight"),
                self.get_parameter(f"decoder.{j}.0.bias"),
            )
            y = functional.conv_transpose1d(y, weight, stride=c.stride, groups=N_STEMS)
            if overlap:
                y = y + functional.pad(tape.turn(), (0, n))
                tape.new.append(y[..., n:])
                y = y[..., :n]
            y = y + bias[:, None]
            y = torch.relu(y) if level else y
        return y

    def advance(self, x: torch.Tensor, state: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the stems of the next whole hops and the states after them; nothing is changed.

        No branch depends on data, and every shape follows from that of x, so that it exports.
        """
        tape = Tape(state)
        root = self._levels(x, tape)
        y, skips = x / self._held(root), []
        for level in self.encoder:
            y = level(tape.joined(y, self.config.kernel - self.config.stride))
            skips.append(y)
        y, after = self.lstm(y.transpose(1, 2), (tape.turn(), tape.turn()))
        tape.new += after
        y = self._decode_on(self.lstm_linear(y).transpose(1, 2), skips, tape)
        y = y * self._held(tape.delayed(root, self.latency_samples // self.hop))
        y = y.unflatten(1, (N_STEMS, -1))
        if self.config.residual:
            y = y + tape.delayed(x, self.latency_samples).unsqueeze(1) / N_STEMS
        return y, tape.new

    def step(self, x: torch.Tensor, state: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the stems of the next whole hops, and the states updated in place.

        Raises: StreamingError if x is not a whole number of hops.
        """
        if x.shape[-1] % self.hop or not x.shape[-1]:
            raise StreamingError(f"a step takes whole hops of {self.hop} samples, got {x.shape[-1]}")
        y, after = self.advance(x, state)
        for old, new in zip(state, after, strict=True):
            old.copy_(new)
        return y, state

    def flush(self, state: list[torch.Tensor]) -> torch.Tensor:
        """Return the last `look_ahead_samples`, as if silence followed; the states stay as they are."""
        batch, c = state[0].shape[0], self.config
        if not self.latency_samples:
            return state[0].new_zeros(batch, N_STEMS, c.n_channels, 0)
        return self.advance(state[0].new_zeros(batch, c.n_channels, self.latency_samples), state)[0]
