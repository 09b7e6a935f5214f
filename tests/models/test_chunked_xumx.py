"""The bidirectional X-UMX as a stream of frames: contract, exact carry, convergence."""

from __future__ import annotations

import itertools

import pytest
import torch
from contract import check_streaming

from stemrack.models.chunked_xumx import ChunkedXumx, hop_blocks
from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.network_configs import XumxConfig
from stemrack.models.xumx import Xumx

SMALL = XumxConfig(n_in_bins=13, n_out_bins=17, hidden=16, n_layers=3, dropout=0.4)


def network(config=SMALL):
    torch.manual_seed(5)
    net = Xumx(config).eval()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "lstm.weight" in name:
                value.mul_(2.0)  # so that the recurrence remembers more than a few frames
        for name, value in net.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.3, 1.5)
    return net


def magnitude(n_frames, batch=1, seed=0):
    return torch.randn(batch, 2, 13, n_frames, generator=torch.Generator().manual_seed(seed)).abs()


def make_input(batch, n_frames, rng):
    return torch.tensor(abs(rng.standard_normal((batch, 2, 13, n_frames))), dtype=torch.float32)


@pytest.mark.parametrize(("hop", "look_ahead"), [(1, 0), (3, 7), (8, 5), (1, 4)])
def test_streams(hop, look_ahead):
    check_streaming(ChunkedXumx(network(), hop=hop, look_ahead=look_ahead), make_input, n_hops=9, atol=2e-6)


@torch.no_grad()
def test_a_window_that_holds_the_file_gives_the_whole_answer():
    net, x = network(), magnitude(48)
    whole = net(x)
    for hop, look_ahead in [(4, 44), (4, 48), (16, 100), (48, 0)]:
        chunked = ChunkedXumx(net, hop=hop, look_ahead=look_ahead)
        torch.testing.assert_close(chunked(x), whole, rtol=0, atol=1e-5)
        state = chunked.init_state(1)
        stepped = torch.cat([chunked.step(x, state)[0], chunked.flush(state)], dim=-1)[..., look_ahead:]
        torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_first_layers_forward_state_is_that_of_the_whole_track():
    net, x = network(), magnitude(40)
    chunked = ChunkedXumx(net, hop=4, look_ahead=3)
    state = chunked.init_state(1)
    chunked.step(x, state)
    cross = net.encode(x)[..., :37].transpose(1, 2)
    for stack, (hidden, cell) in zip(net.stacks, state.carried, strict=True):
        alone = torch.nn.LSTM(16, 8, batch_first=True)
        alone.load_state_dict({n: stack.get_parameter(n) for n, _ in alone.named_parameters()})
        _, (h, c) = alone(cross)
        torch.testing.assert_close(hidden[:1], h, rtol=0, atol=1e-6)
        torch.testing.assert_close(cell[:1], c, rtol=0, atol=1e-6)


@torch.no_grad()
def test_more_look_ahead_comes_closer_to_the_whole_answer():
    net, x = network(), magnitude(256)
    whole = net(x)
    errors = []
    for look_ahead in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        y = ChunkedXumx(net, hop=4, look_ahead=look_ahead)(x)
        errors.append(float((y - whole).square().mean().sqrt()))
    for once, twice in itertools.pairwise(errors):
        assert twice <= 1.05 * once + 1e-7, errors
    assert errors[0] > 1e-3
    assert errors[-1] < 1e-6


@torch.no_grad()
def test_flush_leaves_the_stream_as_it_was():
    chunked = ChunkedXumx(network(), hop=4, look_ahead=6)
    state = chunked.init_state(1)
    chunked.step(magnitude(24), state)
    torch.testing.assert_close(chunked.flush(state), chunked.flush(state), rtol=0, atol=0)


def test_blocks_tile_the_signal():
    assert hop_blocks(12, 4, 6) == [(0, 2, 8), (2, 6, 12), (6, 12, 12)]
    assert hop_blocks(8, 4, 0) == [(0, 4, 4), (4, 8, 8)]
    assert hop_blocks(4, 4, 9) == [(0, 4, 4)]
    assert hop_blocks(8, 4, 2, late=1, extra=2) == [(0, 1, 3), (1, 5, 7), (5, 10, 10)]


def test_what_cannot_be_is_refused():
    with pytest.raises(SpecError, match="one direction"):
        ChunkedXumx(
            network(XumxConfig(n_in_bins=13, n_out_bins=17, hidden=16, directions=1)), hop=1, look_ahead=0
        )
    with pytest.raises(SpecError, match="hop 0"):
        ChunkedXumx(network(), hop=0, look_ahead=0)
    chunked = ChunkedXumx(network(), hop=4, look_ahead=2)
    with pytest.raises(StreamingError, match="3 frames are not whole hops of 4"):
        chunked(magnitude(3))
    with pytest.raises(StreamingError, match="2 rows, the state 1"):
        chunked.step(magnitude(4, batch=2), chunked.init_state(1))
    assert chunked.flush(chunked.init_state(2)).shape == (2, 4, 2, 17, 2)
