"""An HTTP server on this machine that stalls, cuts, changes and misstates what it sends, as told."""

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What one request gets; the last of a list holds for all further ones."""

    body: bytes = b""
    status: int = 0
    """0: 200 or 206, as asked."""
    etag: str | None = "as content"
    cut_after: int | None = None
    """Bytes after which the connection closes."""
    stall_after: int | None = None
    """Bytes after which nothing more comes."""
    announced: int | None = None
    """Content-Length in place of the true one; -1: none."""
    ignores_range: bool = False
    ignores_if_range: bool = False
    wrong_start: int = 0
    """Added to the start that Content-Range tells."""
    content_type: str = "application/octet-stream"
    location: str = ""
    tail: bytes = b""
    """Sent after the body, and announced nowhere."""
    chunked: bool = False
    """The body as one chunk of a longer list that never ends."""


@dataclass
class LyingServer:
    """Gives each request its behaviour; `requests` are the headers of all that came."""

    behaviours: list[Behaviour]
    requests: list[dict] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self, owner)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/model.pth"
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def answer(handler, owner):
    """Answer one request as the next behaviour says."""
    do = owner.behaviours[min(len(owner.requests), len(owner.behaviours) - 1)]
    owner.requests.append(dict(handler.headers))
    etag = do.etag
    if etag == "as content":
        etag = f'"{hashlib.sha256(do.body).hexdigest()[:8]}"'
    start = wanted_start(handler.headers, etag, do)
    body = do.body[start:]
    handler.send_response(do.status or (206 if start else 200))
    if start:
        total = len(do.body)
        handler.send_header("Content-Range", f"bytes {start + do.wrong_start}-{total - 1}/{total}")
    if etag:
        handler.send_header("ETag", etag)
    if do.location:
        handler.send_header("Location", do.location)
    handler.send_header("Content-Type", do.content_type)
    if do.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    elif do.announced != -1:
        handler.send_header("Content-Length", str(len(body) if do.announced is None else do.announced))
    handler.end_headers()
    if do.chunked:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
    elif do.stall_after is not None:
        handler.wfile.write(body[: do.stall_after])
        owner.released.wait()
    else:
        handler.wfile.write(body if do.cut_after is None else body[: do.cut_after])
        handler.wfile.write(do.tail)
    handler.close_connection = True


def wanted_start(headers, etag, do):
    """Return where the answer begins, by Range and If-Range."""
    if do.ignores_range or "Range" not in headers:
        return 0
    if headers.get("If-Range") not in (None, etag) and not do.ignores_if_range:
        return 0
    return int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
