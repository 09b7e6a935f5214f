"""Effects that sound: values and states of real plugins, texts of what cannot be had, measured latencies."""

import base64

import numpy as np
import pytest
from effect_rig import HOP, RATE_HZ, Fake, fake_effect, noise
from pedalboard import ExternalPluginReloadType
from vst3_plugins import hostile_plugins, real_plugins

from stemrack.rt import effect_host
from stemrack.rt.effect_builtin import BUILT_IN, with_impulses
from stemrack.rt.effect_host import Latency, Processor, latency_of, measured_latency, names_in, set_values
from stemrack.rt.effect_table import Effect, EffectParameter
from stemrack.rt.errors import EffectError
from stemrack.rt.plugin_probe import opened, parameters_of

KEYS = [e.key for e in BUILT_IN if e.key != "convolution"]
LATE = {"brickwall_limiter": 220, "resample": 109, "mp3_compressor": 3481, "gsm_full_rate_compressor": 2010}
"""Samples at 44.1 kHz in hops of 512; the pitch shifter's are not round a number worth keeping."""


def effect_of(path):
    """Return what a scan would put into the table for a plugin."""
    (name,) = names_in(str(path))
    plugin = opened(str(path), name)
    parameters = tuple(EffectParameter(**facts) for facts in parameters_of(plugin))
    return Effect(key=name, title=name, doc="", plugin=str(path), plugin_name=name, parameters=parameters)


@pytest.fixture(scope="module")
def mverb():
    return effect_of(real_plugins()["MVerb"])


@pytest.fixture(scope="module")
def latent():
    return effect_of(hostile_plugins()["Latent"])


def made(effect, state="", **values):
    return Processor(effect, effect.defaults | values, rate_hz=RATE_HZ, block_samples=HOP, state=state)


def raw(effect, processor):
    """Return the plugin's own values by name, as it shows them."""
    return {name: float(p.raw_value) for name, p in processor._raw.items() if name in effect.defaults}


def played(processor, x):
    hops = [processor.process(x[:, i : i + HOP]) for i in range(0, x.shape[1], HOP)]
    return np.concatenate(hops, axis=1)


# -- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level_db", [-60.0, -20.0, -6.0, 0.0, 3.3, 12.0])
def test_a_plugins_value_is_set_as_the_table_says_it(latent, level_db):
    plugin = made(latent, level_db=level_db)
    played(plugin, noise(8))
    x = noise(8, seed=2)
    y = played(plugin, x)
    ratio_db = 20.0 * np.log10(np.abs(y[:, 4 * HOP :]).sum() / np.abs(x[:, : 4 * HOP]).sum())
    assert ratio_db == pytest.approx(level_db, abs=0.01)


def test_every_number_of_a_plugin_is_read_back_over_its_whole_range(mverb):
    plugin = made(mverb)
    numbers = [p for p in mverb.parameters if p.kind == "number"]
    assert len(numbers) >= 8
    for parameter in numbers:
        for share in (0.0, 0.125, 0.5, 0.77, 1.0):
            value = parameter.lowest + share * (parameter.highest - parameter.lowest)
            inner = plugin.inner(parameter, value)
            plugin.set(parameter.name, inner)
            shown = float(getattr(plugin._plugin, parameter.name))
            assert shown == pytest.approx(value, abs=0.005 * (parameter.highest - parameter.lowest))


def test_values_of_a_plugin_without_a_processor_are_set_to_the_same(mverb):
    values = {
        p.name: p.lowest + 0.77 * (p.highest - p.lowest) for p in mverb.parameters if p.kind == "number"
    }
    plugin = opened(mverb.plugin, mverb.plugin_name)
    set_values(plugin, mverb, values)
    shown = {p.name: float(p.raw_value) for p in plugin._parameters}
    expected = raw(mverb, made(mverb, **values))
    assert {name: shown[mverb[name].doc] for name in values} == {name: expected[name] for name in values}


def test_values_take_effect_at_the_next_block(latent):
    plugin = made(latent)
    x = noise(16)
    before = played(plugin, x)
    plugin.set("level_db", plugin.inner(latent["level_db"], -20.0))
    after = played(plugin, x)
    np.testing.assert_allclose(after[:, 2048:], 0.1 * x[:, :-2048], atol=1e-4)
    assert before.shape == after.shape


@pytest.mark.parametrize("key", KEYS)
def test_built_in_effects_take_their_values_as_they_are(key):
    effect = BUILT_IN[key]
    processor = Processor(effect, effect.neutral, rate_hz=RATE_HZ, block_samples=HOP)
    for parameter in effect.parameters:
        if parameter.kind == "number":
            inner = processor.inner(parameter, parameter.highest)
            processor.set(parameter.name, inner)
            shown = getattr(processor._plugin, parameter.name)
            assert shown == pytest.approx(parameter.highest, rel=1e-5), parameter.name


def test_a_choice_is_set_by_its_short_name():
    ladder = BUILT_IN["ladder_filter"]
    processor = Processor(
        ladder, ladder.defaults | {"mode": "highpass-12"}, rate_hz=RATE_HZ, block_samples=HOP
    )
    assert processor._plugin.mode.name == "HPF12"


# -- state --------------------------------------------------------------------------------------------------


def test_a_state_goes_round(mverb):
    first = made(mverb, decay=83.0, damping=12.0)
    played(first, noise(1))  # it has what it was set to only then
    state = base64.b64encode(first._plugin.raw_state).decode()
    again = Processor(mverb, {}, rate_hz=RATE_HZ, block_samples=HOP, state=state)
    assert raw(mverb, again) == pytest.approx(raw(mverb, first), abs=1e-6)
    assert raw(mverb, again) != pytest.approx(raw(mverb, made(mverb)), abs=1e-6)


def test_values_hold_against_a_state(latent):
    first = made(latent, level_db=-30.0)
    played(first, noise(1))
    state = base64.b64encode(first._plugin.raw_state).decode()
    assert raw(latent, Processor(latent, {}, rate_hz=RATE_HZ, block_samples=HOP, state=state)) == {
        "level_db": pytest.approx(30.0 / 72.0, abs=1e-4)
    }
    both = made(latent, state=state, level_db=-6.0)
    assert raw(latent, both)["level_db"] == pytest.approx(54.0 / 72.0, abs=1e-4)


def test_reset_forgets_the_sound_and_keeps_the_values(mverb):
    plugin = made(mverb, decay=90.0)
    before = raw(mverb, plugin)
    played(plugin, noise(20))
    assert np.abs(played(plugin, np.zeros((2, HOP), np.float32))).max() > 1e-4
    plugin.reset()
    assert np.abs(played(plugin, np.zeros((2, 10 * HOP), np.float32))).max() < 1e-9
    assert raw(mverb, plugin) == before


# -- pedalboard's parameters ---------------------------------------------------------------------------------


class FakeRaw:
    """One of pedalboard's own parameters, from 0 to 1, of a plugin that reads numbers."""

    def __init__(self, name, raw_value=0.0):
        self.name, self.raw_value = name, raw_value

    def get_raw_value_for_text(self, text):
        return float(text)

    def get_text_for_raw_value(self, raw):
        return str(raw)


class FakePlugin:
    """A plugin that pedalboard makes anew to reset it: its parameters are others from then on."""

    def __init__(self, *names):
        self._parameters = [FakeRaw(name) for name in names]

    def reset(self):
        self._parameters = [FakeRaw(p.name, p.raw_value) for p in self._parameters]


def processor_of(monkeypatch, plugin):
    """Return the effect that plays a fake plugin; its parameter `mix` is the plugin's Mix."""
    monkeypatch.setattr(effect_host, "opened", lambda path, name, **_: plugin)
    mix = EffectParameter(name="mix", doc="Mix", lowest=0.0, highest=1.0)
    return made(Effect(key="anew", title="", doc="", plugin="anew.vst3", parameters=(mix,)), mix=0.5)


def test_values_reach_a_plugin_that_was_made_anew_by_a_reset(monkeypatch):
    plugin = FakePlugin("Mix", "Other")
    processor = processor_of(monkeypatch, plugin)
    processor.reset()
    assert [p.raw_value for p in plugin._parameters] == [0.5, 0.0]
    processor.set("mix", 0.75)
    assert [p.raw_value for p in plugin._parameters] == [0.75, 0.0]


def test_values_reach_a_real_plugin_that_was_made_anew_by_a_reset(mverb):
    plugin = made(mverb, decay=83.0)
    plugin._plugin._reload_type = ExternalPluginReloadType.PersistsAudioOnReset
    played(plugin, noise(1))
    plugin.reset()
    assert float(plugin._plugin.decay) == pytest.approx(83.0, abs=0.5)
    plugin.set("decay", plugin.inner(mverb["decay"], 12.0))
    assert float(plugin._plugin.decay) == pytest.approx(12.0, abs=0.5)


def test_a_plugin_that_lacks_a_parameter_after_a_reset_is_an_error_of_the_effect(monkeypatch):
    plugin = FakePlugin("Mix")
    processor = processor_of(monkeypatch, plugin)
    plugin._parameters[0].name = "Blend"
    with pytest.raises(EffectError, match="anew has no mix any more"):
        processor.reset()


def test_of_two_parameters_of_one_name_the_first_is_set_as_pedalboard_does(monkeypatch):
    plugin = FakePlugin("Mix", "Other", "Mix")
    processor_of(monkeypatch, plugin)
    assert [p.raw_value for p in plugin._parameters] == [0.5, 0.0, 0.0]


# -- what cannot be had -------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_named(tmp_path):
    gone = Effect(key="lost", title="Lost", doc="", plugin=str(tmp_path / "lost.vst3"))
    with pytest.raises(EffectError, match=r"^lost cannot be loaded: .*lost\.vst3"):
        made(gone)


def test_a_file_that_is_no_plugin_is_named(tmp_path):
    (tmp_path / "text.vst3").write_text("no plugin")
    effect = Effect(key="text", title="Text", doc="", plugin=str(tmp_path / "text.vst3"))
    with pytest.raises(EffectError, match=r"^text cannot be loaded: ."):
        made(effect)


@pytest.mark.parametrize("state", ["no base64!", "AAA", "\u00e4\u00f6"])
def test_a_state_that_is_no_base64_is_refused(latent, state):
    with pytest.raises(EffectError, match=r"^Latent cannot be loaded: ."):
        made(latent, state=state)


def test_a_state_that_the_plugin_does_not_know_leaves_its_values(latent):
    rubbish = base64.b64encode(b"rubbish").decode()
    assert raw(latent, made(latent, state=rubbish)) == raw(latent, made(latent))


def test_a_value_that_the_plugin_has_not_is_an_error_of_the_effect(latent):
    """The file is another than the one that was scanned, by a hair."""
    extra = EffectParameter(name="extra", doc="", lowest=0.0, highest=1.0)
    effect = Effect(
        key="Latent", title="", doc="", plugin=latent.plugin, plugin_name="Latent", parameters=(extra,)
    )
    with pytest.raises(EffectError, match=r"Latent.*extra"):
        made(effect)


def test_an_impulse_that_the_configuration_has_not_is_an_error_of_the_effect():
    with pytest.raises(EffectError, match=r"^convolution: 'room' was not found: look at \[effects\]"):
        made(with_impulses(BUILT_IN, ["room"])["convolution"])


def test_an_impulse_whose_file_is_gone_is_an_error_of_the_effect(tmp_path):
    effect = with_impulses(BUILT_IN, ["room"])["convolution"]
    gone = tmp_path / "room.wav"
    with pytest.raises(EffectError, match=r"convolution.*room\.wav"):
        Processor(effect, effect.defaults, rate_hz=RATE_HZ, block_samples=HOP, impulse=gone)


# -- latency ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in KEYS if key != "pitch_shift"])
def test_the_latency_of_built_in_effects_is_measured(key):
    effect = BUILT_IN[key]
    processor = Processor(effect, effect.neutral, rate_hz=RATE_HZ, block_samples=HOP)
    assert measured_latency(processor, block_samples=HOP).samples == LATE.get(key, 0)


@pytest.mark.parametrize(("ms", "samples"), [(0.5, 22), (5.0, 220), (20.0, 882)])
def test_the_look_ahead_of_a_limiter_is_its_latency(ms, samples):
    effect = BUILT_IN["brickwall_limiter"]
    values = effect.neutral | {"lookahead_ms": ms}
    processor = Processor(effect, values, rate_hz=RATE_HZ, block_samples=HOP)
    assert measured_latency(processor, block_samples=HOP) == Latency(held=samples)


@pytest.mark.parametrize("block", [128, 512])
def test_the_latency_of_plugins_is_measured(latent, mverb, block):
    for effect, samples in ((latent, 2048), (mverb, 0)):
        processor = Processor(effect, effect.defaults, rate_hz=RATE_HZ, block_samples=block)
        assert measured_latency(processor, block_samples=block).samples == samples


def test_after_it_was_measured_a_plugin_gives_all_that_late(latent):
    plugin = made(latent)
    latency = measured_latency(plugin, block_samples=HOP)
    x = noise(12)
    y = played(plugin, x)
    given = np.concatenate([np.zeros((2, latency.samples), np.float32), y], axis=1)[:, : x.shape[1]]
    np.testing.assert_allclose(given[:, 2048:], x[:, :-2048], atol=1e-6)


def delayed(samples):
    """Return a fake that is late by itself, without holding back."""
    memory = [np.zeros((2, samples), np.float32)]

    def answers(call, y):
        both = np.concatenate([memory[0], y], axis=1)
        memory[0] = both[:, y.shape[1] :]
        return both[:, : y.shape[1]]

    fake = Fake(fake_effect())
    fake.answers = answers
    return fake


@pytest.mark.parametrize(
    ("samples", "shift"), [(0, 0), (7, 0), (8, 8), (1000, 1000), (4096, 4096), (4097, 0)]
)
def test_a_single_late_answer_is_latency_unless_it_is_a_filters_phase_or_an_echo(samples, shift):
    assert measured_latency(delayed(samples), block_samples=2048) == Latency(held=0, shift=shift)


def test_an_echo_is_no_latency():
    answer = np.zeros((2, 4000), np.float32)
    answer[:, 300] = 1.0
    assert latency_of([answer], 4000) == Latency(shift=300)
    answer[:, 0] = 1.0
    answer[:, 900] = 0.5
    assert latency_of([answer], 4000) == Latency()
    assert latency_of([np.zeros((2, 4000))], 4000) == Latency()
    assert latency_of([np.zeros((2, 0))], 4000) == Latency(held=4000)


def test_an_answer_that_is_smeared_begins_at_once():
    fake = Fake(fake_effect(), held=300)
    kernel = np.hanning(64)
    fake.answers = lambda call, y: np.stack([np.convolve(c, kernel)[: y.shape[1]] for c in y])
    assert measured_latency(fake, block_samples=1024) == Latency(held=300)


def test_a_silent_effect_has_no_shift():
    fake = Fake(fake_effect(), {"gain": 0.0}, held=300)
    assert measured_latency(fake, block_samples=HOP) == Latency(held=300)


def test_one_that_is_not_finite_can_be_measured():
    fake = Fake(fake_effect(), held=300)
    fake.answers = lambda call, y: y * np.float32(np.nan)
    assert measured_latency(fake, block_samples=HOP) == Latency(held=300)


def test_a_shift_is_latency_too():
    assert Latency(held=300, shift=8).samples == 308
