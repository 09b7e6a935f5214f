"""Rendering of one file: source -> pipeline -> effects and faders of a preset -> one sink per stem."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..models.stems import STEMS
from .disk import check_free_space, output_error
from .errors import ConfigError, OutputError
from .files import AudioSink, AudioSource, SinkFormat
from .pipeline import Pipeline, Separator
from .preset_sound import OnInsert, PresetSound, StemSound
from .quantise import full_scale_gain, quantise_stems
from .units import db_from_gain

ClipMode = Literal["attenuate", "none", "clamp", "rescale"]
MIX = "mix"
"""Name of the file with the sum of all stems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSettings:
    """How a file is rendered.

    clip_mode says what becomes of stems above full scale (a stem can be louder than its mixture):
    attenuate: all stems of the file by one gain, so that they sum to gain x mixture; float32 needs none.
    none: nothing; float32 keeps the values, integers saturate and the report counts them.
    clamp: limited to full scale, also in float32.  rescale: each stem by its own gain, which breaks the sum.
    two_stems: a stem's name gives that stem and `no_NAME`, the sum of the others.
    with_mix: their sum as well.  sound: a preset that all stems go through before; None changes no bit.
    """

    sink_format: SinkFormat = SinkFormat()  # noqa: RUF009  frozen
    clip_mode: ClipMode = "attenuate"
    two_stems: str | None = None
    live: bool = False
    with_mix: bool = False
    sound: PresetSound | None = None

    def __post_init__(self) -> None:
        if self.two_stems is not None and self.two_stems not in STEMS:
            raise ConfigError(f"there is no stem '{self.two_stems}': choose one of {', '.join(STEMS)}")
        if self.clip_mode not in get_args(ClipMode):
            modes = ", ".join(get_args(ClipMode))
            raise ConfigError(f"there is no clip mode '{self.clip_mode}': choose one of {modes}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files' stems, in the order in which they are written."""
        stems = STEMS if self.two_stems is None else (self.two_stems, f"no_{self.two_stems}")
        return (*stems, MIX) if self.with_mix else stems

    @property
    def needs_peaks_first(self) -> bool:
        """Whether the gain of the first sample depends on the last one."""
        exact = self.sink_format.container == "wav" and self.sink_format.subtype == "float32"
        return self.clip_mode == "rescale" or (self.clip_mode == "attenuate" and not exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What rendering one file gave. Levels are those before `gains_db`; -inf is silence."""

    source: Path
    targets: dict[str, Path]
    rate_hz: int
    n_channels: int
    n_samples: int
    taken_s: float
    peaks_db: dict[str, float]
    gains_db: dict[str, float]
    n_saturated: int
    warnings: tuple[str, ...]

    @property
    def audio_s(self) -> float:
        """Length of the file in seconds."""
        return self.n_samples / self.rate_hz

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second taken."""
        return self.audio_s / max(self.taken_s, 1e-9)


def render_file(
    path: Path,
    targets: Mapping[str, Path],
    separator: Separator,
    settings: RenderSettings,
    on_progress: Callable[[float], None] = lambda audio_s: None,
    on_insert: OnInsert = lambda number: None,
) -> FileReport:
    """Return the report of one file rendered to `targets` (one path for each of `settings.names`).

    All targets appear together once all are complete; if anything fails none does, and older files of these
    names stay as they are. `on_progress` gets seconds of audio done since its last call.
    Raises: InputError, OutputError, EffectError, and what the separator raises.
    """
    started = time.perf_counter()
    targets = {name: targets[name] for name in settings.names}
    with AudioSource(path) as source, ExitStack() as stack:
        for target in targets.values():
            if target.exists() and target.samefile(path):
                raise OutputError(target, "is the input itself: choose another -o or --filename")
        _check_space(source, targets, settings)
        pipeline = Pipeline(
            separator, rate_hz=source.rate_hz, n_channels=source.n_channels, live=settings.live
        )
        sound = StemSound(
            settings.sound or PresetSound(),
            rate_hz=source.rate_hz,
            n_channels=source.n_channels,
            on_insert=on_insert,
        )
        writer = _StemWriter(targets, source, settings, stack)
        for block in source.blocks():
            writer.write(_named_stems(sound.push(pipeline.push(block)), settings))
            on_progress(block.shape[1] / source.rate_hz)
        writer.write(_named_stems(sound.push(pipeline.finish()), settings))
        writer.write(_named_stems(sound.finish(), settings))
        gains = writer.complete()
        return FileReport(
            source=path,
            targets=targets,
            rate_hz=source.rate_hz,
            n_channels=source.n_channels,
            n_samples=writer.n_samples,
            taken_s=time.perf_counter() - started,
            peaks_db=_in_db(settings, np.maximum(writer.highest, -writer.lowest)),
            gains_db=_in_db(settings, gains),
            n_saturated=writer.n_saturated,
            warnings=(*source.warnings, *sound.resets),
        )


def _in_db(settings: RenderSettings, linear: np.ndarray) -> dict[str, float]:
    return {name: db_from_gain(float(v)) for name, v in zip(settings.names, linear, strict=True)}


def _named_stems(stems: np.ndarray, settings: RenderSettings) -> np.ndarray:
    """Return what is written: the four stems, or one of them and the sum of the others; and their sum."""
    named = [stems]
    if settings.two_stems is not None:
        index = STEMS.index(settings.two_stems)
        named = [stems[index : index + 1], _sum(np.delete(stems, index, axis=0))]
    if settings.with_mix:
        named.append(_sum(stems))
    return np.concatenate(named) if len(named) > 1 else stems


def _sum(stems: np.ndarray) -> np.ndarray:
    return stems.sum(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)


def _check_space(source: AudioSource, targets: Mapping[str, Path], settings: RenderSettings) -> None:
    """Refuse a job that cannot fit; flac and mp3 count with their temporary file only."""
    per_value = settings.sink_format.sample_bytes if settings.sink_format.container == "wav" else 0
    per_value += 4 if settings.needs_peaks_first else 0
    n_values = (source.seconds or 0.0) * source.rate_hz * source.n_channels * len(targets)
    check_free_space(next(iter(targets.values())).parent, int(per_value * n_values))


class _StemWriter:
    """The sinks of one file; keeps the stems in a nameless temporary file where the gain must wait."""

    def __init__(
        self, targets: Mapping[str, Path], source: AudioSource, settings: RenderSettings, stack: ExitStack
    ) -> None:
        self._settings = settings
        n_samples = None if source.seconds is None else round(source.seconds * source.rate_hz)
        self._sinks = [
            stack.enter_context(
                AudioSink(target, source.rate_hz, source.n_channels, n_samples, settings.sink_format)
            )
            for target in targets.values()
        ]
        folder = next(iter(targets.values())).parent
        self._spool = stack.enter_context(_Spool(folder)) if settings.needs_peaks_first else None
        self.highest = np.zeros(len(self._sinks))
        self.lowest = np.zeros(len(self._sinks))
        self.n_samples = 0
        self.n_saturated = 0

    def write(self, stems: np.ndarray) -> None:
        """Take the next (stem, channel, sample)."""
        if not stems.shape[-1]:
            return
        self.n_samples += stems.shape[-1]
        self.highest = np.maximum(self.highest, stems.max(axis=(1, 2)))
        self.lowest = np.minimum(self.lowest, stems.min(axis=(1, 2)))
        if self._spool:
            self._spool.push(stems)
        else:
            self._to_sinks(stems, np.ones(len(self._sinks)))

    def complete(self) -> np.ndarray:
        """Return the gain of each stem after all files have got their names."""
        gains = self._gains()
        if self._spool:
            for stems in self._spool.pop_all():
                self._to_sinks(stems, gains)
        for sink in self._sinks:
            sink.finish()
        for done, sink in enumerate(self._sinks):
            try:
                sink.commit()
            except OutputError:
                for earlier in self._sinks[:done]:
                    earlier.target.unlink(missing_ok=True)
                raise
        return gains

    def _gains(self) -> np.ndarray:
        if not self._spool:
            return np.ones(len(self._sinks))
        bits = self._settings.sink_format.bits or 24  # mp3 and float32: full scale to a 24-bit step
        pairs = zip(self.highest, self.lowest, strict=True)
        gains = np.array([full_scale_gain(float(high), float(low), bits) for high, low in pairs])
        return gains if self._settings.clip_mode == "rescale" else np.full_like(gains, gains.min())

    def _to_sinks(self, stems: np.ndarray, gains: np.ndarray) -> None:
        bits = self._settings.sink_format.bits
        if bits is None:
            out = stems if np.all(gains == 1.0) else stems * gains.astype(np.float32)[:, None, None]
            out = np.clip(out, -1.0, 1.0) if self._settings.clip_mode == "clamp" else out
        elif self._settings.clip_mode == "rescale":  # no sum to keep: each stem is rounded by itself
            parts = [quantise_stems(stems[i : i + 1], gain, bits) for i, gain in enumerate(gains)]
            out = np.concatenate([part for part, _ in parts])
        else:
            n_stems = len(self._sinks) - self._settings.with_mix  # which sum to something; the mix is the sum
            rows = np.split(stems, [n_stems]) if self._settings.with_mix else [stems]
            parts = [quantise_stems(row, float(gains[0]), bits) for row in rows]
            out = np.concatenate([part for part, _ in parts])
            self.n_saturated += sum(n for _, n in parts)
        for sink, samples in zip(self._sinks, out, strict=True):
            sink.write(samples)


class _Spool:
    """Stems on disk in a file without a name: nothing is left of it, however the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shapes: list[tuple[int, ...]] = []
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  closed by __exit__
        except OSError as error:
            raise output_error(folder, error) from error

    def push(self, stems: np.ndarray) -> None:
        """Keep (stem, channel, sample) float32. Raises: OutputError if the disk takes no more."""
        view = np.ascontiguousarray(stems).data.cast("B")
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise output_error(self._folder, error) from error
        self._shapes.append(stems.shape)

    def pop_all(self) -> Iterator[np.ndarray]:
        """Yield what was pushed, in the same pieces."""
        self._file.seek(0)
        for shape in self._shapes:
            stems = np.empty(shape, np.float32)
            view = stems.data.cast("B")
            while view:
                n_read = self._file.readinto(view)
                if not n_read:
                    raise OutputError(self._folder, "the temporary file lost its end: check the disk")
                view = view[n_read:]
            yield stems

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
