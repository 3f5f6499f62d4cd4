"""What the collector says of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from monitoring.collector.labelling import OUTCOMES

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
TYPES = ("request", "response", "prediction", "label")


@dataclass(eq=False)
class Stored(Collector):
    """Counts that the consolidation keeps in the manifest: they go on where they were after a restart."""

    counts: dict[str, int] = field(default_factory=dict)

    def collect(self) -> Iterable[Any]:
        duplicates = CounterMetricFamily(
            "windlass_collector_duplicates",
            "Events delivered again and not stored again",
            labels=["type"],
        )
        for kind in TYPES:
            name = "labels.repeated" if kind == "label" else f"duplicates.{kind}"
            duplicates.add_metric([kind], self.counts.get(name, 0))
        yield duplicates
        labels = CounterMetricFamily("windlass_collector_labels", "What became of labels", labels=["outcome"])
        for outcome in OUTCOMES:
            labels.add_metric([outcome], self.counts.get(f"labels.{outcome}", 0))
        yield labels
        incomplete = CounterMetricFamily(
            "windlass_collector_incomplete",
            "Requests without a response, or the other way round, that were stored so",
            labels=["type"],
        )
        for kind in TYPES[:2]:
            incomplete.add_metric([kind], self.counts.get(f"incomplete.{kind}", 0))
        yield incomplete
        yield CounterMetricFamily(
            "windlass_collector_stored",
            "Predictions in the store, those past their time included",
            value=self.counts.get("stored.prediction", 0),
        )
        yield CounterMetricFamily(
            "windlass_collector_wal_damaged",
            "Journal segments that could not be read whole",
            value=self.counts.get("wal.damaged", 0),
        )


class Metrics:
    """The metrics of one collector; gauges are read when they are asked for."""

    def __init__(
        self,
        *,
        pending: Callable[[], float],
        wal_bytes: Callable[[], float],
        lag: Callable[[], float],
        storage_ok: Callable[[], float],
    ) -> None:
        self.registry = CollectorRegistry()
        self.stored = Stored()
        self.registry.register(self.stored)
        self.events = self._counter("events", "Events acknowledged", "type", TYPES)
        reasons = ("invalid", "full", "storage")
        self.refused = self._counter("refused", "Requests that were not taken", "reason", reasons)
        self.commit_seconds = Histogram(
            "windlass_collector_commit_seconds",
            "Time of a write and its fsync, shared by those who wait for it",
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.failures = Counter(
            "windlass_collector_consolidation_failures",
            "Attempts to bring the journal into the store that failed",
            registry=self.registry,
        )
        self.evidence_releases = Gauge(
            "windlass_collector_evidence_releases",
            "Releases whose evidence is asked for",
            registry=self.registry,
        )
        self.evidence_rows = Counter(
            "windlass_collector_evidence_rows",
            "Predictions and labels that were counted as evidence, again after a restart",
            registry=self.registry,
        )
        self.evidence_rebuild_seconds = Gauge(
            "windlass_collector_evidence_rebuild_seconds",
            "Time that the store was last read for the first answer about a release",
            registry=self.registry,
        )
        for name, text, read in (
            ("pending", "Requests that wait for the disk", pending),
            ("wal_bytes", "Bytes of the journal that are not in the store yet", wal_bytes),
            ("lag_seconds", "Age of the oldest acknowledged event that is not in the store yet", lag),
            ("storage_ok", "1 while the disk takes what is sent, 0 while it does not", storage_ok),
        ):
            Gauge(f"windlass_collector_{name}", text, registry=self.registry).set_function(read)

    def _counter(self, name: str, text: str, label: str, values: Iterable[str]) -> Counter:
        found = Counter(f"windlass_collector_{name}", text, [label], registry=self.registry)
        for value in values:
            found.labels(value)  # a series that is there from the start can be seen to rise
        return found
