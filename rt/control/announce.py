"""Telling the local network that a node is here (mDNS), for those who switch it on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from zeroconf import BadTypeInNameException, IPVersion, ServiceInfo, Zeroconf

from ..errors import EngineStateError
from .auth import own_address

SERVICE = "_stemrack._tcp.local."
LONGEST_LABEL_BYTES = 63
"""Of a name in DNS: RFC 1035, 2.3.4."""


@contextmanager
def announced(name: str, port: int, *, tls: bool) -> Iterator[ServiceInfo]:
    """Announce a node for as long as the context lasts; gives what is announced. No token is in it.

    Raises: EngineStateError where the network cannot be told.
    """
    try:
        zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
    except OSError as error:
        raise _unannounced(error) from error
    try:
        try:
            info = _described(name, port, tls=tls)
            zeroconf.register_service(info, allow_name_change=True)
        except (OSError, BadTypeInNameException) as error:
            raise _unannounced(error) from error
        try:
            yield info
        finally:
            zeroconf.unregister_service(info)
    finally:
        zeroconf.close()


def _described(name: str, port: int, *, tls: bool) -> ServiceInfo:
    host = socket.gethostname().partition(".")[0]
    label = f"{name} on {host}".encode()[:LONGEST_LABEL_BYTES].decode(errors="ignore")
    return ServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        port=port,
        addresses=[socket.inet_aton(own_address())],
        properties={"path": "/", "scheme": "https" if tls else "http", "protocol": "stemrack.v1"},
        server=f"{host}.local.",
    )


def _unannounced(error: Exception) -> EngineStateError:
    return EngineStateError(f"the node cannot be announced ({error}): set control.announce to false")
