"""Any offline network as a stream: contract, equality with the whole file, convergence, grids."""

from __future__ import annotations

import itertools

import pytest
import torch
from contract import check_streaming
from torch import nn
from torch.nn import functional

from stemrack.models.chunked import Chunked, fitting_context, level, mono_sums
from stemrack.models.errors import SpecError, StreamingError


class Both(nn.Module):
    """A bidirectional LSTM: (batch, 2, unit) -> (batch, 4, 2, unit)."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 6, 2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(12, 8)

    def forward(self, x):
        y, _ = self.lstm(x.transpose(1, 2))
        return self.out(y).transpose(1, 2).unflatten(1, (4, 2))


class Dilated(nn.Module):
    """A stack of dilated convolutions, padded on both sides."""

    def __init__(self):
        super().__init__()
        sizes = (2, 8, 8, 8, 8)
        self.layers = nn.Sequential(
            *[
                nn.Sequential(nn.Conv1d(a, b, 3, padding=2**i, dilation=2**i), nn.Tanh())
                for i, (a, b) in enumerate(itertools.pairwise(sizes))
            ]
        )

    def forward(self, x):
        return self.layers(x).unflatten(1, (4, 2))


class Strided(nn.Module):
    """Strided and transposed convolutions with a stride grid of 8 and an answer that is too short."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(2, 8, 16, stride=8)
        self.up = nn.ConvTranspose1d(8, 8, 16, stride=8)

    def forward(self, x):
        return self.up(torch.tanh(self.down(x))).unflatten(1, (4, 2))


class Levelled(nn.Module):
    """A network that normalises by the mono mix of the whole file, or by what it is given."""

    def __init__(self):
        super().__init__()
        self.inner = Dilated()

    def forward(self, x, sums=None):
        mono = x.mean(1)
        mean, deviation = (mono.mean(-1), mono.std(-1)) if sums is None else level(sums)
        mean, deviation = (v.to(x.dtype)[:, None, None] for v in (mean, deviation))
        y = self.inner((x - mean) / (deviation + 1e-5))
        return y * deviation[:, None] + mean[:, None]


def made(kind):
    torch.manual_seed(3)
    return kind().eval()


def noise(batch, n, rng):
    return torch.tensor(rng.standard_normal((batch, 2, n)), dtype=torch.float32)


def song(n, seed=0):
    return torch.randn(1, 2, n, generator=torch.Generator().manual_seed(seed))


CASES = {
    "recurrent": (Both, {"hop": 4, "context": 9, "look_ahead": 6}),
    "recurrent, less look-ahead than a hop": (Both, {"hop": 8, "context": 3, "look_ahead": 5}),
    "recurrent, no look-ahead": (Both, {"hop": 4, "context": 8, "look_ahead": 0}),
    "recurrent, no context": (Both, {"hop": 4, "context": 0, "look_ahead": 3}),
    "dilated": (Dilated, {"hop": 8, "context": 24, "look_ahead": 16, "grid": 4}),
    "strided": (Strided, {"hop": 16, "context": 23, "look_ahead": 33, "grid": 8, "trim_end": 15}),
    "strided after zeros": (
        Strided,
        {"hop": 8, "context": 22, "look_ahead": 23, "grid": 8, "trim_end": 15, "lead": 21},
    ),
    "levelled": (Levelled, {"hop": 6, "context": 12, "look_ahead": 12, "levelled": True}),
    "levelled after zeros": (
        Levelled,
        {"hop": 6, "context": 12, "look_ahead": 12, "levelled": True, "lead": 7},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_streams(case):
    kind, sizes = CASES[case]
    check_streaming(Chunked(made(kind), **sizes), noise, n_hops=16, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Both, Dilated, Strided, Levelled])
def test_a_window_that_holds_the_file_gives_the_whole_answer(kind):
    net = made(kind)
    x = song(96)
    whole = functional.pad(net(x), (0, 96 - net(x).shape[-1]))
    for look_ahead in (80, 96, 128):
        chunked = Chunked(
            net, hop=16, context=0, look_ahead=look_ahead, grid=8, trim_end=15, levelled=kind is Levelled
        )
        torch.testing.assert_close(chunked(x), whole, rtol=0, atol=1e-5)
        state = chunked.init_state(1)
        y, _ = chunked.step(x, state)
        stepped = torch.cat([y, chunked.flush(state)], dim=-1)[..., look_ahead:]
        torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_zeros_before_the_file_are_those_of_the_offline_procedure():
    net, x = made(Strided), song(96)
    whole = net(functional.pad(x, (21, 0)))[..., 21:]
    chunked = Chunked(net, hop=8, context=29, look_ahead=96, grid=8, trim_end=15, lead=21)
    torch.testing.assert_close(chunked(x)[..., : whole.shape[-1]], whole, rtol=0, atol=1e-6)


@torch.no_grad()
def test_zeros_are_not_heard_before_the_file():
    """The first answers are those of a signal that begins, not of silence before it."""
    net, x = made(Both), song(64)
    y = Chunked(net, hop=4, context=40, look_ahead=60)(x)[..., :4]
    torch.testing.assert_close(y, net(x)[..., :4], rtol=0, atol=1e-6)
    after_silence = net(functional.pad(x, (40, 0)))[..., 40:44]
    assert float((y - after_silence).abs().max()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("kind", [Both, Dilated, Strided, Levelled])
def test_more_look_ahead_comes_closer_to_the_whole_answer(kind):
    net, x = made(kind), song(512)
    whole = functional.pad(net(x), (0, 512 - net(x).shape[-1]))
    errors = []
    for look_ahead in (16, 32, 64, 128, 256, 512):
        chunked = Chunked(
            net,
            hop=16,
            context=128,
            look_ahead=look_ahead,
            grid=8,
            trim_end=15,
            levelled=kind is Levelled,
        )
        errors.append(float((chunked(x) - whole).square().mean().sqrt()))
    for once, twice in itertools.pairwise(errors):
        assert twice <= 1.05 * once + 1e-7, errors
    assert errors[-1] < 1e-6


def test_a_grid_keeps_the_answer_and_off_it_the_answer_differs():
    net, x = made(Strided), song(160)
    with torch.no_grad():
        whole = net(x)
        on = net(x[..., 16:])
        off = net(x[..., 13:])
    torch.testing.assert_close(on[..., 16:96], whole[..., 32:112], rtol=0, atol=1e-6)
    assert float((off[..., 19:99] - whole[..., 32:112]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        (
            {"hop": 100, "context": 256, "look_ahead": 128, "grid": 128},
            "hop 100 is off the grid of 128: take 128",
        ),
        ({"hop": 128, "context": 200, "look_ahead": 128, "grid": 128}, "take a context of 256"),
        ({"hop": 128, "context": 256, "look_ahead": 1, "trim_end": 2}, "take 2 or more"),
        ({"hop": 0, "context": 256, "look_ahead": 1}, "must be 1 or more"),
        ({"hop": 8, "context": 8, "look_ahead": -1}, "no size negative"),
        ({"hop": 8, "context": 8, "look_ahead": 0, "lead": 9}, "take a context of 9"),
    ],
)
def test_sizes_that_do_not_fit_are_told(sizes, told):
    with pytest.raises(SpecError, match=told):
        Chunked(nn.Identity(), **sizes)


def test_the_context_that_is_told_fits():
    for look_ahead, grid, lead in [(0, 8, 0), (5, 8, 3), (2047, 2048, 22_050), (64, 128, 0)]:
        context = fitting_context(1000, look_ahead=look_ahead, grid=grid, lead=lead)
        assert max(1000, lead) <= context < max(1000, lead) + grid
        Chunked(nn.Identity(), hop=grid, context=context, look_ahead=look_ahead, grid=grid, lead=lead)


def test_broken_hops_and_broken_answers_are_refused():
    chunked = Chunked(made(Both), hop=4, context=4, look_ahead=0)
    state = chunked.init_state(1)
    with pytest.raises(StreamingError, match="3 units are not whole hops of 4"):
        chunked.step(song(3), state)
    with pytest.raises(StreamingError, match="not of the state"):
        chunked.step(torch.zeros(2, 2, 4), state)
    with pytest.raises(SpecError, match="answered 20 units with 16; trim_end is 0"):
        Chunked(made(Strided), hop=20, context=0, look_ahead=0)(song(40))


def test_a_stream_that_never_began_ends_in_silence():
    chunked = Chunked(made(Both), hop=4, context=4, look_ahead=6)
    y = chunked.flush(chunked.init_state(3))
    assert y.shape == (3, 4, 2, 6)
    assert float(y.abs().max()) == 0.0


def test_level_is_that_of_the_mono_mix():
    x = song(300) * 0.1 + 0.02
    mean, deviation = level(mono_sums(x).sum(-1))
    mono = x.double().mean(1)
    torch.testing.assert_close(mean, mono.mean(-1))
    torch.testing.assert_close(deviation, mono.std(-1))
