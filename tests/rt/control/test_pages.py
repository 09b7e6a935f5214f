"""The browser mixer's files: what is taken, with which type, and that nothing else can be reached."""

import asyncio
from pathlib import Path

import pytest

from stemrack.rt.control.board import Board
from stemrack.rt.control.pages import CONTENT_TYPES, load_pages
from stemrack.rt.control.server import ControlServer, ServerSettings
from stemrack.rt.errors import ConfigError

WEB = Path(__file__).resolve().parents[3] / "clients" / "web"


@pytest.fixture
def folder(tmp_path):
    web = tmp_path / "web"
    (web / "inner").mkdir(parents=True)
    for name in ("index.html", "main.js", "style.css", "icon.svg", "note.txt", "secret", "inner/deep.js"):
        (web / name).write_text(f"text of {name}", encoding="utf-8")
    (tmp_path / "outside.js").write_text("outside", encoding="utf-8")
    return web


def test_takes_the_files_of_known_suffixes(folder):
    pages = load_pages(folder)
    assert sorted(pages) == ["/icon.svg", "/index.html", "/main.js", "/style.css"]
    assert pages["/main.js"].body == b"text of main.js"
    assert pages["/main.js"].content_type == "text/javascript; charset=utf-8"
    assert pages["/index.html"].content_type == "text/html; charset=utf-8"


def test_a_folder_without_index_is_refused(folder):
    (folder / "index.html").unlink()
    with pytest.raises(ConfigError, match=r"holds no index\.html"):
        load_pages(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="gone: the browser mixer cannot be read"):
        load_pages(tmp_path / "gone")


def test_the_real_mixer_is_complete():
    """Every file of the folder is served, and every file that one names is there."""
    pages = load_pages(WEB)
    assert {f"/{p.name}" for p in WEB.iterdir()} == set(pages)
    for path, page in pages.items():
        assert page.content_type == CONTENT_TYPES[Path(path).suffix]
        assert b"http://" not in page.body.replace(b"http://www.w3.org/", b""), "nothing from elsewhere"
        assert b"https://" not in page.body, "nothing from elsewhere"


class _Node:
    server_name, board = "stemrack", Board("e1", {})


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 200),
        ("/main.js", 200),
        ("/main.js?v=1", 200),
        ("/../outside.js", 404),
        ("/%2e%2e/outside.js", 404),
        ("/..%2foutside.js", 404),
        ("/..\\outside.js", 404),
        ("//main.js", 404),
        ("/./main.js", 404),
        ("/inner/deep.js", 404),
        ("/inner/../main.js", 404),
        ("/note.txt", 404),
        ("/secret", 404),
        ("/main.js/", 404),
        ("/main.js%00", 404),
    ],
)
def test_only_names_of_the_dictionary_are_found(folder, target, status):
    assert asyncio.run(_status_of(folder, target)) == status


async def _status_of(folder, target):
    server = ControlServer(_Node(), ServerSettings(port=0), load_pages(folder), lambda counted: "")
    port = await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 10.0)
        writer.close()
        return int(line.split()[1])
    finally:
        await server.stop()
