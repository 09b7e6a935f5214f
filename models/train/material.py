"""Training material as it lies on disk: which files there are, whose they are, who is held out.

Two layouts are read. *Indexed*: a folder with `index.json` (a row per file: category, licence,
attribution, doubt) and `multitrack/SONG/{drums,bass,other,vocals}.*`. *MUSDB18-HQ*: folders
`TRACK/{mixture,drums,bass,other,vocals}.wav`, at the root or under `train/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..stems import STEMS
from .audio_files import duration_s

INDEX = "index.json"
AUDIO_SUFFIXES = (".ogg", ".flac", ".wav")
UNRECORDED = "licence not recorded beside the material"
SALT = "11"
"""One of forty tried: with it, no class of voice (deep, high, sung, spoken) is held out as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFile:
    """One file of an indexed folder, with the facts that its row states."""

    path: Path
    category: str
    source: str
    """Key for `Shard.sources`: a folder or a file (without suffix) below the material's root."""
    seconds: float
    maker: str
    """Whose it is: what one maker made is never in both splits."""
    voice: str = ""
    stem: str = ""
    bpm: float = 0.0
    doubt: str = ""
    sex: str = ""
    floor_db: float = -60.0
    """Level of the quietest 3 % of the file below its loudest: near 0 for a held note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Song:
    """A recorded song whose stems lie in files of their own."""

    name: str
    source: str
    maker: str
    stems: tuple[tuple[str, Path], ...]
    """(part, file): the part is a stem, or stems joined by `+` where a file may hold more than one."""
    seconds: float


def read_rows(root: Path) -> list[dict]:
    """Return the rows of an indexed folder; none if the folder has no index.

    Raises: DataError if the folder is missing or its index is not a list of rows.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder: give the folder that holds the training material")
    path = root / INDEX
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "file" in row for row in rows):
        raise DataError(f"{path} must be a list of rows with 'file'")
    return rows


def files_of(root: Path, category: str) -> list[AudioFile]:
    """Return the indexed audio files of one category that are there, in the order of the index."""
    rows = read_rows(root)
    shared = {row.get("source") for row in rows if row.get("category") == "multitrack"}
    return [
        _audio_file(root, row, shared)
        for row in rows
        if row.get("category") == category
        and Path(row["file"]).suffix in AUDIO_SUFFIXES
        and (root / row["file"]).exists()
    ]


def _audio_file(root: Path, row: dict, shared: set) -> AudioFile:
    file = Path(row["file"])
    category = row["category"]
    # Produced tracks have a licence each; samples and voices have one per folder.
    source = file.with_suffix("") if category == "instrumental" else file.parent
    # Voices of a recorded song are heard in that song too: the song's maker decides for both.
    key = row.get("source") if row.get("source") in shared else row.get("attribution")
    return AudioFile(
        path=root / file,
        category=category,
        source=source.as_posix(),
        seconds=float(row.get("dur") or 0.0),
        maker=str(row.get("artist") or key or source),
        voice=str(row.get("voice") or ""),
        stem=str(row.get("stem") or ""),
        bpm=float(row.get("bpm") or 0.0),
        doubt=str(row.get("doubt") or ""),
        sex=str(row.get("sex") or ""),
        floor_db=float(row.get("floor_db") or -60.0),
    )


def songs_of(root: Path) -> list[Song]:
    """Return the songs with stems in either layout, sorted by name.

    In an indexed folder a song without a row is left out: nothing states its licence.
    """
    rows = read_rows(root)
    if rows:
        return _indexed_songs(root, rows)
    base = root / "train" if (root / "train").is_dir() else root
    songs = []
    for folder in sorted(path.parent for path in base.glob("*/mixture.wav")):
        stems = tuple((stem, folder / f"{stem}.wav") for stem in STEMS)
        missing = [path.name for _, path in stems if not path.exists()]
        if missing:
            raise DataError(f"{folder} has a mixture but no {', '.join(missing)}: complete or remove it")
        songs.append(
            Song(
                name=folder.name,
                source=f"{root.name}/{folder.relative_to(root).as_posix()}",
                maker=folder.name.split(" - ")[0],
                stems=stems,
                seconds=duration_s(folder / "mixture.wav"),
            )
        )
    return songs


def _indexed_songs(root: Path, rows: list[dict]) -> list[Song]:
    by_folder: dict[str, list[dict]] = {}
    for row in rows:
        if row.get("category") == "multitrack":
            by_folder.setdefault("/".join(Path(row["file"]).parts[:2]), []).append(row)
    songs = []
    for folder, members in sorted(by_folder.items()):
        files = {stem: _stem_file(root / folder, stem) for stem in STEMS}
        found = {stem: path for stem, path in files.items() if path is not None}
        if not found:
            continue
        doubts = " ".join(str(row.get("doubt") or "") for row in members)
        # The notes say where a song's bass line may be in `other`; then only their sum is known.
        joined = "bass" not in found and "other" in found and "hold the bass" in doubts
        stems = tuple(("bass+other" if joined and s == "other" else s, path) for s, path in found.items())
        row = members[0]
        songs.append(
            Song(
                name=Path(folder).name,
                source=folder,
                maker=str(row.get("composer") or row.get("source") or folder),
                stems=stems,
                seconds=max(float(r.get("dur") or 0.0) for r in members),
            )
        )
    return songs


def _stem_file(folder: Path, stem: str) -> Path | None:
    return next((p for suffix in AUDIO_SUFFIXES if (p := folder / f"{stem}{suffix}").exists()), None)


def held_out(
    items: Iterable[tuple[str, float]],
    *,
    share: float,
    largest: float,
    at_most: int | None = None,
    salt: str = SALT,
) -> frozenset[str]:
    """Return the makers whose work is kept for validation, whole.

    Makers are taken in the order of a hash of their name (so that adding material moves few of them)
    while the share of the total stays at or below `share`. Makers with more than `largest` of the
    total stay in training.  Args: items (maker, seconds or any other weight), one row per file;
    at_most: how many items may be held out in all.
    """
    weight: dict[str, float] = {}
    count: dict[str, int] = {}
    for maker, seconds in items:
        weight[maker] = weight.get(maker, 0.0) + seconds
        count[maker] = count.get(maker, 0) + 1
    total = sum(weight.values())
    taken: list[str] = []
    held, n_held = 0.0, 0
    for maker in sorted(weight, key=lambda name: hashlib.sha256(f"{salt}{name}".encode()).hexdigest()):
        fits = held + weight[maker] <= share * total and weight[maker] <= largest * total
        if fits and (at_most is None or n_held + count[maker] <= at_most):
            taken.append(maker)
            held += weight[maker]
            n_held += count[maker]
    return frozenset(taken)


def generator(seed: int, pool: str, name: str) -> np.random.Generator:
    """Return the random numbers of one shard: the same whatever was prepared before it."""
    digest = hashlib.sha256(f"{pool}/{name}".encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], np.uint32).tolist()])


def file_name(name: str) -> str:
    """Return a name with every character that some file system dislikes replaced by `_`."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def attributions(material: Path | Sequence[Path], source_keys: Iterable[str]) -> list[str]:
    """Return one line per source key, `key: attribution (licence)`, for a model card, sorted by key.

    A key is a folder or a file (without suffix) below the material's root, or the index's own source
    name. A folder without rows of its own gives the texts of its licence file's name, or says that
    its licence is not recorded: such a line needs a person's eye before weights are given away.
    """
    roots = [material] if isinstance(material, Path) else list(material)
    rows = [(root, row) for root in roots for row in read_rows(root)]
    return [f"{key}: {_attribution(key, roots, rows)}" for key in sorted(set(source_keys))]


def _attribution(key: str, roots: Sequence[Path], rows: list[tuple[Path, dict]]) -> str:
    found: dict[str, None] = {}
    for _, row in rows:
        file = row["file"]
        stem = file.rsplit(".", 1)[0] if file.endswith(AUDIO_SUFFIXES) else file
        if key in (stem, file, row.get("source")) or file.startswith(f"{key}/"):
            found[f"{row.get('attribution', UNRECORDED)} ({row.get('licence', UNRECORDED)})"] = None
    if found:
        return "; ".join(found)
    texts = [p.name for root in roots for p in sorted((root / key).glob("*")) if _is_licence(p)]
    return f"see {', '.join(texts)} in the material" if texts else UNRECORDED


def _is_licence(path: Path) -> bool:
    return path.name.upper().startswith(("LICEN", "COPYING", "CREDITS"))
