"""The table of built-in effects, held against pedalboard itself."""

import numpy as np
import pedalboard
import pytest

from stemrack.rt.effect_builtin import (
    BUILT_IN,
    SILENT_IN_STREAMS,
    class_name,
    enum_member,
    with_impulses,
)
from stemrack.rt.errors import ConfigError

HOP = 512
RATES_HZ = (44100, 48000)
NOT_EFFECTS = {"Chain", "Mix", "IIRFilter", "ExternalPlugin", "VST3Plugin", "AudioUnitPlugin"}
CONTAINERS = {"Pedalboard", "PluginContainer"}
LOUDEST = 128.0
"""24 dB are 16 at full scale; what overshoots and feeds back stays under eight times that."""
KEYS = [effect.key for effect in BUILT_IN]
NUMBERS = [(e.key, p.name) for e in BUILT_IN for p in e.parameters if p.kind == "number"]


def impulse_response():
    x = np.random.default_rng(5).standard_normal((2, 4000)) * np.exp(-np.arange(4000) / 800.0)
    return x.astype(np.float32)


def native(key, name, value):
    """Return a value of the table as pedalboard takes it."""
    if BUILT_IN[key][name].kind != "choice":
        return value
    kinds = pedalboard.LadderFilter.Mode if name == "mode" else pedalboard.Resample.Quality
    return getattr(kinds, enum_member(key, name, value))


def new_effect(key, **values):
    """Return pedalboard's effect with the table's defaults and these values."""
    kind = getattr(pedalboard, class_name(key))
    made = kind(impulse_response(), sample_rate=44100.0) if key == "convolution" else kind()
    for name, value in {**BUILT_IN[key].defaults, **values}.items():
        if name != "impulse":
            setattr(made, name, native(key, name, value))
    return made


def played(effect, x, rate_hz):
    """Return what a stream in hops gives."""
    hops = [effect.process(x[:, i : i + HOP], rate_hz, HOP, False) for i in range(0, x.shape[1], HOP)]
    return np.concatenate(hops, axis=1)


def noise(n_hops, seed=1):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (2, n_hops * HOP)).astype(np.float32)


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_effect_of_pedalboard_is_in_the_table_and_nothing_else():
    public = {k.__name__ for k in subclasses(pedalboard.Plugin) if "_internal" not in k.__module__}
    assert {class_name(key) for key in KEYS} == public - NOT_EFFECTS - CONTAINERS


@pytest.mark.parametrize("key", KEYS)
def test_its_parameters_are_all_that_pedalboard_lets_us_set(key):
    kind = getattr(pedalboard, class_name(key))
    settable = {n for n, p in vars(kind).items() if isinstance(p, property) and p.fset is not None}
    if key in ("high_shelf_filter", "low_shelf_filter", "peak_filter"):
        settable |= {"cutoff_frequency_hz", "gain_db", "q"}  # where pedalboard keeps them is its own affair
        assert all(hasattr(kind, name) for name in settable)
    if key == "convolution":
        settable.add("impulse")  # ours: pedalboard takes it once, when it is made
    assert {p.name for p in BUILT_IN[key].parameters} == settable


@pytest.mark.parametrize("key", KEYS)
def test_each_says_what_it_is_and_its_own_values_are_in_range(key):
    effect = BUILT_IN[key]
    assert effect.title
    assert effect.doc.endswith(".")
    for parameter in effect.parameters:
        assert parameter.doc.endswith("."), parameter.name
        if parameter.name == "impulse":
            continue
        assert parameter.checked(effect.defaults[parameter.name]) == parameter.default
        assert parameter.checked(effect.neutral[parameter.name]) is not None
        if parameter.kind == "number":
            assert -np.inf < parameter.lowest < parameter.highest < np.inf
            assert parameter.change != "set" or "blend" not in {p.change for p in effect.parameters}
        assert not parameter.is_log or parameter.lowest > 0.0


def test_units_are_those_of_the_names():
    of_suffix = {"_hz": "Hz", "_db": "dB", "_ms": "ms", "_seconds": "s"}
    for key, name in NUMBERS:
        for suffix, unit in of_suffix.items():
            assert not name.endswith(suffix) or BUILT_IN[key][name].unit == unit


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("key", KEYS)
def test_the_limits_of_each_value_are_taken_and_bounded(key, rate_hz):
    x = noise(40)
    for name, parameter in ((p.name, p) for p in BUILT_IN[key].parameters if p.name != "impulse"):
        at_ends = (parameter.lowest, parameter.highest) if parameter.kind == "number" else parameter.choices
        for value in (*at_ends, *((False, True) if parameter.kind == "switch" else ())):
            effect = new_effect(key, **{name: value})
            held, given = getattr(effect, name), native(key, name, value)
            assert held == given if parameter.kind != "number" else held == pytest.approx(given, rel=1e-5), (
                name
            )
            y = played(effect, x, rate_hz)
            assert np.isfinite(y).all(), (name, value)
            assert np.abs(y).max(initial=0.0) < LOUDEST, (name, value)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("end", ["lowest", "highest"])
def test_all_values_at_one_end_are_bounded_and_leave_nothing_that_grows(key, rate_hz, end):
    values = {p.name: getattr(p, end) for p in BUILT_IN[key].parameters if p.kind == "number"}
    if key == "delay":
        values["delay_seconds"] = 0.01  # so that the feedback comes round often
    effect = new_effect(key, **values)
    y = played(effect, noise(60), rate_hz)
    rest = played(effect, np.zeros((2, 60 * HOP), np.float32), rate_hz)
    assert np.isfinite(y).all()
    assert np.abs(y).max(initial=0.0) < LOUDEST
    assert np.abs(rest[:, 30 * HOP :]).max(initial=0.0) <= np.abs(rest[:, : 30 * HOP]).max(initial=0.0)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("key", [e.key for e in BUILT_IN if e.has_neutral])
def test_neutral_gives_back_what_came_in(key, rate_hz):
    neutral = {n: v for n, v in BUILT_IN[key].neutral.items() if n != "impulse"}
    x = noise(30, seed=2)
    y = played(new_effect(key, **neutral), x, rate_hz)
    assert y.shape[1] >= 25 * HOP  # what it held back is its whole latency: the rest is aligned
    np.testing.assert_allclose(y, x[:, : y.shape[1]], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("key", [e.key for e in BUILT_IN if not e.has_neutral])
def test_the_others_do_change_what_comes_in(key):
    neutral = {n: v for n, v in BUILT_IN[key].neutral.items() if n != "impulse"}
    x = noise(200, seed=2)
    y = played(new_effect(key, **neutral), x, 44100)
    assert np.abs(y - x[:, : y.shape[1]]).max() > 1e-2


@pytest.mark.parametrize("key", KEYS)
def test_only_two_give_silence_in_a_stream(key):
    """pedalboard 0.9.26 empties their delay line at every call (spotify/pedalboard#415)."""
    n = 260 * HOP
    x = np.tile(0.25 * np.sin(2 * np.pi * 440.0 / 44100.0 * np.arange(n)), (2, 1)).astype(np.float32)
    x = played(new_effect(key), x, 44100)[:, -20 * HOP :]
    assert (np.abs(x).max() < 1e-3) == (key in SILENT_IN_STREAMS)


@pytest.mark.parametrize("key", [k for k in KEYS if k not in SILENT_IN_STREAMS])
def test_hops_cut_into_parts_sound_the_same(key):
    """`ramp` cuts a hop into parts of 32 samples; pedalboard must not start again for that."""
    x = noise(12, seed=3)
    whole, cut = new_effect(key), new_effect(key)
    y = played(whole, x, 44100)
    parts = [cut.process(x[:, :HOP], 44100, HOP, False)]
    parts += [cut.process(x[:, i : i + 32], 44100, HOP, False) for i in range(HOP, x.shape[1], 32)]
    z = np.concatenate(parts, axis=1)
    n = min(y.shape[1], z.shape[1])
    assert n >= 4 * HOP
    np.testing.assert_allclose(z[:, :n], y[:, :n], rtol=0.0, atol=1e-5)


def test_impulses_are_the_choices_of_convolution():
    table = with_impulses(BUILT_IN, ["hall", "spring"])
    impulse = table["convolution"]["impulse"]
    assert impulse.choices == ("hall", "spring")
    assert impulse.default == "hall"
    assert [e.key for e in table] == KEYS
    assert BUILT_IN["convolution"]["impulse"].choices == ()


def test_there_is_no_convolution_without_an_impulse():
    table = with_impulses(BUILT_IN, [])
    assert "convolution" not in table
    assert [e.key for e in table] == [key for key in KEYS if key != "convolution"]


def test_class_names_are_of_effects_of_the_table():
    assert class_name("gsm_full_rate_compressor") == "GSMFullRateCompressor"
    assert class_name("highpass_filter") == "HighpassFilter"
    with pytest.raises(ConfigError, match="there is no effect 'lfo'"):
        class_name("lfo")


def test_choices_are_members_of_pedalboards_enumerations():
    for key, name, kind in (
        ("ladder_filter", "mode", pedalboard.LadderFilter.Mode),
        ("resample", "quality", pedalboard.Resample.Quality),
    ):
        choices = BUILT_IN[key][name].choices
        missing = set(kind.__members__) - {enum_member(key, name, c) for c in choices}
        assert missing == ({"WindowedSinc256", "WindowedSinc128"} if name == "quality" else set())  # too slow
    with pytest.raises(ConfigError, match="must be one of"):
        enum_member("ladder_filter", "mode", "lpf")
