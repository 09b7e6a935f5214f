"""What can go wrong for a client; each text says the facts and what to do next.

SessionError
├─ NoConnection    a connection could not be made
├─ ConnectionLost  it broke, or there is none now: what was asked may or may not have happened
├─ Refused         the node does not want this client; trying again would not help (code)
└─ RequestRefused  the node did not do what was asked (code, name, path)
"""

from __future__ import annotations


class SessionError(Exception):
    """Base of all of them."""


class NoConnection(SessionError):
    """A connection could not be made."""


class ConnectionLost(SessionError):
    """The connection broke, or there is none now: what was asked may or may not have happened."""


class Refused(SessionError):
    """The node does not want this client as it is. code: a `CloseCode`, an `ErrorCode` or of HTTP."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return f"the node refuses this client: {self.reason} (code {self.code})"


class RequestRefused(SessionError):
    """The node did not do what was asked. code, name: of `ErrorCode`; path: the field or parameter."""

    def __init__(self, code: int, name: str, path: str, message: str) -> None:
        super().__init__(code, name, path, message)
        self.code, self.name, self.path, self.message = code, name, path, message

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message} (error {self.code}, {self.name})"
