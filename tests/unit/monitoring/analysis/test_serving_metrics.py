"""The queries against a real Prometheus that scrapes a real page of counters."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import prometheus_server
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_server import PrometheusServer

from monitoring.analysis import slo
from monitoring.analysis.serving_metrics import Metrics
from monitoring.analysis.slo import OBJECTIVES
from serving.runtime.counts import BUCKETS

AVAILABILITY, LATENCY = OBJECTIVES
REQUESTS, FAILED, SLOW = 1000, 40, 100


@dataclass(frozen=True)
class Watched:
    """A page as a model server has it, and the Prometheus that scrapes it."""

    server: PrometheusServer
    target: str
    requests: Counter
    seconds: Histogram
    cpu: Counter


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    registry = CollectorRegistry()
    labels = ("model", "version", "protocol", "code")
    requests = Counter("windlass_requests_total", "…", labels, registry=registry)
    seconds = Histogram(
        "windlass_request_seconds", "…", ("model", "version"), buckets=BUCKETS, registry=registry
    )
    cpu = Counter("process_cpu_seconds_total", "…", registry=registry)
    Gauge("process_resident_memory_bytes", "…", registry=registry).set(2.5e8)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page, thread = start_http_server(port, "127.0.0.1", registry)
    target = f"127.0.0.1:{port}"
    # counters begin before what is counted: their first sample is no increase
    requests.labels("flights", "1", "v1", "200").inc(0)
    requests.labels("flights", "1", "v1", "503").inc(0)
    seconds.labels("flights", "1")
    folder, place = tmp_path_factory.mktemp("prometheus"), {"namespace": "team-a"}
    with prometheus_server.running(folder, [target], labels=place) as server:
        server.scraped(target, time.time())
        requests.labels("flights", "1", "v1", "200").inc(REQUESTS - FAILED)
        requests.labels("flights", "1", "v1", "503").inc(FAILED)
        for i in range(REQUESTS):
            seconds.labels("flights", "1").observe(0.2 if i < SLOW else 0.003)
        cpu.inc(0.7)
        server.scraped(target, time.time())
        yield Watched(server, target, requests, seconds, cpu)
    page.shutdown()
    page.server_close()
    thread.join()


def test_failures_and_slow_answers_are_shares_of_what_was_asked(watched: Watched) -> None:
    """Verify the shares (increase() stretches counts to the edges of its range, numerator and denominator alike)."""
    metrics = Metrics(watched.server.url, time.time())
    for objective, bad in ((AVAILABILITY, FAILED), (LATENCY, SLOW)):
        found = metrics.counted("flights", objective)
        assert found is not None
        total, failed = found.period
        assert total >= REQUESTS * 0.99
        assert failed / total == pytest.approx(bad / REQUESTS, rel=1e-6)
        assert set(found.windows) == set(slo.WINDOWS)
        assert slo.budget(objective, found).verdict == "FAIL"


def test_cpu_and_memory_are_those_of_the_processes_that_serve_the_model(watched: Watched) -> None:
    found = Metrics(watched.server.url, time.time()).resources("flights")
    assert found.cpu_seconds_per_1000 == pytest.approx(0.7, rel=0.01)
    assert found.memory_bytes == 2.5e8


def test_a_model_of_the_same_name_elsewhere_is_another(watched: Watched) -> None:
    """Verify that counts and resources are those of the namespace that is asked for."""
    at = time.time()
    ours, theirs = (Metrics(watched.server.url, at, namespace) for namespace in ("team-a", "team-b"))
    for objective in OBJECTIVES:
        assert ours.counted("flights", objective) == Metrics(watched.server.url, at).counted(
            "flights", objective
        )
        assert ours.counted("flights", objective) is not None
        assert theirs.counted("flights", objective) is None
    assert ours.resources("flights").memory_bytes == 2.5e8
    assert theirs.resources("flights").memory_bytes is None
    assert theirs.resources("flights").cpu_seconds_per_1000 is None


def test_a_model_that_nobody_serves_has_none_of_it(watched: Watched) -> None:
    metrics = Metrics(watched.server.url, time.time())
    assert metrics.counted("trains", AVAILABILITY) is None
    assert metrics.counted("trains", LATENCY) is None
    found = metrics.resources("trains")
    assert (found.cpu_seconds_per_1000, found.memory_bytes) == (None, None)
