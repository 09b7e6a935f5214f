"""The demo song on paper: chords, hook and drums in E major, who plays them, where each phrase is sung.

Bass and accompaniment follow the patterns of `patterns`. Every folder of samples named here is CC0: the
song may be given away without conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..stems import MODEL_RATE_HZ
from .arrange import Part, perform
from .leadsheets import Chord, MelodyNote, Sheet
from .notes import Note
from .patterns import bass_line, comping
from .rhythms import read_hits

TEMPO_BPM = 128.0
BEAT_S = 60.0 / TEMPO_BPM
LENGTH_BEATS = 60.0
VOICE = "vocals_singing/producerspace_soulful_house"
VOICE_FILE = "shv_e_128__SHV_-_E_Major_-_128_BPM_-_{}.ogg"
PHRASES = (
    (9.25, "The_Sun_is_Going_Down"), (15.5, "I_Can_See_Everything"), (24.0, "I_Feel_Something"),
    (32.0, "Were_on_the_Top_of_the_World"), (40.0, "When_Im_With_You"), (44.0, "The_Top_of_the_World"),
    (49.0, "Forever"), (54.5, "With_You_1"),
)  # fmt: skip
"""(beat of its first strong onset, words): placed so that held notes meet chords that have them."""
CHORDS = (
    (0, 9, "major-seventh"), (4, 11, "major"),
    (8, 4, "major"), (12, 1, "minor-seventh"), (16, 9, "major-seventh"), (20, 11, "major"),
    (24, 1, "minor-seventh"), (28, 9, "major-seventh"), (30, 11, "major"),
    (32, 4, "major"), (36, 11, "major"), (40, 1, "minor-seventh"), (44, 9, "major-seventh"),
    (48, 4, "major"), (52, 11, "major"), (56, 4, "major"),
)  # fmt: skip
"""(beat, root, kind): intro A B, verse E C#m A B, break C#m A-B, chorus E B C#m A E B, last bar E."""
HOOK = (
    (0, 0.7, 76), (0.75, 0.7, 80), (1.5, 0.9, 83), (2.5, 0.45, 80), (3, 0.9, 78), (4, 0.7, 78),
    (4.75, 0.7, 80), (5.5, 0.9, 78), (6.5, 0.45, 76), (7, 0.9, 75), (14.5, 0.45, 80), (15, 0.4, 78),
    (22.5, 0.45, 78), (23, 0.9, 75), (38, 0.45, 78), (38.5, 0.45, 80), (39, 0.9, 83), (47, 0.45, 76),
    (47.5, 0.45, 78), (48, 0.45, 80), (56, 3.5, 76),
)  # fmt: skip
"""(beat, length, key) of a guitar that answers the voice."""
BREAK_BEATS = (24.0, 31.0)
"""Here the drums rest: no bar of DRUMS, no fill; the fill after it leads into the chorus."""
DRUMS = (
    ((0, 8), {36: "0/1/104 2/1/100", 42: "0/1/76 1/1/80 2/1/76 3/1/80", 38: "1/1/86 3/1/90"}),
    ((8, 24), {
        36: "0/1/110 1/1/104 2/1/108 3/1/104", 38: "1/1/104 3/1/108 3.75/1/42",
        42: "0/1/70 0.25/1/46 0.5/1/92 0.75/1/50 1/1/70 1.25/1/46 1.5/1/92 1.75/1/50 2/1/70 2.25/1/46 "
            "2.5/1/92 2.75/1/50 3/1/70 3.25/1/46 3.5/1/92 3.75/1/50",
    }),
    ((32, 56), {
        36: "0/1/114 1/1/108 2/1/112 3/1/108", 38: "1/1/110 2.25/1/40 3/1/114 3.75/1/46",
        46: "0.5/1/92 1.5/1/90 2.5/1/92 3.5/1/90", 42: "0/1/84 0.75/1/54 1/1/84 1.75/1/54 2/1/84 2.75/1/54 "
            "3/1/84 3.75/1/54",
    }),
)  # fmt: skip
"""((first beat, beat after), General MIDI key: bar of `offset/length/velocity`)."""
FILLS = {
    7: "38@0/1/80 38@0.25/1/88 48@0.5/1/96 45@0.75/1/104",
    23: "38@0/1/96 48@0.25/1/92 45@0.5/1/98 41@0.75/1/106",
    31: "38@0/1/84 38@0.25/1/94 38@0.5/1/104 38@0.75/1/114 36@0/1/104 36@0.5/1/108",
    47: "38@0.5/1/100 45@0.75/1/104", 55: "38@0/1/100 48@0.25/1/102 45@0.5/1/106 41@0.75/1/112",
}  # fmt: skip
"""Beat: `key@offset/length/velocity`; the bar's own snare and hi-hats rest there."""
CRASHES = ((8, 49, 92), (32, 49, 104), (48, 49, 96), (56, 49, 108))


@dataclass(frozen=True, slots=True, kw_only=True)
class Voicing:
    """Who plays a part and how: folder of samples, level beside the others, place from -1 to 1."""

    folder: str
    part: Part
    release_s: float = 0.12
    drive_db: float = 0.0
    gains: dict[int, float] = field(default_factory=dict)


def beat_sample(beat: float) -> int:
    """Return the first sample of a beat.

    >>> beat_sample(8.0)
    165375
    """
    return round(beat * BEAT_S * MODEL_RATE_HZ)


def demo_sheet() -> Sheet:
    """Return the chords and the hook of the demo song."""
    ends = [float(beat) for beat, _, _ in CHORDS[1:]] + [LENGTH_BEATS]
    return Sheet(
        name="demo",
        tempo_bpm=TEMPO_BPM,
        beats_per_bar=4.0,
        melody=tuple(MelodyNote(start_beat=b, length_beats=n, key=key) for b, n, key in HOOK),
        chords=tuple(
            Chord(start_beat=float(beat), length_beats=end - beat, root=root, kind=kind)
            for (beat, root, kind), end in zip(CHORDS, ends, strict=True)
        ),
        length_beats=LENGTH_BEATS,
    )


def drum_notes() -> list[Note]:
    """Return the drums in beats: four to the floor, fills, crashes, a last stroke."""
    found = [Note(start=float(beat), length=1.0, key=key, velocity=v) for beat, key, v in CRASHES]
    found.append(Note(start=56.0, length=1.0, key=36, velocity=114))
    for (low, high), bars in DRUMS:
        for key, bar in bars.items():
            for start in range(low, high, 4):
                found += [
                    Note(start=start + offset, length=1.0, key=key, velocity=velocity)
                    for offset, _, velocity in read_hits(bar)
                    if key == 36 or int(start + offset) not in FILLS
                ]
    for beat, hits in FILLS.items():
        for hit in hits.split():
            key, times = hit.split("@")
            [(offset, length, velocity)] = read_hits(times)
            found.append(Note(start=beat + offset, length=length, key=int(key), velocity=velocity))
    return sorted(found, key=lambda n: (n.start, n.key))


def band(rng: np.random.Generator) -> list[Voicing]:
    """Return everything that is played, in seconds."""
    sheet = demo_sheet()

    def between(notes: Sequence[Note], *spans: tuple[float, float]) -> list[Note]:
        return [n for n in notes if any(low <= n.start < high for low, high in spans)]

    def last_chord(family: str) -> list[Note]:
        return between(comping(sheet, family, "pad", np.random.default_rng(0)), (56, 60))

    def part(stem: str, family: str, notes: Sequence[Note], **facts: float) -> Part:
        played = perform(notes, rng, beat_s=BEAT_S, jitter_s=0.001 if stem == "drums" else 0.005)
        return Part(stem=stem, family=family, notes=played, **facts)  # pyright: ignore[reportArgumentType]

    verse = between(bass_line(sheet, "syncopated", rng), (0, 24))
    chorus = between(bass_line(sheet, "octaves", rng), (30, 56))
    held = between(bass_line(sheet, "sustain", rng), (24, 30), (56, 60))
    keys = between(comping(sheet, "electric_piano", "block", rng), (0, 56)) + last_chord("electric_piano")
    strum = between(comping(sheet, "clean", "scratch", rng), (8, 24), (32, 56)) + last_chord("clean")
    strings = between(comping(sheet, "strings", "pad", rng), (24, 60))
    hook = [Note(start=n.start_beat, length=n.length_beats, key=n.key, velocity=96) for n in sheet.melody]
    drums = part("drums", "drums", drum_notes())
    return [
        Voicing(folder="drums_kits/karoryfer_mixed_acoustic", part=drums, gains={36: 3.0, 42: -1.0, 46: 1.0}),
        Voicing(folder="bass/pastabass_fingered_flat", part=part("bass", "bass", verse + held + chorus)),
        Voicing(folder="other/jrhodes", part=part("other", "electric_piano", keys, pan=-0.15)),
        Voicing(
            folder="other/emilyguitar_clean",
            part=part("other", "clean", strum, pan=0.45, gain_db=-5.0),
            drive_db=3.0,
        ),
        Voicing(
            folder="other/tremolo_strings",
            part=part("other", "strings", strings, pan=0.1, gain_db=-7.0),
            release_s=0.4,
        ),
        Voicing(
            folder="other/shinyguitar_electric",
            part=part("other", "lead", hook, pan=-0.35, gain_db=-3.0),
            drive_db=6.0,
        ),
    ]
