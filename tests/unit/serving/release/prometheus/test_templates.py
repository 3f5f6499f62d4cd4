"""The exact PromQL of each named query."""

from __future__ import annotations

import pytest

from serving.release.cluster import http_route
from serving.release.prometheus.templates import (
    ENVOY,
    RUNTIME,
    Queries,
    clusters_of,
    envoy_gateway,
    runtime,
    scraping,
    scraping_pods,
)
from serving.release.release import BACKENDS, Gateway
from serving.release.traffic import Assignment, Match, Traffic, Unit

ROUTE = "httproute/prod/windlass-flights/rule/0/backend"
GATEWAY = envoy_gateway({"12": (f"{ROUTE}/0",), "13": (f"{ROUTE}/1",)})


@pytest.mark.parametrize(
    ("queries", "kind", "promql"),
    [
        pytest.param(
            RUNTIME,
            "responses",
            'windlass_requests_total{model="flights",version=~"12|13",namespace="prod"}[90500ms]',
            id="runtime-responses",
        ),
        pytest.param(
            RUNTIME,
            "durations",
            'windlass_request_seconds_bucket{model="flights",version=~"12|13",namespace="prod"}[90500ms]',
            id="runtime-durations",
        ),
        pytest.param(
            runtime("gateway"),
            "responses",
            'windlass_requests_total{model="flights",version=~"12|13",assigned!="false",namespace="prod"}[90500ms]',
            id="assigned-responses",
        ),
        pytest.param(
            runtime("gateway"),
            "durations",
            'windlass_request_seconds_bucket{model="flights",version=~"12|13",assigned!="false",namespace="prod"}'
            "[90500ms]",
            id="assigned-durations",
        ),
        pytest.param(
            ENVOY,
            "responses",
            'envoy_cluster_upstream_rq_xx{envoy_cluster_name=~"flights@12|flights@13",namespace="prod"}[90500ms]',
            id="envoy-responses",
        ),
        pytest.param(
            ENVOY,
            "durations",
            'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=~"flights@12|flights@13",namespace="prod"}'
            "[90500ms]",
            id="envoy-durations",
        ),
        pytest.param(
            GATEWAY,
            "responses",
            f'envoy_cluster_upstream_rq_xx{{envoy_cluster_name=~"{ROUTE}/0|{ROUTE}/1",namespace="prod"}}[90500ms]',
            id="gateway-responses",
        ),
    ],
)
def test_a_query_is_this_text(queries: Queries, kind: str, promql: str) -> None:
    """Verify the text that Prometheus gets."""
    query = getattr(queries, kind)
    values = tuple(value for version in ("12", "13") for value in queries.values("flights", version))
    assert query.render("flights", values, {"namespace": "prod"}, 90.5) == promql
    assert promql.startswith(query.metric + "{")


def test_values_are_quoted() -> None:
    """Verify that a name means itself, in a string and in a pattern."""
    promql = RUNTIME.responses.render('a"b\\c', ("1.0|2",), {"x": 'y"'}, 1)
    assert promql == ('windlass_requests_total{model="a\\"b\\\\c",version=~"1\\\\.0\\\\|2",x="y\\""}[1000ms]')


def test_scrapes_are_asked_for_by_what_all_targets_bear() -> None:
    """Verify the text, for targets of which one has no pod, and for pods by how they begin."""
    targets = [{"instance": "10.0.0.1:80", "job": "j", "pod": "a"}, {"instance": "10.0.0.2:80", "job": "j"}]
    assert (
        scraping(targets, 60)
        == 'up{instance=~"10\\\\.0\\\\.0\\\\.1:80|10\\\\.0\\\\.0\\\\.2:80",job=~"j"}[60000ms]'
    )
    assert scraping_pods(("f-12-", "f-13-"), {"namespace": "prod"}, 60) == (
        'up{pod=~"f-12-.*|f-13-.*",namespace="prod"}[60000ms]'
    )


def test_only_a_route_of_ours_says_what_is_evidence() -> None:
    """Verify that servers are asked for everything where a caller may write the header that they go by."""
    assert {backend: runtime(backend) is RUNTIME for backend in BACKENDS} == {
        "local": True, "gateway": False, "kserve": True, "knative": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "failed"), [("200", False), ("404", False), ("503", True), ("5", False), ("", False)]
)
def test_the_servers_failures_are_failures(code: str, failed: bool) -> None:
    """Verify that only our own errors count, not those of a caller."""
    assert RUNTIME.is_failure(code) == failed


def test_envoy_gateways_clusters_are_named_by_their_place() -> None:
    """Verify that a version's clusters are found in the route that we write, without those of callers who chose it."""
    gateway = Gateway(hostnames=("m",))
    traffic = Traffic({"12": 90, "13": 10}, matches=(Match("header", "a", "b", "13"),))
    route = {
        "metadata": {"namespace": "prod", "name": "windlass-flights"},
        "spec": http_route.spec("flights", "prod", traffic, gateway),
    }
    start = "httproute/prod/windlass-flights/rule"
    assert clusters_of(route, {"flights-12-predictor": "12", "flights-13-predictor": "13"}) == {
        "13": (f"{start}/0/backend/1",),
        "12": (f"{start}/0/backend/0",),
    }


def test_callers_without_a_unit_are_in_no_arm() -> None:
    """Verify that the champion's answers to them are none of its arm."""
    assignment = Assignment(
        Unit("header", "x-user"), "salt", {"12": ((0, 5000),), "13": ((5000, 10000),)}, "12"
    )
    traffic = Traffic({"12": 50, "13": 50}, assignment=assignment)
    gateway = Gateway(hostnames=("m",), extension="envoyGateway")
    route = {
        "metadata": {"namespace": "prod", "name": "windlass-flights"},
        "spec": http_route.spec("flights", "prod", traffic, gateway),
    }
    start = "httproute/prod/windlass-flights/rule"
    assert clusters_of(route, {"flights-12-predictor": "12", "flights-13-predictor": "13"}) == {
        "12": (f"{start}/1/backend/0",),
        "13": (f"{start}/2/backend/0",),
    }
