"""The rack: chains that change nothing give back the stems to the sample, whatever is edited meanwhile."""

import numpy as np
import pytest
import soundfile
from effect_rig import HOP, hold, holding, in_hops, neutral, pushed, rack_and_builder, stems_of
from hypothesis import given, settings
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt import chain_builder
from stemrack.rt.chain_builder import ChainBuilder
from stemrack.rt.chains import Chains
from stemrack.rt.effect_builtin import BUILT_IN, with_impulses
from stemrack.rt.effects import Rack

KEYS = [effect.key for effect in BUILT_IN if effect.key != "convolution"]
HELD = (0, 1, 220, 511, 512, 513, 1700)
HOLDS = holding(*HELD)
PITCH_SHIFT_HOPS = 110
"""Of 512: its dry path is later than a second."""


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(chain_builder, "Processor", hold)


def holds(*held):
    """Return a chain of fakes that hold back so many samples, told apart by name."""
    return tuple(neutral(f"hold{n}", HOLDS, name=f"hold{n}-{i + 2}") for i, n in enumerate(held))


def check_same(y, x, latency, hop):
    """The output is the input, from its first sample, and nothing is missing but the latency."""
    assert y.shape[2] == x.shape[2] - in_hops(latency, hop)
    np.testing.assert_allclose(y, x[:, :, : y.shape[2]], atol=1e-6, rtol=0.0)


# -- identity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_an_effect_that_changes_nothing_gives_back_the_stem_to_the_sample(key):
    rack, builder = rack_and_builder()
    builder.change(2, Chains(bass=(neutral(key),)), waits=False)
    x = stems_of(PITCH_SHIFT_HOPS if key == "pitch_shift" else 24)
    y = pushed(rack, x)
    assert rack.latency_samples == builder.latency_samples
    check_same(y, x, rack.latency_samples, HOP)


@pytest.mark.parametrize(("hop", "rate_hz"), [(128, 44100), (512, 48000), (128, 48000)])
@pytest.mark.parametrize("key", ["brickwall_limiter", "resample", "mp3_compressor", "reverb", "peak_filter"])
def test_so_it_does_in_other_hops_and_at_another_rate(key, hop, rate_hz):
    rack, builder = rack_and_builder(hop=hop, rate_hz=rate_hz)
    builder.change(2, Chains(vocals=(neutral(key),)), waits=False)
    x = stems_of(6000 // hop, hop)
    check_same(pushed(rack, x), x, rack.latency_samples, hop)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hop", [128, 512])
def test_three_late_effects_on_different_stems_leave_all_stems_aligned(hop, waits):
    rack, builder = rack_and_builder(hop=hop)
    chains = Chains(
        drums=(neutral("brickwall_limiter"),),
        other=(neutral("resample"),),
        vocals=(neutral("mp3_compressor"),),
    )
    builder.change(2, chains, waits=waits)
    x = stems_of(12000 // hop, hop)
    y = pushed(rack, x)
    latencies = [c.latency_samples for c in rack.chains]
    assert latencies == {512: [220, 0, 109, 3481], 128: [220, 0, 108, 3609]}[hop]
    assert rack.latency_samples == max(latencies)
    check_same(y, x, max(latencies), hop)


def test_so_does_a_convolution(tmp_path):
    file = tmp_path / "room.wav"
    soundfile.write(file, stems_of(4)[0].T, 44100, subtype="FLOAT")
    table = with_impulses(BUILT_IN, ["room"])
    rack = Rack(HOP, 44100)
    builder = ChainBuilder(rack, table, {"room": file})
    builder.change(2, Chains(drums=(neutral("convolution", table),)), waits=False)
    x = stems_of(12)
    check_same(pushed(rack, x), x, 0, HOP)
    assert not rack.chains[0].inserts[0].is_given_up


def test_latencies_of_one_chain_add_up():
    rack, builder = rack_and_builder()
    two = (
        neutral("brickwall_limiter"),
        neutral("resample"),
        neutral("brickwall_limiter", name="brickwall_limiter-2"),
    )
    builder.change(2, Chains(bass=two), waits=False)
    x = stems_of(12)
    y = pushed(rack, x)
    assert rack.latency_samples == 220 + 109 + 220
    check_same(y, x, 549, HOP)


def test_an_impulse_comes_out_at_its_own_sample_on_every_stem():
    rack, builder = rack_and_builder()
    builder.change(2, Chains(drums=(neutral("brickwall_limiter"),), bass=(neutral("resample"),)), waits=False)
    x = np.zeros((4, 2, 16 * HOP), np.float32)
    x[:, :, 3001] = 0.5
    y = pushed(rack, x)
    assert np.abs(y).argmax(axis=2).tolist() == [[3001, 3001]] * 4
    assert np.abs(y).sum() == pytest.approx(4 * 2 * 0.5)


def test_without_chains_hops_go_through_at_once():
    x = stems_of(3)
    rack = Rack(HOP, 44100)
    for i in range(3):
        (hop,) = rack.push(x[:, :, i * HOP : (i + 1) * HOP])
        np.testing.assert_array_equal(hop, x[:, :, i * HOP : (i + 1) * HOP])
    assert (rack.latency_samples, rack.position) == (0, 3 * HOP)


# -- edits --------------------------------------------------------------------------------------------------


@st.composite
def edit_scripts(draw):
    """Chains for some hops, several for one hop at times."""
    hops = sorted(draw(st.lists(st.integers(8, 40), min_size=1, max_size=14)))
    return [(hop, draw(chains_that_change_nothing())) for hop in hops]


def chains_that_change_nothing():
    chain = st.lists(st.sampled_from(HELD), max_size=3).map(lambda held: holds(*held))
    return st.fixed_dictionaries({stem: chain for stem in STEMS}).map(lambda by_stem: Chains(**by_stem))


def edited(script, *, waits=True, n_hops=60, late_hops=0):
    """Return stems, and what comes out while chains are changed; script: (hop, chains).

    late_hops: from the moment that new chains have heard the sound to that in which they are carried out.
    """
    rack, builder = rack_and_builder(HOLDS)
    x, held = stems_of(n_hops), []

    def edits_at(hop):
        while held and held[0][0] <= hop:
            rack.orders.append(held.pop(0)[1])
        for revision, (at, chains) in enumerate(script, 2):
            if at == hop:
                assert builder.change(revision, chains, waits=waits)
                if late_hops:
                    held.append((hop + late_hops, rack.orders.pop()))

    y = pushed(rack, x, {hop: lambda hop=hop: edits_at(hop) for hop in range(n_hops)})
    return x, y, rack


@settings(max_examples=40, deadline=None)
@given(script=edit_scripts(), late_hops=st.integers(0, 6))
def test_edits_at_any_hop_lose_repeat_and_change_no_sample(script, late_hops):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_builder, "Processor", hold)
        x, y, rack = edited(script, late_hops=late_hops)
    assert rack.revision == 1 + len(script)
    check_same(y, x, max(sum(int(i.effect.removeprefix("hold")) for i in c) for _, c in script[-1][1]), HOP)


@pytest.mark.parametrize("at", range(1, 8))
def test_so_do_edits_right_after_the_beginning(fakes, at):
    script = [(0, Chains(bass=holds(1700))), (at, Chains(bass=holds(220)))]
    x, y, _ = edited(script, n_hops=16)
    check_same(y, x, 220, HOP)


def test_an_exchange_that_another_one_interrupts_leads_to_the_last_chain(fakes):
    script = [(10 + i, Chains(drums=holds(held))) for i, held in enumerate((1700, 0, 513, 1700, 1, 1700))]
    x, y, rack = edited(script, n_hops=40)
    check_same(y, x, 1700, HOP)
    assert [i.insert.name for i in rack.chains[0].inserts] == ["hold1700-2"]


def test_chains_no_longer_heard_are_left_to_the_builder(fakes):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=holds(0)))
    builder.change(3, Chains(drums=holds(1)))
    pushed(rack, stems_of(1))
    assert len(rack.discarded) == 2
    builder.bury()
    assert not rack.discarded


def test_after_a_restart_the_first_sample_is_the_first_of_the_new_place(fakes):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=holds(220), vocals=holds(1700)), waits=False)
    before, after = stems_of(9, seed=1), stems_of(12, seed=2)
    pushed(rack, before)
    rack.restart()
    check_same(pushed(rack, after), after, 1700, HOP)


@pytest.mark.parametrize("n_before", [1, 2, 3])
@pytest.mark.parametrize("held", [(0, 1700), (1700, 0), (513, 1700), (1700, 220)])
def test_so_it_is_in_the_middle_of_an_exchange(fakes, held, n_before):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(bass=holds(held[0])), waits=False)
    pushed(rack, stems_of(9))
    builder.change(3, Chains(bass=holds(held[1])))
    pushed(rack, stems_of(n_before, seed=3))
    rack.restart()
    after = stems_of(12, seed=2)
    check_same(pushed(rack, after), after, held[1], HOP)


def test_an_edit_right_after_a_restart_keeps_the_beginning(fakes):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(bass=holds(1700)), waits=False)
    pushed(rack, stems_of(12))
    rack.restart()
    after = stems_of(16, seed=2)
    y = pushed(rack, after, {2: lambda: builder.change(3, Chains(bass=holds(220)))})
    check_same(y, after, 220, HOP)


# -- what it tells ------------------------------------------------------------------------------------------


def test_history_is_what_came_in_and_silence_before_it():
    rack = Rack(HOP, 44100)
    x = stems_of(4)
    pushed(rack, x)
    np.testing.assert_array_equal(rack.history(1, HOP + 3, 3 * HOP), x[1, :, HOP + 3 : 3 * HOP])
    assert not rack.history(1, -HOP, 0).any()


def test_history_keeps_two_seconds_in_whole_hops():
    rack = Rack(100, 1000)
    x = stems_of(50, 100)
    pushed(rack, x)
    np.testing.assert_array_equal(rack.history(2, 3000, 5000), x[2, :, 3000:5000])


def test_it_says_which_insert_it_is_in_before_each_call(fakes):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=holds(0, 1), vocals=holds(220)), waits=False)
    entered = []
    rack.enter = lambda stem, place: entered.append((stem, place))
    pushed(rack, stems_of(2))
    assert entered[-5:] == [(0, 0), (0, 1), (0, -1), (3, 0), (3, -1)]


def test_what_it_is_in_has_a_name_in_force_while_it_catches_up(monkeypatch):
    """A crash between two hops must not be put down to the insert that stood in that place before."""
    rack, builder = rack_and_builder(HOLDS)
    names, inside, wrong, calls = {}, [None], [], []

    def in_force():
        names.clear()
        for chain in rack.chains:
            names.update({(chain.stem, i): run.insert.effect for i, run in enumerate(chain.inserts)})

    def watched(effect, values, **rest):
        fake = hold(effect, values)

        def answer(call, y):
            calls.append(effect.key)
            if is_other(effect):
                wrong.append(names.get(inside[0]))
            return y

        fake.answers = answer
        return fake

    def is_other(effect):
        return inside[0] is not None and names.get(inside[0]) != effect.key

    def enter(stem, place):
        inside[0] = (stem, place) if place >= 0 else None

    monkeypatch.setattr(chain_builder, "Processor", watched)
    rack.on_order, rack.enter = in_force, enter
    builder.change(2, Chains(drums=holds(0)), waits=False)
    pushed(rack, stems_of(8))
    builder.change(3, Chains(drums=holds(1)))
    order = rack.orders.pop()
    pushed(rack, stems_of(2))
    rack.orders.append(order)
    calls.clear()
    pushed(rack, stems_of(1))
    assert calls == 2 * ["hold0"] + 6 * ["hold1"]  # of each pair: the old one's last, two missed, the new one
    assert not wrong


def test_an_order_in_force_is_told_once_with_its_revision(fakes):
    rack, builder = rack_and_builder(HOLDS)
    seen = []
    rack.on_order = lambda: seen.append((rack.revision, rack.latency_samples))
    builder.change(2, Chains(drums=holds(220)), waits=False)
    builder.change(3, Chains(drums=holds(513)))
    assert (seen, rack.revision) == ([], 0)
    pushed(rack, stems_of(2))
    assert seen == [(2, 220), (3, 513)]
