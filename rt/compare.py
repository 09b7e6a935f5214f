"""`stemrack compare`: the quality table of profiles and their networks, and what each part is worth.

Everything runs as it is deployed: the profile's runners, state carried through whole songs, mixture
consistency last. The whole of each profile is looked at closer: quality since a reset, leakage, ablations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ..models.profiles import SPECTRAL, Profile, load_profile
from ..models.stems import MODEL_RATE_HZ, STEMS
from ..models.train.comparison import (
    leakage_inputs,
    level_dbfs,
    mean_present,
    restart_slices,
    sdr_by_age_db,
)
from ..models.train.evaluation import MeanScore, mean_score, mixture_as_estimate, oracle_ratio_mask
from .errors import ConfigError, InputError
from .evaluate import (
    Evaluated,
    Multitrack,
    Separate,
    evaluate_song,
    find_multitracks,
    load_multitrack,
    piped,
)
from .files import AudioSource
from .pipeline import PIECE_S, Separator
from .screen import Job, job_progress
from .separate import Ablation, load_separator

FORGETTING_S = (0.5, 1.0, 2.0, 4.0)
"""Memories of the Wiener filter that the ablation tries."""


class Load(Protocol):
    """What makes separators; `separate.load_separator` is one, a test's another."""

    def __call__(
        self, profile: str, runner: str, weights: Path | None, *, ablation: Ablation | None = None
    ) -> Separator: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One row of a table: what it is called, and what makes its separator when its turn comes."""

    profile: str
    name: str
    separate: Callable[[], Separate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A system's songs, scored."""

    profile: str
    system: str
    songs: list[Evaluated]

    @property
    def mean(self) -> MeanScore:
        """Means over the songs, per stem."""
        return mean_score([song.score for song in self.songs])

    @property
    def bsseval_sdr_db(self) -> tuple[float | None, ...]:
        """Median over the songs of BSSEval's medians, per stem; None where it was not measured."""
        columns = [[(song.bsseval_sdr_db or {}).get(stem) for song in self.songs] for stem in STEMS]
        present = [[v for v in column if v is not None] for column in columns]
        return tuple(float(np.median(column)) if column else None for column in present)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinceReset:
    """SDR in stretches of time since a reset, means over songs and restarts.

    Shape: both (age, stem); NaN where nothing could be measured.
    """

    n_restarts: int
    sdr_db: np.ndarray
    gain_db: np.ndarray
    """SDR less that of the stream that was never reset, over the same samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Levels in dBFS (RMS) of a song's input that lacks stems, and of the estimates of those stems."""

    song: str
    heard: str
    """`instrumental` or `vocals`."""
    level_dbfs: float
    leaks_dbfs: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that `stemrack compare` measures; what is by profile, by the name it was asked for."""

    rows: list[Measured]
    since_reset: dict[str, SinceReset]
    leakage: dict[str, list[Leakage]]
    ablations: dict[str, list[Measured]]
    """The first of each is the profile as it stands."""


def without_consistency(separator: Separator) -> Separate:
    """Return a Separate that gives what the separator says as it says it.

    Raises: ValueError (while separating) for a song that is not stereo at the model's rate.
    """

    def separate(mixture: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
        if rate_hz != MODEL_RATE_HZ or mixture.shape[0] != 2:
            raise ValueError(f"without consistency only stereo at {MODEL_RATE_HZ} Hz can be separated")
        n, late, hop = mixture.shape[-1], separator.latency_samples, separator.hop
        n_whole = -(-(n + late) // hop) * hop
        heard = np.pad(mixture.astype(np.float32), ((0, 0), (0, n_whole - n)))
        state, piece = separator.init_state(), 64 * max(1, round(PIECE_S * rate_hz / hop / 64)) * hop
        for start in range(0, n_whole, piece):
            y, _ = separator.run(np.ascontiguousarray(heard[:, start : start + piece]), state)
            yield y[..., max(0, late - start) : max(0, n + late - start)]

    return separate


def whole_answer(separator: Separator) -> Callable[[np.ndarray], np.ndarray]:
    """Return what answers to a whole stereo mixture at the model's rate, each from a fresh state.

    Shape: (2, sample) -> (stem, 2, sample), time-aligned, without consistency.
    """
    separate = without_consistency(separator)
    return lambda mixture: np.concatenate(list(separate(mixture, MODEL_RATE_HZ)), axis=-1)


def systems_of(name: str, weights: Path | None, runner: str, load: Load) -> list[System]:
    """Return the rows of a profile: each network alone, `fast` where it is another choice, and the whole.

    The whole is the last, whatever the profile has.  Raises: ConfigError as `check_weights` does.
    """
    profile = load_profile(name)
    check_weights(profile, weights)
    base = name.partition(":")[0]
    several = len(profile.kinds) > 1
    alone = [(kind, f"{base}:{kind}") for kind in profile.kinds] if several else []
    if _has_fast(profile):
        alone.append(("fast", f"{base}:{'+'.join(profile.fast)}"))
    whole = "blend" if several else "".join(profile.kinds)
    return [
        System(profile=name, name=row, separate=partial(_piped_from, load, selected, runner, weights))
        for row, selected in [*alone, (whole, name)]
    ]


def ablations_of(name: str, weights: Path | None, runner: str, load: Load) -> list[System]:
    """Return what the ablation table has besides the whole profile and its `fast` mode."""
    profile = load_profile(name)
    changes: list[tuple[str, str, Ablation | None]] = []
    if any(kind in SPECTRAL for kind in profile.kinds):
        changes.append(("no Wiener filter", runner, Ablation(wiener=False)))
        changes += [
            (f"forgetting time {s:g} s", runner, Ablation(forget_s=s))
            for s in FORGETTING_S
            if s != profile.forget_s
        ]
    if "xumx" in profile.kinds:  # the one network with an int8 form
        is_int8 = runner in ("auto", "int8-cpu")
        changes.append(("no int8", "onnx-cpu", None) if is_int8 else ("int8", "int8-cpu", None))
    systems = [
        System(profile=name, name=row, separate=partial(_piped_from, load, name, engine, weights, ablation))
        for row, engine, ablation in changes
    ]
    bare = System(
        profile=name,
        name="no consistency",
        separate=lambda: without_consistency(load(name, runner, weights)),
    )
    return [*systems, bare]


def check_weights(profile: Profile, weights: Path | None) -> None:
    """Refuse one file for a profile of several networks, which run one by one here.

    Raises: ConfigError.
    """
    if weights is not None and not weights.is_dir() and len(profile.kinds) > 1:
        names = ", ".join(f"{member.weights}.safetensors" for member in profile.members)
        raise ConfigError(f"profile '{profile.name}' needs a folder for --weights, with {names}")


def _has_fast(profile: Profile) -> bool:
    return set(profile.fast) < set(profile.kinds)


def _piped_from(
    load: Load, name: str, runner: str, weights: Path | None, ablation: Ablation | None = None
) -> Separate:
    return piped(load(name, runner, weights, ablation=ablation))


def baselines(songs: Sequence[Multitrack], *, museval: bool, job: Job) -> list[Measured]:
    """Return the scores of the mixture as each stem's estimate, and of ideal ratio masks."""
    rows = []
    for name in ("mixture", "oracle"):
        found = []
        for song in songs:
            job.describe(f"{name}: {song.name}")
            separate = _mixture if name == "mixture" else partial(_oracle, song)
            found.append(evaluate_song(song, separate, museval=museval, advance=job.advance))
        rows.append(Measured(profile="", system=name, songs=found))
    return rows


def _mixture(mixture: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
    yield mixture_as_estimate(mixture)


def _oracle(song: Multitrack, mixture: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
    references, _, _ = load_multitrack(song)
    yield oracle_ratio_mask(references, mixture)


class _Closer:
    """Collects quality since a reset and leakage while a system's songs are evaluated."""

    def __init__(self, separate: Separate, advance: Callable[[float], None]) -> None:
        self._separate, self._advance = separate, advance
        self._pieces: list[np.ndarray] = []
        self._sdr_db: list[np.ndarray] = []
        self._gain_db: list[np.ndarray] = []
        self.leakage: list[Leakage] = []

    def separate(self, mixture: np.ndarray, rate_hz: int) -> Iterator[np.ndarray]:
        """Yield what the system yields, and keep it for `look`."""
        self._pieces = []
        for piece in self._separate(mixture, rate_hz):
            self._pieces.append(piece)
            yield piece

    def look(self, song: Multitrack) -> None:
        """Measure the song that was separated last."""
        references, mixture, rate_hz = load_multitrack(song)
        carried = np.concatenate(self._pieces, axis=-1)
        for part in restart_slices(mixture.shape[-1], rate_hz):
            own = {stem: x[:, part] for stem, x in references.items()}
            fresh = self._estimates(mixture[:, part], rate_hz)
            sdr_db = sdr_by_age_db(own, fresh, mixture[:, part], rate_hz)
            never_reset_db = sdr_by_age_db(own, carried[..., part], mixture[:, part], rate_hz)
            self._sdr_db.append(sdr_db)
            self._gain_db.append(sdr_db - never_reset_db)
        for heard, (x, silent) in leakage_inputs(references).items():
            estimates = self._estimates(x, rate_hz)
            leaks = {stem: level_dbfs(estimates[STEMS.index(stem)]) for stem in silent}
            found = Leakage(song=song.name, heard=heard, level_dbfs=level_dbfs(x), leaks_dbfs=leaks)
            self.leakage.append(found)

    def since_reset(self) -> SinceReset:
        """Return the means over all that was looked at."""
        return SinceReset(
            n_restarts=len(self._sdr_db),
            sdr_db=mean_present(self._sdr_db),
            gain_db=mean_present(self._gain_db),
        )

    def _estimates(self, x: np.ndarray, rate_hz: int) -> np.ndarray:
        pieces = []
        for piece in self._separate(x, rate_hz):
            pieces.append(piece)
            self._advance(piece.shape[-1] / rate_hz)
        return np.concatenate(pieces, axis=-1)


def compare(
    songs: Sequence[Multitrack],
    profiles: Sequence[str],
    *,
    weights: Path | None = None,
    runner: str = "auto",
    museval: bool = False,
    ablate: bool = False,
    load: Load = load_separator,
) -> Comparison:
    """Return all figures of some profiles on some songs; shows a progress bar meanwhile.

    Raises: InputError, and what loading profiles and weights raises.
    """
    systems = {name: systems_of(name, weights, runner, load) for name in profiles}
    ablations = {name: ablations_of(name, weights, runner, load) if ablate else [] for name in profiles}
    n_systems = sum(len(s) for s in (*systems.values(), *ablations.values()))
    total_s = sum(map(_work_s, songs, [n_systems] * len(songs), [len(profiles)] * len(songs)))
    found = Comparison(rows=[], since_reset={}, leakage={}, ablations={})
    with job_progress("compare", total=total_s) as job:
        for name in profiles:
            own = [_measured(system, songs, museval, job) for system in systems[name][:-1]]
            closer = _Closer(systems[name][-1].separate(), job.advance)
            whole = _measured(systems[name][-1], songs, museval, job, closer)
            found.rows.extend([*own, whole])
            found.since_reset[name], found.leakage[name] = closer.since_reset(), closer.leakage
            if ablate:
                changed = [_measured(system, songs, False, job) for system in ablations[name]]
                found.ablations[name] = [whole, *changed, *(m for m in own if m.system == "fast")]
        found.rows.extend(baselines(songs, museval=museval, job=job))
    return found


def _measured(
    system: System, songs: Sequence[Multitrack], museval: bool, job: Job, closer: _Closer | None = None
) -> Measured:
    separate = closer.separate if closer else system.separate()
    found = []
    for song in songs:
        job.describe(f"{system.profile}, {system.name}: {song.name}")
        found.append(evaluate_song(song, separate, museval=museval, advance=job.advance))
        if closer:
            closer.look(song)
    return Measured(profile=system.profile, system=system.name, songs=found)


def _work_s(song: Multitrack, n_systems: int, n_profiles: int) -> float:
    """Return the seconds of music that one song means for the progress bar."""
    with AudioSource(next(iter(song.stems.values()))) as source:
        n, rate_hz = source.n_samples or 0, source.rate_hz
    restarts = sum(part.stop - part.start for part in restart_slices(n, rate_hz))
    leaks = 2 * n if "vocals" in song.stems and len(song.stems) > 1 else 0
    return ((2 + n_systems) * n + n_profiles * (restarts + leaks)) / rate_hz


def checked_songs(folder: Path, limit: int | None, *, ablate: bool) -> list[Multitrack]:
    """Return the first songs of a folder.

    Raises: InputError if there are none, or if ablations meet one that is not stereo at the model's rate.
    """
    songs = find_multitracks(folder)[:limit]
    for song in songs if ablate else []:
        with AudioSource(next(iter(song.stems.values()))) as source:
            if (source.rate_hz, source.n_channels) != (MODEL_RATE_HZ, 2):
                raise InputError(
                    folder / song.name, f"is not stereo at {MODEL_RATE_HZ} Hz: leave --ablate out"
                )
    return songs
