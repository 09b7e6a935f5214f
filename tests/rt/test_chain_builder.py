"""Chains built beside the sound: what is made anew, what is moved, what is waited for, what is refused."""

import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from effect_rig import (
    HOP,
    RATE_HZ,
    Fake,
    all_stems,
    hold,
    holding,
    neutral,
    pushed,
    rack_and_builder,
    sine,
    steepness,
    stems_of,
)

from stemrack.rt import chain_builder
from stemrack.rt.chains import Chains
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.effect_table import EffectTable
from stemrack.rt.errors import EffectError
from stemrack.rt.inserts import SLOW_SHARE, InsertRun

HOLDS = holding(0, 220, 1700)
RUNAWAY = 2000
"""Hops after which a test says that a builder will never end."""


@pytest.fixture
def made(monkeypatch):
    """All fakes that are made, in order."""
    fakes = []

    def make(effect, values, **rest):
        fakes.append(hold(effect, values))
        return fakes[-1]

    monkeypatch.setattr(chain_builder, "Processor", make)
    return fakes


def insert(held=220, **changes):
    return replace(neutral(f"hold{held}", HOLDS), **changes)


def with_value(one, **values):
    return replace(one, values={**one.values, **values})


# -- what is made -------------------------------------------------------------------------------------------


def test_values_are_moved_in_the_chain_there_is(made):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=(insert(),)), waits=False)
    pushed(rack, stems_of(1))
    before, n_made = rack.chains[0], len(made)
    builder.change(3, Chains(drums=(with_value(insert(), level=0.5, colour=0.25),)))
    pushed(rack, stems_of(20))
    assert rack.chains[0] is before
    assert (len(made), rack.revision) == (n_made, 3)
    assert before.inserts[0].insert.values == {"level": 0.5, "colour": 0.25}


def test_only_the_chain_that_differs_is_made_anew(made):
    rack, builder = rack_and_builder(HOLDS)
    chains = Chains(drums=(insert(),), vocals=(insert(),))
    builder.change(2, chains, waits=False)
    pushed(rack, stems_of(1))
    before = rack.chains
    builder.change(3, replace(chains, vocals=(insert(), insert(0))))
    pushed(rack, stems_of(9))
    assert [a is b for a, b in zip(before, rack.chains, strict=True)] == [True, True, True, False]
    assert [i.insert.name for i in rack.chains[3].inserts] == ["hold220", "hold0"]


@pytest.mark.parametrize(
    "after",
    [
        (insert(0), insert()),
        (insert(),),
        (insert(), insert(0, name="hold0-2")),
        (insert(state="AA=="), insert(0)),
    ],
    ids=["order", "fewer", "name", "state"],
)
def test_another_line_of_inserts_or_state_makes_the_chain_anew(made, after):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=(insert(), insert(0))), waits=False)
    pushed(rack, stems_of(1))
    before = rack.chains[0]
    builder.change(3, Chains(drums=after))
    pushed(rack, stems_of(9))
    assert rack.chains[0] is not before
    assert tuple(run.insert for run in rack.chains[0].inserts) == after


def test_one_that_was_bypassed_is_made_anew_to_be_heard_and_not_loaded_before(made):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=(insert(bypass=True),)), waits=False)
    assert (made, builder.latency_samples) == ([], 0)
    builder.change(3, Chains(drums=(insert(),)))
    pushed(rack, stems_of(9))
    assert made
    assert rack.latency_samples == 220


def test_a_chain_keeps_its_latency_when_an_insert_is_bypassed(made):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=(insert(1700),)), waits=False)
    x = stems_of(30)
    bypassed = Chains(drums=(insert(1700, bypass=True),))
    y = pushed(rack, x, {12: lambda: builder.change(3, bypassed)})
    assert rack.latency_samples == builder.latency_samples == 1700
    np.testing.assert_allclose(y, x[:, :, : y.shape[2]], atol=1e-6)


def test_a_latency_is_measured_once_for_each_of_pedalboards_effects(made):
    _, builder = rack_and_builder(HOLDS)
    builder.change(2, all_stems(insert()), waits=False)
    measured = [fake for fake in made if fake.n_resets >= 2]
    assert len(measured) == 1


def test_both_of_a_pair_begin_with_the_same_memory(made):
    rack, builder = rack_and_builder(HOLDS)
    builder.change(2, Chains(drums=(insert(1700),)), waits=False)
    pushed(rack, stems_of(1))
    at_work = [fake for fake in made if fake.n_calls and fake._kept.shape[1] == HOP]
    assert len(at_work) == 2


def test_a_rebuilt_delay_keeps_its_echoes():
    delay = replace(neutral("delay"), values=BUILT_IN["delay"].neutral | {"mix": 0.5, "delay_seconds": 0.1})
    after = (delay, neutral("gain"))
    x = stems_of(90)
    y = {}
    for is_edited in (False, True):
        rack, builder = rack_and_builder()
        builder.change(2, Chains(drums=(delay,)), waits=False)
        edit = {60: lambda b=builder: b.change(3, Chains(drums=after))} if is_edited else {}
        y[is_edited] = pushed(rack, x, edit)
    np.testing.assert_allclose(y[True], y[False], atol=2e-3)


@pytest.mark.parametrize("key", ["brickwall_limiter", "gain", "reverb", "delay", "compressor"])
def test_inserts_that_come_and_go_leave_no_step(key):
    rack, builder = rack_and_builder()
    x = np.tile(sine(90 * HOP), (4, 1, 1))
    one = replace(neutral(key), values=BUILT_IN[key].defaults)
    edits = {
        40: lambda: builder.change(2, all_stems(one)),
        60: lambda: builder.change(3, Chains()),
        75: lambda: builder.change(4, Chains(drums=(one,))),
    }
    y = pushed(rack, x, edits)
    assert steepness(y[:, :, 30 * HOP :]) <= 2.0 * steepness(x)


# -- what is waited for -------------------------------------------------------------------------------------


def test_room_is_asked_for_before_a_longer_chain_is_left(made):
    said = []
    rooms = iter([0, 0, 512])
    rack, builder = rack_and_builder(
        HOLDS,
        wanted=lambda n: said.append(("wanted", n)),
        allowed=lambda: said.append("asked") or next(rooms),
    )
    assert builder.change(2, Chains(drums=(insert(),)))
    assert said == [("wanted", 220), "asked", "asked", "asked"]
    assert len(rack.orders) == 1


def test_chains_that_others_have_replaced_meanwhile_are_dropped(made):
    said, room = [], [0]
    rack, builder = rack_and_builder(
        HOLDS, wanted=said.append, allowed=lambda: room[0], is_outdated=lambda: room[0] == 0
    )
    assert not builder.change(2, Chains(drums=(insert(),)))
    assert (builder.latency_samples, len(rack.orders)) == (0, 0)
    room[0] = 4096
    assert builder.change(3, Chains(drums=(insert(), insert(1700))))
    assert (said[0], said[-1], len(rack.orders)) == (220, 1920, 1)


def test_no_room_is_kept_for_chains_that_are_not_wanted_any_more(made):
    said = []
    _, builder = rack_and_builder(HOLDS, wanted=said.append, allowed=lambda: 0, is_outdated=lambda: True)
    assert not builder.change(2, Chains(drums=(insert(),)))
    assert builder.change(3, Chains())
    assert said[-1] == 0


def test_a_knob_that_never_rests_does_not_keep_a_longer_chain_out(made):
    """The node looks at what is wanted between two changes, and each is outdated by the next."""
    wanted, room = [0], [0]
    _, builder = rack_and_builder(
        HOLDS,
        wanted=lambda samples: wanted.__setitem__(0, samples),
        allowed=lambda: room[0],
        is_outdated=lambda: True,
    )
    done = []
    for i in range(20):
        done.append(builder.change(i + 2, Chains(drums=(with_value(insert(), level=i / 20.0),))))
        room[0] = wanted[0]
    assert any(done)


def test_after_a_while_it_goes_on_without_room(made, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], perf_counter=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s)
    )
    monkeypatch.setattr(chain_builder, "time", clock)
    rack, builder = rack_and_builder(HOLDS, allowed=lambda: 0)
    assert builder.change(2, Chains(drums=(insert(),)))
    assert len(rack.orders) == 1
    assert now[0] == pytest.approx(chain_builder.ALLOW_LIMIT_S, abs=0.01)


def test_moves_wait_for_no_room(made):
    rack, builder = rack_and_builder(HOLDS, allowed=lambda: 0)
    builder.change(2, Chains(drums=(insert(),)), waits=False)
    assert builder.change(3, Chains(drums=(with_value(insert(), level=1.0),)))
    assert len(rack.orders) == 2


def test_a_chain_that_hears_more_slowly_than_the_sound_comes_is_left_all_the_same(monkeypatch):
    """Each insert may take half a hop: eight of them never catch up with the sound."""
    rack, builder = rack_and_builder(HOLDS)
    heard = []

    def fallen_behind(effect, values, **rest):
        fake = hold(effect, values)

        def play_on(call, y):
            if rack.position and call > 20 and not rack.orders:
                heard.append(call)
                assert len(heard) < RUNAWAY, "the builder runs after the sound for ever"
                for _ in rack.push(silence):
                    pass
            return y

        fake.answers = play_on
        return fake

    silence = np.zeros((4, 2, HOP), np.float32)
    monkeypatch.setattr(chain_builder, "Processor", fallen_behind)
    pushed(rack, stems_of(60))
    assert builder.change(2, Chains(drums=(insert(0),)))
    assert len(rack.orders) == 1


# -- what goes wrong ----------------------------------------------------------------------------------------


def test_an_effect_that_cannot_be_made_is_a_wire_and_told_of(monkeypatch):
    def make(effect, values, **rest):
        if effect.key == "hold220":
            raise EffectError("hold220 cannot be loaded: it is broken")
        return hold(effect, values)

    monkeypatch.setattr(chain_builder, "Processor", make)
    rack, builder = rack_and_builder(HOLDS)
    told = []
    rack.tell = lambda *what: told.append(what)
    builder.change(2, Chains(bass=(insert(), insert(1700))), waits=False)
    x = stems_of(12)
    y = pushed(rack, x)
    assert told == [("insert-bypassed", "bass", "hold220", "hold220 cannot be loaded: it is broken")]
    assert rack.latency_samples == 1700
    np.testing.assert_allclose(y, x[:, :, : y.shape[2]], atol=1e-6)


def test_an_effect_that_takes_too_long_in_every_call_is_a_wire_and_told_of(made, monkeypatch):
    now = [0.0]

    def perf_counter():
        now[0] += 2.0 * SLOW_SHARE * HOP / RATE_HZ
        return now[0]

    monkeypatch.setattr(chain_builder, "time", SimpleNamespace(perf_counter=perf_counter))
    rack, builder = rack_and_builder(HOLDS)
    told = []
    rack.tell = lambda *what: told.append(what)
    builder.change(2, Chains(bass=(insert(),)), waits=False)
    said = "hold220 takes 11.6 ms for a hop, 5.8 ms may be"
    assert told == [("insert-bypassed", "bass", "hold220", said)]
    assert builder.latency_samples == 0


def test_a_value_that_a_plugin_will_not_take_is_told_and_the_others_are_moved(made):
    """Some plugins do not read back a text of their own."""
    both = (insert(0), replace(insert(0), name="hold0-2"))
    rack, builder = rack_and_builder(HOLDS)
    told = []
    rack.tell = lambda *what: told.append(what)
    builder.change(2, Chains(bass=both))
    pushed(rack, stems_of(1))

    def refuses(parameter, value):
        raise EffectError("level = 1.0: it is read back as 0.0")

    made[0].inner = refuses
    assert builder.change(3, Chains(bass=tuple(with_value(one, level=1.0) for one in both)))
    assert told == [("insert-bypassed", "bass", "hold0", "level = 1.0: it is read back as 0.0")]
    assert len(rack.orders[0].moves) == 1


def test_what_is_let_go_has_a_name_until_it_is_gone(made):
    rack, builder = rack_and_builder(HOLDS, loading=lambda *what: loading.append(what) or gone())
    loading, kept, left = [], [], []

    def gone():
        left.append(sum(run() is not None for run in kept))

    builder.change(2, Chains(vocals=(insert(0), replace(insert(0), name="hold0-2"))))
    pushed(rack, stems_of(1))
    builder.change(3, Chains())
    pushed(rack, stems_of(1))
    (discarded,) = (chain for chain in rack.discarded if chain.inserts)
    kept += [weakref.ref(run) for run in discarded.inserts]
    loading.clear()
    left.clear()
    builder.bury()
    assert loading[-3:] == [("vocals", "hold0-2"), ("vocals", "hold0"), ("", "")]
    assert left[-3:] == [2, 1, 0]
    assert not rack.discarded


def test_so_has_what_was_never_heard(made, monkeypatch):
    runs, left = [], []

    def make(*given, **named):
        run = InsertRun(*given, **named)
        runs.append(weakref.ref(run))
        return run

    monkeypatch.setattr(chain_builder, "InsertRun", make)
    _, builder = rack_and_builder(
        HOLDS,
        allowed=lambda: 0,
        is_outdated=lambda: True,
        loading=lambda *what: left.append((what[1], sum(run() is not None for run in runs))),
    )
    assert not builder.change(2, Chains(drums=(insert(), replace(insert(), name="hold220-2"))))
    assert left[-3:] == [("hold220-2", 2), ("hold220", 1), ("", 0)]


def test_one_slow_call_of_a_few_is_no_reason(made, monkeypatch):
    times = iter([0.0, 1.0, 1.0, 2.0, 2.0, 2.001, 3.0, 4.0])
    monkeypatch.setattr(chain_builder, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    rack, builder = rack_and_builder(HOLDS)
    told = []
    rack.tell = lambda *what: told.append(what)
    builder.change(2, Chains(bass=(insert(),)), waits=False)
    assert (told, builder.latency_samples) == ([], 220)


def test_it_says_what_it_loads_and_when_that_is_over(made):
    said = []
    _, builder = rack_and_builder(HOLDS, loading=lambda *name: said.append(name))
    builder.change(2, Chains(drums=(insert(), insert(0, bypass=True)), vocals=(insert(),)), waits=False)
    assert said == [("drums", "hold220"), ("", ""), ("vocals", "hold220"), ("", "")]


def test_an_insert_has_a_name_in_every_call_of_the_builders(monkeypatch):
    """One that crashes while it hears the last seconds must be found too."""
    now, nameless = [("", "")], []
    rack, builder = rack_and_builder(HOLDS, loading=lambda *name: now.__setitem__(0, name))

    def make(effect, values, **rest):
        fake = hold(effect, values)
        fake.answers = lambda call, y: nameless.append(call) or y if not now[0][1] else y
        return fake

    monkeypatch.setattr(chain_builder, "Processor", make)
    pushed(rack, stems_of(20))
    builder.change(2, Chains(bass=(insert(),)))
    assert not nameless


def test_a_plugin_is_measured_itself_and_its_twin_is_another(monkeypatch):
    effect = replace(HOLDS["hold220"], plugin="/nowhere/at/all.vst3")
    made = []

    def make(effect, values, **rest):
        made.append(Fake(effect, values, held=220))
        return made[-1]

    monkeypatch.setattr(chain_builder, "Processor", make)
    _, builder = rack_and_builder(EffectTable([effect]))
    builder.change(2, Chains(drums=(insert(),)), waits=False)
    assert len(made) == 2
    assert made[0].n_resets
    assert builder.latency_samples == 220
