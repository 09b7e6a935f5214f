"""From folders of material to shards: every pool in turn, recorded music first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..errors import DataError, SpecError
from .material import read_rows, songs_of
from .real_music import prepare_instrumentals, prepare_multitrack, prepare_performances
from .shards import Shard, read_index
from .songs import prepare_songs
from .soundfont import prepare_soundfont
from .voices import prepare_voices

POOLS = ("multitrack", "performances", "instrumental", "voices", "songs")
"""In the order in which they are made: what is made fastest comes first, so that training can start."""

Progress = Callable[[str], None]


def prepare(
    material: Path | Sequence[Path],
    out: Path,
    *,
    songs_minutes: float,
    voices_minutes: float,
    seed: int,
    pools: Collection[str] | None = None,
    soundfonts: Sequence[Path] = (),
    soundfont_minutes: float = 30.0,
    progress: Progress = lambda line: None,
) -> list[Shard]:
    """Return the rows of all shards below `out` after making those that are missing.

    Every folder gives its songs with stems (indexed or MUSDB18-HQ); loops, instrumentals, voices and
    rendered songs come from the indexed folders, the minutes shared equally among them. A second call with
    the same arguments makes only what the first one did not finish.
    Args: pools: which of POOLS, None for all. soundfonts: .sf2 files that the MIDI songs are rendered
    through as well, `soundfont_minutes` for each.
    Raises: SpecError for an unknown pool or negative minutes; DataError for a folder without material.
    """
    wanted = set(POOLS if pools is None else pools)
    if unknown := wanted - set(POOLS):
        raise SpecError(f"pools {', '.join(sorted(unknown))}: known are {', '.join(POOLS)}")
    if min(songs_minutes, voices_minutes) < 0:
        raise SpecError(f"minutes must not be negative, got {songs_minutes} and {voices_minutes}")
    roots = [material] if isinstance(material, Path) else list(material)
    indexed = [root for root in roots if read_rows(root)]
    for root in roots:
        if root not in indexed and not songs_of(root):
            raise DataError(f"{root} holds neither index.json nor TRACK/mixture.wav with stems beside it")
    out.mkdir(parents=True, exist_ok=True)
    for root in roots if "multitrack" in wanted else ():
        prepare_multitrack(root, out, seed=seed, progress=progress)
    for i, root in enumerate(indexed):
        if "performances" in wanted:
            prepare_performances(root, out, seed=seed, progress=progress)
        if "instrumental" in wanted:
            prepare_instrumentals(root, out, progress=progress)
        if "voices" in wanted:
            prepare_voices(root, out, minutes=voices_minutes / len(indexed), seed=seed + i, progress=progress)
    for i, root in enumerate(indexed if "songs" in wanted else ()):
        prepare_songs(root, out, songs_minutes / len(indexed), seed + i, progress)
        for soundfont in soundfonts:
            minutes = soundfont_minutes / len(indexed)
            prepare_soundfont(soundfont, root, out, minutes=minutes, seed=seed + i, progress=progress)
    return read_index(out)
