"""The metrics page: Prometheus' own parser reads it, and several workers' pages add up."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import get_args

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from serving.release import route_header
from serving.release.envoy.routes import COUNTED, Kind
from serving.runtime import loading, routes
from serving.runtime.counts import BUCKETS, UNASSIGNED, RequestCounts
from serving.runtime.metrics import Metrics, bury
from serving.runtime.options import Options
from serving.runtime.refusal import Overloaded
from serving.runtime.repository import Loaded

from .conftest import write_bundle

Labels = frozenset[tuple[str, str]]
ALWAYS = {
    "windlass_requests": "counter",
    "windlass_request_seconds": "histogram",
    "windlass_predictions": "counter",
    "windlass_answers": "counter",
    "windlass_model_failures": "counter",
    "windlass_feature_rows": "counter",
    "windlass_feature_store_failures": "counter",
    "windlass_breaker_state": "gauge",
    "windlass_breaker_opens": "counter",
    "windlass_shed": "counter",
    "windlass_pending_requests": "gauge",
    "windlass_model_runs": "counter",
    "windlass_model_run_rows": "counter",
    "windlass_connections": "gauge",
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge",
}
OF_A_CACHE = {"windlass_cache_lookups": "counter"}
OF_A_LOG = {
    "windlass_log_records": "counter",
    "windlass_log_dropped": "counter",
    "windlass_log_queued_bytes": "gauge",
}


def samples(page: bytes) -> dict[tuple[str, Labels], float]:
    """Every sample of a page by its name and labels; each may stand there once."""
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def kinds(page: bytes) -> dict[str, str]:
    return {f.name: f.type for f in text_string_to_metric_families(page.decode())}


def of(**labels: str) -> Labels:
    return frozenset(labels.items())


def serving(folder: Path, test: Callable[[Loaded, Metrics], Awaitable[None]], **stated: object) -> None:
    """Run a test with a real model that is loaded, and the metrics that it counts in."""
    inputs = [{"name": f"f{i}", "view": None} for i in range(5)]
    cache = {"ttl_seconds": 60, "keys": ["f0"]}
    bundle = write_bundle(
        folder / "bundle", inputs=inputs, views=[], entities=[], feature_service="", cache=cache
    )

    async def main() -> None:
        options, metrics = Options(port=0, **stated), Metrics(folder)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        loaded = loading.loaded(loading.verified(bundle, options), options, loop, metrics)
        try:
            await test(loaded, metrics)
        finally:
            loaded.close()

    uvloop.run(main())


def test_the_page_is_prometheus_text(tmp_path: Path) -> None:
    """Verify that names, kinds and labels are those that dashboards ask for, and that each has its help."""

    async def test(loaded: Loaded, metrics: Metrics) -> None:
        page = metrics.page([loaded])
        assert kinds(page) == ALWAYS | OF_A_CACHE | OF_A_LOG
        assert all(f.documentation for f in text_string_to_metric_families(page.decode()))
        model = {"model": "flights", "version": "3"}
        found = samples(page)
        for name, labels in (
            ("windlass_predictions_total", {}),
            ("windlass_answers_total", {"by": "fallback"}),
            ("windlass_feature_rows_total", {"source": "cached"}),
            ("windlass_breaker_state", {"of": "store", "state": "half_open"}),
            ("windlass_breaker_opens_total", {"of": "model"}),
            ("windlass_pending_requests", {}),
            ("windlass_cache_lookups_total", {"result": "hit"}),
            ("windlass_log_dropped_total", {}),
        ):
            assert found[name, of(**model, **labels)] == 0
        assert found["windlass_breaker_state", of(**model, of="model", state="closed")] == 1
        assert found["process_resident_memory_bytes", of()] > 1e6

    serving(tmp_path, test, log=str(tmp_path / "log.jsonl"))


def test_what_happened_is_counted(tmp_path: Path) -> None:
    """Verify that responses stand by protocol and code, times in buckets that grow, and refusals by reason."""

    async def test(loaded: Loaded, metrics: Metrics) -> None:
        assert metrics.of("flights", "3") is loaded.requests
        counts = loaded.requests.of(b"weights")
        for seconds in (0.00005, BUCKETS[0], 0.0003, 2.0):
            counts.answered("v2", 200, seconds)
        counts.answered("v1", 400, 0.0002)
        loaded.lane._pending = 10**9
        with pytest.raises(Overloaded):
            loaded.lane.admit()
        model = {"model": "flights", "version": "3"}
        found = samples(metrics.page([loaded]))
        of_version, model = model, {**model, "assigned": "true"}
        assert found["windlass_requests_total", of(**model, protocol="v2", code="200")] == 4
        assert found["windlass_requests_total", of(**model, protocol="v1", code="400")] == 1
        assert found["windlass_shed_total", of(**of_version, reason="full")] == 1
        buckets = [
            found["windlass_request_seconds_bucket", of(**model, le=str(b))] for b in (*BUCKETS, "+Inf")
        ]
        assert buckets[:3] == [2, 3, 4]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found["windlass_request_seconds_count", of(**model)] == 5
        assert found["windlass_request_seconds_sum", of(**model)] == pytest.approx(2.00065)

    serving(tmp_path, test)


def test_whoever_chose_the_version_is_counted_apart(tmp_path: Path) -> None:
    """Verify that what no router assigned adds to series of its own, which are there before it comes."""

    async def test(loaded: Loaded, metrics: Metrics) -> None:
        metrics.of("", "").assigned.answered("other", 404, 0.0)
        for route in (None, b"weights", b"arm", b"segment/match", b"Match", b"matches"):
            loaded.requests.of(route).answered("v2", 200, 0.001)
        chosen = {"model": "flights", "version": "3", "assigned": "false"}
        found = samples(metrics.page([loaded]))
        assert found["windlass_request_seconds_bucket", of(**chosen, le="+Inf")] == 0
        for route in (b"match", b"unassigned"):
            loaded.requests.of(route).answered("v2", 503, 0.001)
            loaded.requests.chosen().of(b"weights").answered("v1", 200, 0.3)
        found = samples(metrics.page([loaded]))
        responses = {labels: n for (name, labels), n in found.items() if name == "windlass_requests_total"}
        assert responses == {
            of(**{**chosen, "assigned": "true"}, protocol="v2", code="200"): 6,
            of(**chosen, protocol="v2", code="503"): 2,
            of(**chosen, protocol="v1", code="200"): 2,
            of(model="", version="", assigned="true", protocol="other", code="404"): 1,
        }
        assert found["windlass_request_seconds_bucket", of(**chosen, le="0.001")] == 2
        assert found["windlass_request_seconds_count", of(**chosen)] == 4

    serving(tmp_path, test)


def test_what_a_router_did_not_assign_is_told_as_the_route_tells_it() -> None:
    """Verify that the words are those of the release side: what its own evidence leaves out, and no other."""
    kinds = [kind for kind in get_args(Kind) if route_header.read(kind) == (kind, None)]
    assert len(kinds) == 4
    assert {kind.encode() for kind in kinds if kind not in COUNTED} == UNASSIGNED
    assert route_header.segment("match").encode() not in UNASSIGNED
    assert routes.ROUTE.decode() == route_header.ROUTE_HEADER


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        pytest.param(0.0, 0, id="zero"),
        pytest.param(BUCKETS[0], 0, id="a-bound-belongs-to-what-is-below"),
        pytest.param(BUCKETS[-1], len(BUCKETS) - 1, id="the-last-bound"),
        pytest.param(BUCKETS[-1] * 1.01, len(BUCKETS), id="beyond"),
    ],
)
def test_a_time_falls_into_one_bucket(seconds: float, bucket: int) -> None:
    """Verify that bounds are inclusive, as Prometheus reads them."""
    counts = RequestCounts()
    counts.answered("v1", 200, seconds)
    assert [i for i, n in enumerate(counts.buckets) if n] == [bucket]


def leave_as(pid: int, folder: Path, metrics: Metrics, models: list[Loaded]) -> None:
    """Leave what another worker would."""
    metrics.leave(models)
    (folder / f"{os.getpid()}.json").rename(folder / f"{pid}.json")


def test_the_pages_of_several_workers_add_up(tmp_path: Path) -> None:
    """Verify that any worker shows the sum of all, labels that only another has as well, and its own once."""

    async def test(loaded: Loaded, mine: Metrics) -> None:
        other, version = Metrics(tmp_path), {"model": "flights", "version": "3"}
        model = {**version, "assigned": "true"}
        other.of("flights", "3").assigned.answered("v2", 200, 0.001)
        other.of("flights", "3").assigned.answered("v1", 503, 0.001)
        other.connections = 4
        leave_as(1, tmp_path, other, [])
        mine.of("flights", "3").assigned.answered("v2", 200, 0.002)
        mine.connections = 3
        mine.leave([loaded])
        found = samples(mine.page([loaded]))
        assert found["windlass_requests_total", of(**model, protocol="v2", code="200")] == 2
        assert found["windlass_requests_total", of(**model, protocol="v1", code="503")] == 1
        assert found["windlass_request_seconds_count", of(**model)] == 3
        assert found["windlass_request_seconds_bucket", of(**model, le="+Inf")] == 3
        assert found["windlass_connections", of()] == 7
        assert found["windlass_predictions_total", of(**version)] == 0

    serving(tmp_path, test)


def test_a_worker_that_ended_is_remembered_for_what_it_did(tmp_path: Path) -> None:
    """Verify that no counter falls when a worker ends, and that no gauge goes on counting what it held."""

    async def test(loaded: Loaded, mine: Metrics) -> None:
        model = {"model": "flights", "version": "3", "assigned": "true"}
        for pid in (1, 2):
            other = Metrics(tmp_path)
            other.of("flights", "3").assigned.answered("v2", 200, 0.001)
            other.connections = 4
            leave_as(pid, tmp_path, other, [])
        before = samples(mine.page([loaded]))
        assert before["windlass_connections", of()] == 8
        for pid in (1, 2, 3):
            bury(tmp_path, pid)
        after = samples(mine.page([loaded]))
        assert after["windlass_connections", of()] == 0
        assert after["windlass_requests_total", of(**model, protocol="v2", code="200")] == 2
        assert after["windlass_request_seconds_count", of(**model)] == 2
        assert after["process_cpu_seconds_total", of()] >= before["process_cpu_seconds_total", of()]
        assert not (tmp_path / "1.json").exists()

    serving(tmp_path, test)


def test_a_page_is_never_read_half_written(tmp_path: Path) -> None:
    """Verify that what is left stands there whole, and that nothing is left where there is one worker."""

    async def test(loaded: Loaded, mine: Metrics) -> None:
        mine.leave([loaded])
        left = [p for p in tmp_path.iterdir() if p.is_file()]
        assert [p.name for p in left] == [f"{os.getpid()}.json"]
        assert json.loads(left[0].read_bytes()).keys() >= {"windlass_requests_total", "windlass_connections"}
        left[0].unlink()
        Metrics().leave([loaded])
        assert not left[0].exists()

    serving(tmp_path, test)
