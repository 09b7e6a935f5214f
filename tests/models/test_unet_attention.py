"""Both attentions against loops over single queries; the causal one stepped against whole."""

import pytest
import torch
from unet_reference import block_reference, window_reference

from stemrack.models.unet_attention import BlockAttention, WindowAttention


@pytest.mark.parametrize("n_frames", [1, 2, 5, 8])
def test_block_attention_equals_single_queries(n_frames: int):
    torch.manual_seed(1)
    attention = BlockAttention(4, 5, heads=2, width=3, kernel=3)
    x = 3 * torch.randn(1, 4, 3, n_frames)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), block_reference(attention, x), atol=1e-5, rtol=1e-4)


def test_window_attention_equals_single_queries():
    torch.manual_seed(2)
    attention = WindowAttention(4, 5, heads=2, width=3, n_frames=3, kernel=1)
    x = 3 * torch.randn(1, 4, 7, 3)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), window_reference(attention, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_window_attention_in_steps_equals_the_whole(kernel: int):
    torch.manual_seed(3)
    attention = WindowAttention(4, 5, heads=2, width=3, n_frames=4, kernel=kernel)
    x = torch.randn(2, 4, 15, 3)
    state = [torch.zeros(2, *shape) for shape in attention.state_shapes(3)]
    assert len(state) == (2 if kernel == 1 else 4)
    exists = torch.cat([torch.zeros(2, 3), torch.ones(2, 15)], dim=1).unfold(1, 4, 1)
    pieces, start = [], 0
    for n in (1, 1, 5, 2, 6):
        piece = x[:, :, start : start + n]
        y, state = attention.advance(piece, exists[:, start : start + n], state)
        pieces.append(y)
        start += n
    torch.testing.assert_close(torch.cat(pieces, dim=2), attention(x), atol=1e-6, rtol=1e-5)
