"""Effects of a studio, drawn at random: the colour that a recorded stem has (pedalboard's home).

Everything works on (2, n) float32 at the model's rate, keeps the length and about the level (RMS), and
takes its chances from the generator it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pedalboard as pb

from ..errors import SpecError
from ..stems import MODEL_RATE_HZ

KINDS = ("drums", "bass", "guitar", "other", "vocals", "room")
Chain = list[pb.Plugin]


def rms(x: np.ndarray) -> float:
    """Return the root mean square over all samples, 0 for silence.

    >>> round(rms(np.ones((2, 10), np.float32)), 6)
    1.0
    """
    return float(np.sqrt(np.mean([np.dot(row, row) / row.size for row in x]))) if x.size else 0.0


def level_to(x: np.ndarray, target_rms: float) -> np.ndarray:
    """Return x scaled to an RMS; silence stays silence."""
    now = rms(x)
    if now < 1e-8 or abs(target_rms / now - 1.0) < 1e-5:
        return x
    return x * np.float32(target_rms / now)


def _run(x: np.ndarray, chain: Chain, *, spreads: bool = False) -> np.ndarray:
    """Return x through plugins, as long as x and at its level.

    Equal channels are worked on once, unless the chain makes stereo of them (`spreads`: reverbs do).
    """
    if not chain:
        return x
    once = not spreads and np.array_equal(x[0], x[1])
    y = pb.Pedalboard(chain)(np.ascontiguousarray(x[:1] if once else x, np.float32), MODEL_RATE_HZ)
    y = np.repeat(y[:, : x.shape[1]], 2, axis=0) if once else y[:, : x.shape[1]]
    if y.shape[1] < x.shape[1]:
        y = np.pad(y, ((0, 0), (0, x.shape[1] - y.shape[1])))
    if not np.isfinite(rms(y)):  # a filter that blew up must not reach a shard
        y = x
    return level_to(y, rms(x))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _equaliser(rng: np.random.Generator, low_hz: float, high_hz: float, spread_db: float) -> Chain:
    """Return shelves at both ends and up to three bells between them."""
    chain: Chain = [
        pb.LowShelfFilter(_log_uniform(rng, 60, 250), float(rng.normal(0, spread_db)), 0.7),
        pb.HighShelfFilter(_log_uniform(rng, 2500, 9000), float(rng.normal(0, spread_db)), 0.7),
    ]
    for _ in range(int(rng.integers(0, 4))):
        frequency_hz = _log_uniform(rng, low_hz, high_hz)
        chain.append(
            pb.PeakFilter(frequency_hz, float(rng.normal(0, spread_db)), _log_uniform(rng, 0.5, 3.0))
        )
    return chain


def _compressor(x: np.ndarray, rng: np.random.Generator, depth_db: float) -> Chain:
    """Return a compressor whose threshold lies around the signal's own level."""
    level_db = 20 * np.log10(max(rms(x), 1e-6))
    return [
        pb.Compressor(
            threshold_db=float(level_db + rng.uniform(2, 8) - depth_db),
            ratio=_log_uniform(rng, 1.5, 8.0),
            attack_ms=_log_uniform(rng, 1, 40),
            release_ms=_log_uniform(rng, 40, 400),
        )
    ]


def saturate(x: np.ndarray, drive: float) -> np.ndarray:
    """Return tanh saturation at the level of x; `drive` 1 is barely heard, 10 is fuzz."""
    level = rms(x)
    if level < 1e-8:
        return x
    return level_to(np.tanh(x * np.float32(drive * 0.25 / level)), level)


def room_impulse(rng: np.random.Generator, decay_s: float, *, damping_hz: float = 6000.0) -> np.ndarray:
    """Return a stereo impulse response of a made-up room: early reflections, then decaying noise.

    Shape: (2, n) float32, n = `decay_s` at the model's rate (60 dB of decay in that time).
    """
    n_samples = max(64, int(decay_s * MODEL_RATE_HZ))
    t = np.arange(n_samples) / n_samples
    tail = rng.standard_normal((2, n_samples)) * 10 ** (-3.0 * t)
    predelay = int(rng.uniform(0.001, 0.02) * MODEL_RATE_HZ)
    tail[:, : min(predelay, n_samples)] = 0.0
    for _ in range(int(rng.integers(4, 10))):
        at = int(min(rng.uniform(0.002, 0.06) * MODEL_RATE_HZ, n_samples - 1))
        tail[:, at] += rng.standard_normal(2) * 8.0
    damped = pb.Pedalboard([pb.LowpassFilter(damping_hz), pb.HighpassFilter(120.0)])(
        tail.astype(np.float32), MODEL_RATE_HZ
    )
    return damped / np.float32(np.sqrt(np.sum(np.square(damped)) / 2) + 1e-9)


def reverberate(
    x: np.ndarray, rng: np.random.Generator, wet_db: float, impulses: Sequence[Path] = ()
) -> np.ndarray:
    """Return x with a reverb `wet_db` beside it: a recorded, made-up or computed room."""
    choice = rng.random()
    plugin: pb.Plugin
    if impulses and choice < 0.35:
        path = impulses[int(rng.integers(len(impulses)))]
        plugin = pb.Convolution(str(path), mix=1.0)
    elif choice < 0.75:
        room = room_impulse(rng, _log_uniform(rng, 0.15, 1.6), damping_hz=_log_uniform(rng, 2500, 12000))
        plugin = pb.Convolution(room, mix=1.0, sample_rate=MODEL_RATE_HZ)
    else:
        plugin = pb.Reverb(
            room_size=float(rng.uniform(0.1, 0.9)),
            damping=float(rng.uniform(0.1, 0.9)),
            wet_level=1.0,
            dry_level=0.0,
            width=float(rng.uniform(0.5, 1.0)),
        )
    chain: Chain = [plugin, pb.HighpassFilter(_log_uniform(rng, 80, 400))]
    if rng.random() < 0.5:
        chain.append(pb.LowpassFilter(_log_uniform(rng, 3000, 12000)))
    wet = _run(x, chain, spreads=True)
    return level_to(x + wet * np.float32(10 ** (wet_db / 20)), rms(x))


def codec(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return x after a lossy codec (MP3 of random quality)."""
    return _run(x, [pb.MP3Compressor(vbr_quality=float(rng.uniform(1.0, 7.0)))])


def amplify(x: np.ndarray, rng: np.random.Generator, drive_db: float) -> np.ndarray:
    """Return a guitar through an amplifier and its loudspeaker; `drive_db` 0 is clean, 40 is heavy metal."""
    level = rms(x)
    if level < 1e-8:
        return x
    before: Chain = [pb.HighpassFilter(_log_uniform(rng, 70, 180))]
    if drive_db > 12:
        before.append(pb.PeakFilter(_log_uniform(rng, 500, 1400), float(rng.uniform(2, 9)), 0.7))
    y = level_to(_run(x, before), 0.08)
    if drive_db > 2:
        y = y * np.float32(10 ** (drive_db / 20))
        bias = np.float32(rng.uniform(0.0, 0.25))
        y = np.tanh(y + bias) - np.tanh(bias)
        if drive_db > 25:
            y = np.tanh(2.0 * y)
    cabinet: Chain = [
        pb.HighpassFilter(_log_uniform(rng, 60, 110)),
        pb.PeakFilter(_log_uniform(rng, 90, 160), float(rng.uniform(0, 4)), 1.0),
        pb.PeakFilter(_log_uniform(rng, 350, 800), float(rng.uniform(-7, 1)), 0.8),
        pb.PeakFilter(_log_uniform(rng, 1800, 3500), float(rng.uniform(0, 7)), 1.0),
        pb.LowpassFilter(_log_uniform(rng, 4000, 7500)),
        pb.LowpassFilter(_log_uniform(rng, 4500, 9000)),
    ]
    return level_to(_run(y.astype(np.float32), cabinet), level)


def modulate(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return x through a chorus, phaser, rotary-like vibrato or tremolo."""
    choice = rng.random()
    if choice < 0.35:
        depth = float(rng.uniform(0.05, 0.3))
        return _run(x, [pb.Chorus(_log_uniform(rng, 0.3, 3), depth, float(rng.uniform(5, 12)), 0.0, 0.5)])
    if choice < 0.55:
        return _run(x, [pb.Phaser(_log_uniform(rng, 0.1, 2), float(rng.uniform(0.2, 0.8)), 1300.0, 0.1, 0.5)])
    if choice < 0.75:
        return _run(x, [pb.Chorus(_log_uniform(rng, 4, 7), float(rng.uniform(0.02, 0.08)), 7.0, 0.0, 0.8)])
    t = np.arange(x.shape[1], dtype=np.float32) / MODEL_RATE_HZ
    depth, rate_hz = rng.uniform(0.1, 0.6), _log_uniform(rng, 3, 8)
    wave = 1.0 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate_hz * t + rng.uniform(0, 6.28)))
    return level_to(x * wave.astype(np.float32), rms(x))


def vibrato(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return x with its pitch wavering by 5 to 30 cents, as a player's hand or breath does."""
    depth_cents, rate_hz = rng.uniform(5, 30), rng.uniform(4.0, 6.5)
    at = np.arange(x.shape[1], dtype=np.float64)
    speed = 2 * np.pi * rate_hz / MODEL_RATE_HZ
    # A delay of d sin(wt) shifts the pitch by d w at most: d follows from the depth in cents.
    swing = (2 ** (depth_cents / 1200) - 1) / speed
    warped = at + swing * (np.sin(speed * at + rng.uniform(0, 2 * np.pi)) - 1.0)
    return np.stack([np.interp(warped, at, row).astype(np.float32) for row in x])


def strip(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one microphone's channel: equaliser, and now and then a compressor or saturation."""
    y = _run(x, _equaliser(rng, 80, 8000, 3.0))
    if rng.random() < 0.4:
        y = _run(y, _compressor(y, rng, float(rng.uniform(-4, 4))))
    if rng.random() < 0.2:
        y = saturate(y, _log_uniform(rng, 0.3, 2.0))
    return y


def echo(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return x with a short slap or a longer repeating delay."""
    delay_s = rng.uniform(0.07, 0.14) if rng.random() < 0.6 else rng.uniform(0.2, 0.5)
    plugin = pb.Delay(float(delay_s), float(rng.uniform(0.0, 0.4)), float(rng.uniform(0.08, 0.3)))
    return _run(x, [plugin])


def widen(x: np.ndarray, width: float) -> np.ndarray:
    """Return x with its side signal scaled: 0 is mono, 1 is as it was."""
    middle, side = x.mean(axis=0), 0.5 * (x[0] - x[1]) * np.float32(width)
    return np.stack([middle + side, middle - side])


def _colour_drums(x: np.ndarray, rng: np.random.Generator, impulses: Sequence[Path]) -> np.ndarray:
    x = _run(x, _equaliser(rng, 80, 8000, 2.5))
    if rng.random() < 0.6:
        x = _run(x, _compressor(x, rng, float(rng.uniform(-2, 6))))
    if rng.random() < 0.5:  # parallel: a squashed copy below the dry one
        crushed = saturate(_run(x, _compressor(x, rng, 18.0)), float(rng.uniform(1.0, 4.0)))
        x = level_to(x + crushed * np.float32(rng.uniform(0.2, 0.9)), rms(x))
    if rng.random() < 0.4:
        x = saturate(x, _log_uniform(rng, 0.3, 1.5))
    if rng.random() < 0.7:
        x = reverberate(x, rng, float(rng.uniform(-24, -9)), impulses)
    if rng.random() < 0.25:
        x = widen(x, float(rng.uniform(0.0, 0.6)))
    return x


def _colour_bass(x: np.ndarray, rng: np.random.Generator, impulses: Sequence[Path]) -> np.ndarray:
    x = _run(x, [pb.HighpassFilter(_log_uniform(rng, 22, 45)), *_equaliser(rng, 80, 3000, 3.0)])
    if rng.random() < 0.8:
        x = _run(x, _compressor(x, rng, float(rng.uniform(0, 9))))
    if rng.random() < 0.5:
        driven = saturate(x, _log_uniform(rng, 0.5, 6.0))
        x = level_to(x + driven * np.float32(rng.uniform(0.2, 2.0)), rms(x))
    if rng.random() < 0.6:  # a loudspeaker, or a treble control turned down
        x = _run(x, [pb.LowpassFilter(_log_uniform(rng, 500, 6000))])
    if rng.random() < 0.12:
        x = modulate(x, rng)
    if rng.random() < 0.2:
        x = reverberate(x, rng, float(rng.uniform(-30, -16)), impulses)
    return widen(x, 0.0) if rng.random() < 0.7 else x


def _colour_other(x: np.ndarray, rng: np.random.Generator, impulses: Sequence[Path]) -> np.ndarray:
    x = _run(x, [pb.HighpassFilter(_log_uniform(rng, 25, 160)), *_equaliser(rng, 150, 6000, 3.0)])
    if rng.random() < 0.5:
        x = _run(x, _compressor(x, rng, float(rng.uniform(-2, 6))))
    if rng.random() < 0.25:
        x = saturate(x, _log_uniform(rng, 0.3, 3.0))
    if rng.random() < 0.3:
        x = modulate(x, rng)
    if rng.random() < 0.2:
        x = echo(x, rng)
    if rng.random() < 0.35:
        x = reverberate(x, rng, float(rng.uniform(-24, -6)), impulses)
    return x


def _colour_vocals(x: np.ndarray, rng: np.random.Generator, impulses: Sequence[Path]) -> np.ndarray:
    x = _run(x, [pb.HighpassFilter(_log_uniform(rng, 50, 160)), *_equaliser(rng, 200, 6000, 2.5)])
    if rng.random() < 0.8:
        x = _run(x, _compressor(x, rng, float(rng.uniform(0, 8))))
    if rng.random() < 0.25:
        x = saturate(x, _log_uniform(rng, 0.3, 2.0))
    if rng.random() < 0.1:
        x = modulate(x, rng)
    if rng.random() < 0.35:
        x = echo(x, rng)
    if rng.random() < 0.8:
        x = reverberate(x, rng, float(rng.uniform(-24, -7)), impulses)
    return x


def _colour_room(x: np.ndarray, rng: np.random.Generator, impulses: Sequence[Path]) -> np.ndarray:
    x = reverberate(x, rng, float(rng.uniform(-14, -3)), impulses)
    return _run(x, _equaliser(rng, 100, 8000, 1.5))


_COLOURS: dict[str, Callable[[np.ndarray, np.random.Generator, Sequence[Path]], np.ndarray]] = {
    "drums": _colour_drums,
    "bass": _colour_bass,
    "guitar": _colour_other,
    "other": _colour_other,
    "vocals": _colour_vocals,
    "room": _colour_room,
}


def colour(
    x: np.ndarray,
    rng: np.random.Generator,
    kind: str,
    *,
    impulses: Sequence[Path] = (),
    codec_share: float = 0.03,
) -> np.ndarray:
    """Return x as a studio might have treated it: random EQ, compression, saturation, modulation, reverb.

    Args: `kind` one of KINDS ("room" is ambience for a whole bus); `impulses` audio files of impulse
    responses for the reverb; `codec_share` how often a lossy codec comes last.
    Shape: (2, n) float32 at the model's rate -> the same.  Units: keeps the RMS of x.
    Raises: SpecError for another kind or shape.
    """
    if kind not in _COLOURS or x.ndim != 2 or x.shape[0] != 2:
        raise SpecError(f"colour: kind '{kind}' of {', '.join(KINDS)}, audio (2, n), got {x.shape}")
    if x.shape[1] == 0 or rms(x) < 1e-7:
        return x
    level = rms(x)
    y = np.asarray(x, np.float32)
    if kind == "guitar":
        y = amplify(y, rng, float(rng.uniform(0, 14)))
    y = _COLOURS[kind](y, rng, impulses)
    if rng.random() < codec_share:
        y = codec(y, rng)
    return level_to(y, level)
