"""What plain HTTP requests are answered: the page, /healthz and /metrics. No file is opened for a request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer but the websocket's handshake."""
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """A file of the browser mixer, held in memory: nothing else can be asked for."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request: a connection carries one."""

    status: HTTPStatus
    headers: dict[str, str]
    body: bytes = b""


def plain(status: HTTPStatus, said: str, content_type: str = TEXT) -> Answer:
    """Return an answer that is a text."""
    return _answer(status, content_type, f"{said}\n".encode())


class Site:
    """Looks requests up. refused: told why one was refused, in a word; metrics: gives Prometheus' text."""

    def __init__(
        self, pages: Mapping[str, Page], refused: Callable[[str], None], metrics: Callable[[], str]
    ) -> None:
        self._pages, self._refused, self._metrics = pages, refused, metrics
        self._etags = {path: f'"{hashlib.sha256(p.body).hexdigest()[:16]}"' for path, p in pages.items()}

    def answer(self, method: str, target: str, known: Iterable[str] = ()) -> Answer:
        """Return the answer to a request. known: its If-None-Match headers."""
        if method not in ("GET", "HEAD"):
            self._refused("method")
            refusal = plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
            return replace(refusal, headers={**refusal.headers, "Allow": "GET, HEAD"})
        answer = self._found(target.partition("?")[0], known)
        return replace(answer, body=b"") if method == "HEAD" else answer

    def _found(self, path: str, known: Iterable[str]) -> Answer:
        if path == "/healthz":
            return plain(HTTPStatus.OK, "ok")
        if path == "/metrics":
            return _answer(HTTPStatus.OK, METRICS, self._metrics().encode())
        path = "/index.html" if path == "/" else path
        page = self._pages.get(path)
        if page is None:
            self._refused("page")
            return plain(HTTPStatus.NOT_FOUND, "there is no such page")
        etag = self._etags[path]
        caching = {"ETag": etag, "Cache-Control": "no-cache"}
        if {etag, f"W/{etag}"} & {tag.strip() for line in known for tag in line.split(",")}:
            return Answer(HTTPStatus.NOT_MODIFIED, {"Connection": "close", **caching})
        found = _answer(HTTPStatus.OK, page.content_type, page.body)
        return replace(found, headers={**found.headers, **caching})


def _answer(status: HTTPStatus, content_type: str, body: bytes) -> Answer:
    headers = {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"}
    return Answer(status, headers, body)
