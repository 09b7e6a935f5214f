"""Any offline network as a stream: run again and again over context + hop + look-ahead windows.

The window ends with the newest unit. Of the network's answer the hop that has `look_ahead` units after
it leaves; before it lie `context` units:

    [ context | hop that leaves | look_ahead ]  ends at the units heard so far

The network never sees silence that was not played: at the start of a stream the window is cut there, and
`flush` runs it once more on a window that ends where the signal does. So, where look-ahead and hop
together hold the whole file, what comes out is what the network says of the whole file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from .errors import SpecError, StreamingError

Network = Callable[..., torch.Tensor]
"""(batch, *channels, unit) -> (batch, *out_channels, unit); levelled: (x, sums) -> same."""


def fitting_context(context: int, *, look_ahead: int, grid: int, lead: int = 0) -> int:
    """Return the least context, `context` or more, with which every window starts on the grid.

    >>> fitting_context(300, look_ahead=64, grid=128), fitting_context(8000, look_ahead=0, grid=2048)
    (320, 8192)
    """
    least = max(context, lead)
    return least + (lead - look_ahead - least) % grid


@dataclass(slots=True)
class ChunkedState:
    """The window (batch, *channels, unit), newest last, and what is known of the stream.

    heard (1,) int64, always on the CPU: how many units of the window are signal, up to all of them.
    sums (batch, 3) float64: count, sum and sum of squares of the mono mix, if the network is levelled.
    """

    window: torch.Tensor
    heard: torch.Tensor
    sums: torch.Tensor


class Chunked(nn.Module):
    """A network of whole signals as a stream; a unit is a sample or an STFT frame.

    Shape: (batch, *channels, unit) -> (batch, *out_channels, unit).  Latency: look_ahead.
    Args: grid: windows start at multiples of it, so that pooling and strides fall as in the whole file.
        trim_end: the last units of an answer that are no answer (a constant, or missing altogether, then
        zeros): look-ahead must cover them; at the signal's end they stay, as they do offline.
        lead: zeros that the network is given before the first unit, as its offline procedure does.
        levelled: the network is also given `mono_sums` (batch, 3) of all that was heard, for its `level`.
    Raises: SpecError for a hop, context or look-ahead that do not fit grid, lead and trim_end.
    Until the window is full its length varies; from then on every step does the same work.
    """

    ratio = Fraction(1)

    def __init__(
        self,
        network: Network,
        *,
        hop: int,
        context: int,
        look_ahead: int,
        channels: tuple[int, ...] = (2,),
        out_channels: tuple[int, ...] = (4, 2),
        grid: int = 1,
        trim_end: int = 0,
        lead: int = 0,
        levelled: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check(hop=hop, context=context, look_ahead=look_ahead, grid=grid, trim_end=trim_end, lead=lead)
        self.network = network.eval() if isinstance(network, nn.Module) else network
        self.hop, self.context, self.look_ahead = hop, context, look_ahead
        self.latency_samples = look_ahead
        self.channels, self.out_channels = channels, out_channels
        self.grid, self.trim_end, self.lead, self.levelled = grid, trim_end, lead, levelled
        self.place: torch.Tensor
        self.register_buffer("place", torch.zeros((), dtype=dtype), persistent=False)

    @property
    def window_units(self) -> int:
        """Units of a full window."""
        return self.context + self.hop + self.look_ahead

    def answer(self, x: torch.Tensor, sums: torch.Tensor | None = None) -> torch.Tensor:
        """Return the network's answer to one window, as long as the window.

        Raises: SpecError if the answer is longer than the window, or shorter by more than trim_end.
        """
        y = self.network(x, sums) if sums is not None else self.network(x)
        missing = x.shape[-1] - y.shape[-1]
        if not 0 <= missing <= self.trim_end:
            raise SpecError(
                f"the network answered {x.shape[-1]} units with {y.shape[-1]}; trim_end is {self.trim_end}"
            )
        return functional.pad(y, (0, missing)) if missing else y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the time-aligned answer to a whole signal of whole hops, window by window."""
        self._whole_hops(x)
        n, hop, ahead, lead = x.shape[-1], self.hop, self.look_ahead, self.lead
        y = self._nothing(x.shape[0], n)
        led = functional.pad(x, (lead, 0))
        totals = mono_sums(led).cumsum(-1) if self.levelled else None
        for end in range(hop, n + 1, hop):
            last = end == n
            start = max(0, lead + end - self.window_units)
            leave = max(0, end - ahead - hop), end if last else end - ahead
            if leave[1] <= 0:
                continue
            sums = None if totals is None else totals[..., lead + end - 1]
            answer = self.answer(led[..., start : lead + end], sums)
            y[..., leave[0] : leave[1]] = answer[..., lead + leave[0] - start : lead + leave[1] - start]
        return y

    def init_state(self, batch: int) -> ChunkedState:
        """Return the state of streams that have not begun."""
        sums = self.place.new_zeros(batch, 3 if self.levelled else 0, dtype=torch.float64)
        sums[:, :1] = self.lead
        return ChunkedState(
            window=self.place.new_zeros(batch, *self.channels, self.window_units),
            heard=torch.full((1,), self.lead, dtype=torch.int64),
            sums=sums,
        )

    def step(self, x: torch.Tensor, state: ChunkedState) -> tuple[torch.Tensor, ChunkedState]:
        """Return the answers to the next hops, delayed by the latency, and the state updated in place."""
        self._whole_hops(x)
        if x.shape[:-1] != state.window.shape[:-1]:
            raise StreamingError(f"input {tuple(x.shape)} is not of the state's {tuple(state.window.shape)}")
        return torch.cat([self._hop(piece, state) for piece in x.split(self.hop, dim=-1)], dim=-1), state

    def _hop(self, x: torch.Tensor, state: ChunkedState) -> torch.Tensor:
        push_units(state.window, x)
        state.heard.add_(self.hop).clamp_(max=self.window_units)
        if self.levelled:
            state.sums.add_(mono_sums(x).sum(-1))
        leaving = min(self.hop, int(state.heard) - self.lead - self.look_ahead)
        if leaving <= 0:
            return self._nothing(x.shape[0], self.hop)
        answer = self._heard(state)[..., : -self.look_ahead or None]
        return functional.pad(answer[..., -leaving:], (self.hop - leaving, 0))

    def _heard(self, state: ChunkedState) -> torch.Tensor:
        sums = state.sums if self.levelled else None
        return self.answer(state.window[..., -int(state.heard) :], sums)

    def flush(self, state: ChunkedState) -> torch.Tensor:
        """Return the last `latency_samples` of output: the signal ends here."""
        leaving = min(self.look_ahead, int(state.heard) - self.lead)
        if leaving <= 0:
            return self._nothing(state.window.shape[0], self.look_ahead)
        return functional.pad(self._heard(state)[..., -leaving:], (self.look_ahead - leaving, 0))

    def _nothing(self, batch: int, n_units: int) -> torch.Tensor:
        return self.place.new_zeros(batch, *self.out_channels, n_units)

    def _whole_hops(self, x: torch.Tensor) -> None:
        if x.shape[-1] % self.hop or not x.shape[-1]:
            raise StreamingError(f"{x.shape[-1]} units are not whole hops of {self.hop}: pad with zeros")


def _check(*, hop: int, context: int, look_ahead: int, grid: int, trim_end: int, lead: int) -> None:
    """Raise SpecError, with what would fit, for sizes that do not."""
    if min(hop, grid) < 1 or min(context, look_ahead, trim_end, lead) < 0:
        raise SpecError(f"hop {hop} and grid {grid} must be 1 or more, and no size negative")
    if hop % grid:
        raise SpecError(f"hop {hop} is off the grid of {grid}: take {max(1, round(hop / grid)) * grid}")
    if look_ahead < trim_end:
        raise SpecError(
            f"look_ahead {look_ahead} does not cover the last {trim_end} units, which are no answer: "
            f"take {trim_end} or more"
        )
    fitting = fitting_context(context, look_ahead=look_ahead, grid=grid, lead=lead)
    if context != fitting:
        raise SpecError(
            f"context {context} with look_ahead {look_ahead} and lead {lead} starts windows off the grid "
            f"of {grid}: take a context of {fitting}"
        )


def push_units(window: torch.Tensor, x: torch.Tensor) -> None:
    """Move the window on by x in place: its oldest units leave, x becomes its newest."""
    n = min(x.shape[-1], window.shape[-1])
    if not n:
        return
    window[..., : window.shape[-1] - n] = window[..., n:].clone()
    window[..., window.shape[-1] - n :] = x[..., x.shape[-1] - n :]


def mono_sums(x: torch.Tensor) -> torch.Tensor:
    """Return what each sample adds to count, sum and sum of squares of the mono mix, float64.

    Shape: (batch, channel, sample) -> (batch, 3, sample).
    """
    mono = x.to(torch.float64).mean(dim=1)
    return torch.stack([torch.ones_like(mono), mono, mono.square()], dim=1)


def level(sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and unbiased standard deviation of sums (batch, 3), each (batch,) float64."""
    count, total, squares = sums.unbind(-1)
    mean = total / count
    variance = (squares - total * mean) / (count - 1.0).clamp(min=1.0)
    return mean, variance.clamp(min=0.0).sqrt()
