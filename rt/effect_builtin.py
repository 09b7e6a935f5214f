"""The effects that come with pedalboard, as a table: names, units, ranges, and how each value is moved.

The names are pedalboard's own. The ranges are narrower than what it accepts where the rest makes no sound
that a stage has a use for, or none that is bounded: a first-order filter set above half the rate, a phaser
fed back by more than 1 and a negative cutoff all run away to infinity. The defaults are for a stage.

How a value is moved was measured: the largest moves there are, of a sine of 110 Hz at -12 dBFS, by the
largest second difference of the output against that of the steady ends. Cross-faded (raised cosine, one hop,
five hops after the twin has the new value) it is at most 1.9 times as large for the cutoff of the peak filter
and 1.3 times for all others; so `blend` is the rule here.
ramp: what the effect smooths too (reverb, convolution): up to 2.6.  set: smoothed by the effect.  rebuild:
where the latency or the structure changes, and what moves a memory that is heard again (delays, feedback).
`freeze_mode` keeps no bound: the cut of its input goes into the loop that it holds, and a new reverb would
hold nothing.

tests/rt/test_effect_builtin.py holds the table against pedalboard, at 44.1 and at 48 kHz.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .effect_table import Change, Effect, EffectParameter, EffectTable, Value

HIGHEST_HZ = 20_000.0
"""Of every cutoff: pedalboard's first-order filters run away above half the rate, which is 22050 Hz here."""
QUALITIES = {
    "hold": "ZeroOrderHold",
    "linear": "Linear",
    "catmull-rom": "CatmullRom",
    "lagrange": "Lagrange",
    "sinc": "WindowedSinc",
    "sinc-64": "WindowedSinc64",
    "sinc-32": "WindowedSinc32",
    "sinc-16": "WindowedSinc16",
    "sinc-8": "WindowedSinc8",
}
"""Choices of `quality`, and the member of pedalboard.Resample.Quality that each is.

Without WindowedSinc256 and 128: from 44.1 to 8 kHz and back they take 9.0 and 5.2 of the 11.6 ms of a hop of
512 samples on one core of the development machine, the next one 3.0.
"""
SILENT_IN_STREAMS = frozenset({"gsm_full_rate_compressor", "pitch_shift"})
"""Effects from which a stream of hops gets nothing but silence: pedalboard 0.9.26 empties the delay line
before them at every call (spotify/pedalboard#415). They work where a whole sound is given in one call."""
LADDER_MODES = {
    "lowpass-12": "LPF12",
    "highpass-12": "HPF12",
    "bandpass-12": "BPF12",
    "lowpass-24": "LPF24",
    "highpass-24": "HPF24",
    "bandpass-24": "BPF24",
}
"""Choices of `mode`, and the member of pedalboard.LadderFilter.Mode that each is."""


def _number(
    name: str,
    limits: tuple[float, float],
    default: float,
    unit: str,
    doc: str,
    *,
    change: Change = "blend",
    neutral: float | None = None,
    is_log: bool = False,
) -> EffectParameter:
    return EffectParameter(
        name=name,
        doc=doc,
        unit=unit,
        lowest=limits[0],
        highest=limits[1],
        default=default,
        change=change,
        neutral=neutral,
        is_log=is_log,
    )


def _choice(name: str, choices: Iterable[str], default: Value, doc: str) -> EffectParameter:
    return EffectParameter(
        name=name, doc=doc, kind="choice", choices=tuple(choices), default=default, change="rebuild"
    )


def _switch(name: str, doc: str, change: Change) -> EffectParameter:
    return EffectParameter(name=name, doc=doc, kind="switch", default=False, change=change)


def _cutoff(name: str, default: float, doc: str, lowest: float = 20.0) -> EffectParameter:
    return _number(name, (lowest, HIGHEST_HZ), default, "Hz", doc, is_log=True)


def _mix(default: float, change: Change = "blend") -> EffectParameter:
    return _number(
        "mix", (0.0, 1.0), default, "", "0 what comes in, 1 the effect alone.", neutral=0.0, change=change
    )


def _times(attack_ms: float, release_ms: float) -> tuple[EffectParameter, EffectParameter]:
    return (
        _number("attack_ms", (0.1, 200.0), attack_ms, "ms", "Time to follow a rise.", is_log=True),
        _number("release_ms", (5.0, 2000.0), release_ms, "ms", "Time to follow a fall.", is_log=True),
    )


def _shelf_or_peak(cutoff_hz: float) -> tuple[EffectParameter, ...]:
    return (
        _cutoff("cutoff_frequency_hz", cutoff_hz, "Where it works: the middle of the slope or of the peak."),
        _number("gain_db", (-24.0, 24.0), 0.0, "dB", "How much is added or taken away.", neutral=0.0),
        _number("q", (0.1, 10.0), 0.707, "", "How narrow: 0.1 wide, 10 a notch.", is_log=True),
    )


_DYNAMICS: tuple[Effect, ...] = (
    Effect(
        key="brickwall_limiter",
        title="Brickwall limiter",
        doc="Keeps every sample under a ceiling, looking ahead; later by its look-ahead.",
        has_neutral=True,
        parameters=(
            _number(
                "ceiling_db",
                (-24.0, 12.0),
                -1.0,
                "dB",
                "No sample leaves above it.",
                neutral=12.0,
            ),
            _number("release_ms", (5.0, 2000.0), 100.0, "ms", "Time to come back up.", is_log=True),
            _number(
                "lookahead_ms",
                (0.5, 20.0),
                5.0,
                "ms",
                "How far it looks ahead: its latency.",
                change="rebuild",
            ),
            _switch("true_peak", "Look between the samples too.", "rebuild"),
        ),
    ),
    Effect(
        key="compressor",
        title="Compressor",
        doc="Turns down what is louder than a threshold.",
        has_neutral=True,
        parameters=(
            _number("threshold_db", (-60.0, 0.0), -18.0, "dB", "Where it begins."),
            _number(
                "ratio", (1.0, 20.0), 4.0, "", "dB over it that go in for one that comes out.", neutral=1.0
            ),
            *_times(5.0, 100.0),
        ),
    ),
    Effect(
        key="limiter",
        title="Limiter",
        doc="Two stages of compression, make-up gain, and a clip at full scale: louder, not safer.",
        parameters=(
            _number("threshold_db", (-30.0, 0.0), -6.0, "dB", "Where compression begins."),
            _number("release_ms", (5.0, 2000.0), 100.0, "ms", "Time to come back up.", is_log=True),
        ),
    ),
    Effect(
        key="noise_gate",
        title="Noise gate",
        doc="Turns down what is softer than a threshold.",
        has_neutral=True,
        parameters=(
            _number("threshold_db", (-100.0, 0.0), -50.0, "dB", "Below it, it closes."),
            _number("ratio", (1.0, 20.0), 10.0, "", "How steeply it closes.", neutral=1.0),
            *_times(1.0, 100.0),
        ),
    ),
)

_FILTERS: tuple[Effect, ...] = (
    Effect(
        key="high_shelf_filter",
        title="High shelf",
        doc="Lifts or lowers all above a frequency.",
        has_neutral=True,
        parameters=_shelf_or_peak(6000.0),
    ),
    Effect(
        key="highpass_filter",
        title="High-pass",
        doc="Takes away what is below a frequency, 6 dB an octave.",
        parameters=(_cutoff("cutoff_frequency_hz", 100.0, "Here it is 3 dB down."),),
    ),
    Effect(
        key="ladder_filter",
        title="Ladder filter",
        doc="A synthesiser's filter with resonance and drive: never clean.",
        parameters=(
            _choice("mode", LADDER_MODES, "lowpass-24", "What goes through, and how steep in dB an octave."),
            _cutoff("cutoff_hz", 1000.0, "Where it begins."),
            _number("resonance", (0.0, 1.0), 0.2, "", "Peak at the cutoff."),
            _number("drive", (1.0, 25.0), 1.0, "", "How hard it is driven."),
        ),
    ),
    Effect(
        key="low_shelf_filter",
        title="Low shelf",
        doc="Lifts or lowers all below a frequency.",
        has_neutral=True,
        parameters=_shelf_or_peak(120.0),
    ),
    Effect(
        key="lowpass_filter",
        title="Low-pass",
        doc="Takes away what is above a frequency, 6 dB an octave.",
        parameters=(_cutoff("cutoff_frequency_hz", 8000.0, "Here it is 3 dB down."),),
    ),
    Effect(
        key="peak_filter",
        title="Peak",
        doc="Lifts or lowers a band around a frequency.",
        has_neutral=True,
        parameters=_shelf_or_peak(1000.0),
    ),
)

_MODULATION: tuple[Effect, ...] = (
    Effect(
        key="chorus",
        title="Chorus",
        doc="Adds copies whose delay sways: wider, or a flanger with a short delay and feedback.",
        has_neutral=True,
        parameters=(
            _number("rate_hz", (0.05, 20.0), 1.0, "Hz", "How fast it sways.", is_log=True),
            _number("depth", (0.0, 1.0), 0.25, "", "How far it sways."),
            _number(
                "centre_delay_ms", (1.0, 50.0), 7.0, "ms", "The delay it sways around.", change="rebuild"
            ),
            _number("feedback", (-0.95, 0.95), 0.0, "", "How much of its output comes back in."),
            _mix(0.5),
        ),
    ),
    Effect(
        key="phaser",
        title="Phaser",
        doc="Notches that sweep up and down.",
        has_neutral=True,
        parameters=(
            _number("rate_hz", (0.05, 20.0), 0.5, "Hz", "How fast it sweeps.", is_log=True),
            _number("depth", (0.0, 1.0), 0.5, "", "How far it sweeps."),
            _number(
                "centre_frequency_hz", (50.0, 10000.0), 1300.0, "Hz", "It sweeps around it.", is_log=True
            ),
            _number("feedback", (-0.9, 0.9), 0.0, "", "How sharp the notches are."),
            _mix(0.5),
        ),
    ),
)

_ROOM: tuple[Effect, ...] = (
    Effect(
        key="convolution",
        title="Convolution",
        doc="The room or loudspeaker of an impulse response.",
        has_neutral=True,
        parameters=(
            _choice("impulse", (), "", "The impulse response, a sound file of the configured folder."),
            _mix(0.3, "ramp"),
        ),
    ),
    Effect(
        key="delay",
        title="Delay",
        doc="Echoes.",
        has_neutral=True,
        parameters=(
            _number("delay_seconds", (0.01, 2.0), 0.375, "s", "Time between echoes.", change="rebuild"),
            _number(
                "feedback", (0.0, 0.95), 0.35, "", "How much of each echo comes again.", change="rebuild"
            ),
            _mix(0.3),
        ),
    ),
    Effect(
        key="reverb",
        title="Reverb",
        doc="A room, after Freeverb.",
        has_neutral=True,
        parameters=(
            _number("room_size", (0.0, 1.0), 0.5, "", "How long it rings.", change="ramp"),
            _number("damping", (0.0, 1.0), 0.5, "", "How fast the highs go.", change="set"),
            _number("wet_level", (0.0, 1.0), 0.15, "", "How loud the room is.", change="ramp", neutral=0.0),
            _number(
                "dry_level",
                (0.0, 1.0),
                0.5,
                "",
                "How loud the sound itself is: 0.5 as it came, 1 twice that.",
                change="ramp",
                neutral=0.5,
            ),
            _number("width", (0.0, 1.0), 1.0, "", "How wide the room is.", change="ramp"),
            _switch("freeze_mode", "Hold what rings, for ever.", "set"),
        ),
    ),
)

_LEVEL_AND_DIRT: tuple[Effect, ...] = (
    Effect(
        key="bitcrush",
        title="Bitcrush",
        doc="Fewer bits a sample.",
        has_neutral=True,
        parameters=(_number("bit_depth", (1.0, 24.0), 8.0, "bit", "Bits left.", neutral=24.0),),
    ),
    Effect(
        key="clipping",
        title="Clipping",
        doc="Cuts off what is over a threshold.",
        has_neutral=True,
        parameters=(_number("threshold_db", (-48.0, 12.0), -6.0, "dB", "Where it cuts.", neutral=12.0),),
    ),
    Effect(
        key="distortion",
        title="Distortion",
        doc="A soft curve (tanh) that is driven.",
        parameters=(_number("drive_db", (0.0, 48.0), 12.0, "dB", "How hard."),),
    ),
    Effect(
        key="gain",
        title="Gain",
        doc="Louder or softer.",
        has_neutral=True,
        parameters=(_number("gain_db", (-60.0, 24.0), 0.0, "dB", "How much.", neutral=0.0),),
    ),
    Effect(key="invert", title="Invert", doc="Turns the wave upside down."),
)

_CODECS: tuple[Effect, ...] = (
    Effect(
        key="gsm_full_rate_compressor",
        title="GSM telephone",
        doc="A mobile phone of the nineties: 8 kHz, mono, and its codec.",
        parameters=(_choice("quality", QUALITIES, "sinc-8", "How it gets to 8 kHz and back."),),
    ),
    Effect(
        key="mp3_compressor",
        title="MP3",
        doc="What an MP3 encoder leaves.",
        parameters=(
            _number("vbr_quality", (0.0, 9.5), 2.0, "", "0 the best, 9.5 the worst.", change="rebuild"),
        ),
    ),
    Effect(
        key="pitch_shift",
        title="Pitch shift",
        doc="Higher or lower in pitch at the same speed; late by a tenth of a second and more.",
        parameters=(
            _number("semitones", (-24.0, 24.0), 0.0, "semitones", "How far.", change="rebuild", neutral=0.0),
        ),
    ),
    Effect(
        key="resample",
        title="Resample",
        doc="Down to a lower rate and back: what an old sampler does.",
        parameters=(
            _number(
                "target_sample_rate",
                (1000.0, 44100.0),
                8000.0,
                "Hz",
                "The lower rate.",
                change="rebuild",
                is_log=True,
            ),
            _choice("quality", QUALITIES, "sinc-8", "How it gets there and back."),
        ),
    ),
)

BUILT_IN = EffectTable([*_DYNAMICS, *_FILTERS, *_MODULATION, *_ROOM, *_LEVEL_AND_DIRT, *_CODECS])
"""All of pedalboard's own effects. Convolution has no impulse: `with_impulses` gives it those there are."""

_IRREGULAR = {"gsm_full_rate_compressor": "GSMFullRateCompressor", "mp3_compressor": "MP3Compressor"}


def class_name(key: str) -> str:
    """Return the name that pedalboard gives the class of a built-in effect.

    >>> class_name("high_shelf_filter")
    'HighShelfFilter'
    """
    return _IRREGULAR.get(key) or "".join(word.capitalize() for word in BUILT_IN[key].key.split("_"))


def enum_member(effect: str, parameter: str, choice: str) -> str:
    """Return the member of pedalboard's enumeration (Resample.Quality, LadderFilter.Mode) for a choice.

    >>> enum_member("ladder_filter", "mode", "lowpass-24")
    'LPF24'
    """
    BUILT_IN[effect][parameter].checked(choice)
    return (LADDER_MODES if parameter == "mode" else QUALITIES)[choice]


def with_impulses(table: EffectTable, names: Iterable[str]) -> EffectTable:
    """Return the table with these impulses for convolution; without convolution if there are none."""
    names = tuple(names)
    if not names:
        return EffectTable(e for e in table if e.key != "convolution")

    def filled(effect: Effect) -> Effect:
        if effect.key != "convolution":
            return effect
        parameters = (
            replace(p, choices=names, default=names[0]) if p.name == "impulse" else p
            for p in effect.parameters
        )
        return replace(effect, parameters=tuple(parameters))

    return EffectTable(filled(e) for e in table)
