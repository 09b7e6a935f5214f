"""Who may do what: tokens with roles in a file only its owner reads; and where requests may come from."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from .table import ROLES

LEAST_TOKEN_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token for each role; empty where none is needed and everybody is `everybody`."""

    by_role: dict[str, str]
    everybody: str | None = None

    def role_of(self, token: str) -> str | None:
        """Return the role of a token; None if it is nobody's. As slow for wrong ones as for right ones."""
        if self.everybody is not None:
            return self.everybody
        found = None
        for role, known in self.by_role.items():
            if hmac.compare_digest(known.encode(), token.encode("utf-8", "replace")):
                found = role
        return found


def new_tokens() -> Tokens:
    """Return random tokens, 192 bits each."""
    return Tokens({role: secrets.token_urlsafe(24) for role in ROLES})


def load_tokens(path: Path) -> Tokens:
    """Return the tokens in a file; makes the file, for its owner only, if there is none.

    Raises: ConfigError if it cannot be read, can be read by others, or holds something else.
    """
    try:
        found = _read(path)
    except FileNotFoundError:
        return _make(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): delete it, or name another") from error
    if not _is_complete(found):
        said = (
            f"must hold tokens of {LEAST_TOKEN_LENGTH} characters or more for {', '.join(ROLES)}: delete it"
        )
        raise ConfigError(f"{path}: {said}")
    return Tokens({role: found[role] for role in ROLES})


def _read(path: Path) -> Any:
    with open(path, encoding="utf-8") as file:
        if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
            raise ConfigError(f"{path}: others can read the tokens in it: chmod 600 it, or delete it")
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: holds no tokens ({error}): delete it") from error


def _is_complete(found: object) -> bool:
    if not isinstance(found, dict):
        return False
    return all(isinstance(found.get(r), str) and len(found[r]) >= LEAST_TOKEN_LENGTH for r in ROLES)


def _make(path: Path) -> Tokens:
    tokens = new_tokens()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(tokens.by_role, file, indent=1)
    except FileExistsError as error:  # another node was faster
        if not path.exists():
            raise ConfigError(f"{path}: is a link that leads nowhere: delete it") from error
        return load_tokens(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made ({error.strerror}): name another token file") from error
    return tokens


@dataclass(frozen=True)
class Gate:
    """Which Host and Origin headers are let in.

    A page of another site cannot pass: its Origin differs. Nor can one that had its own name point at this
    machine (DNS rebinding): its Host is a name that is not ours. Numbers as a Host are no such name.

    >>> gate = Gate.around("127.0.0.1", names=("desk.local",))
    >>> gate.lets_host_in("localhost:8137"), gate.lets_host_in("evil.example:8137")
    (True, False)
    >>> gate.lets_origin_in("http://desk.local:8137", "desk.local:8137")
    True
    >>> gate.lets_origin_in("null", "localhost")
    False
    """

    names: frozenset[str]
    takes_addresses: bool
    """Whether any IP address is a right Host: where the server listens on more than loopback."""
    origins: frozenset[str] = frozenset()

    @classmethod
    def around(cls, bind: str, names: Iterable[str] = (), origins: Iterable[str] = ()) -> Gate:
        """Return the gate of a server that listens at `bind`."""
        return cls(
            frozenset({"localhost", bind.lower(), *(n.lower() for n in names)}),
            not is_loopback(bind),
            frozenset(o.lower().rstrip("/") for o in origins),
        )

    def lets_host_in(self, host: str | None) -> bool:
        """Return whether a Host header is one of ours."""
        name = _host_of(host or "")
        if name is None:
            return False
        return name in self.names or _address_is(name, loopback_only=not self.takes_addresses)

    def lets_origin_in(self, origin: str | None, host: str | None) -> bool:
        """Return whether an Origin is our own page's or one the configuration names; None: no browser."""
        if origin is None:
            return True
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        if parts.scheme in ("http", "https") and parts.netloc and parts.netloc == (host or "").lower():
            return True
        return origin.lower() in self.origins


def is_loopback(bind: str) -> bool:
    """Return whether only this machine reaches an address."""
    return bind == "localhost" or (_is_address(bind) and ipaddress.ip_address(bind).is_loopback)


def own_address() -> str:
    """Return the address by which other machines reach this one; loopback's where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("224.0.0.251", 5353))  # nothing is sent: the system only chooses an address
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


def _address_is(name: str, *, loopback_only: bool) -> bool:
    return _is_address(name) and (not loopback_only or ipaddress.ip_address(name).is_loopback)


def _host_of(header: str) -> str | None:
    """Return the name or address in a Host header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
