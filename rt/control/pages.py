"""The files of the browser mixer, read into memory once: the server looks names up and opens no file."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from .server import Page

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
"""Of the suffixes that are served; other files of the folder are left alone."""


def load_pages(folder: Path) -> dict[str, Page]:
    """Return the pages in a folder by the path of their URL; not those of folders within it.

    Raises: ConfigError if there is no index.html, or a file cannot be read.
    """
    pages = {}
    try:
        for file in sorted(folder.iterdir()):
            if file.suffix in CONTENT_TYPES and file.is_file():
                pages[f"/{file.name}"] = Page(CONTENT_TYPES[file.suffix], file.read_bytes())
    except OSError as error:
        said = f"{error.filename}: the browser mixer cannot be read ({error.strerror}): install stemrack anew"
        raise ConfigError(said) from error
    if "/index.html" not in pages:
        raise ConfigError(f"{folder}: holds no index.html, so no browser mixer: install stemrack anew")
    return pages
