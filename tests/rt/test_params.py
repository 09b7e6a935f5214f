"""Faders, tables, and the writer that carries them: acknowledgement, merging, positions."""

import math

import pytest
from fake_device import LockStep
from fake_separator import OneStem

from stemrack.rt.block import (
    ACK_REVISION,
    GAIN_LEFT,
    GAIN_RIGHT,
    MASTER,
    RAMPS,
    REVISION,
    TARGETS,
    Geometry,
    make_block,
)
from stemrack.rt.control_log import ControlLog, read_control_log
from stemrack.rt.errors import ConfigError, InputError
from stemrack.rt.params import Fader, MixerState, ParameterWriter, mixer_state, table_of


def test_table_holds_mute_solo_pan_and_units():
    state = MixerState(
        drums=Fader(gain_db=-20.0),
        bass=Fader(solo=True, pan=-0.25),
        vocals=Fader(solo=True, mute=True, ramp_ms=5_000.0),
        master_ramp_ms=20.0,
    )
    table = table_of(state, 48_000)
    assert table[TARGETS, GAIN_LEFT : GAIN_LEFT + 4] == pytest.approx([0, 1, 0, 0])
    assert table[TARGETS, GAIN_RIGHT : GAIN_RIGHT + 4] == pytest.approx([0, 0.75, 0, 0])
    assert table[TARGETS, MASTER] == 1.0
    assert table[RAMPS, MASTER] == 960
    assert table[RAMPS, GAIN_LEFT : GAIN_LEFT + 4].tolist() == [480, 480, 480, 240_000]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gain_db": 12.1}, "gain_db = 12.1: must be -inf to 12 dB"),
        ({"gain_db": math.nan}, "gain_db = nan"),
        ({"pan": -1.5}, "pan = -1.5"),
    ],
)
def test_faders_have_limits(values, said):
    with pytest.raises(ConfigError, match=said):
        Fader(**values)


def test_states_survive_plain_values():
    state = MixerState(other=Fader(gain_db=-math.inf, mute=True, pan=0.3), master_db=-3.0, cue_db=-math.inf)
    assert mixer_state(state.as_dict()) == state
    with pytest.raises(ConfigError, match="cowbell"):
        mixer_state({"cowbell": {}})
    with pytest.raises(ConfigError, match="more"):
        mixer_state({"drums": {"more": 1}})


def test_what_comes_faster_than_blocks_is_merged_and_the_newest_wins():
    block = make_block(Geometry(hop=64))
    writer = ParameterWriter(block, 44_100)
    for k in range(1, 6):
        writer.set_target(MixerState(master_db=-float(k)))
        assert block.words[REVISION] <= 2  # never the table that the callback may be copying
    assert block.tables[:, TARGETS, MASTER] == pytest.approx([10 ** (-2 / 20), 10 ** (-1 / 20)])
    assert not writer.is_settled
    block.words[ACK_REVISION] = block.words[REVISION]
    writer.poll()
    assert block.tables[block.words[REVISION] % 2, TARGETS, MASTER] == pytest.approx(10 ** (-5 / 20))
    block.words[ACK_REVISION] = block.words[REVISION]
    writer.poll()
    assert writer.is_settled


def test_every_state_that_was_heard_is_reported_once_with_its_position():
    engine = LockStep(OneStem(), blocks=(64,))
    import numpy as np

    moves = {640 * k: MixerState(master_db=-float(k)) for k in range(1, 30)}

    def move(at):
        if at in moves:
            engine.writer.set_target(moves[at])

    engine.play(np.zeros((2, 640 * 32), np.float32), before_block=move)
    revisions = [t[0] for t in engine.taken]
    assert revisions == sorted(set(revisions))
    assert [(p, s) for _, p, s in engine.taken[1:]] == list(moves.items())


def test_control_log_round_trip_and_its_complaints(tmp_path):
    log = ControlLog(rate_hz=44_100, delay_samples=1280, start_ramp_samples=441)
    log.add(1, 0, MixerState())
    log.add(2, 5_120, MixerState(bass=Fader(gain_db=-math.inf)))
    path = tmp_path / "log.jsonl"
    log.write(path)
    assert read_control_log(path) == log
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(InputError, match="line 4"):
        read_control_log(path)
    path.write_text('{"format": "something else"}\n')
    with pytest.raises(InputError, match="another version"):
        read_control_log(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_control_log(tmp_path / "none")
