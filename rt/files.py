"""Sound files in and out, block by block; soundfile's one home.

`AudioSource` reads wav, flac, mp3, ogg, aiff and what else libsndfile knows, the rest through ffmpeg.
`AudioSink` writes under a temporary name beside the target, which appears only when it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import soundfile

from .disk import PartFile, output_error
from .errors import ConfigError, InputError, OutputError
from .ffmpeg import FfmpegReader

BLOCK_SAMPLES = 1 << 16
RATE_LIMITS_HZ = (4_000, 768_000)
WAV_LIMIT_BYTES = (1 << 32) - (1 << 20)
"""Sizes in a WAV header are 32 bits; a mebibyte is left for the chunks beside the samples."""

SFC_UPDATE_HEADER_NOW = 0x1060
"""libsndfile's command (sndfile.h)."""
FLAC_LENGTH_AT = 21
"""Offset of the four bits, then four bytes, that hold the length (RFC 9639, 8.2)."""
FLAC_FRAME_SAMPLES = 4096
"""Of libsndfile's encoder."""

MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


class _Reader(Protocol):
    """What `AudioSource` needs of a decoder; `n_samples` is None where only an estimate is known."""

    rate_hz: int
    n_channels: int
    n_samples: int | None
    estimated_samples: int | None
    warnings: list[str]

    def read(self, n: int) -> np.ndarray: ...

    def check_end(self, n_read: int) -> None: ...

    def close(self) -> None: ...


class AudioSource:
    """A mono or stereo sound file being read: rate, channels, length and its samples in order.

    Use as a context manager. `n_samples` is None where the container does not tell it exactly, `seconds` may
    be an estimate; `warnings` gets a line for everything odd that did not prevent reading.
    Raises: InputError for a file that is missing, empty, no sound, or of a shape that cannot be separated.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        _check_readable(self.path)
        self._reader = _open_reader(self.path)
        self.rate_hz = self._reader.rate_hz
        self.n_channels = self._reader.n_channels
        self.n_samples = self._reader.n_samples
        try:
            _check_shape(self)
        except InputError:
            self.close()
            raise

    @property
    def warnings(self) -> list[str]:
        """Lines about what is odd, complete once all blocks are read."""
        return self._reader.warnings

    @property
    def seconds(self) -> float | None:
        """Length as far as the container tells."""
        n = self._reader.estimated_samples
        return None if n is None else n / self.rate_hz

    def blocks(self, n: int = BLOCK_SAMPLES) -> Iterator[np.ndarray]:
        """Yield the samples as (channels, up to n) float32, full scale 1.0, until the end.

        Raises: InputError for damage, for a file cut short, and for NaN or infinity.
        """
        position = 0
        while (rows := self._reader.read(n)).shape[0]:
            good = np.isfinite(rows).all(axis=1)
            if not good.all():
                first = position + int(np.argmin(good))
                reason = f"sample {first} is NaN or infinite: repair the file or export it anew"
                raise InputError(self.path, reason)
            yield np.ascontiguousarray(rows.T)
            position += rows.shape[0]
        self._reader.check_end(position)
        if position == 0:
            raise InputError(self.path, "holds no samples")

    def close(self) -> None:
        """Let the file go; may be called twice."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _SoundfileReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = soundfile.SoundFile(path)
        self.rate_hz: int = self._file.samplerate
        self.n_channels: int = self._file.channels
        self.n_samples: int | None = self._file.frames
        self.estimated_samples = self.n_samples
        self.warnings: list[str] = []
        # libsndfile reads a WAV or AIFF that lost its end as if it were whole; only its log tells
        log = self._file.extra_info
        promised = re.search(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
        if promised and int(promised[1]) < 0x7FFF_0000:  # above: what a pipe writes when it does not know
            self.warnings.append(f"cut short: {promised[2]} of {promised[1]} promised bytes are there")

    def read(self, n: int) -> np.ndarray:
        try:
            return self._file.read(n, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise InputError(self._path, f"damaged or cut short ({_reason(error)})") from error

    def check_end(self, n_read: int) -> None:
        if self.n_samples is not None and n_read < self.n_samples:
            raise InputError(self._path, f"cut short: {n_read} of {self.n_samples} samples are there")

    def close(self) -> None:
        self._file.close()


def _open_reader(path: Path) -> _Reader:
    try:
        return _SoundfileReader(path)
    except soundfile.LibsndfileError:
        return FfmpegReader(path)
    except (TypeError, ValueError):  # soundfile takes a suffix like .raw for headerless and asks for its rate
        return FfmpegReader(path)


def _check_readable(path: Path) -> None:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise InputError(path, "is a folder: name the files in it")
        if size == 0 and path.is_file():
            raise InputError(path, "is empty")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise InputError(path, "no such file") from error
    except OSError as error:
        raise InputError(path, f"cannot be opened ({error.strerror})") from error


def _check_shape(source: AudioSource) -> None:
    low, high = RATE_LIMITS_HZ
    if not low <= source.rate_hz <= high:
        reason = f"has a rate of {source.rate_hz} Hz: {low} to {high} Hz can be separated"
        raise InputError(source.path, reason)
    if source.n_channels not in (1, 2):
        reason = f"has {source.n_channels} channels: mix it down to mono or stereo first (ffmpeg -ac 2)"
        raise InputError(source.path, reason)
    if source.n_samples == 0:
        raise InputError(source.path, "holds no samples")


def _reason(error: BaseException) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return error.error_string.strip().rstrip(".") or f"libsndfile error {error.code}"
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFormat:
    """What kind of file a sink writes; `subtype` does not apply to mp3."""

    container: Literal["wav", "flac", "mp3"] = "wav"
    subtype: Literal["int16", "int24", "float32"] = "int16"
    mp3_kbps: int = 320

    def __post_init__(self) -> None:
        if self.container == "flac" and self.subtype == "float32":
            raise ConfigError("flac holds integers only: use --int24 with --flac, or --float32 without it")
        if self.container == "mp3" and self.subtype != "int16":
            raise ConfigError("mp3 has no sample size: leave --int24 and --float32 out with --mp3")
        if not 8 <= self.mp3_kbps <= 320:
            raise ConfigError(f"an mp3 bit rate of {self.mp3_kbps} kbit/s is not possible: choose 8 to 320")

    @property
    def bits(self) -> int | None:
        """Size of an integer sample in bits; None where samples are not integers."""
        return {"int16": 16, "int24": 24}.get(self.subtype) if self.container != "mp3" else None

    @property
    def sample_bytes(self) -> int:
        """Bytes a stored sample of one channel takes at most (mp3: none worth counting)."""
        return {"int16": 2, "int24": 3, "float32": 4}[self.subtype] if self.container != "mp3" else 0


class AudioSink:
    """A sound file being written beside its target; `finish`, then `commit` puts it there.

    Leaving the context without `commit` removes what was written and every folder made for it.
    n_samples: the length to expect; None or more than 4 GiB turns wav into RF64.
    Raises: OutputError, with the remedy, for whatever the disk or the format refuses.
    """

    def __init__(
        self, target: Path, rate_hz: int, n_channels: int, n_samples: int | None, sink_format: SinkFormat
    ) -> None:
        self.target = target
        self.n_written = 0
        if sink_format.container == "mp3" and rate_hz not in MP3_RATES_HZ:
            raise OutputError(target, f"mp3 cannot hold {rate_hz} Hz: use --flac or wav for this file")
        self._part = PartFile(target)
        try:
            self._file = soundfile.SoundFile(
                self._part,  # type: ignore[arg-type]  # a binary file by its methods, not by its class
                "w",
                rate_hz,
                n_channels,
                **_soundfile_options(sink_format, rate_hz, n_channels, n_samples),
            )
        except (soundfile.LibsndfileError, ValueError) as error:
            refused = self._part.error
            self._part.discard()
            if refused is not None:
                raise output_error(target, refused) from error
            reason = f"{sink_format.container} cannot hold {n_channels} channels at {rate_hz} Hz"
            raise OutputError(target, f"{reason} ({_reason(error)}): use wav, it holds all") from error

    def write(self, x: np.ndarray) -> None:
        """Append (channels, n) samples: float32 at full scale 1.0, or int16/int32 filling their type."""
        self._attempt(lambda: self._file.write(x.T))
        self.n_written += x.shape[1]

    def finish(self) -> None:
        """Complete the file and see that all of it is on the disk, still under its temporary name."""
        self._attempt(self._file.close)
        self._part.sync()
        self._attempt(lambda: None)

    def commit(self) -> None:
        """Give the finished file its name."""
        self._part.commit()

    def _attempt(self, action: Callable[[], None]) -> None:
        refused: Exception | None = None
        try:
            action()
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
            refused = error
        if self._part.error is not None:
            raise output_error(self.target, self._part.error) from self._part.error
        if refused is not None:
            raise OutputError(self.target, f"could not be written ({_reason(refused)})") from refused

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._file.closed:
            self._part.error = self._part.error or OSError("given up")  # spares libsndfile's last writes
            try:
                self._file.close()
            except soundfile.LibsndfileError as error:
                self._part.error = OSError(_reason(error))
        self._part.discard()


def _soundfile_options(
    sink_format: SinkFormat, rate_hz: int, n_channels: int, n_samples: int | None
) -> dict[str, Any]:
    if sink_format.container == "mp3":
        top, bottom = (320, 32) if rate_hz >= 32_000 else (160, 8) if rate_hz >= 16_000 else (64, 8)
        # libsndfile takes a level from 0 to 1 and truncates to kbit/s: aim at the middle (mpeg_l3_encode.c)
        level = (top - sink_format.mp3_kbps - 0.5) / (top - bottom)
        level = min(1.0, max(0.0, level))
        return {
            "format": "MP3",
            "subtype": "MPEG_LAYER_III",
            "compression_level": level,
            "bitrate_mode": "CONSTANT",
        }
    subtype = {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}[sink_format.subtype]
    if sink_format.container == "flac":
        return {"format": "FLAC", "subtype": subtype}
    n_bytes = None if n_samples is None else n_samples * n_channels * sink_format.sample_bytes
    fits = n_bytes is not None and n_bytes <= WAV_LIMIT_BYTES
    return {"format": "WAV" if fits else "RF64", "subtype": subtype}


class TakeFile:
    """A recording being written under its own name, so that it can be read whatever happens next.

    After each writing the header holds the length that is in the file: a full disk or a killed process
    leaves a file that can be read.  wav is written as RF64, which goes past 4 GiB. Samples beyond full scale
    saturate in integer formats and are counted in `n_saturated`.
    Raises: OutputError, with the remedy, for whatever the disk refuses.
    """

    def __init__(self, path: Path, rate_hz: int, n_channels: int, sink_format: SinkFormat) -> None:
        self.path = path
        self.n_saturated = 0
        self._saturates = sink_format.bits is not None
        self._is_flac = sink_format.container == "flac"
        self._n_written = 0
        options = _soundfile_options(sink_format, rate_hz, n_channels, None)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = soundfile.SoundFile(path, "w", rate_hz, n_channels, **options)
        except OSError as error:
            raise output_error(path, error) from error
        except (soundfile.LibsndfileError, ValueError) as error:
            raise OutputError(path, f"could not be made ({_reason(error)})") from error

    def write(self, x: np.ndarray) -> None:
        """Append (channels, n) float32 samples, full scale 1.0."""
        if self._saturates:
            self.n_saturated += int(np.count_nonzero(np.abs(x) > 1.0))
            x = np.clip(x, -1.0, 1.0)
        try:
            self._file.write(x.T)
            self._n_written += x.shape[1]
            self._note_length()  # no flush: libsndfile buffers nothing, and would wait for the disk
        except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all was written
            raise OutputError(
                self.path, f"could not be written ({_reason(error)}): is the disk full?"
            ) from error

    def _note_length(self) -> None:
        if not self._is_flac:
            soundfile._snd.sf_command(self._file._file, SFC_UPDATE_HEADER_NOW, soundfile._ffi.NULL, 0)
            return
        # The encoder keeps what is not a whole frame yet, and a whole one until the next sample comes.
        whole = max(0, self._n_written - 1) // FLAC_FRAME_SAMPLES * FLAC_FRAME_SAMPLES
        with self.path.open("r+b", buffering=0) as header:
            header.seek(FLAC_LENGTH_AT)
            rate_and_depth = header.read(1)[0] & 0xF0
            header.seek(FLAC_LENGTH_AT)
            header.write(bytes([rate_and_depth | whole >> 32]) + (whole & 0xFFFFFFFF).to_bytes(4, "big"))

    def close(self) -> None:
        """Complete the header; what the disk refuses now has been reported by `write`."""
        try:
            self._file.close()
        except soundfile.LibsndfileError as error:
            raise OutputError(self.path, f"could not be completed ({_reason(error)})") from error
