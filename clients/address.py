"""Where a node is, and the token for it: from an address as `stemrack run` prints it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit, urlunsplit

DEFAULT_URL = "http://127.0.0.1:8137"
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


@dataclass(frozen=True, slots=True)
class Address:
    """Of a node's websocket, without its token, which no message shows."""

    websocket_url: str
    token: str = field(default="", repr=False)

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.websocket_url.startswith("wss:")


def find_address(url: str | None = None, token: str | None = None) -> Address:
    """Return where to connect to, and with which token.

    url: none is STEMRACK_URL, or this machine. The token is the one given, else that of the address
    (`#token=...`), else STEMRACK_TOKEN.  Raises: ValueError if the address is none.

    >>> find_address("https://desk.local:8137/#token=abc").websocket_url
    'wss://desk.local:8137/'
    """
    given = (url or os.environ.get("STEMRACK_URL") or DEFAULT_URL).strip()
    parts = urlsplit(given if "://" in given else f"http://{given}")
    shown = given.partition("#")[0]
    try:
        port_is_right = parts.port != 0
    except ValueError:
        port_is_right = False
    if parts.scheme not in _SCHEMES or not parts.hostname or not port_is_right or "@" in parts.netloc:
        raise ValueError(f"'{shown}' is no address of a node: give one as {DEFAULT_URL}")
    websocket_url = urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path or "/", "", ""))
    found = parse_qs(parts.fragment).get("token", [""])[0]
    return Address(websocket_url, token or found or os.environ.get("STEMRACK_TOKEN", ""))
