"""The whole separation of a hop in torch, on any device: numpy goes in, numpy comes out.

The samples that windows and networks reach back to, and every other memory, stay where the networks
are; only the new hop and its stems travel. All memory of a stream is one block of bytes, so that a
stream is saved, set back or exchanged for another with one copy, whatever it is made of; the tensors
that the modules know are views into one such block with a fixed address.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..errors import SpecError, StreamingError

ALIGNMENT_BYTES = 256
"""Of every tensor in the block: what CUDA's own allocator keeps, and wide loads ask for."""

STAGES = ("to the device", "hop", "from the device")

Ended = Callable[[str], None]
"""Hears of a stage as it ends."""


@dataclass(slots=True, eq=False)
class HopState:
    """What one stream remembers.

    memory: every tensor of the device, uint8 (byte,). turns: the counters that the host steers by (whose
    turn it is among phases, how much of a window is signal), int64 (counter,), always on the CPU.
    """

    memory: torch.Tensor
    turns: torch.Tensor


def _is_turn(leaf: torch.Tensor) -> bool:
    """Tell counters from memory: the modules keep their counters as int64 on the CPU."""
    return leaf.dtype == torch.int64 and leaf.device.type == "cpu"


def rebuilt(tree: Any, place: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a state tree of the same form with `place(leaf)` for every tensor.

    Raises: SpecError for what is no tree of tensors.
    """
    if isinstance(tree, torch.Tensor):
        return place(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        parts = {f.name: rebuilt(getattr(tree, f.name), place) for f in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **parts)
    if isinstance(tree, dict):
        return {key: rebuilt(value, place) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(rebuilt(value, place) for value in tree)
    raise SpecError(f"a state holds a {type(tree).__name__}: only tensors can be kept on a device")


class Memory:
    """A state tree whose tensors lie in one block at a fixed address.

    tree: as the module's `step` takes it. state: the block and the counters that its tensors are views
    of. fresh: a copy of both as they were at the start.
    """

    def __init__(self, tree: Any, device: torch.device) -> None:
        sizes, n_turns = [], 0

        def measure(leaf: torch.Tensor) -> torch.Tensor:
            nonlocal n_turns
            if _is_turn(leaf):
                n_turns += leaf.numel()
            else:
                sizes.append(-(-leaf.numel() * leaf.element_size() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
            return leaf

        rebuilt(tree, measure)
        self.state = HopState(
            memory=torch.zeros(sum(sizes), dtype=torch.uint8, device=device),
            turns=torch.zeros(n_turns, dtype=torch.int64),
        )
        starts = iter(np.cumsum([0, *sizes]).tolist())
        self._first_turn = 0
        self.tree = rebuilt(tree, lambda leaf: self._placed(leaf, starts))
        self.fresh = HopState(memory=self.state.memory.clone(), turns=self.state.turns.clone())

    def _placed(self, leaf: torch.Tensor, starts: Any) -> torch.Tensor:
        if _is_turn(leaf):
            first, self._first_turn = self._first_turn, self._first_turn + leaf.numel()
            view = self.state.turns[first : self._first_turn].view(leaf.shape)
        else:
            start = next(starts)
            own = self.state.memory[start : start + leaf.numel() * leaf.element_size()]
            view = own.view(leaf.dtype).view(leaf.shape)
        return view.copy_(leaf)

    def take(self, state: HopState) -> None:
        """Make a stream's memory the one that the module works on."""
        self.state.memory.copy_(state.memory)
        self.state.turns.copy_(state.turns)

    def give(self, state: HopState) -> None:
        """Copy what the module worked on into a stream's own memory."""
        state.memory.copy_(self.state.memory)
        state.turns.copy_(self.state.turns)


class TorchHop:
    """Runs a streaming separation (`danna.Ensemble` or a chunked one) on a device, eagerly.

    Shape: (2, sample) float32 -> (4, 2, sample) float32, whole hops.  Latency: the module's.
    Thread: one at a time; any number of states. A step that fails leaves the state as it was.
    Raises: SpecError for a module that does not give one stem sample per sample.
    """

    name = "torch"

    def __init__(self, module: Any, device: str | torch.device = "cpu") -> None:
        if Fraction(module.ratio) != 1:
            raise SpecError(f"a runner of hops needs a module of ratio 1, got {module.ratio}")
        self.device = torch.device(device)
        self.module = module.eval().to(self.device)
        self.hop, self.latency_samples = int(module.hop), int(module.latency_samples)
        with torch.no_grad():
            self._memory = Memory(self.module.init_state(1), self.device)

    def init_state(self) -> HopState:
        """Return the state of a stream that has heard silence."""
        fresh = self._memory.fresh
        return HopState(memory=fresh.memory.clone(), turns=fresh.turns.clone())

    def step(self, x: np.ndarray, state: HopState, ended: Ended | None = None) -> np.ndarray:
        """Return the stems of the next hops; updates the state.

        ended: hears of each of STAGES as it ends; the device is waited for at every one of them then.
        Raises: StreamingError for an input that is not (2, whole hops).
        """
        if x.ndim != 2 or x.shape[0] != 2 or not x.shape[1] or x.shape[1] % self.hop:
            raise StreamingError(f"expected (2, whole hops of {self.hop} samples), got {x.shape}")
        with torch.no_grad():
            self._memory.take(state)
            y = self._answer(np.ascontiguousarray(x, np.float32), ended)
            self._memory.give(state)
        return y

    def flush(self, state: HopState) -> np.ndarray:
        """Return the last `latency_samples` of the stems; the state stays as it is."""
        with torch.no_grad():
            self._memory.take(state)
            return self.module.flush(self._memory.tree)[0].cpu().numpy()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the time-aligned stems of a whole signal of whole hops, all of it on the device at once."""
        with torch.no_grad():
            heard = torch.from_numpy(np.ascontiguousarray(x, np.float32))[None].to(self.device)
            return self.module(heard)[0].cpu().numpy()

    def _answer(self, x: np.ndarray, ended: Ended | None) -> np.ndarray:
        heard = torch.from_numpy(x)[None].to(self.device)
        self._told(ended, STAGES[0])
        y, _ = self.module.step(heard, self._memory.tree)
        self._told(ended, STAGES[1])
        stems = y[0].cpu().numpy()
        self._told(ended, STAGES[2])
        return stems

    def _told(self, ended: Ended | None, stage: str) -> None:
        if ended is not None:
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
            ended(stage)
