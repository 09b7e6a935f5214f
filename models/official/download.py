"""Downloads that survive stalls, cuts and servers that say something else than they send."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import WeightsError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and, where the server told it, the bytes of the whole."""

CHUNK_BYTES = 1 << 16
SHA256_DIGITS = 64
RETRIED = {408, 425, 429, 500, 502, 503, 504}
HTML_STARTS = (b"<!doctype html", b"<html", b"<head")


class DownloadError(WeightsError):
    """A file that could not be fetched, or that is not what it should be."""


class _Interrupted(Exception):
    """A transfer that broke off; what has come may be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait for a server, how often to try again, and how much to take from it."""

    stall_s: float = 30.0
    """Without one byte for so long, a connection counts as dead."""
    idle_tries: int = 5
    """Tries in a row that bring no new byte."""
    tries: int = 50
    pause_s: float = 1.0
    """Before the second try; doubled for each further one that brings nothing, up to 30 s."""
    most_bytes: int = 4 << 30

    def pause_before(self, n_idle: int) -> float:
        """Return the seconds to wait after `n_idle` tries in a row that brought nothing."""
        return min(self.pause_s * 2.0 ** max(0, n_idle - 1), max(30.0, self.pause_s))


@dataclass(slots=True)
class _Partial:
    """A file that grows, and beside it what the server said of the whole."""

    path: Path
    url: str
    n_bytes: int = 0
    validator: str = ""
    total: int | None = None

    @property
    def facts_path(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @classmethod
    def found(cls, target: Path, url: str, keep_unnamed: bool) -> _Partial:
        """Return what an earlier try left, or an empty one where it cannot be told that it still fits."""
        partial = cls(target.with_name(target.name + ".part"), url)
        try:
            facts = json.loads(partial.facts_path.read_text(encoding="utf-8"))
            n_bytes = partial.path.stat().st_size
        except (OSError, ValueError):
            return partial
        if not isinstance(facts, dict) or facts.get("url") != url:
            return partial
        if facts.get("validator") or keep_unnamed:
            partial.validator, partial.total = str(facts.get("validator") or ""), facts.get("total")
            partial.n_bytes = n_bytes
        return partial

    def restart(self, response: Any) -> None:
        """Begin from nothing with a response that brings the whole."""
        self.n_bytes, self.total = 0, _length(response)
        self.validator = _validator(response)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        facts = {"url": self.url, "validator": self.validator, "total": self.total}
        self.facts_path.write_text(json.dumps(facts), encoding="utf-8")

    def delete(self) -> None:
        """Remove it and its facts."""
        self.path.unlink(missing_ok=True)
        self.facts_path.unlink(missing_ok=True)
        self.n_bytes, self.validator, self.total = 0, "", None


@dataclass(slots=True)
class Download:
    """One file to fetch: its address, where to, and what it must be.

    Resumed by HTTP ranges where the server names its content (ETag or Last-Modified), or where the whole
    sha256 is known; begun anew where it cannot be told that both parts belong together.
    """

    url: str
    target: Path
    sha256: str = ""
    """Whole or its first digits; empty: any."""
    n_bytes: int | None = None
    progress: Progress = lambda done, total: None
    limits: Limits = field(default_factory=Limits)
    wait: Callable[[float], None] = time.sleep

    def fetch(self) -> str:
        """Fetch into `target`, and return the sha256.

        Raises: DownloadError, with what to do next; what has come is kept where it can be resumed.
        """
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise DownloadError(f"{self.url}: only http and https addresses can be pulled")
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            partial = _Partial.found(self.target, self.url, keep_unnamed=len(self.sha256) == SHA256_DIGITS)
            self._until_whole(partial)
            sha256 = self._checked(partial)
            os.replace(partial.path, self.target)
            partial.delete()
        except OSError as error:
            raise self._disk_error(error) from error
        return sha256

    def _until_whole(self, partial: _Partial) -> None:
        n_idle = 0
        for _ in range(self.limits.tries):
            before = partial.n_bytes
            try:
                self._attempt(partial)
                return
            except _Interrupted as error:
                n_idle = n_idle + 1 if partial.n_bytes <= before else 0
                if n_idle >= self.limits.idle_tries:
                    raise DownloadError(
                        f"{self.url}: {error}, {n_idle} times in a row; try again later"
                        + (": it resumes where it stopped" if partial.n_bytes else "")
                    ) from error
                self.wait(self.limits.pause_before(n_idle))
        raise DownloadError(
            f"{self.url}: the connection broke off {self.limits.tries} times; try again later"
        )

    def _attempt(self, partial: _Partial) -> None:
        """Take from one connection what it gives; return when the whole is there."""
        if partial.n_bytes and partial.n_bytes == (partial.total or self.n_bytes):
            return
        if not partial.validator and len(self.sha256) != SHA256_DIGITS:
            partial.delete()  # nothing would tell that a second part belongs to the same file
        headers = {"Accept-Encoding": "identity", "User-Agent": "stemrack"}
        if partial.n_bytes:
            headers["Range"] = f"bytes={partial.n_bytes}-"
            if partial.validator:
                headers["If-Range"] = partial.validator
        try:
            response = _OPENER.open(
                urllib.request.Request(self.url, headers=headers), timeout=self.limits.stall_s
            )
        except urllib.error.HTTPError as error:
            self._refused(error, partial)
        except (http.client.HTTPException, OSError) as error:
            raise _Interrupted(_connection_words(error, self.limits.stall_s)) from error
        else:
            with response:
                self._check_kind(response)
                if not _continues(response, partial):
                    partial.restart(response)
                self._check_size(partial.total, partial.n_bytes)
                self._receive(response, partial)

    def _refused(self, error: urllib.error.HTTPError, partial: _Partial) -> None:
        error.close()
        if error.code == 416:
            partial.delete()
            raise _Interrupted("the server has no such range") from error
        if error.code in RETRIED:
            raise _Interrupted(f"the server says {error.code} {error.reason}") from error
        raise DownloadError(
            f"{self.url}: the server says {error.code} {error.reason}; "
            "if you have the file from elsewhere, use `stemrack models import`"
        ) from error

    def _check_kind(self, response: Any) -> None:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise self._page_error()

    def _page_error(self) -> DownloadError:
        return DownloadError(
            f"{self.url}: the server sent a web page, not the file (a quota, a warning or a login?). "
            "Open the address in a browser, and give the file to `stemrack models import`"
        )

    def _check_size(self, total: int | None, n_bytes: int) -> None:
        most = self.limits.most_bytes
        if max(total or 0, n_bytes) > most:
            raise DownloadError(
                f"{self.url}: gives {max(total or 0, n_bytes)} bytes, more than the {most} allowed"
            )
        if total is None:
            return
        if self.n_bytes is not None and total != self.n_bytes:
            raise DownloadError(
                f"{self.url}: the server announces {total} bytes, the published file has {self.n_bytes}"
            )
        free = shutil.disk_usage(self.target.parent).free
        if total - n_bytes > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _receive(self, response: Any, partial: _Partial) -> None:
        with partial.path.open("ab") as file:
            while True:
                self.progress(partial.n_bytes, partial.total)
                try:
                    chunk = response.read1(CHUNK_BYTES)
                except http.client.IncompleteRead as error:
                    chunk, response = error.partial, None
                except (http.client.HTTPException, OSError) as error:
                    raise _Interrupted(_connection_words(error, self.limits.stall_s)) from error
                if not partial.n_bytes and chunk.lstrip()[:20].lower().startswith(HTML_STARTS):
                    raise self._page_error()
                file.write(chunk)
                partial.n_bytes += len(chunk)
                self._check_size(None, partial.n_bytes)
                if response is None or not chunk:
                    break
        if response is None or (partial.total is not None and partial.n_bytes < partial.total):
            raise _Interrupted(f"the connection ended after {partial.n_bytes} of {partial.total} bytes")
        if not partial.n_bytes:
            raise _Interrupted("the server sent nothing")
        if partial.total is not None and partial.n_bytes > partial.total:
            partial.delete()
            raise _Interrupted("the server sent more than it announced")

    def _checked(self, partial: _Partial) -> str:
        with partial.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if self.n_bytes is not None and partial.n_bytes != self.n_bytes:
            wrong = f"it has {partial.n_bytes} bytes, the published file {self.n_bytes}"
        elif not sha256.startswith(self.sha256):
            wrong = f"its sha256 is {sha256}, that of the published file begins with {self.sha256}"
        else:
            return sha256
        partial.delete()
        raise DownloadError(f"{self.url}: not the published file: {wrong}. It was deleted; try again")

    def _disk_error(self, error: OSError) -> DownloadError:
        if error.errno == errno.ENOSPC:
            free_mib = shutil.disk_usage(self.target.parent).free / 2**20
            return DownloadError(
                f"{self.target.parent}: no space left ({free_mib:.0f} MiB free): make room and try again; "
                "it resumes where it stopped"
            )
        return DownloadError(f"{error.filename or self.target}: cannot be written: {error.strerror or error}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and never from https down to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the request to make in place of `req`."""
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise DownloadError(f"{req.full_url}: leads on to {newurl}, which is not safe to follow")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER = _opener()


def _length(response: Any) -> int | None:
    said = response.headers.get("Content-Length")
    return int(said) if said is not None and said.isascii() and said.isdigit() else None


def _validator(response: Any) -> str:
    """Return what If-Range may name: a strong ETag, else the date of the last change, else nothing."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _continues(response: Any, partial: _Partial) -> bool:
    """Return whether a response goes on where `partial` ends, with the same content.

    Raises: _Interrupted for a range that fits nothing; the next try starts from nothing.
    """
    if response.status != 206:
        return False
    said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    fits = (
        said is not None
        and int(said[1]) == partial.n_bytes
        and (said[3] == "*" or partial.total in (None, int(said[3])))
        and _validator(response) in ("", partial.validator)
    )
    if not fits:
        partial.delete()
        raise _Interrupted("the server sent another range or another file than was asked for")
    return True


def _connection_words(error: BaseException, stall_s: float) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"the server sent nothing for {stall_s:g} s"
    return f"the connection failed ({reason or type(reason).__name__})"
