"""The causal Demucs: the streaming contract, look-ahead, normalisation, cost and export."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from contract import check_streaming

from stemrack.models.demucs_causal import CausalDemucs, forgetting_sum
from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.network_configs import DemucsConfig


def tiny(**changes) -> CausalDemucs:
    """Return a small network of hop 16 with weights big enough to be heard over the residual."""
    sizes = {"channels": 4, "depth": 2, "normalise_s": 0.01, **changes}
    torch.manual_seed(0)
    network = CausalDemucs(DemucsConfig(causal=True, **sizes)).eval()
    with torch.no_grad():
        network.get_parameter(f"decoder.{network.config.depth - 1}.0.weight").mul_(10)
        network.get_parameter(f"decoder.{network.config.depth - 1}.0.bias").add_(0.1)
    return network


def noise(batch: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((batch, 2, n)).astype(np.float32))


SIZES = {
    "no look-ahead": {},
    "two hops": {"look_ahead_samples": 32},
    "three hops, three levels, one layer": {
        "look_ahead_samples": 24,
        "depth": 3,
        "stride": 2,
        "kernel": 4,
        "n_lstm_layers": 1,
        "lstm_width": 5,
    },
    "no overlap, no context, no residual": {"kernel": 4, "context": 1, "skip_context": 1, "residual": False},
    "long kernel, even contexts": {
        "kernel": 7,
        "stride": 3,
        "context": 2,
        "skip_context": 4,
        "look_ahead_samples": 9,
    },
    "overlap longer than a stride": {"kernel": 7, "stride": 2, "look_ahead_samples": 4},
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_streams(sizes):
    # The doubling sums and the carried ones round apart by some 1e-7 of the level.
    check_streaming(tiny(**sizes), noise, n_hops=24, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("look_ahead", [0, 16, 48])
def test_output_hears_its_hop_and_the_look_ahead_and_nothing_later(look_ahead):
    network = tiny(look_ahead_samples=look_ahead)
    x = torch.randn(1, 2, 160, requires_grad=True)
    at = 70
    network(x)[..., at].square().sum().backward()
    assert x.grad is not None
    heard = x.grad.abs().sum((0, 1)) > 0
    end = at // 16 * 16 + 16 + look_ahead
    assert heard[end - 16 : end].all()
    assert not heard[end:].any()


def test_skips_meet_the_recurrence_at_the_same_instant():
    # An impulse is heard look_ahead samples early; through the skips alone, on time.
    network = tiny(look_ahead_samples=32, residual=False).double()
    x = torch.randn(1, 2, 320, dtype=torch.float64)
    bent = x.clone()
    bent[..., 160] += 5.0

    def first_change() -> int:
        with torch.no_grad():
            changed = (network(bent) - network(x)).abs().amax((0, 1, 2)) > 1e-12
        return int(changed.nonzero()[0])

    network._root = lambda energy, total, weight: torch.ones_like(energy)  # one level throughout
    assert 128 <= first_change() < 144
    with torch.no_grad():
        network.lstm_linear.weight.zero_()
    assert 160 <= first_change() < 176


def test_silent_network_gives_a_quarter_of_the_mixture():
    network = tiny(look_ahead_samples=16)
    with torch.no_grad():
        network.get_parameter("decoder.1.0.weight").zero_()
        network.get_parameter("decoder.1.0.bias").zero_()
        x = torch.randn(2, 2, 100)
        torch.testing.assert_close(network(x), (x / 4)[:, None].expand(-1, 4, -1, -1), atol=0, rtol=0)


def test_fresh_network_starts_near_a_quarter_of_the_mixture():
    torch.manual_seed(0)
    network = CausalDemucs(DemucsConfig(causal=True, channels=8, depth=3, look_ahead_samples=64))
    x = torch.randn(1, 2, 1024)
    with torch.no_grad():
        difference = network(x) - x[:, None] / 4
    assert float(difference.square().mean().sqrt()) < 0.05


@pytest.mark.parametrize("gain", [0.5, 2.0, 1024.0, 2.0**-20])
def test_scale_of_the_input_is_the_scale_of_the_output(gain):
    network = tiny(look_ahead_samples=16)
    x = torch.randn(1, 2, 400)
    with torch.no_grad():
        # Powers of two, so that not even rounding differs.
        torch.testing.assert_close(network(gain * x), gain * network(x), atol=0, rtol=1e-6)


def test_level_is_the_bias_corrected_forgetting_mean_square():
    network = tiny()
    x = torch.randn(1, 2, 160, dtype=torch.float64)
    energies = x.square().mean(1).view(10, 16).mean(-1)
    want = []
    for t in range(10):
        weights = network.keep ** torch.arange(t, -1, -1, dtype=torch.float64)
        mean = (weights * energies[: t + 1]).sum() / weights.sum()
        want.append(max(float(mean), float(energies[t]) / 16) ** 0.5)
    seen = []
    plain = network._root
    network._root = lambda *terms: seen.append(plain(*terms)) or seen[-1]
    with torch.no_grad():
        network(x.float())
        state = network.init_state(1)
        for t in range(10):
            network.step(x[..., 16 * t : 16 * t + 16].float(), state)
    got = torch.stack([seen[0].flatten(), torch.cat(seen[1:], dim=-1).flatten()])
    torch.testing.assert_close(
        got.double(), torch.tensor([want, want], dtype=torch.float64), atol=0, rtol=2e-6
    )


def test_forgetting_sum_equals_its_recursion():
    x = torch.randn(2, 37, dtype=torch.float64)
    want, y = [], torch.zeros(2, dtype=torch.float64)
    for t in range(37):
        y = x[:, t] + 0.9 * y
        want.append(y)
    torch.testing.assert_close(forgetting_sum(x, 0.9), torch.stack(want, -1))


@pytest.mark.parametrize("kind", ["silence", "silence then sound", "denormal", "antiphase", "amplitude 40"])
def test_odd_signals_stay_finite_and_of_their_size(kind):
    network = tiny(look_ahead_samples=16)
    tone = torch.sin(torch.arange(3200) * 0.1)
    x = {
        "silence": torch.zeros(1, 2, 3200),
        "silence then sound": torch.stack([tone, tone]).mul(torch.arange(3200) >= 3000)[None],
        "denormal": torch.full((1, 2, 3200), 1e-40),
        "antiphase": torch.stack([tone, -tone])[None],
        "amplitude 40": 40 * torch.stack([tone, tone])[None],
    }[kind]
    with torch.no_grad():
        y = network(x)
        state = network.init_state(1)
        stepped = torch.cat([network.step(x, state)[0], network.flush(state)], dim=-1)[..., 16:]
    assert torch.isfinite(y).all()
    assert torch.isfinite(stepped).all()
    assert float(y.abs().max()) <= 10 * float(x.abs().max()) + 1e-9
    torch.testing.assert_close(stepped, y, atol=2e-6 * float(x.abs().max()) + 1e-12, rtol=2e-6)


def test_any_length_is_taken_whole_and_only_whole_hops_in_steps():
    network = tiny(look_ahead_samples=16)
    x = torch.randn(1, 2, 100)
    with torch.no_grad():
        y = network(x)
        longer = network(torch.nn.functional.pad(x, (0, 12)))
    assert y.shape == (1, 4, 2, 100)
    torch.testing.assert_close(y, longer[..., :100], atol=1e-6, rtol=0)
    for n in (0, 15, 17):
        with pytest.raises(StreamingError, match="whole hops of 16"):
            network.step(torch.zeros(1, 2, n), network.init_state(1))
    with pytest.raises(SpecError, match="causal=True"):
        CausalDemucs(DemucsConfig())


def test_advance_leaves_its_states_alone():
    network = tiny(look_ahead_samples=16)
    state = [torch.randn_like(s).abs() for s in network.init_state(1)]
    before = [s.clone() for s in state]
    with torch.no_grad():
        _, after = network.advance(torch.randn(1, 2, 32), state)
    for old, was, new in zip(state, before, after, strict=True):
        assert torch.equal(old, was)
        assert new.shape == old.shape
        assert not torch.equal(new, old)


def test_states_take_a_gradient_and_every_weight_learns():
    network = tiny(look_ahead_samples=16)
    network(torch.randn(2, 2, 320)).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert float(p.grad.abs().max()) > 0, name


def test_cost_of_a_hop():
    network = CausalDemucs(DemucsConfig(causal=True, channels=24, depth=4))
    c, frames, encoder, decoder = 24, 64, 0, 0
    for level in range(4):
        n_in, n_out = (2, 8) if level == 0 else (c // 2, c)
        encoder += frames * (8 * n_in * c + 2 * c * c)
        decoder += frames * (12 * c * c + 6 * c * c + 2 * c * n_out // 4 * 8)
        c, frames = 2 * c, frames // 4
    recurrent = 2 * 8 * 192 * 192 + 192 * 384
    assert network.multiply_adds_per_hop() == encoder + decoder + recurrent


EXPORT = """
import sys, torch, numpy, onnxruntime
from stemrack.models.demucs_causal import CausalDemucs
from stemrack.models.network_configs import DemucsConfig

class Flat(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, x, *state):
        y, after = self.network.advance(x, list(state))
        return (y, *after)

torch.manual_seed(0)
network = CausalDemucs(DemucsConfig(causal=True, channels=4, depth=2, look_ahead_samples=32)).eval()
state = [torch.rand_like(s) for s in network.init_state(1)]
for hops in (1, 64):
    x = torch.randn(1, 2, 16 * hops)
    program = torch.onnx.export(Flat(network), (x, *state), dynamo=True, verbose=False)
    kinds = [node.op_type for node in program.model.graph]
    assert kinds.count("LSTM") == 2, kinds
    program.save(sys.argv[1], external_data=False)
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    feed = {i.name: v.numpy() for i, v in zip(session.get_inputs(), (x, *state))}
    with torch.no_grad():
        y, after = network.advance(x, state)
    for got, want in zip(session.run(None, feed), (y, *after), strict=True):
        numpy.testing.assert_allclose(got, want.numpy(), rtol=0, atol=3e-6)
print("agreed")
"""


def test_advance_exports_for_one_hop_and_many(tmp_path):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    # In a process of its own: the exporter leaves a tracing state behind that other tests would meet.
    command = [sys.executable, "-W", "ignore", "-c", EXPORT, str(tmp_path / "step.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("agreed\n")
