"""Prometheus' text, the announcement, and a service that cannot start."""

import errno
import socket
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from stemrack.rt.control import announce
from stemrack.rt.control.announce import SERVICE, announced
from stemrack.rt.control.metrics import metrics_text
from stemrack.rt.control.server import ServerSettings
from stemrack.rt.control.service import ControlService
from stemrack.rt.errors import ConfigError, EngineStateError
from stemrack.rt.meters import COUNTERS

NAMES = (*COUNTERS, "is_dry", "worker_deaths", "worker_restarts", "audio_restarts")
"""Everything an engine counts."""


def families(node, server):
    """Return the metrics by name, as Prometheus' own parser reads them."""
    found = list(text_string_to_metric_families(metrics_text(node, server)))
    assert len({family.name for family in found}) == len(found), "a name stands for one thing"
    return {family.name: family for family in found}


def values(family):
    """Return the values of a metric by the value of its label."""
    return {next(iter(s.labels.values()), ""): s.value for s in family.samples if "created" not in s.name}


# -- metrics ------------------------------------------------------------------------------------------------


def test_everything_an_engine_counts_is_told_once():
    found = families({name: i + 1 for i, name in enumerate(NAMES)}, {})
    gauges = {"position": "stemrack_output_samples", "is_dry": "stemrack_dry"}
    for i, name in enumerate(NAMES):
        family = found.pop(gauges.get(name, f"stemrack_{name}"))
        assert family.type == ("gauge" if name in gauges else "counter")
        assert values(family) == {"": i + 1}
        assert family.documentation.endswith(".")
    assert set(found) == {"stemrack_clients", "stemrack_control_events"}


def test_counters_end_in_total_as_prometheus_wants():
    text = metrics_text({"late_hops": 4}, {"refused_token": 2})
    assert "\nstemrack_late_hops_total 4.0\n" in text
    assert '\nstemrack_control_events_total{kind="refused_token"} 2.0\n' in text
    assert "# TYPE stemrack_late_hops_total counter\n" in text
    assert "# HELP stemrack_late_hops_total Late hops since the node began.\n" in text


def test_what_the_server_counts_has_a_label_and_its_clients_are_a_gauge():
    found = families({}, {"refused_origin": 3, "clients": 5, "connections": 9})
    assert values(found["stemrack_control_events"]) == {"refused_origin": 3, "connections": 9}
    assert found["stemrack_clients"].type == "gauge"
    assert values(found["stemrack_clients"]) == {"": 5}


def test_nothing_counted_is_a_text_as_well():
    found = families({}, {})
    assert values(found["stemrack_clients"]) == {"": 0}
    assert values(found["stemrack_control_events"]) == {}


def test_large_numbers_are_kept():
    """Six days of samples at 192 kHz."""
    n = 192_000 * 86_400 * 6
    assert values(families({"position": n}, {})["stemrack_output_samples"]) == {"": n}


def test_odd_words_do_not_break_the_text():
    found = families({}, {'a"b\\c\nd': 1})
    assert values(found["stemrack_control_events"]) == {'a"b\\c\nd': 1}


# -- announcement -------------------------------------------------------------------------------------------


class Network:
    """A `Zeroconf` that remembers what it was told."""

    def __init__(self, trouble=None):
        self.told, self.trouble = [], trouble

    def __call__(self, ip_version):
        self.told.append(("open", ip_version))
        return self

    def register_service(self, info, allow_name_change):
        if self.trouble:
            raise self.trouble
        self.told.append(("register", info.name))

    def unregister_service(self, info):
        self.told.append(("unregister", info.name))

    def close(self):
        self.told.append(("close", None))


@pytest.fixture
def network(monkeypatch):
    quiet = Network()
    monkeypatch.setattr(announce, "Zeroconf", quiet)
    monkeypatch.setattr(socket, "gethostname", lambda: "desk.studio.example")
    return quiet


@pytest.mark.parametrize(("tls", "scheme"), [(False, b"http"), (True, b"https")])
def test_what_is_announced(network, tls, scheme):
    """Name, address, port and how to speak; nothing that is secret."""
    with announced("stemrack 1.2.3", 8137, tls=tls) as info:
        assert info.name == f"stemrack 1.2.3 on desk.{SERVICE}"
        assert (info.type, info.port, info.server) == (SERVICE, 8137, "desk.local.")
        assert info.properties == {b"path": b"/", b"scheme": scheme, b"protocol": b"stemrack.v1"}
        assert [kind for kind, _ in network.told] == ["open", "register"]
    assert [kind for kind, _ in network.told] == ["open", "register", "unregister", "close"]


def test_the_announcement_ends_with_what_it_is_about(network):
    with pytest.raises(ZeroDivisionError), announced("stemrack", 1, tls=False):
        raise ZeroDivisionError
    assert [kind for kind, _ in network.told[-2:]] == ["unregister", "close"]


@pytest.mark.parametrize(("host", "kept"), [("h" * 63, "h" * 45), ("ü" * 40, "ü" * 22)])
def test_a_long_host_name_is_cut(network, monkeypatch, host, kept):
    """A name in DNS has 63 bytes at most, and no half letters."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    with announced("stemrack 1.2.3", 8137, tls=False) as info:
        assert info.name == f"stemrack 1.2.3 on {kept}.{SERVICE}"


def test_a_network_that_cannot_be_told(network):
    """The node says what is wrong and what to do; nothing is left open."""
    network.trouble = OSError(errno.ENETUNREACH, "Network is unreachable")
    with pytest.raises(EngineStateError, match=r"unreachable\): set control.announce to false"):
        announced("stemrack", 8137, tls=False).__enter__()
    assert [kind for kind, _ in network.told] == ["open", "close"]


def test_no_network_at_all(monkeypatch):
    def no_network(ip_version):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(announce, "Zeroconf", no_network)
    with pytest.raises(EngineStateError, match=r"No such device\): set control.announce to false"):
        announced("stemrack", 8137, tls=False).__enter__()


def test_a_name_that_cannot_be_announced():
    """As zeroconf itself finds, before it says anything."""
    with pytest.raises(EngineStateError, match="cannot be announced"):
        announced("two\nlines", 8137, tls=False).__enter__()


def test_without_a_way_out_the_address_is_loopback_s(network, monkeypatch):
    class Deaf(socket.socket):
        def connect(self, address):
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Deaf)
    with announced("stemrack", 8137, tls=False) as info:
        assert info.addresses == [socket.inet_aton("127.0.0.1")]


def test_another_program_finds_it():
    """Over the real network's multicast."""
    listener = Zeroconf(ip_version=IPVersion.V4Only)
    try:
        with announced("stemrack test", 8137, tls=False) as info:
            found = listener.get_service_info(SERVICE, info.name, 3_000)
            if found is None:
                pytest.skip("multicast does not reach this machine's own programs")
            assert isinstance(found, ServiceInfo)
            assert (found.port, found.properties) == (8137, info.properties)
            assert found.addresses == info.addresses
    finally:
        listener.close()


# -- the service --------------------------------------------------------------------------------------------


class _Bystander:
    """As much of a node as a service touches that never listens."""

    def __init__(self):
        self.on_event, self.post, self.is_closed = [], None, False

    def close(self):
        self.is_closed = True


def test_a_service_that_cannot_start_says_why_at_once(tmp_path):
    """Wrong files for TLS are an error of the caller's, not silence until the time is over."""
    node = _Bystander()
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    service = ControlService(node, ServerSettings(port=0, tls=files), {})
    with pytest.raises(ConfigError, match=r"cert\.pem, .*key\.pem: no certificate and its key"):
        service.start()
    service.stop()
    assert node.is_closed
    assert not [t.name for t in threading.enumerate() if t.name == "stemrack-control"]
