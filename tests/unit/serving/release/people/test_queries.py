"""Where a check's numbers are read, in words or in PromQL that can be asked again."""

from __future__ import annotations

import pytest

from serving.release import spec
from serving.release.people import queries


@pytest.mark.parametrize(
    ("backend", "metric", "promql"),
    [
        pytest.param(
            "gateway",
            "errorRate",
            'windlass_requests_total{model="flights",version=~"13",assigned!="false"}[60000ms]',
            id="without-those-who-chose",
        ),
        pytest.param(
            "knative",
            "latencyP95",
            'windlass_request_seconds_bucket{model="flights",version=~"13"}[60000ms]',
            id="all-where-a-caller-may-write-the-header",
        ),
    ],
)
def test_prometheus_is_asked_as_the_releases_backend_wants_it(backend: str, metric: str, promql: str) -> None:
    """Verify the text that a person can give to Prometheus."""
    bound = "50ms" if metric == "latencyP95" else 5
    check = {"name": "guard", "kind": "guardrail", "metric": metric, "source": "prometheus", "bound": bound}
    document = {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {"model": "flights", "candidate": "13", "champion": "12", "backend": backend,
                 "strategy": {"type": "canary", "steps": [{"weight": 10}]}, "checks": [check]},
    }  # fmt: skip
    release = spec.parse(document)
    assert queries.query(release, release.checks[0], "13") == promql
