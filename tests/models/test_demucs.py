"""The published Demucs: counts, keys and lengths, and its forward against one written out."""

from __future__ import annotations

import pytest
import torch

from stemrack.models.demucs import Demucs
from stemrack.models.errors import SpecError
from stemrack.models.fraction_resampler import FractionResampler
from stemrack.models.network_configs import DemucsConfig

TINY = DemucsConfig(channels=4, depth=2)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Return every key of the published checkpoint with its shape, from the description of its layers."""
    shapes: dict[str, tuple[int, ...]] = {"up_sample.kernel": (2, 1, 53), "down_sample.kernel": (1, 1, 104)}
    widths, before = [48, 96, 192, 384, 768, 1536], 2
    for i, c in enumerate(widths):
        shapes |= {f"encoder.{i}.0.weight": (c, before, 8), f"encoder.{i}.0.bias": (c,)}
        shapes |= {f"encoder.{i}.2.weight": (2 * c, c, 1), f"encoder.{i}.2.bias": (2 * c,)}
        before = c
    for j, c in enumerate(reversed(widths)):
        last = 2 if c == 48 else c // 4
        shapes |= {f"convs_1x1.{j}.weight": (4 * c, c, 3), f"dec_pre_convs.{j}.weight": (4 * c, c // 2, 3)}
        shapes |= {f"dec_pre_convs.{j}.bias": (4 * c,), f"decoder.{j}.0.weight": (2 * c, last, 8)}
        shapes |= {f"decoder.{j}.0.bias": (4 * last,)}
    for layer, n_in in ((0, 1536), (1, 3072)):
        for end in ("", "_reverse"):
            shapes |= {f"lstm.weight_ih_l{layer}{end}": (6144, n_in)}
            shapes |= {f"lstm.weight_hh_l{layer}{end}": (6144, 1536)}
            shapes |= {f"lstm.bias_{k}_l{layer}{end}": (6144,) for k in ("ih", "hh")}
    return shapes | {"lstm_linear.weight": (3072, 3072), "lstm_linear.bias": (3072,)}


def test_published_size_has_the_published_keys_shapes_and_parameters():
    with torch.device("meta"):
        network = Demucs()
    got = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert got == published_shapes()
    assert len(got) == 74
    assert sum(p.numel() for p in network.parameters()) == 191_928_152


def test_lengths_of_the_published_size():
    with torch.device("meta"):
        network = Demucs()
    assert network.valid_length(44_100) == 43_690
    assert network.valid_length(441_000) == 438_954
    assert network.minimum_samples == 4_778
    assert network.n_frames(4_778) == 1
    with pytest.raises(SpecError, match="at least 4778"):
        network.valid_length(4_777)


def windows(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Return (channel, frame, kernel) windows of (channel, sample)."""
    return x.unfold(-1, kernel, stride)


def one_direction(w: dict[str, torch.Tensor], x: torch.Tensor, end: str) -> torch.Tensor:
    """Return the output (frame, hidden) of one LSTM layer in one direction, gate by gate."""
    n = w[f"weight_hh_{end}"].shape[1]
    h = c = torch.zeros(n, dtype=x.dtype)
    order = range(len(x)) if not end.endswith("_reverse") else range(len(x) - 1, -1, -1)
    out = torch.zeros(len(x), n, dtype=x.dtype)
    for t in order:
        gates = w[f"weight_ih_{end}"] @ x[t] + w[f"bias_ih_{end}"]
        gates = gates + w[f"weight_hh_{end}"] @ h + w[f"bias_hh_{end}"]
        i, f, g, o = gates[:n].sigmoid(), gates[n : 2 * n].sigmoid(), gates[2 * n : 3 * n], gates[3 * n :]
        c = f * c + i * g.tanh()
        h = o.sigmoid() * c.tanh()
        out[t] = h
    return out


def decoder_level(w: dict[str, torch.Tensor], y: torch.Tensor, skip: torch.Tensor, j: int) -> torch.Tensor:
    """Return one level's output (4 * out, sample) before its ReLU, stem by stem."""
    half = skip.shape[0] // 2
    skip = torch.nn.functional.pad(skip[:, : y.shape[-1]], (1, 1))
    shared = torch.einsum("ctk,ock->ot", windows(skip, 3, 1), w[f"convs_1x1.{j}.weight"])
    weight, bias = w[f"dec_pre_convs.{j}.weight"], w[f"dec_pre_convs.{j}.bias"]
    up, up_bias = w[f"decoder.{j}.0.weight"], w[f"decoder.{j}.0.bias"]
    stems = []
    for s in range(4):
        own_in = torch.nn.functional.pad(y[s * half : (s + 1) * half], (1, 1))
        rows = slice(s * 2 * half, (s + 1) * 2 * half)
        z = torch.einsum("ctk,ock->ot", windows(own_in, 3, 1), weight[rows]) + bias[rows, None] + shared[rows]
        z = z[:half] * z[half:].sigmoid()
        kernels = up[s * half : (s + 1) * half]
        n_out = kernels.shape[1]
        out = up_bias[s * n_out : (s + 1) * n_out, None].repeat(1, (z.shape[-1] - 1) * 4 + 8)
        for t in range(z.shape[-1]):
            out[:, 4 * t : 4 * t + 8] += torch.einsum("c,cok->ok", z[:, t], kernels)
        stems.append(out)
    return torch.cat(stems)


def written_out(network: Demucs, x: torch.Tensor) -> torch.Tensor:
    """Return the stems (4, 2, sample) of one excerpt (2, sample), sum by sum in float64."""
    w = {key: value.double() for key, value in network.state_dict().items()}
    x = x.double()
    mono = (x[0] + x[1]) / 2
    mean = mono.mean()
    deviation = ((mono - mean).square().sum() / (len(mono) - 1)).sqrt() + 1e-5
    y = FractionResampler(1, 2).double()((x - mean) / deviation)
    skips = []
    for i in range(network.config.depth):
        weight, bias = w[f"encoder.{i}.0.weight"], w[f"encoder.{i}.0.bias"]
        y = (torch.einsum("ctk,ock->ot", windows(y, 8, 4), weight) + bias[:, None]).relu()
        y = w[f"encoder.{i}.2.weight"][..., 0] @ y + w[f"encoder.{i}.2.bias"][:, None]
        y = y[: len(y) // 2] * y[len(y) // 2 :].sigmoid()
        skips.append(y)
    lstm = {key.removeprefix("lstm."): value for key, value in w.items() if key.startswith("lstm.")}
    y = y.T
    for layer in range(2):
        y = torch.cat([one_direction(lstm, y, f"l{layer}"), one_direction(lstm, y, f"l{layer}_reverse")], 1)
    y = (y @ w["lstm_linear.weight"].T + w["lstm_linear.bias"]).T
    for j in range(network.config.depth):
        y = decoder_level(w, y, skips[-1 - j], j)
        y = y.relu() if j < network.config.depth - 1 else y
    return (FractionResampler(2, 1).double()(y) * deviation + mean).view(4, 2, -1)


@pytest.mark.parametrize("n", [18, 64, 333])
def test_forward_equals_one_written_out(n):
    torch.manual_seed(0)
    network = Demucs(TINY).eval()
    x = 0.3 * torch.randn(2, 2, n) + torch.tensor([0.2, -0.1])[:, None, None]
    with torch.no_grad():
        got = network(x)
    assert got.shape == (2, 4, 2, network.valid_length(n))
    want = torch.stack([written_out(network, row) for row in x])
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)


def test_level_and_offset_of_the_input_come_out_again():
    torch.manual_seed(1)
    network = Demucs(TINY).eval()
    x = torch.randn(1, 2, 200)
    with torch.no_grad():
        torch.testing.assert_close(network(40 * x + 3), 40 * network(x) + 3, atol=4e-3, rtol=1e-4)


def test_refusals_say_what_to_do():
    with pytest.raises(SpecError, match="CausalDemucs"):
        Demucs(DemucsConfig(causal=True))
    with pytest.raises(SpecError, match="at least"):
        Demucs(TINY)(torch.zeros(1, 2, 17))
    with pytest.raises(SpecError, match="not a multiple of the hop 256"):
        DemucsConfig(causal=True, depth=4, look_ahead_samples=128)
    with pytest.raises(SpecError, match="odd"):
        DemucsConfig(context=2)
    with pytest.raises(SpecError, match="even channels"):
        DemucsConfig(channels=3)
    with pytest.raises(SpecError, match="recurrent layer"):
        DemucsConfig(n_lstm_layers=0)
    with pytest.raises(SpecError, match="at least 1"):
        DemucsConfig(depth=0)
