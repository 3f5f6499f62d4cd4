"""What the operator tells Prometheus of itself; what it tells of releases is the exporter's."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one process, and their registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconcile = Histogram(
            "windlass_operator_reconcile_seconds",
            "Time from when a turn was due until it was over, with all that it asked of the cluster",
            ("kind",),
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._late = Histogram(
            "windlass_operator_late_seconds",
            "How long a turn that was due waited for a thread",
            ("kind",),
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._failures = Counter(
            "windlass_operator_reconcile_failures",
            "Turns that failed and were tried again",
            ("kind",),
            registry=self.registry,
        )
        self._requests = Counter(
            "windlass_operator_api_requests",
            "Requests to the Kubernetes API beside watches and the lease",
            ("verb", "code"),
            registry=self.registry,
        )
        self._leader = Gauge("windlass_operator_leader", "1 while this replica leads", registry=self.registry)
        self._leader.set(0)

    def turned(self, kind: str, seconds: float, late: float) -> None:
        """A turn of so many seconds is over; it had waited `late` seconds for a thread before."""
        self._reconcile.labels(kind).observe(late + seconds)
        self._late.labels(kind).observe(late)

    def failed(self, kind: str) -> None:
        self._failures.labels(kind).inc()

    def asked(self, verb: str, code: str) -> None:
        """One request to the API; `code` is the HTTP status, or "none" where nobody answered."""
        self._requests.labels(verb, code).inc()

    def leads(self, leads: bool) -> None:
        self._leader.set(leads)

    def show_phases(self, count: Callable[[], dict[str, int]]) -> None:
        """Show how many Releases are in each phase, counted when asked."""
        self.registry.register(_Phases(count))


class _Phases(Collector):
    def __init__(self, count: Callable[[], dict[str, int]]) -> None:
        self._count = count

    def collect(self) -> list[GaugeMetricFamily]:
        found = GaugeMetricFamily(
            "windlass_operator_releases", "Release objects by their phase", labels=("phase",)
        )
        for phase, number in sorted(self._count().items()):
            found.add_metric((phase,), number)
        return [found]
