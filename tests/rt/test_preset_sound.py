"""A preset on the stems of a file: in time to the sample, as long as the file, at every rate and channel."""

import pickle

import numpy as np
import pytest
from effect_rig import Fake

from stemrack.models.stems import N_STEMS, STEMS
from stemrack.rt import chain_builder
from stemrack.rt.app_effects import effects_of
from stemrack.rt.chains import Chains, insert_number, insert_of
from stemrack.rt.config import Config
from stemrack.rt.effect_builtin import BUILT_IN, with_impulses
from stemrack.rt.effect_table import Effect, EffectParameter, EffectTable
from stemrack.rt.errors import EffectError
from stemrack.rt.params import Fader
from stemrack.rt.preset_sound import PresetSound, StemSound, sound_of
from stemrack.rt.presets import Preset, shipped_presets

TABLE = with_impulses(BUILT_IN, ())
RNG = np.random.default_rng(5)


def stems_of(n, n_channels=2):
    return (0.2 * RNG.standard_normal((N_STEMS, n_channels, n))).astype(np.float32)


def neutral(key, **values):
    return insert_of(TABLE, {"effect": key, **TABLE[key].neutral, **values})


def sound(gains=None, table=TABLE, **chains):
    chains = Chains(**{stem: tuple(chain) for stem, chain in chains.items()})
    more = {} if gains is None else {"gains": gains}
    return PresetSound(chains=chains, table=table, **more)


def through(what, stems, rate_hz=44_100, pieces=(1000,)):
    """Return the stems behind a preset, pushed in pieces of these lengths, in turn."""
    run = StemSound(what, rate_hz=rate_hz, n_channels=stems.shape[1])
    out, start, turn = [], 0, 0
    while start < stems.shape[2]:
        stop = start + pieces[turn % len(pieces)]
        out.append(run.push(stems[:, :, start:stop]))
        start, turn = stop, turn + 1
    out.append(run.finish())
    return np.concatenate(out, axis=2)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("n", [1, 511, 512, 5_003])
def test_neutral_chains_change_no_bit_and_keep_the_length(n, n_channels):
    stems = stems_of(n, n_channels)
    for what in (sound(), sound(bass=[neutral("gain")], vocals=[neutral("low_shelf_filter", dry_wet=0.0)])):
        out = through(what, stems, pieces=(1, 700, 64))
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out, stems)


def test_gain_is_exact_from_the_first_sample_on_and_moves_no_other_stem():
    stems = stems_of(3_000)
    out = through(sound(bass=[neutral("gain", gain_db=-6.0)]), stems)
    np.testing.assert_allclose(out[1], 10 ** (-6 / 20) * stems[1], rtol=2e-6)
    np.testing.assert_array_equal(out[[0, 2, 3]], stems[[0, 2, 3]])


def test_latency_is_taken_off_all_stems():
    stems = stems_of(6_000)
    limiter = neutral("brickwall_limiter", ceiling_db=0.0)
    out = through(sound(drums=[limiter], other=[limiter, neutral("gain")]), stems)
    assert np.abs(stems).max() < 0.98  # nothing to limit
    np.testing.assert_allclose(out, stems, atol=1e-6)
    np.testing.assert_array_equal(out[[1, 3]], stems[[1, 3]])


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_reverb_begins_with_the_sound_and_is_cut_at_its_end(rate_hz):
    stems = np.zeros((N_STEMS, 2, 20_000), np.float32)
    stems[3, :, 5_000] = 0.5
    out = through(sound(vocals=[neutral("reverb", wet_level=0.3, room_size=0.8)]), stems, rate_hz)
    assert out.shape == stems.shape
    assert np.abs(out[:3]).max() == 0
    assert np.abs(out[3, :, :5_000]).max() < 1e-6
    assert out[3, 0, 5_000] == pytest.approx(0.5, rel=1e-3)
    assert np.sqrt(np.mean(out[3, :, 6_000:] ** 2)) > 1e-4


def test_hops_do_not_depend_on_the_pieces():
    stems = stems_of(9_000)
    what = sound(drums=[neutral("reverb", wet_level=0.3)], vocals=[neutral("mp3_compressor")])
    np.testing.assert_array_equal(
        through(what, stems, pieces=(9_000,)), through(what, stems, pieces=(7, 300))
    )


def test_one_channel_is_that_of_both_sides_alike():
    mono = stems_of(4_000, 1)
    what = sound(drums=[neutral("compressor", ratio=4.0, threshold_db=-30.0)])
    out = through(what, mono)
    assert out.shape == mono.shape
    np.testing.assert_array_equal(out, through(what, np.repeat(mono, 2, axis=1))[:, :1])
    panned = ((1.0, 0.5), (1.0, 1.0), (0.0, 0.0), (2.0, 2.0))
    out = through(sound(gains=panned), mono)
    np.testing.assert_allclose(out, np.array([0.75, 1.0, 0.0, 2.0])[:, None, None] * mono, rtol=1e-6)


def test_faders_are_those_of_the_mixer():
    preset = Preset(
        name="a",
        title="A",
        faders={"drums": Fader(pan=0.5), "bass": Fader(mute=True), "vocals": Fader(gain_db=-24.0)},
        master_db=6.0,
    )
    what = sound_of(preset, TABLE, {})
    master = 10 ** (6 / 20)
    gains = np.array([[0.5, 1.0], [0.0, 0.0], [1.0, 1.0], [10 ** (-24 / 20)] * 2]) * master
    np.testing.assert_allclose(what.gains, gains)
    stems = stems_of(1_000)
    np.testing.assert_allclose(through(what, stems), stems * gains[:, :, None], rtol=1e-6)
    solo = Preset(name="b", title="B", faders={"other": Fader(solo=True)})
    assert [pair[0] for pair in sound_of(solo, TABLE, {}).gains] == [0.0, 0.0, 1.0, 0.0]


def test_every_shipped_preset_sounds_at_every_common_rate():
    effects = effects_of(Config())
    presets = shipped_presets(effects.table)
    assert len(presets) >= 6
    for preset in presets.values():
        what = sound_of(preset, effects.table, effects.impulses)
        assert pickle.loads(pickle.dumps(what)).chains == what.chains
        assert not what.has_plugins
        for rate_hz in (22_050, 44_100, 96_000):
            stems = stems_of(3_000)
            out = through(what, stems, rate_hz)
            assert out.shape == stems.shape
            assert np.isfinite(out).all()
            assert np.abs(out).max() > 0


def test_what_cannot_be_made_ends_the_file():
    plugin = Effect(key="Gone", title="Gone", doc="", plugin="gone.vst3")
    what = sound(
        table=EffectTable([*TABLE, plugin]), vocals=[insert_of(EffectTable([plugin]), {"effect": "Gone"})]
    )
    assert what.has_plugins
    with pytest.raises(EffectError, match="vocals/Gone: Gone cannot be loaded"):
        StemSound(what, rate_hz=44_100, n_channels=2)


def test_a_filter_above_half_the_rate_is_refused():
    what = sound(drums=[neutral("lowpass_filter", cutoff_frequency_hz=8_000.0)])
    said = "drums/lowpass_filter: cutoff_frequency_hz = 8000 is above half the file's 11025 Hz"
    with pytest.raises(EffectError, match=said):
        StemSound(what, rate_hz=11_025, n_channels=1)
    StemSound(what, rate_hz=16_000, n_channels=1)


def test_a_plugin_knows_itself_what_it_does_above_half_the_rate(monkeypatch):
    monkeypatch.setattr(chain_builder, "Processor", Fake)
    cutoff = EffectParameter(name="cutoff_hz", doc="Cutoff", lowest=20.0, highest=20_000.0, default=20_000.0)
    plugin = Effect(key="Filter", title="Filter", doc="", plugin="filter.vst3", parameters=(cutoff,))
    table = EffectTable([plugin])
    stems = stems_of(1_000)
    out = through(sound(table=table, drums=[insert_of(table, {"effect": "Filter"})]), stems, 11_025)
    np.testing.assert_array_equal(out, stems)


def test_what_is_reset_is_told_and_what_is_given_up_ends_the_file():
    stems = stems_of(20 * 512)
    stems[0, 0, 5 * 512 + 7] = np.nan  # as an effect would make it
    run = StemSound(sound(drums=[neutral("gain")]), rate_hz=44_100, n_channels=2)
    run.push(stems[:, :, : 10 * 512])
    assert run.resets == [
        f"drums/gain: gave samples that are not finite at {5 * 512 / 44_100:.3f} s: dry there"
    ]
    stems[0] = np.nan
    with pytest.raises(EffectError, match=r"drums/gain: gave samples that are not finite,? 4 times"):
        run.push(stems)


def test_it_says_where_it_is():
    heard = []
    what = sound(bass=[neutral("gain"), neutral("compressor")], vocals=[neutral("reverb")])
    run = StemSound(what, rate_hz=44_100, n_channels=2, on_insert=heard.append)
    loaded = [8 + 1, 0, 8 + 2, 0, 24 + 1, 0]
    assert heard[:6] == loaded
    heard.clear()
    run.push(stems_of(512))
    assert heard == [8 + 1, 8 + 2, 0, 24 + 1, 0]
    heard.clear()
    run.finish()
    assert heard[-4:] == [8 + 2, 8 + 1, 24 + 1, 0]
    stem, insert = what.insert_at(8 + 2)
    assert (stem, insert.effect) == ("bass", "compressor")
    assert what.insert_at(0) is None
    assert insert_number(STEMS.index("bass"), 1) == 8 + 2
