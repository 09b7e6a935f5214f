"""Errors of the host: each carries its facts and says what to do next.

HostError
├─ ConfigError  (also ValueError) an option or a combination of options that cannot work
├─ InputError   a sound file that cannot be read (file, reason)
├─ OutputError  a file that cannot be written (file, reason)
├─ EngineStateError, DeviceError
└─ EffectError  an effect or a plugin that cannot be loaded or set
"""

from __future__ import annotations

from pathlib import Path


class HostError(Exception):
    """Base of every error that `stemrack.rt` raises on purpose."""


class ConfigError(HostError, ValueError):
    """An option or a combination of options that cannot work."""


class _FileError(HostError):
    """Base of errors about one file: its text is `file: reason`."""

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(file, reason)
        self.file = Path(file)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class InputError(_FileError):
    """A sound file that cannot be read; nothing is written for it."""


class OutputError(_FileError):
    """A file that cannot be written; what was half-written has been removed."""


class EngineStateError(HostError):
    """Something that the engine cannot do in the state it is in, or did not do in time."""


class EffectError(HostError):
    """An effect or a plugin that cannot be loaded or set."""


class DeviceError(HostError):
    """An audio device that is not there or does not do what is asked of it."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(device, reason)
        self.device, self.reason = device, reason

    def __str__(self) -> str:
        return f"device '{self.device}' {self.reason}"
