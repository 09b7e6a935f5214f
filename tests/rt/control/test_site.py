"""What plain requests are answered over real sockets: page, healthz and metrics, and nothing else."""

import pytest
from control_node import FakeNode, start_server
from control_wire import Wire, joined, under_attack
from prometheus_client.parser import text_string_to_metric_families

from stemrack.rt.control.metrics import metrics_text
from stemrack.rt.control.site import Page

SCRIPT = b"export const a = 1;\n" * 5_000
PAGES = {
    "/index.html": Page("text/html; charset=utf-8", b"<!doctype html><title>mixer</title>"),
    "/main.js": Page("text/javascript; charset=utf-8", SCRIPT),
}


def ask(running, *args, **headers):
    """Return status, headers and body of an answer."""
    with Wire(running.port) as wire:
        return wire.get(*args, **headers)


# -- the page -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/index.html", "/?a=b", "/index.html?token=x"])
def test_the_page(path):
    with start_server(pages=PAGES) as running:
        status, headers, body = ask(running, path)
    assert (status, body) == (200, PAGES["/index.html"].body)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-length"] == str(len(body))
    assert headers["cache-control"] == "no-cache"


def test_a_long_page_comes_whole():
    with start_server(pages=PAGES) as running:
        status, headers, body = ask(running, "/main.js")
    assert (status, body) == (200, SCRIPT)
    assert headers["content-type"] == "text/javascript; charset=utf-8"


def test_an_unchanged_page_is_not_sent_again():
    with start_server(pages=PAGES) as running:
        etag = ask(running, "/main.js")[1]["etag"]
        other = ask(running, "/")[1]["etag"]
        assert etag != other
        for known in (etag, f"W/{etag}", f'"x", {etag}', ('"x"', etag)):
            status, headers, body = ask(running, "/main.js", If_None_Match=known)
            assert (status, headers["etag"], body) == (304, etag, b"")
            assert "content-length" not in headers
        for known in (other, '"x"', "", ('"x"', other)):
            assert ask(running, "/main.js", If_None_Match=known)[0] == 200


def test_head_is_answered_without_a_body():
    with start_server(pages=PAGES) as running:
        status, headers, body = ask(running, "/main.js", "HEAD")
        assert (status, headers["content-length"], body) == (200, str(len(SCRIPT)), b"")
        assert ask(running, "/none", "HEAD")[::2] == (404, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"])
def test_other_methods_are_refused(caplog, method):
    with under_attack(caplog, pages=PAGES) as running:
        status, headers, body = ask(running, "/", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert body == b"only GET and HEAD are answered\n"
        assert running.counted["refused_method"] == 1


def test_a_request_with_a_body_is_not_read(caplog):
    with under_attack(caplog, pages=PAGES) as running, Wire(running.port) as wire:
        wire.put(wire.head("/", "POST", Content_Length=10 << 20) + b"x" * 100_000)
        assert wire.answer()[0] == 0


ELSEWHERE = [
    "/../rt/errors.py", "/../../etc/passwd", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2fetc/passwd",
    "/index.html/..", "/index.html/", "/./index.html", "//index.html", "/index.html%00", "/index.html\x00.js",
    "/INDEX.HTML", "/main", "/.git/config", "/tokens.json", "/..\\..\\etc\\passwd", "index.html", "*",
    "http://127.0.0.1/index.html", "/healthz/", "/metrics/x", "/" + "a" * 8_000, "/" + "../" * 2_000, "/#",
]  # fmt: skip


def test_nothing_but_the_pages_can_be_asked_for(caplog):
    """Paths are looked up as they are, in a table: no file is opened, nothing decoded, nothing joined."""
    with under_attack(caplog, pages=PAGES) as running:
        for path in ELSEWHERE:
            status, _, body = ask(running, path)
            assert (status, body) == (404, b"there is no such page\n"), path
        assert running.counted["refused_page"] == len(ELSEWHERE)
        with Wire(running.port) as wire:
            wire.put(b"GET /" + b"a" * 70_000)
            assert wire.answer()[0] == 414


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/healthz", {}, 200),
        ("/metrics", {}, 200),
        ("/none", {}, 404),
        ("/", {"Host": "evil.example"}, 421),
        ("/", {"Origin": "null"}, 403),
        ("/", {"Connection": "upgrade"}, 426),
        ("/", {"Connection": "upgrade", "Upgrade": "websocket"}, 400),
    ],
)
def test_every_answer_has_the_headers_of_safety(path, headers, status):
    with start_server() as running:
        answered, found, _ = ask(running, path, **headers)
        assert answered == status
        assert running.counted[f"http_{status}"] == 1
    policy = dict(part.strip().split(" ", 1) for part in found["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws: wss:"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "no-referrer"
    assert found["cross-origin-opener-policy"] == found["cross-origin-resource-policy"] == "same-origin"
    assert found["connection"] == "close"
    assert "server" not in found


def test_repeated_headers_are_no_trouble(caplog):
    """`Connection` and `If-None-Match` may come in several lines."""
    with under_attack(caplog, pages=PAGES) as running:
        assert ask(running, "/", Connection=("keep-alive", "close"))[0] == 200
        with Wire(running.port) as wire:
            wire.open(Connection=("keep-alive", "Upgrade"))
        for name in ("Upgrade", "Sec_WebSocket_Key", "Sec_WebSocket_Version"):
            with Wire(running.port) as wire:
                wire.put(wire.upgrade(**{name: ("websocket", "websocket")}))
                assert wire.answer()[0] in (400, 426)


def test_healthz():
    with start_server() as running:
        status, headers, body = ask(running, "/healthz")
    assert (status, body) == (200, b"ok\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"


def test_metrics_are_prometheus_text():
    """What was refused stands in it; its clients are those who have identified."""
    node = FakeNode()
    with start_server(
        node, metrics=lambda counted: metrics_text(node.counters().values, counted)
    ) as running, joined(running), joined(running), Wire(running.port).open():  # fmt: skip
        assert ask(running, "/none")[0] == 404
        node.counts["xruns"] = 7
        status, headers, body = ask(running, "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (sample.name, sample.labels.get("kind")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["stemrack_xruns_total", None] == 7
    assert samples["stemrack_clients", None] == 2
    assert samples["stemrack_control_events_total", "refused_page"] == 1
    assert samples["stemrack_control_events_total", "connections"] == 5
    assert samples["stemrack_control_events_total", "http_101"] == 3
