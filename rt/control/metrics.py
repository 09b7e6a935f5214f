"""Counters for Prometheus: what the node counts, and what the server refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

GAUGES = {
    "is_dry": ("stemrack_dry", "Whether the output is the dry mixture now."),
    "position": ("stemrack_output_samples", "Samples put out."),
}
SERVER_GAUGES = ("clients",)


class _Collector:
    def __init__(self, node: Mapping[str, int], server: Mapping[str, int]) -> None:
        self._node, self._server = node, server

    def collect(self) -> Iterator[Metric]:
        """Yield a metric for each thing that is counted."""
        for name, value in self._node.items():
            if name in GAUGES:
                yield GaugeMetricFamily(*GAUGES[name], value=value)
            else:
                said = f"{name.replace('_', ' ').capitalize()} since the node began."
                yield CounterMetricFamily(f"stemrack_{name}", said, value=value)
        yield GaugeMetricFamily(
            "stemrack_clients", "Connected clients.", value=self._server.get("clients", 0)
        )
        refused = CounterMetricFamily(
            "stemrack_control_events", "What the control server did and refused.", labels=["kind"]
        )
        for kind, value in sorted(self._server.items()):
            if kind not in SERVER_GAUGES:
                refused.add_metric([kind], value)
        yield refused


def metrics_text(node: Mapping[str, int], server: Mapping[str, int]) -> str:
    """Return the counters in Prometheus' text format.

    >>> "stemrack_xruns_total 3.0" in metrics_text({"xruns": 3}, {})
    True
    """
    registry = CollectorRegistry()
    registry.register(_Collector(node, server))  # type: ignore[arg-type]
    return generate_latest(registry).decode()
