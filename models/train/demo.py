"""The demo song: what `demo_score` says, played, sung and mixed, with its true stems.

The stems are quantised first and the mixture is their sum, so they add up to it exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ, STEMS
from .audio_files import load_audio, rms_dbfs, save_flac
from .demo_score import PHRASES, VOICE, VOICE_FILE, Voicing, band, beat_sample
from .effects import amplify, level_to, rms, room_impulse, widen
from .material import attributions
from .sampler import Kit, Player, load_instrument

LENGTH_S = 28.5
SEED = 3
LEVELS_DB = {"drums": -17.5, "bass": -17.0, "other": -21.0, "vocals": -17.0}
"""RMS of each stem where it sounds; their common level follows from LOUDNESS_DB."""
LOUDNESS_DB, PEAK = -16.3, 10 ** (-1.0 / 20)
"""RMS of the whole before its limiter, and the peak that the limiter holds (full scale)."""
_README = """# The demo song

28.5 seconds at 128 beats a minute in E major: `mixture.flac` and the four stems it is the exact sum of,
16-bit stereo at 44.1 kHz. Chords, hook, drums and arrangement were written for stemrack
(`models/train/demo_score.py`) and are played from samples; the voice is sung phrases of a free collection.
Made by

    stemrack train demo MATERIAL --out demo

Its voice and its instruments belong to the material that the models were trained on. It shows what the
program does; it says nothing about how well the separation works on music that was never seen.

Every sample and phrase in it is CC0; the arrangement is under the project's licence. What the makers state
(folder of the material: attribution, licence):

"""


def first_onset(x: np.ndarray) -> int:
    """Return the first sample of a voice (2, n) where it rises well: 0.4 times as fast as it ever does.

    The rise is that of the level from one 30 ms window to the next; a syllable is heard where they meet.
    """
    length = 2 * (3 * MODEL_RATE_HZ // 200)
    square = np.pad(np.square(x).mean(axis=0, dtype=np.float64), length)
    level = np.sqrt(np.maximum(np.convolve(square, np.ones(length), mode="same"), 0.0))
    rise = level[length:] - level[:-length]
    first = int(np.argmax(rise > 0.4 * rise.max()))
    return max(0, first + int(np.argmax(rise[first : first + length])) - length // 2)


def _filtered(x: np.ndarray, low_hz: float, high_hz: float = 18_000.0) -> np.ndarray:
    """Return x (2, n) without what lies below or above, at 12 dB an octave, without delay."""
    frequency_hz = np.fft.rfftfreq(x.shape[1], 1 / MODEL_RATE_HZ) + 1e-6
    gain = 1 / np.sqrt((1 + (low_hz / frequency_hz) ** 4) * (1 + (frequency_hz / high_hz) ** 4))
    return np.fft.irfft(np.fft.rfft(x) * gain, x.shape[1]).astype(np.float32)


def _brighter(x: np.ndarray, from_hz: float, gain_db: float) -> np.ndarray:
    """Return x (2, n) with a high shelf."""
    return x + _filtered(x, from_hz) * np.float32(10 ** (gain_db / 20) - 1)


def _compressed(x: np.ndarray, threshold_db: float, ratio: float) -> np.ndarray:
    """Return x (2, n) with what is louder than a threshold brought nearer to it (30 ms windows)."""
    window = np.hanning(int(0.03 * MODEL_RATE_HZ))
    power = np.convolve(np.square(x).mean(axis=0, dtype=np.float64), window / window.sum(), mode="same")
    over_db = np.maximum(0.0, 10 * np.log10(power + 1e-12) - threshold_db)
    return x * (10 ** (-over_db * (1 - 1 / ratio) / 20)).astype(np.float32)


def _in_room(x: np.ndarray, rng: np.random.Generator, decay_s: float, wet_db: float) -> np.ndarray:
    """Return x (2, n) with a made-up room beside it, the room's bass left out."""
    impulse = room_impulse(rng, decay_s)
    n_samples = x.shape[1] + impulse.shape[1]
    wet = np.fft.irfft(np.fft.rfft(x, n_samples) * np.fft.rfft(impulse, n_samples), n_samples)
    wet = _filtered(wet[:, : x.shape[1]], 250.0, 7000.0)
    return x + level_to(wet, rms(x) * 10 ** (wet_db / 20))


def _voice(material: Path, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the phrases at their beats, evened out, with an echo from side to side and a room."""
    voice = np.zeros((2, n_samples), np.float32)
    for beat, words in PHRASES:
        phrase = load_audio(material / VOICE / VOICE_FILE.format(words))
        phrase = _brighter(_filtered(phrase, 110.0), 5000.0, 4.0)
        phrase = _compressed(phrase * 10 ** ((-16.0 - rms_dbfs(phrase)) / 20), -18.0, 3.0)
        at = beat_sample(beat) - first_onset(phrase)
        phrase = phrase[:, max(0, -at) : n_samples - at]
        voice[:, max(0, at) : max(0, at) + phrase.shape[1]] += phrase
    echoes = np.zeros_like(voice)
    for repeat, gain_db in ((1, -15.0), (2, -20.0)):
        shift = beat_sample(0.75 * repeat)
        echoes[repeat % 2, shift:] += 10 ** (gain_db / 20) * voice[0, : n_samples - shift]
    return _in_room(voice + _filtered(echoes, 300.0, 4000.0), rng, 1.1, -15.0)


def _played(material: Path, voicing: Voicing, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return one part through its instrument and amplifier, at its level and place."""
    part = voicing.part
    instrument = load_instrument(material / voicing.folder)
    if part.stem == "drums":
        return Kit([Player(instrument, rng, gain_keys_db=voicing.gains)]).render(part.notes, n_samples)
    x = Player(instrument, rng, release_s=voicing.release_s, spread_db=0.5).render(part.notes, n_samples)
    if voicing.drive_db:
        x = amplify(widen(x, 0.0), rng, voicing.drive_db)
    x = _compressed(x * 10 ** ((-18.0 - rms_dbfs(x)) / 20), -18.0, 4.0 if part.stem == "bass" else 1.5)
    if part.stem == "bass":
        return _filtered(widen(x, 0.0), 30.0, 900.0)
    sides = np.sqrt(np.array([[1.0 - part.pan], [1.0 + part.pan]], np.float32))
    return _brighter(_filtered(x, 130.0), 2500.0, 4.0) * sides * np.float32(10 ** (part.gain_db / 20))


def _limited(stems: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the stems under one gain that holds their sum, and each of them, below PEAK."""
    signals = [np.sum(list(stems.values()), axis=0), *stems.values()]
    loudest = np.max([np.abs(x).max(axis=0) for x in signals], axis=0)
    scale = max(10 ** (LOUDNESS_DB / 20) / rms(signals[0]), PEAK / loudest.max())
    wanted = np.minimum(1.0, PEAK / np.maximum(loudest * scale, 1e-9))
    length = 2 * (MODEL_RATE_HZ // 400) + 1
    lowest = np.lib.stride_tricks.sliding_window_view(np.pad(wanted, length - 1, mode="edge"), length).min(1)
    window = np.hanning(length + 2)[1:-1]
    gain = np.convolve(lowest, window / window.sum(), mode="valid").astype(np.float32)
    return {name: x * (gain * np.float32(scale)) for name, x in stems.items()}


def make_demo(material: Path, out: Path, seed: int = SEED) -> list[Path]:
    """Write the demo song's mixture, stems and README below `out`; return their paths.

    All audio is 16-bit stereo of LENGTH_S at the model's rate. The stems are quantised and then summed:
    the mixture is their sum, exactly.  Raises: DataError if the material lacks a sample or a phrase.
    """
    rng = np.random.default_rng(seed)
    material, out = Path(material), Path(out)
    n_samples = round(LENGTH_S * MODEL_RATE_HZ)
    stems = {stem: np.zeros((2, n_samples), np.float32) for stem in STEMS}
    stems["vocals"] = _voice(material, n_samples, rng)
    voicings = band(rng)
    for voicing in voicings:
        stems[voicing.part.stem] += _played(material, voicing, n_samples, rng)
    stems["drums"] = _in_room(_brighter(stems["drums"], 3000.0, 8.0), rng, 0.4, -16.0)
    stems["other"] = _in_room(stems["other"], rng, 0.9, -17.0)
    for stem, level_db in LEVELS_DB.items():
        level = rms_dbfs(stems[stem])
        if level < -100.0:
            raise DataError(f"{stem} of the demo song came out silent: its samples have none of its keys")
        stems[stem] = stems[stem] * np.float32(10 ** ((level_db - level) / 20))
    fade = np.clip(np.arange(n_samples, 0, -1) / (1.2 * MODEL_RATE_HZ), 0, 1).astype(np.float32)
    whole = {n: np.round(x * fade * 32767).astype(np.int16) for n, x in _limited(stems).items()}
    files = {"mixture": np.sum(list(whole.values()), axis=0, dtype=np.int32).astype(np.int16), **whole}
    out.mkdir(parents=True, exist_ok=True)
    for name, samples in files.items():
        save_flac(out / f"{name}.flac", samples)
    lines = attributions(material, [VOICE, *(voicing.folder for voicing in voicings)])
    (out / "README.md").write_text(_README + "".join(f"- {line}\n" for line in lines), encoding="utf-8")
    return [*(out / f"{name}.flac" for name in files), out / "README.md"]
