"""Shards of single voices: sung and spoken phrases, speech re-sung on melodies, held vowels sung.

Half of a voice's life in a record is treatment, so phrases are played slower or faster (which also makes
men's voices of women's), doubled, harmonised, and coloured by equaliser, compressor, echo and reverb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ
from . import shards
from .audio_files import load_audio, replay, rms_dbfs
from .effects import colour
from .leadsheets import Sheet, load_sheet
from .material import AudioFile, file_name, files_of, generator, held_out, read_rows
from .singing import Analysis, SungNote, analyse, melody, shift_key, sing, syllables

TARGET_DBFS = -20.0
LONGEST_PHRASE_S = 12.0
MODE_SHARES = {"sung": 0.58, "resung": 0.22, "spoken": 0.1, "vowels": 0.1}
"""Share of the minutes per mode; what has no material is left out. Real singing leads."""
VALID_SHARE = 0.09
REPLAYED = 0.7
REPLAY_RANGE = {"m": (0.86, 1.2), "": (0.68, 1.2)}
"""Factors by sex: a man's voice slowed by a third is no man's voice any more."""
SHARD_S = (40.0, 65.0)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """All files of one singer or speaker."""

    name: str
    files: tuple[AudioFile, ...]
    sung: bool
    split: str

    @property
    def seconds(self) -> float:
        """Length of its files together."""
        return sum(file.seconds for file in self.files)

    @property
    def held(self) -> bool:
        """Whether its files are held vowels of under 1.5 s, to be looped."""
        return all(f.floor_db > -8.0 and f.seconds < 1.5 for f in self.files)

    @property
    def deep(self) -> bool:
        """Whether the material says that this is a man's voice."""
        return self.files[0].sex.startswith("m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one shard will hold."""

    name: str
    mode: str
    voice: Voice
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How a voice is doubled in one shard; 0 is without. Levels in dB below the lead."""

    double_cents: float = 0.0
    double_db: float = -6.0
    harmony_semitones: tuple[float, ...] = ()
    harmony_db: float = -7.0
    spread: float = 0.7


def voices_of(root: Path) -> list[Voice]:
    """Return the voices of an indexed folder; some 5 % of the seconds, whole makers, are `valid`."""
    found: list[Voice] = []
    for category, share, largest in (("vocals_singing", 0.04, 0.04), ("vocals_speech", 0.1, 0.08)):
        files = files_of(root, category)
        valid = held_out(((f.maker, f.seconds) for f in files), share=share, largest=largest)
        by_name: dict[str, list[AudioFile]] = {}
        for file in files:
            by_name.setdefault(file.voice or file.source, []).append(file)
        for name, own in by_name.items():
            split = "valid" if any(file.maker in valid for file in own) else "train"
            found.append(Voice(name=name, files=tuple(own), sung=category == "vocals_singing", split=split))
    return found


def prepare_voices(root: Path, out: Path, *, minutes: float, seed: int, progress: Progress) -> None:
    """Write some `minutes` of single voices as shards with the part `vocals`, resumable by name."""
    voices = voices_of(root)
    if not voices or minutes <= 0:
        return
    sheets = [
        root / row["file"]
        for row in read_rows(root)
        if row.get("notes") and str(row["file"]).endswith(".json")
    ]
    impulses = [file.path for file in files_of(root, "ir")]
    for plan in plan_shards(voices, minutes=minutes, seed=seed, with_melodies=bool(sheets)):
        if shards.has_shard(out, "voices", plan.name):
            continue
        x = render(plan, generator(seed, "voices", plan.name), sheets, impulses)
        sources = {file.source for file in plan.voice.files}
        if plan.mode in ("resung", "vowels"):
            sources |= {sheets[0].parent.relative_to(root).as_posix()}
        shards.write_shard(
            out,
            plan.name,
            {"vocals": x},
            pool="voices",
            split=plan.voice.split,
            sources=tuple(sources),
        )
        progress(f"voices: {plan.name} ({plan.voice.split}, {x.shape[1] / MODEL_RATE_HZ:.0f} s)")


def plan_shards(voices: Sequence[Voice], *, minutes: float, seed: int, with_melodies: bool) -> list[Plan]:
    """Return the shards to make: per mode and split, voices by the square root of their length, in turn.

    The order alternates between the modes, so that a run that is stopped has some of everything.
    """
    able = {
        "sung": [v for v in voices if v.sung and not v.held],
        "spoken": [v for v in voices if not v.sung and v.seconds >= 6.0],
        "resung": [v for v in voices if not v.sung and v.seconds >= 4.0] if with_melodies else [],
        "vowels": [v for v in voices if v.sung and v.held] if with_melodies else [],
    }
    total = sum(MODE_SHARES[mode] for mode, some in able.items() if some) or 1.0
    queues: list[list[Plan]] = []
    for mode, some in able.items():
        for split, share in (("train", 1.0 - VALID_SHARE), ("valid", VALID_SHARE)):
            own = [v for v in some if v.split == split]
            seconds = minutes * 60.0 * share * MODE_SHARES[mode] / total
            queues.append(_plan_mode(mode, own, seconds, generator(seed, "voices", f"{mode}/{split}")))
    ranked = [((i + 0.5) / len(queue), plan) for queue in queues for i, plan in enumerate(queue)]
    return [plan for _, plan in sorted(ranked, key=lambda entry: (entry[0], entry[1].name))]


def _plan_mode(mode: str, voices: Sequence[Voice], seconds: float, rng: np.random.Generator) -> list[Plan]:
    if not voices:
        return []
    weights = np.sqrt([v.seconds for v in voices])
    made = np.zeros(len(voices))
    plans: list[Plan] = []
    while made.sum() < seconds:
        # The voice that is furthest behind its share; `made + 20` lets small voices have a turn.
        i = int(np.argmin((made + 20.0) / weights))
        again = 3.0 if mode in ("sung", "spoken") else 30.0
        length_s = float(np.clip(voices[i].seconds * again, 8.0, rng.uniform(*SHARD_S)))
        count = sum(p.voice is voices[i] for p in plans)
        name = f"{mode}_{file_name(voices[i].name)}_{count:02d}"
        plans.append(Plan(name=name, mode=mode, voice=voices[i], seconds=length_s))
        made[i] += length_s
    return plans


def render(
    plan: Plan, rng: np.random.Generator, sheets: Sequence[Path], impulses: Sequence[Path]
) -> np.ndarray:
    """Return the audio of one shard at about -20 dBFS (while it sounds); (2, n) float32.

    Speed, doubling and colour are drawn anew every 12 to 30 s.
    """
    recorded = recorded_phrases(plan.voice, rng)
    sections: list[np.ndarray] = []
    missing_s = plan.seconds
    while missing_s > 0.0:
        section_s = float(rng.uniform(12.0, 30.0))
        section_s = missing_s if missing_s < section_s + 8.0 else section_s
        low, high = REPLAY_RANGE["m" if plan.voice.deep else ""]
        played = rng.random() < REPLAYED
        factor = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if played else 1.0
        source = recorded
        if plan.mode in ("resung", "vowels"):
            source = resung_phrases(plan.voice, rng, sheets, factor)
        x = _section(source, factor, section_s, rng)
        # One in eight stays dry: live voices and stems before the mix sound like that.
        if rng.random() >= 0.125:
            x = colour(x, rng, "vocals", impulses=impulses)
        sections.append(x * np.float32(10.0 ** ((TARGET_DBFS - rms_dbfs(x)) / 20.0)))
        missing_s -= x.shape[1] / MODEL_RATE_HZ
    return np.concatenate(sections, axis=1)


def _section(
    source: Iterator[np.ndarray], factor: float, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """Return some `seconds` of phrases with pauses between, at one speed and with one treatment."""
    treatment = draw_treatment(rng)
    pieces: list[np.ndarray] = []
    n, n_wanted = 0, int(seconds * MODEL_RATE_HZ)
    while n < n_wanted:
        phrase = next(source)
        phrase = phrase if factor == 1.0 else replay(phrase, factor)
        level_dbfs = rms_dbfs(phrase)
        gain_db = TARGET_DBFS - level_dbfs + rng.normal(0.0, 2.0) if level_dbfs > -70.0 else 0.0
        phrase = thicken(phrase, treatment, rng) * np.float32(10.0 ** (gain_db / 20.0))
        gap = np.zeros((2, int(gap_s(rng, phrase.shape[1] / MODEL_RATE_HZ) * MODEL_RATE_HZ)), np.float32)
        pieces += [phrase, gap]
        n += phrase.shape[1] + gap.shape[1]
    return np.concatenate(pieces, axis=1)


def gap_s(rng: np.random.Generator, phrase_s: float) -> float:
    """Return the pause after a phrase: mostly a breath, at times some bars, after a shout not much more."""
    kind = rng.random()
    if kind < 0.4:
        return float(rng.uniform(0.05, 0.4))
    long_s = rng.uniform(0.4, 1.4) if kind < 0.85 else rng.uniform(1.4, 4.0)
    return float(min(long_s, 0.1 + phrase_s))


def recorded_phrases(voice: Voice, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield a voice's recorded phrases for ever: files in random order, a long one's pieces in theirs."""
    while True:
        for i in rng.permutation(len(voice.files)):
            pieces = phrases(load_audio(voice.files[i].path))
            # Of a long take one stretch is enough before the next file has its turn.
            start = int(rng.integers(0, len(pieces)))
            yield from pieces[start : start + 4]


def phrases(x: np.ndarray) -> list[np.ndarray]:
    """Return x (2, n) cut at its quietest places into pieces of 3 to 12 s, each faded at its ends."""
    frame = MODEL_RATE_HZ // 50
    power = np.square(x[:, : x.shape[1] // frame * frame]).reshape(2, -1, frame).mean(axis=(0, 2))
    smooth = np.convolve(power, np.ones(5) / 5.0, mode="same") if len(power) else power
    cuts = [0]
    n_longest, n_shortest = int(LONGEST_PHRASE_S * 50), 150
    while len(smooth) - cuts[-1] > n_longest:
        window = smooth[cuts[-1] + n_shortest : cuts[-1] + n_longest]
        cuts.append(cuts[-1] + n_shortest + int(np.argmin(window)))
    edges = [cut * frame for cut in cuts] + [x.shape[1]]
    pieces = [_faded(x[:, a:b]) for a, b in pairwise(edges)]
    return [p for p in pieces if p.shape[1] > frame and rms_dbfs(p) > -60.0] or [_faded(x)]


def _faded(x: np.ndarray) -> np.ndarray:
    n = min(MODEL_RATE_HZ // 100, x.shape[1] // 2)
    ramp = np.linspace(0.0, 1.0, n, endpoint=False, dtype=np.float32)
    y = x.copy()
    y[:, :n] *= ramp
    y[:, x.shape[1] - n :] *= ramp[::-1]
    return y


def resung_phrases(
    voice: Voice, rng: np.random.Generator, sheets: Sequence[Path], factor: float
) -> Iterator[np.ndarray]:
    """Yield phrases of melodies sung with the voice's syllables for ever, stereo with equal sides.

    The melody lies up to half an octave above the speaking pitch, as singing does. `factor` is the
    speed at which the phrase will be replayed: the tempo is made slower by it in advance.
    Raises: DataError if twelve attempts in a row could not be sung.
    """
    failures = 0
    while failures < 12:
        sheet = load_sheet(sheets[int(rng.integers(len(sheets)))])
        phrases_left = melody_phrases(sheet, rng, factor)
        failures += not phrases_left
        while phrases_left:
            # Taking a voice apart costs more than singing with it: one take serves three phrases.
            take = _take(voice, rng)
            failures = 0 if take else failures + 1
            if take is None:
                break
            for notes in phrases_left[:3]:
                yield np.repeat(_sing_one(take, voice.held, notes, rng)[None], 2, axis=0)
            del phrases_left[:3]
    raise DataError(f"voice {voice.name}: no melody could be sung with it; leave it out of the material")


def melody_phrases(sheet: Sheet, rng: np.random.Generator, factor: float) -> list[list[SungNote]]:
    """Return a sheet's melody as phrases of up to 10 s, cut at rests; keys relative to the voice (0)."""
    notes = melody(sheet, rng, seconds=45.0, centre_key=60.0)
    found: list[list[SungNote]] = []
    for note in notes:
        slow = SungNote(start_s=note.start_s * factor, seconds=note.seconds * factor, key=note.key - 60.0)
        last = found[-1][-1] if found else None
        rested = last is None or slow.start_s - last.start_s - last.seconds > 0.25
        if rested or slow.start_s - found[-1][0].start_s > 10.0:
            found.append([])
        found[-1].append(slow)
    return [notes for notes in found if notes[-1].start_s + notes[-1].seconds - notes[0].start_s > 0.6]


def _take(voice: Voice, rng: np.random.Generator) -> Analysis | None:
    """Return the analysis of a piece of the voice drawn at random, None if it has no pitch."""
    files = voice.files
    if voice.held:
        chosen = rng.permutation(len(files))[:6]
        x = np.concatenate([load_audio(files[i].path).mean(axis=0) for i in chosen])
    else:
        pieces = phrases(load_audio(files[int(rng.integers(len(files)))].path))
        x = pieces[int(rng.integers(len(pieces)))].mean(axis=0)
    if len(x) < MODEL_RATE_HZ // 4:
        return None
    analysis = analyse(x[: 6 * MODEL_RATE_HZ])
    return analysis if syllables(analysis) else None


def _sing_one(take: Analysis, held: bool, notes: Sequence[SungNote], rng: np.random.Generator) -> np.ndarray:
    """Return one phrase (n,) sung with a take; the notes' keys are relative to its pitch."""
    median_key = 69.0 + 12.0 * np.log2(take.median_hz / 440.0)
    centre = median_key + rng.uniform(-2.0 if held else 1.0, 6.0)
    shifted = [SungNote(start_s=n.start_s, seconds=n.seconds, key=n.key + centre) for n in notes]
    vibrato_cents = float(rng.choice([0.0, 20.0, 40.0, 70.0]))
    return sing(take, shifted, rng, vibrato_cents=vibrato_cents, first=int(rng.integers(1000)))


def draw_treatment(rng: np.random.Generator) -> Treatment:
    """Return how a shard's voice is thickened: nothing for 65 %, else a double, a harmony, or both."""
    kind = rng.random()
    double_cents = float(rng.uniform(4.0, 11.0)) if 0.65 <= kind < 0.9 else 0.0
    intervals = ((4.0,), (3.0,), (-5.0,), (7.0,), (12.0,), (-12.0,), (4.0, 7.0), (-5.0, 3.0))
    harmony = intervals[int(rng.integers(len(intervals)))] if kind >= 0.86 else ()
    return Treatment(
        double_cents=double_cents,
        double_db=float(rng.uniform(-9.0, -3.0)),
        harmony_semitones=harmony,
        harmony_db=float(rng.uniform(-11.0, -4.0)),
        spread=float(rng.uniform(0.0, 1.0)),
    )


def thicken(x: np.ndarray, treatment: Treatment, rng: np.random.Generator) -> np.ndarray:
    """Return x (2, n) with a detuned, late double on each side and harmony voices left and right of it."""
    n = x.shape[1]
    y = x.copy()
    add = partial(_place, y, spread=treatment.spread)
    if treatment.double_cents and n > MODEL_RATE_HZ // 4:
        for side, cents in ((-1.0, -treatment.double_cents), (1.0, treatment.double_cents)):
            late = int(rng.uniform(0.012, 0.03) * MODEL_RATE_HZ)
            add(replay(x, 2.0 ** (cents / 1200.0)), late=late, side=side, gain_db=treatment.double_db)
    if treatment.harmony_semitones and n > MODEL_RATE_HZ // 4:
        middle = x.mean(axis=0)
        for i, semitones in enumerate(treatment.harmony_semitones):
            late = int(rng.uniform(0.0, 0.025) * MODEL_RATE_HZ)
            second = shift_key(middle, semitones + rng.normal(0.0, 0.05))[None]
            add(second, late=late, side=-1.0 if i else 1.0, gain_db=treatment.harmony_db)
    return y


def _place(y: np.ndarray, x: np.ndarray, *, late: int, side: float, gain_db: float, spread: float) -> None:
    """Add x, `late` samples late, to y in place, panned to `side` by `spread`."""
    n = min(x.shape[1], y.shape[1] - late)
    gain = np.float32(10.0 ** (gain_db / 20.0))
    for channel, sign in ((0, -1.0), (1, 1.0)):
        panned = gain * np.float32(1.0 if sign == side else 1.0 - spread)
        y[channel, late : late + n] += panned * x[min(channel, len(x) - 1), :n]
