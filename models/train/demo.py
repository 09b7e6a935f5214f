"""The demo song: sung phrases in E major over an arrangement of our own, with its true stems.

A lead sheet written here is played by the renderer of `songs`; the phrases (CC0, at 128 beats a minute)
come in on bars. The stems are quantised first and the mixture is their sum, so they sum to it exactly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import MODEL_RATE_HZ, STEMS
from .arrange import Band, Part, arrange_sheet
from .audio_files import load_audio, save_flac
from .catalogue import catalogue
from .effects import colour, level_to
from .leadsheets import Chord, Sheet
from .material import AUDIO_SUFFIXES, attributions
from .songs import choose_take, render_drums, render_stem, take_notes
from .styles import STYLES

TEMPO_BPM = 128.0
BEATS_A_BAR = 4
N_BARS = 15
BREAK_BARS = (10, 12)
"""From this bar to before that one the drums rest."""
CHORDS = ((4, "major"), (1, "minor"), (9, "major"), (11, "major"))
"""E, C sharp minor, A, B: one a bar, in turns."""
VOICE = "vocals_singing/producerspace_soulful_house"
PHRASES = (
    (2, "I_Can_See_Everything"),
    (4, "Its_Magic_the_Way_I_Feel"),
    (6, "Lost_My_Mind_With_You"),
    (8, "Youve_Got_to_Make_Up_Your_Mind"),
    (10, "And_Here_We_Are_Together"),
    (13, "I_Feel_Something"),
)
"""(bar, words in the file's name): each phrase begins on its bar."""
LEVELS_DB = {"drums": -18.0, "bass": -19.5, "other": -21.5, "vocals": -18.0}
"""RMS of each stem over the song, before the whole is scaled to its peak."""
PEAK = 0.89
STYLE, SEED = "soul", 3


def bar_sample(bar: int) -> int:
    """Return the first sample of a bar.

    >>> bar_sample(2)
    165375
    """
    return round(bar * BEATS_A_BAR * 60.0 / TEMPO_BPM * MODEL_RATE_HZ)


def demo_sheet() -> Sheet:
    """Return the chords of the demo song."""
    chords = [
        Chord(start_beat=BEATS_A_BAR * bar, length_beats=BEATS_A_BAR, root=root, kind=kind)
        for bar in range(N_BARS)
        for root, kind in [CHORDS[bar % len(CHORDS)]]
    ]
    return Sheet(
        name="demo",
        tempo_bpm=TEMPO_BPM,
        beats_per_bar=BEATS_A_BAR,
        melody=(),
        chords=tuple(chords),
        length_beats=N_BARS * BEATS_A_BAR,
    )


def make_demo(material: Path, out: Path) -> list[Path]:
    """Return the files written below `out`: mixture.flac, a file for each stem, README.md with the sources.

    All are 16 bits at the model's rate, of one length; the mixture is the exact sum of the stems.
    Raises: DataError when the material lacks a phrase or an instrument.
    """
    sources: set[str] = {VOICE}
    rng = np.random.default_rng(SEED)
    n_samples = bar_sample(N_BARS)
    parts = _with_break(_arrangement(material, rng, sources))
    stock = catalogue(material, "train")
    drum_notes = [note for part in parts if part.stem == "drums" for note in part.notes]
    stems = {"drums": render_drums(drum_notes, stock, rng, n_samples, sources)}
    for stem in ("bass", "other"):
        stems[stem] = render_stem([p for p in parts if p.stem == stem], stock, rng, n_samples, sources)
    stems["vocals"] = _voice(material, rng, n_samples)
    for name, level_db in LEVELS_DB.items():
        stems[name] = level_to(stems[name], 10 ** (level_db / 20))
    return _write(out, stems, attributions(material, sources))


def _arrangement(material: Path, rng: np.random.Generator, sources: set[str]) -> list[Part]:
    stock = catalogue(material, "train")
    style = next(style for style in STYLES if style.name == STYLE)
    take = choose_take(rng, stock.takes, style)
    drums = () if take is None else take_notes(take, N_BARS * BEATS_A_BAR)
    if take is not None:
        sources.add(stock.top_key_of(take.path))
    return arrange_sheet(demo_sheet(), Band(style=style, tempo_bpm=TEMPO_BPM, drums=drums), rng)


def _with_break(parts: list[Part]) -> list[Part]:
    low, high = (bar_sample(bar) / MODEL_RATE_HZ for bar in BREAK_BARS)
    return [
        replace(p, notes=tuple(n for n in p.notes if not low <= n.start < high)) if p.stem == "drums" else p
        for p in parts
    ]


def _voice(material: Path, rng: np.random.Generator, n_samples: int) -> np.ndarray:
    voice = np.zeros((2, n_samples), np.float32)
    folder = material / VOICE
    for bar, words in PHRASES:
        named = (
            p for p in sorted(folder.rglob("*")) if p.suffix in AUDIO_SUFFIXES and p.stem.endswith(words)
        )
        path = next((p for p in named if "shv_e_128" in str(p)), None)
        if path is None:
            raise DataError(f"{folder} has no phrase '{words}' in E at 128 beats a minute")
        phrase = load_audio(path)
        loud = np.abs(phrase).max(axis=0)
        begin = int(np.argmax(loud > 0.1 * loud.max()))
        start = bar_sample(bar)
        heard = phrase[:, begin : begin + n_samples - start]
        voice[:, start : start + heard.shape[1]] += heard
    return colour(voice, rng, "vocals", codec_share=0.0)


def _write(out: Path, stems: dict[str, np.ndarray], lines: list[str]) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    loudest = max(
        np.abs(np.sum(list(stems.values()), axis=0)).max(), *(np.abs(x).max() for x in stems.values())
    )
    whole = {name: np.round(stems[name] * (PEAK / loudest) * 32767).astype(np.int16) for name in STEMS}
    whole["mixture"] = np.sum(list(whole.values()), axis=0, dtype=np.int32).astype(np.int16)
    written = []
    for name, samples in whole.items():
        written.append(out / f"{name}.flac")
        save_flac(written[-1], samples)
    written.append(out / "README.md")
    text = [
        "# The demo song",
        "",
        "`mixture.flac` and its true stems, made by `stemrack train demo`: an arrangement of our own",
        "around sung phrases. The mixture is the exact sum of the stems. The voice and the instruments",
        "belong to the training material, so this song says nothing about the quality of the separation.",
        "",
        "Made of:",
        "",
        *(f"- {line}" for line in lines),
    ]
    written[-1].write_text("\n".join(text) + "\n")
    return written
