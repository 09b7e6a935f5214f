"""Reading of what libsndfile does not know, piped from ffmpeg; ffmpeg's one home."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .errors import InputError

# local files only: a playlist or a crafted container must not make ffmpeg open a connection
_QUIET = ["-v", "error", "-protocol_whitelist", "file,pipe"]


class FfmpegReader:
    """The first audio stream of any file that ffmpeg decodes: its own rate and channels, float32.

    `n_samples` is None (containers do not tell to the sample); `estimated_samples` is what they say.
    Raises: InputError if ffmpeg is not there, cannot read the file or finds no sound in it.
    """

    n_samples: int | None = None

    def __init__(self, path: Path) -> None:
        self.rate_hz, self.n_channels, seconds = _probe(path)
        self.estimated_samples = None if seconds is None else round(seconds * self.rate_hz)
        self.warnings: list[str] = []
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.SpooledTemporaryFile()  # noqa: SIM115  closed by close()
        self._said.rollover()  # the child needs a real file descriptor

    def read(self, n: int) -> np.ndarray:
        """Return up to n samples, (sample, channel) float32; none at the end."""
        if self._process is None:  # started late: a file may be opened only to ask for its length
            self._process = self._start()
        assert self._process.stdout is not None
        data = self._process.stdout.read(n * self.n_channels * 4)
        whole = len(data) - len(data) % (self.n_channels * 4)
        return np.frombuffer(data[:whole], dtype="<f4").reshape(-1, self.n_channels)

    def check_end(self, n_read: int) -> None:
        """Raise InputError if decoding failed or stopped clearly before the end."""
        code = self._process.wait() if self._process else 0
        self._said.seek(0)
        said = _last_line(self._said.read().decode(errors="replace"))
        if code:
            raise InputError(self._path, f"ffmpeg failed with exit code {code}: {said}")
        # durations in containers are rounded, some to frames: only a clear loss counts
        promised = self.estimated_samples or 0
        if n_read < 0.98 * promised - 0.5 * self.rate_hz:
            raise InputError(self._path, f"cut short: {n_read} of about {promised} samples are there")
        if said:
            self.warnings.append(f"ffmpeg: {said}")

    def close(self) -> None:
        """Stop ffmpeg; may be called twice."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process.wait()
        self._said.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = ["ffmpeg", "-nostdin", *_QUIET, "-i", _name(self._path), "-map", "0:a:0"]
        command += ["-f", "f32le", "-c:a", "pcm_f32le", "-ac", str(self.n_channels)]
        command += ["-ar", str(self.rate_hz), "pipe:1"]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said.fileno()
        )


def _probe(path: Path) -> tuple[int, int, float | None]:
    """Return (rate_hz, n_channels, seconds) of the first audio stream."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        reason = "not a format that libsndfile reads: install ffmpeg, or convert the file to wav or flac"
        raise InputError(path, reason)
    fields = "stream=sample_rate,channels,duration:format=duration"
    command = ["ffprobe", *_QUIET, "-select_streams", "a:0", "-show_entries", fields, "-of", "json"]
    done = subprocess.run(
        [*command, _name(path)], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = _last_line(done.stderr).removeprefix(_name(path)).lstrip(": ") or "no reason given"
        raise InputError(path, f"not a sound file, neither to libsndfile nor to ffmpeg ({said})")
    found = json.loads(done.stdout)
    if not found.get("streams"):
        raise InputError(path, "holds no sound: choose a file with an audio track")
    stream = found["streams"][0]
    seconds = stream.get("duration") or found.get("format", {}).get("duration")
    try:
        return int(stream["sample_rate"]), int(stream["channels"]), float(seconds) if seconds else None
    except (KeyError, ValueError) as error:
        raise InputError(path, f"ffprobe gives no usable rate and channel count: {stream}") from error


def _name(path: Path) -> str:
    return f"file:{path}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
