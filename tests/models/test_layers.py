"""Layers: recurrence and interleaving keep the streaming contract."""

import numpy as np
import pytest
import torch
from contract import check_streaming

from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.layers import Interleaved, Recurrent


def _frames(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((batch, 6, n)).astype(np.float32))


def test_recurrent_streams():
    torch.manual_seed(1)
    check_streaming(Recurrent(6, 5, 2).eval(), _frames, n_hops=40, atol=1e-6)


def test_interleaved_streams():
    torch.manual_seed(1)
    check_streaming(Interleaved(Recurrent(6, 5, 2).eval(), 3), _frames, n_hops=40, atol=1e-6)


def test_interleaved_phases_do_not_hear_each_other():
    torch.manual_seed(1)
    stack = Recurrent(6, 5, 1).eval()
    x = _frames(1, 12, np.random.default_rng(0))
    y = Interleaved(stack, 2)(x)
    assert torch.equal(y[..., 0::2], stack(x[..., 0::2]))
    assert torch.equal(y[..., 1::2], stack(x[..., 1::2]))


def test_recurrent_equals_an_lstm_written_out():
    torch.manual_seed(2)
    stack = Recurrent(3, 4, 1)
    x = torch.randn(1, 3, 5)
    h, c = torch.zeros(4), torch.zeros(4)
    for t in range(5):
        gates = stack.weight_ih_l0 @ x[0, :, t] + stack.bias_ih_l0 + stack.weight_hh_l0 @ h + stack.bias_hh_l0
        i, f, g, o = gates.chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        torch.testing.assert_close(stack(x)[0, :, t], h, atol=1e-6, rtol=1e-5)


def test_both_directions_cannot_stream():
    stack = Recurrent(3, 4, 1, directions=2)
    assert stack(torch.zeros(2, 3, 7)).shape == (2, 8, 7)
    with pytest.raises(StreamingError, match="directions=1"):
        stack.step(torch.zeros(1, 3, 1), stack.init_state(1))


def test_interleaved_refuses_no_phases():
    with pytest.raises(SpecError, match="1 or more phases"):
        Interleaved(Recurrent(3, 4, 1), 0)
