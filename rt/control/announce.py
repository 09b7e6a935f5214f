"""Telling the local network that a node is here (mDNS), for those who switch it on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from zeroconf import IPVersion, ServiceInfo, Zeroconf

SERVICE = "_stemrack._tcp.local."


@contextmanager
def announced(name: str, port: int, *, tls: bool) -> Iterator[ServiceInfo]:
    """Announce a node for as long as the context lasts; gives what is announced. No token is in it."""
    zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
    host = socket.gethostname().partition(".")[0]
    info = ServiceInfo(
        SERVICE,
        f"{name} on {host}.{SERVICE}",
        port=port,
        addresses=[socket.inet_aton(address) for address in _addresses()],
        properties={"path": "/", "scheme": "https" if tls else "http", "protocol": "stemrack.v1"},
        server=f"{host}.local.",
    )
    zeroconf.register_service(info, allow_name_change=True)
    try:
        yield info
    finally:
        zeroconf.unregister_service(info)
        zeroconf.close()


def _addresses() -> list[str]:
    """Return the address by which other machines reach this one; loopback's where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("224.0.0.251", 5353))  # nothing is sent: the system only chooses an address
        except OSError:
            return ["127.0.0.1"]
        return [probe.getsockname()[0]]
