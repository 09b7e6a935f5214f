"""The test of the contract test: modules broken in one way each must be caught, and by name."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from contract import ContractError, check_streaming, leaves
from torch.nn import functional


def make_input(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((batch, 2, n)))


class Echo:
    """y[n] = x[n] + 0.5 x[n - 6], delayed by 3: causal, with latency and memory; hop 4."""

    hop = 4
    ratio = Fraction(1)
    latency_samples = 3
    memory = 9

    def init_state(self, batch: int):
        return {"tail": torch.zeros(batch, 2, self.memory, dtype=torch.float64)}

    def step(self, x, state):
        heard = torch.cat([state["tail"], x], dim=-1)
        n = x.shape[-1]
        y = heard[..., self.memory - 3 : self.memory - 3 + n] + 0.5 * heard[..., :n]
        state["tail"].copy_(heard[..., n:])
        return y, state

    def forward(self, x):
        return x + 0.5 * functional.pad(x, (6, 0))[..., : x.shape[-1]]

    def flush(self, state):
        tail = state["tail"]
        return tail[..., -3:] + 0.5 * tail[..., :3]


class WrongTail(Echo):
    def step(self, x, state):
        heard = torch.cat([state["tail"], x], dim=-1)
        y, state = super().step(x, state)
        state["tail"].copy_(torch.roll(heard[..., -self.memory :], 1, dims=-1))
        return y, state


class NoTail(Echo):
    def step(self, x, state):
        y, _ = super().step(x, self.init_state(x.shape[0]))
        return y, state


class HiddenState(Echo):
    """Keeps its tail in itself; starts anew with every init_state, so only two streams at once show it."""

    def init_state(self, batch: int):
        self.hidden = super().init_state(batch)
        return {"tail": torch.zeros(1)}

    def step(self, x, state):
        y, self.hidden = super().step(x, self.hidden)
        return y, state

    def flush(self, state):
        return super().flush(self.hidden)


class LookAhead(Echo):
    """Uses the next 5 samples, but declares a latency of 3."""

    def forward(self, x):
        return super().forward(x) + 1e-3 * functional.pad(x, (0, 5))[..., 5:]

    def step(self, x, state):
        y, state = super().step(x, state)
        return y + 1e-3 * functional.pad(x, (0, 2))[..., 2:], state


class PeeksInStep(Echo):
    """Whole signals are right; a step of several hops lets its last one into the first."""

    def step(self, x, state):
        y, state = super().step(x, state)
        return y + 1e-9 * x.mean(dim=-1, keepdim=True), state


class SwapsStorage(Echo):
    def step(self, x, state):
        y, state = super().step(x, state)
        state["tail"] = state["tail"].clone()
        return y, state


class ReturnsNewState(Echo):
    def step(self, x, state):
        y, state = super().step(x, state)
        return y, {"tail": state["tail"].clone()}


class OpaqueState(Echo):
    def init_state(self, batch: int):
        return {**super().init_state(batch), "frame": 0}


class WrongLatency(Echo):
    latency_samples = 2

    def flush(self, state):
        return super().flush(state)[..., 1:]


class WrongFlush(Echo):
    def flush(self, state):
        return torch.zeros_like(state["tail"][..., :3])


class ShortFlush(Echo):
    def flush(self, state):
        return super().flush(state)[..., :2]


class ShortStep(Echo):
    def step(self, x, state):
        y, state = super().step(x, state)
        return y[..., 1:], state


class ShortForward(Echo):
    def forward(self, x):
        return super().forward(x)[..., :-1]


class MixesRows(Echo):
    """Adds nothing to finite signals: only NaN in the other row shows it."""

    def step(self, x, state):
        y, state = super().step(x, state)
        return y + 0.0 * y.sum(dim=0, keepdim=True), state


class NotFinite(Echo):
    def forward(self, x):
        return super().forward(x) / 0.0


class Silent(Echo):
    def forward(self, x):
        return torch.zeros_like(x)


def test_a_correct_module_passes():
    check_streaming(Echo(), make_input, n_hops=24, atol=1e-12)


@pytest.mark.parametrize(
    ("broken", "names"),
    [
        (WrongTail, ("1 equality",)),
        (NoTail, ("1 equality",)),
        (HiddenState, ("6 streams",)),
        (LookAhead, ("1 equality", "3 causality")),
        (PeeksInStep, ("3 causality",)),
        (SwapsStorage, ("7 state",)),
        (ReturnsNewState, ("7 state",)),
        (OpaqueState, ("7 state",)),
        (WrongLatency, ("4 latency",)),
        (WrongFlush, ("8 flush",)),
        (ShortFlush, ("8 flush",)),
        (ShortStep, ("2 length",)),
        (ShortForward, ("2 length",)),
        (MixesRows, ("5 batch rows",)),
        (NotFinite, ("1 equality",)),
        (Silent, ("1 equality",)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_broken_module_is_caught_by_name(broken: type, names: tuple[str, ...]):
    # 1e-8 lets the tiny leaks of PeeksInStep through every comparison but that with NaN.
    with pytest.raises(ContractError) as caught:
        check_streaming(broken(), make_input, n_hops=24, atol=1e-8)
    assert caught.value.name.startswith(names), str(caught.value)


def test_failure_tells_region_position_and_error():
    with pytest.raises(ContractError) as caught:
        check_streaming(NoTail(), make_input, n_hops=24, atol=1e-8)
    text = str(caught.value)
    assert "steps of 1" in text
    assert "position" in text
    assert "start" in text
    assert "end" in text
    assert "allowed 1.00e-08" in text


class NumpyPair:
    """Two numpy signals in, their sum and the running product of the second out; one hop of 2 late."""

    hop = 2
    ratio = Fraction(1)
    latency_samples = 2

    def init_state(self, batch: int):
        return (np.zeros(2), [np.zeros(2, dtype=np.complex128), np.ones(1, dtype=np.complex128)])

    def step(self, x, state):
        late, (late_turn, turn) = state
        total = np.concatenate([late, x[0] + x[1].real])
        turns = np.concatenate([late_turn, turn * np.cumprod(np.exp(1j * x[1].real))])
        late[:], late_turn[:], turn[:] = total[-2:], turns[-2:], turns[-1]
        return (total[:-2], turns[:-2]), state

    def forward(self, x):
        return (x[0] + x[1].real, np.exp(1j * np.cumsum(x[1].real)))

    def flush(self, state):
        return (state[0].copy(), state[1][0].copy())


def test_tuples_of_numpy_arrays_without_batch():
    def pair(batch: int, n: int, rng: np.random.Generator):
        return rng.standard_normal(n), rng.standard_normal(n) + 1j * rng.standard_normal(n)

    check_streaming(NumpyPair(), pair, n_hops=20, atol=1e-12, batched=False)


def test_a_test_shorter_than_the_latency_is_refused():
    with pytest.raises(ValueError, match="do not reach past"):
        check_streaming(Echo(), make_input, n_hops=1)


def test_leaves_name_their_place():
    state = {"a": (np.zeros(1), [torch.zeros(2)])}
    assert [path for path, _ in leaves(state)] == ["state['a'][0]", "state['a'][1][0]"]
