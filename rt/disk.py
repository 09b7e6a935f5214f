"""Files under a temporary name, their folders, and what a disk can refuse with the remedy."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from .errors import OutputError

PART_SUFFIX = ".part"

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder with -o",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another folder with -o",
    errno.EFBIG: "the file system takes no file of this size: choose another folder with -o, or --flac",
    errno.EROFS: "the file system is read-only: choose another folder with -o",
    errno.EACCES: "you may not write here: choose another folder with -o",
    errno.EPERM: "you may not write here: choose another folder with -o",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder with -o",
    errno.EEXIST: "a part of the path is a file, not a folder: choose another folder with -o",
    errno.EISDIR: "a folder of this name is in the way: remove it or choose another --filename",
    errno.ENAMETOOLONG: "the name is too long for the file system: choose a shorter --filename",
}


def output_error(target: Path, error: OSError) -> OutputError:
    """Return the OutputError that says what the system refused and what to do about it."""
    said = error.strerror or str(error)
    return OutputError(target, _REMEDIES.get(error.errno or 0, f"could not be written ({said})"))


class PartFile:
    """An unbuffered binary file `target.part` that becomes `target` by `commit` and nothing by `discard`.

    `write` never raises: libsndfile, which calls it, would swallow the exception. It keeps the first
    OSError in `error` and writes no more. Folders that are missing are made, and removed again by `discard`.
    Raises: OutputError if the folder or the file cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.error: OSError | None = None
        self._path = target.with_name(target.name + PART_SUFFIX)
        self._made = make_folders(target.parent)
        self._there = False
        try:
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._raw = self._path.open("wb+", buffering=0)
        except OSError as error:
            remove_folders(self._made)
            raise output_error(target, error) from error
        self._there = True

    def write(self, data: bytes) -> int:
        """Return how many bytes were written; fewer than given once `error` is set."""
        view = memoryview(data)
        try:
            while view and self.error is None:
                view = view[self._raw.write(view) :]
        except OSError as error:
            self.error = error
        return len(data) - len(view)

    def read(self, n: int = -1) -> bytes:
        """Return up to n bytes."""
        return self._raw.read(n) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the new position."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._raw.tell()

    def sync(self) -> None:
        """Wait until the bytes are on the disk; a refusal goes to `error` like that of a write."""
        try:
            os.fsync(self._raw.fileno())
            self._raw.close()
        except OSError as error:
            self.error = self.error or error

    def commit(self) -> None:
        """Give the file its name, in place of an older one.

        Raises: OutputError if the system refuses.
        """
        try:
            self._path.replace(self.target)
        except OSError as error:
            raise output_error(self.target, error) from error
        self._there = False

    def discard(self) -> None:
        """Remove what is there under the temporary name and, where nothing is in them, the folders made."""
        if not self._raw.closed:
            self._raw.close()
        if self._there:
            self._path.unlink(missing_ok=True)
            self._there = False
        remove_folders(self._made)


def remove_part(target: Path) -> None:
    """Remove what a killed process left of `target`, and its folder if nothing else is in it."""
    target.with_name(target.name + PART_SUFFIX).unlink(missing_ok=True)
    if target.parent.is_dir():
        remove_folders([target.parent])


def make_folders(folder: Path) -> list[Path]:
    """Return the folders that were missing and are now there, the outermost first.

    Raises: OutputError if one cannot be made.
    """
    missing = []
    here = folder
    while not here.exists() and here != here.parent:
        missing.append(here)
        here = here.parent
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        remove_folders(made)
        raise output_error(folder, error) from error
    return made


def remove_folders(made: list[Path]) -> None:
    """Remove the given folders as far as they are empty, the innermost first."""
    for path in reversed(made):
        try:
            path.rmdir()
        except OSError:
            return  # another job has put something there: it stays


def check_free_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what cannot be finished.

    Raises: OutputError if the disk that holds `folder` has less than `n_bytes` left.
    """
    here = folder
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        free = shutil.disk_usage(here).free
    except OSError as error:
        raise output_error(folder, error) from error
    if free < n_bytes:
        need = f"needs {n_bytes / 1e6:.1f} MB, the disk has {free / 1e6:.1f} MB left"
        raise OutputError(folder, f"{need}: free some space or choose another folder with -o")
