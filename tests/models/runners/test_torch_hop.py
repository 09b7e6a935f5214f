"""The whole hop in torch: it gives what the ensemble gives, and a stream's memory is one block."""

from pathlib import Path

import numpy as np
import pytest
import signals
import torch
from small_profile import write_small_profile

from stemrack.models.bundles import find_weights, load_network
from stemrack.models.danna import Ensemble
from stemrack.models.errors import SpecError, StreamingError
from stemrack.models.profiles import Profile
from stemrack.models.runners.torch_hop import ALIGNMENT_BYTES, STAGES, Memory, TorchHop, rebuilt

ALL = ("xumx", "unet", "demucs")


def _ensemble(folder: Path) -> Ensemble:
    profile: Profile = write_small_profile(folder, ALL)[0]
    paths = find_weights(profile, folder)
    return Ensemble(profile, {m.kind: load_network(m, paths[m.kind]) for m in profile.members})


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return _ensemble(tmp_path_factory.mktemp("profile"))


def _music(n: int, seed: int = 0) -> np.ndarray:
    return (0.3 * signals.sweep(n) + signals.noise(n, seed, 0.05)).astype(np.float32)


def test_it_gives_what_the_ensemble_gives(ensemble: Ensemble):
    x = _music(128 * 30)
    with torch.no_grad():
        want = ensemble.step(torch.from_numpy(x)[None], ensemble.init_state(1))[0][0].numpy()
    runner = TorchHop(ensemble)
    state = runner.init_state()
    got = np.concatenate([runner.step(x[:, i : i + 128], state) for i in range(0, x.shape[1], 128)], axis=-1)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_state_that_is_put_back_gives_the_same_again(ensemble: Ensemble):
    runner, x = TorchHop(ensemble), _music(128 * 21)
    state = runner.init_state()
    runner.step(x[:, : 128 * 11], state)
    memory, turns = state.memory.clone(), state.turns.clone()
    first = runner.step(x[:, 128 * 11 :], state)
    assert not torch.equal(memory, state.memory)
    other = runner.init_state()
    other.memory.copy_(memory)
    other.turns.copy_(turns)
    np.testing.assert_array_equal(runner.step(x[:, 128 * 11 :], other), first)


def test_streams_do_not_hear_each_other(ensemble: Ensemble):
    runner, x, z = TorchHop(ensemble), _music(128 * 9), _music(128 * 9, 1)[::-1]
    alone = runner.step(x, runner.init_state())
    one, two, got = runner.init_state(), runner.init_state(), []
    for i in range(0, x.shape[1], 128):
        got.append(runner.step(x[:, i : i + 128], one))
        runner.step(z[:, i : i + 128], two)
    np.testing.assert_allclose(np.concatenate(got, axis=-1), alone, atol=1e-6)


def test_forward_and_flush_complete_the_steps(ensemble: Ensemble):
    runner, x = TorchHop(ensemble), _music(128 * 20)
    state = runner.init_state()
    late = runner.step(x, state)
    whole = np.concatenate([late[..., runner.latency_samples :], runner.flush(state)], axis=-1)
    np.testing.assert_allclose(runner.forward(x), whole, atol=1e-5)


def test_a_step_that_fails_leaves_the_state_as_it_was(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch):
    runner, x = TorchHop(ensemble), _music(128 * 6)
    state = runner.init_state()
    runner.step(x, state)
    memory, turns = state.memory.clone(), state.turns.clone()

    def fails(*_: object) -> None:
        raise RuntimeError("the last part of the hop failed")

    with monkeypatch.context() as patched:
        patched.setattr(ensemble.of_samples[0], "step", fails)
        with pytest.raises(RuntimeError, match="last part"):
            runner.step(x[:, :128], state)
    assert torch.equal(memory, state.memory)
    assert torch.equal(turns, state.turns)


def test_stages_are_told_in_order(ensemble: Ensemble):
    runner, heard = TorchHop(ensemble), []
    runner.step(_music(128), runner.init_state(), heard.append)
    assert heard == list(STAGES)


def test_what_is_no_stereo_of_whole_hops_is_refused(ensemble: Ensemble):
    runner = TorchHop(ensemble)
    for shape in ((2, 100), (1, 128), (2, 0), (2, 128, 1)):
        with pytest.raises(StreamingError, match="whole hops of 128"):
            runner.step(np.zeros(shape, np.float32), runner.init_state())


def test_a_hop_touches_its_device_alone_and_never_asks_it_for_a_number(tmp_path: Path):
    # On 'meta' a tensor from elsewhere and a value read from the device both raise: as CUDA, without one.
    ensemble = _ensemble(tmp_path).to("meta")
    memory = Memory(ensemble.init_state(1), torch.device("meta"))
    with torch.no_grad():
        for _ in range(3):
            y, _ = ensemble.step(torch.zeros(1, 2, 128, device="meta"), memory.tree)
    assert y.shape == (1, 4, 2, 128)
    assert y.device.type == "meta"
    assert memory.state.turns.tolist() == [1, 1]


def test_a_tree_of_any_kind_of_tensors_lies_in_one_block():
    tree = {
        "a": [torch.full((3,), 2.0), torch.full((2, 5), 1.0 + 2.0j, dtype=torch.complex128)],
        "b": (torch.zeros(1, 4, 0), torch.tensor([7]), torch.tensor([[8, 9]])),
        "c": torch.tensor([True, False]),
    }
    memory = Memory(tree, torch.device("cpu"))
    kept = []
    rebuilt(memory.tree, lambda leaf: kept.append(leaf) or leaf)
    for got, want in zip(kept, [*tree["a"], *tree["b"], tree["c"]], strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)
    assert memory.state.turns.tolist() == [7, 8, 9]
    assert memory.state.memory.shape == (3 * ALIGNMENT_BYTES,)
    memory.state.memory.zero_()
    assert not memory.tree["a"][1].any()
    memory.take(memory.fresh)
    assert torch.equal(memory.tree["a"][1], tree["a"][1])


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(SpecError, match="a state holds a int"):
        Memory([torch.zeros(2), 3], torch.device("cpu"))

    class Half(torch.nn.Module):
        hop, latency_samples, ratio = 2, 0, 0.5

    with pytest.raises(SpecError, match="ratio 1"):
        TorchHop(Half())
