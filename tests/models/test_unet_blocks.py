"""D2 and D3 blocks against each connection written out, and stepped against whole."""

import pytest
import torch
from unet_reference import d2_reference, used

from stemrack.models.unet_blocks import D2Block, D3Block


@pytest.mark.parametrize("time_kernel", [None, 2, 3])
def test_d2_block_equals_its_connections_written_out(time_kernel: int | None):
    torch.manual_seed(1)
    block = used(D2Block(3, 2, 3, time_kernel=time_kernel), (2, 3, 9, 11))
    x = torch.randn(2, 3, 9, 11)
    y = block(x)
    assert y.shape == (2, 6, 9, 11)
    torch.testing.assert_close(y, d2_reference(block, x, time_kernel), atol=1e-6, rtol=1e-5)


def test_d3_block_feeds_every_d2_block_with_all_before_it():
    torch.manual_seed(2)
    block = used(D3Block(3, 2, 2, 3), (2, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    want = x
    for d2 in block.blocks:
        want = torch.cat([want, d2_reference(d2, want, None)], dim=1)
    assert block.n_out == 3 + 3 * 4 == want.shape[1]
    torch.testing.assert_close(block(x), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("time_kernel", [2, 3])
def test_d3_block_in_steps_equals_the_whole(time_kernel: int):
    torch.manual_seed(3)
    block = used(D3Block(3, 2, 3, 2, time_kernel=time_kernel), (2, 3, 9, 5))
    x = torch.randn(2, 3, 20, 5)
    state = [torch.zeros(2, *shape) for shape in block.state_shapes(5)]
    assert len(state) == 1 + 2 * 2
    pieces = []
    for piece in x.split([1, 1, 4, 7, 1, 6], dim=2):
        before = [s.clone() for s in state]
        y, after = block.advance(piece, state)
        assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True)), "advance wrote its state"
        assert [a.shape for a in after] == [s.shape for s in state]
        state = after
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=2), block(x), atol=1e-6, rtol=1e-5)
