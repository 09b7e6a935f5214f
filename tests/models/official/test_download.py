"""Downloads from a server that stalls, cuts, ignores ranges, changes its file and lies about it."""

import errno
import hashlib
import os
from types import SimpleNamespace

import numpy as np
import pytest
from lying_server import Behaviour, LyingServer

from stemrack.models.official import download
from stemrack.models.official.download import Download, DownloadError, Limits

BODY = np.random.default_rng(1).bytes(300_000)
OTHER = np.random.default_rng(2).bytes(300_000)
LIMITS = Limits(stall_s=0.3, idle_tries=3, pause_s=0.5)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def fetch(server, target, **options):
    """Fetch what the server gives, and return the file and the pauses that were made."""
    pauses = []
    job = Download(server.url, target, **{"limits": LIMITS, "wait": pauses.append} | options)
    assert job.fetch() == sha256(target.read_bytes())
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    return target.read_bytes(), pauses


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "model.pth"


def test_whole_file_at_once(target):
    told = []
    with LyingServer([Behaviour(BODY)]) as server:
        data, pauses = fetch(server, target, progress=lambda done, total: told.append((done, total)))
    assert data == BODY
    assert pauses == []
    assert told[0] == (0, len(BODY))
    assert told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_resumes_where_a_connection_was_cut(target):
    with LyingServer([Behaviour(BODY, cut_after=100_000), Behaviour(BODY)]) as server:
        data, pauses = fetch(server, target)
    assert data == BODY
    assert server.requests[1]["Range"] == "bytes=100000-"
    assert server.requests[1]["If-Range"] == f'"{sha256(BODY)[:8]}"'
    assert pauses == [0.5]


def test_resumes_after_a_stall(target):
    with LyingServer([Behaviour(BODY, stall_after=65_536), Behaviour(BODY)]) as server:
        data, _ = fetch(server, target)
    assert data == BODY
    assert int(server.requests[1]["Range"][6:-1]) <= 65_536


def test_resumes_what_another_run_left(target):
    with LyingServer([Behaviour(BODY, cut_after=50_000), Behaviour(b"", status=404)]) as server:
        with pytest.raises(DownloadError, match="404"):
            Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
        assert not target.exists()
        server.behaviours = [Behaviour(BODY)]
        assert fetch(server, target)[0] == BODY
        assert server.requests[-1]["Range"] == "bytes=50000-"


@pytest.mark.parametrize("facts", ["", "[]", '{"url": "https://example.org/other", "validator": "a"}'])
def test_what_cannot_be_told_to_fit_is_fetched_anew(target, facts):
    target.parent.mkdir()
    target.with_name("model.pth.part").write_bytes(b"strange")
    target.with_name("model.pth.part.json").write_text(facts)
    with LyingServer([Behaviour(BODY)]) as server:
        assert fetch(server, target)[0] == BODY
    assert "Range" not in server.requests[0]


def test_whole_that_an_earlier_run_left_is_only_checked(target):
    stopped = KeyboardInterrupt()

    def stop(done, total):
        if done == total:
            raise stopped

    with LyingServer([Behaviour(BODY)]) as server:
        with pytest.raises(KeyboardInterrupt):
            Download(server.url, target, progress=stop, limits=LIMITS).fetch()
        assert fetch(server, target)[0] == BODY
    assert len(server.requests) == 1


def test_gives_up_when_nothing_more_comes_and_keeps_what_came(target):
    with (
        LyingServer([Behaviour(BODY, cut_after=1_000), Behaviour(BODY, cut_after=0)]) as server,
        pytest.raises(DownloadError, match=r"1000 of 300000 bytes, 3 times in a row.*resumes"),
    ):
        Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
    assert len(server.requests) == 4
    assert target.with_name("model.pth.part").stat().st_size == 1_000


def test_pauses_grow_and_are_bounded():
    limits = Limits(pause_s=1.0)
    assert [limits.pause_before(n) for n in (0, 1, 2, 3, 6, 60)] == [1, 1, 2, 4, 30, 30]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_again_when_the_server_is_busy(target, status):
    with LyingServer([Behaviour(status=status), Behaviour(BODY)]) as server:
        assert fetch(server, target) == (BODY, [0.5])


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_names_the_way_out(target, status):
    with (
        LyingServer([Behaviour(status=status)]) as server,
        pytest.raises(DownloadError, match=f"{status}.*stemrack models import"),
    ):
        Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
    assert len(server.requests) == 1


def test_server_that_ignores_ranges_begins_anew(target):
    with LyingServer([Behaviour(BODY, cut_after=9_000), Behaviour(BODY, ignores_range=True)]) as server:
        assert fetch(server, target)[0] == BODY
    assert "Range" in server.requests[1]


def test_file_that_changed_between_parts_is_fetched_anew(target):
    with LyingServer([Behaviour(BODY, cut_after=9_000), Behaviour(OTHER)]) as server:
        assert fetch(server, target)[0] == OTHER


def test_file_that_changed_under_a_server_that_ignores_if_range(target):
    lie = Behaviour(OTHER, ignores_if_range=True)
    with LyingServer([Behaviour(BODY, cut_after=9_000), lie]) as server:
        assert fetch(server, target)[0] == OTHER
    assert "Range" not in server.requests[2]


def test_part_of_another_place_is_not_appended(target):
    with LyingServer([Behaviour(BODY, cut_after=9_000), Behaviour(BODY, wrong_start=7)]) as server:
        assert fetch(server, target)[0] == BODY


def test_nothing_is_resumed_that_the_server_does_not_name(target):
    with LyingServer([Behaviour(BODY, cut_after=9_000, etag=None), Behaviour(BODY, status=404)]) as server:
        with pytest.raises(DownloadError):
            Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
        assert "Range" not in server.requests[1]
        server.behaviours = [Behaviour(OTHER, etag=None)]
        assert fetch(server, target)[0] == OTHER
        assert "Range" not in server.requests[-1]


def test_a_known_hash_lets_it_resume_all_the_same(target):
    with LyingServer([Behaviour(BODY, cut_after=9_000, etag=None), Behaviour(BODY, status=404)]) as server:
        with pytest.raises(DownloadError):
            Download(server.url, target, sha256=sha256(BODY), limits=LIMITS, wait=lambda s: None).fetch()
        server.behaviours = [Behaviour(BODY, etag=None)]
        assert fetch(server, target, sha256=sha256(BODY))[0] == BODY
        assert server.requests[-1]["Range"] == "bytes=9000-"


def test_range_beyond_the_end_begins_anew(target):
    with LyingServer([Behaviour(BODY, cut_after=9_000), Behaviour(status=416), Behaviour(OTHER)]) as server:
        assert fetch(server, target)[0] == OTHER


def test_more_announced_than_sent_is_no_whole_file(target):
    with (
        LyingServer([Behaviour(BODY, announced=len(BODY) + 1, etag=None)]) as server,
        pytest.raises(DownloadError, match="times"),
    ):
        Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
    assert not target.exists()


def test_chunks_without_an_end_are_no_whole_file(target):
    with (
        LyingServer([Behaviour(BODY, chunked=True, etag=None)]) as server,
        pytest.raises(DownloadError, match="times"),
    ):
        Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
    assert not target.exists()


def test_more_sent_than_there_is_begins_anew(target):
    more = Behaviour(BODY, announced=-1, tail=b"more")
    with LyingServer([Behaviour(BODY, cut_after=9_000), more, Behaviour(BODY)]) as server:
        assert fetch(server, target)[0] == BODY
    assert ["Range" in request for request in server.requests] == [False, True, False]


def test_an_empty_answer_is_no_file(target):
    with LyingServer([Behaviour(b"")]) as server, pytest.raises(DownloadError, match="sent nothing"):
        Download(server.url, target, limits=LIMITS, wait=lambda s: None).fetch()
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sha256": sha256(OTHER)}, "its sha256 is"),
        ({"sha256": "0123abcd"}, "begins with 0123abcd"),
        ({"n_bytes": len(BODY) + 1}, "announces 300000 bytes, the published file has 300001"),
        ({"limits": Limits(most_bytes=1_000)}, "more than the 1000 allowed"),
    ],
)
def test_another_file_than_published_is_refused(target, options, words):
    with LyingServer([Behaviour(BODY)]) as server, pytest.raises(DownloadError, match=words):
        Download(server.url, target, **options).fetch()
    assert not target.exists()


def test_size_is_checked_where_the_server_announces_none(target):
    with LyingServer([Behaviour(BODY, announced=-1)]) as server:
        with pytest.raises(DownloadError, match="it has 300000 bytes, the published file 9"):
            Download(server.url, target, n_bytes=9).fetch()
        with pytest.raises(DownloadError, match="more than the 70000 allowed"):
            Download(server.url, target, limits=Limits(most_bytes=70_000)).fetch()
        assert fetch(server, target)[0] == BODY


def test_first_digits_of_a_hash_are_enough(target):
    with LyingServer([Behaviour(BODY)]) as server:
        assert fetch(server, target, sha256=sha256(BODY)[:8], n_bytes=len(BODY))[0] == BODY


@pytest.mark.parametrize(
    "page",
    [
        Behaviour(b"quota exceeded", content_type="text/html; charset=utf-8"),
        Behaviour(b"\n <!DOCTYPE html><title>Virus scan warning</title>"),
        Behaviour(b"<HTML>login</HTML>", announced=-1),
    ],
)
def test_web_page_in_place_of_the_file_is_refused(target, page):
    with LyingServer([page]) as server, pytest.raises(DownloadError, match=r"web page.*models import"):
        Download(server.url, target, limits=LIMITS).fetch()
    assert not target.exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/a", "data:,a", "https://"])
def test_only_http_and_https(target, url):
    with pytest.raises(DownloadError, match="only http and https"):
        Download(url, target).fetch()


def test_redirect_is_followed_to_http_only(target):
    with LyingServer([Behaviour(BODY)]) as server, LyingServer([]) as first:
        first.behaviours = [Behaviour(status=302, location=server.url)]
        assert fetch(first, target)[0] == BODY
        first.behaviours = [Behaviour(status=302, location="file:///etc/hostname")]
        with pytest.raises(DownloadError, match="not allowed"):
            Download(first.url, target, limits=LIMITS).fetch()


def test_no_server(target):
    with LyingServer([Behaviour(BODY)]) as server:
        url = server.url
    pauses = []
    with pytest.raises(DownloadError, match=r"connection failed.*3 times in a row"):
        Download(url, target, limits=LIMITS, wait=pauses.append).fetch()
    assert pauses == [0.5, 1.0]


def test_full_disk_is_said_before_and_while_writing(target, monkeypatch):
    with LyingServer([Behaviour(BODY)]) as server, monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 18))
        with pytest.raises(DownloadError, match=r"no space left \(0 MiB free\)"):
            Download(server.url, target).fetch()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with LyingServer([Behaviour(BODY)]) as server:
        with pytest.raises(DownloadError, match="no space left"):
            Download(server.url, target, progress=full).fetch()
        assert fetch(server, target)[0] == BODY


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be written"):
        Download("http://127.0.0.1:9/a", tmp_path / "file" / "a").fetch()


def test_redirect_never_leaves_https():
    request = download.urllib.request.Request("https://example.org/a")
    arguments = (request, None, 302, "Found", {})
    redirects = download._Redirects()
    assert redirects.redirect_request(*arguments, "https://example.com/b").full_url == "https://example.com/b"
    with pytest.raises(DownloadError, match=r"leads on to http://example\.com/b, which is not safe"):
        redirects.redirect_request(*arguments, "http://example.com/b")
