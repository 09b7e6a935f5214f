"""The U-Net's parts written out, slowly: one convolution per connection, one query at a time."""

import math

import torch
from torch.nn import functional

from stemrack.models.unet_attention import BlockAttention, WindowAttention
from stemrack.models.unet_blocks import D2Block


def d2_reference(block: D2Block, x: torch.Tensor, time_kernel: int | None) -> torch.Tensor:
    """Return a D2 block's output, one small convolution per connection (i -> j), dilation 2^i."""
    k, n = block.growth, block.n_layers
    sources, outputs = [x], []
    for j in range(n):
        total = torch.zeros(())
        for i in range(j + 1):
            weight = block.conv_layers[i].weight[(j - i) * k : (j - i + 1) * k]
            d = 2**i
            if time_kernel is None:
                total = total + functional.conv2d(
                    functional.pad(sources[i], (d, d, d, d)), weight, dilation=d
                )
            else:
                padded = functional.pad(sources[i], (d, d, (time_kernel - 1) * d, 0))
                total = total + functional.conv2d(padded, weight, dilation=d)
        bn = block.bn_layers[j][0]
        gain = (bn.weight / torch.sqrt(bn.running_var + bn.eps))[:, None, None]
        y = torch.relu((total - bn.running_mean[:, None, None]) * gain + bn.bias[:, None, None])
        sources.append(y)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def used(module: torch.nn.Module, shape: tuple[int, ...]) -> torch.nn.Module:
    """Return the module ready to run, its running statistics and affine parts no longer trivial."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.3)
    for _ in range(2):
        module(torch.randn(shape))
    return module.eval()


def gather(q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
    """Return one query's answer from lists of keys and values, by the formula."""
    logits = [float(q @ k) / math.sqrt(len(q)) for k in keys]
    weights = [math.exp(v) for v in logits]
    return sum(w / sum(weights) * v for w, v in zip(weights, values, strict=True))  # type: ignore[return-value]


def block_reference(attention: BlockAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the published attention over (1, channel, bin, frame), padding as zero keys and values."""
    w, n_bins, n = attention.width, x.shape[2], x.shape[3]
    qkv = attention.qkv_conv(x)[0]
    out = torch.zeros(attention.heads * w, n_bins, n)
    nothing = torch.zeros(w)
    for head in range(attention.heads):
        q, k, v = (qkv[(3 * head + part) * w : (3 * head + part + 1) * w] for part in range(3))
        for t in range(n):
            block = t // 2 * 2
            places = [(b, s) for s in range(block - 3, block + 5) for b in range(n_bins)]
            keys = [k[:, b, s] if 0 <= s < n else nothing for b, s in places]
            values = [v[:, b, s] if 0 <= s < n else nothing for b, s in places]
            for b in range(n_bins):
                out[head * w : (head + 1) * w, b, t] = gather(q[:, b, t], keys, values)
    return attention.out_conv(out[None])


def window_reference(attention: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the causal attention (kernel 1) over (1, channel, frame, bin), without any padding."""
    w, n, n_bins = attention.width, x.shape[2], x.shape[3]
    qkv = attention.qkv_conv(x)[0]
    out = torch.zeros(attention.heads * w, n, n_bins)
    for head in range(attention.heads):
        q, k, v = (qkv[(3 * head + part) * w : (3 * head + part + 1) * w] for part in range(3))
        for t in range(n):
            first = max(0, t - attention.n_frames + 1)
            places = [(s, b) for s in range(first, t + 1) for b in range(n_bins)]
            for b in range(n_bins):
                out[head * w : (head + 1) * w, t, b] = gather(
                    q[:, t, b], [k[:, s, c] for s, c in places], [v[:, s, c] for s, c in places]
                )
    return attention.out_conv(out[None])
