"""Catalogue: which kits, basses, instruments, drum takes and scores a song of one split may use.

What is held out for `valid` is never in a `train` song: instruments by name, scores and takes by a hash.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrange import family_of
from .notes import Take, list_takes
from .sampler import Instrument, load_instrument

HELD_OUT = frozenset(
    {
        "pearl_master_studio", "tr505", "killer_bass_fingered", "martin_hd28_steel", "vs_upright_piano",
        "wurlitzer_ep200", "winer_cello", "mtg_tenor_sax", "unitra_organ_violin",
    }
)  # fmt: skip
"""Instruments that only `valid` songs use: one or two of each class."""
KIT_WEIGHTS = {
    "discord_standard_kit": 5.0, "muldjord_kit": 5.0, "gogodze_phu_2": 5.0, "karoryfer_mixed_acoustic": 5.0,
    "pearl_master_studio": 5.0, "cr78": 0.3, "mrk2": 0.3, "tr505": 0.3, "ethan_winer_percussion": 0.2,
    "gogodze_phu_1_cajon_bobobo": 0.4,
}  # fmt: skip
"""How often a kit is drawn: acoustic kits before drum machines; a kit not named here counts 1."""
BASS_WEIGHTS = {
    "unitra_organ_bass_16_1": 0.3,
    "unitra_organ_bass_all": 0.3,
    "meatbass_pizz": 0.5,
    "growlybass_staccato": 0.5,
    "pastabass_muted": 0.5,
}
SCORE_FOLDERS = ("freedoom", "blasphemer")
GUITARS = ("clean", "crunch", "distorted", "lead")
STAND_INS = {
    "distorted": (
        "clean",
        "acoustic",
    ),
    "crunch": (
        "clean",
        "acoustic",
    ),
    "clean": ("acoustic",),
    "lead": (
        "clean",
        "acoustic",
    ),
    "acoustic": ("clean",),
    "organ": (
        "synth",
        "electric_piano",
    ),
    "electric_piano": ("piano",),
    "piano": ("electric_piano",),
    "strings": (
        "synth",
        "organ",
    ),
    "brass": (
        "flute",
        "strings",
    ),
    "flute": (
        "brass",
        "strings",
    ),
    "synth": (
        "organ",
        "strings",
    ),
    "bells": (
        "electric_piano",
        "piano",
    ),
}
"""Families that play a part whose own family the material lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Everything that songs of one split are made from; `key_of` gives a folder's key for attributions."""

    root: Path
    split: str
    kits: tuple[Instrument, ...]
    snares: tuple[Instrument, ...]
    basses: tuple[Instrument, ...]
    others: tuple[Instrument, ...]
    takes: tuple[Take, ...]
    sheets: tuple[Path, ...]
    scores: tuple[Path, ...]
    impulses: tuple[Path, ...]

    def key_of(self, path: Path) -> str:
        """Return a folder below the material's root as `Shard.sources` names it."""
        return path.relative_to(self.root).as_posix()

    def top_key_of(self, path: Path) -> str:
        """Return the key of a file that lies deeper: category and folder only."""
        return "/".join(path.relative_to(self.root).parts[:2])

    def source_of(self, instrument: Instrument) -> str:
        """Return the key of an instrument's folder."""
        return self.key_of(instrument.regions[0].path.parent)

    def of_family(self, family: str) -> tuple[Instrument, ...]:
        """Return the instruments that can play a family's part, stand-ins if there are none, else all."""
        for name in (family, *STAND_INS.get(family, ())):
            found = tuple(i for i in self.others if name in families(i))
            if found:
                return found
        return self.others


def families(instrument: Instrument) -> frozenset[str]:
    """Return the families of parts that an instrument can play, by its General MIDI programs."""
    found = {family for program in instrument.gm_programs if (family := family_of(program))}
    return frozenset(found | set(GUITARS) if found & {"clean", "distorted"} else found)


def in_split(name: str, split: str) -> bool:
    """Return whether a score belongs to a split: one in ten, by a hash of its name, is `valid`."""
    held = hashlib.sha256(name.encode()).digest()[0] % 10 == 0
    return held == (split == "valid")


def draw(rng: np.random.Generator, items: tuple[Instrument, ...], weights: dict[str, float]) -> Instrument:
    """Return one instrument at random, likelier by weight (1 where none is given)."""
    w = np.array([weights.get(item.name, 1.0) for item in items])
    return items[int(rng.choice(len(items), p=w / w.sum()))]


def _instruments(root: Path, category: str, split: str) -> tuple[Instrument, ...]:
    folders = sorted(path.parent for path in (root / category).glob("*/instrument.json"))
    held = HELD_OUT & {folder.name for folder in folders}
    if not held and len(folders) > 1:  # other material than ours: the last by name is held out
        held = {folders[-1].name}
    return tuple(load_instrument(f) for f in folders if (f.name in held) == (split == "valid"))


@functools.lru_cache(maxsize=4)
def catalogue(root: Path, split: str) -> Catalogue:
    """Return what a material folder offers to songs of a split; DataError if drums or bass are missing."""
    drums = _instruments(root, "drums_kits", split)
    kits = tuple(kit for kit in drums if {35, 36} & kit.keys)
    basses, others = _instruments(root, "bass", split), _instruments(root, "other", split)
    if not kits or not basses or not others:
        raise DataError(
            f"{root}: {len(kits)} kits, {len(basses)} basses, {len(others)} other instruments for split"
            f" '{split}'; songs need one of each in drums_kits/, bass/ and other/"
        )
    takes = [
        t for table in sorted((root / "drums_midi").glob("*/info.csv")) for t in list_takes(table.parent)
    ]
    scores = [p for name in SCORE_FOLDERS for p in sorted((root / "midi_songs" / name).glob("*.mid"))]
    sheets = sorted((root / "midi_songs").glob("*leadsheets/*.json"))
    return Catalogue(
        root=root,
        split=split,
        kits=kits,
        snares=tuple(kit for kit in drums if not {35, 36} & kit.keys and 38 in kit.keys),
        basses=basses,
        others=others,
        takes=tuple(t for t in takes if (t.split == "test") == (split == "valid")),
        sheets=tuple(p for p in sheets if in_split(p.stem, split)),
        scores=tuple(p for p in scores if in_split(p.stem, split)),
        impulses=tuple(sorted((root / "ir").glob("**/*.flac"))),
    )
