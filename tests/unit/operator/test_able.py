"""What the operator refuses, and why."""

from __future__ import annotations

from typing import Any

import pytest

from serving.release import spec
from windlass.operator import able
from windlass.operator.settings import Settings

SETTINGS = Settings(("team",), "team", "one", prometheus_url="http://prometheus:9090")
GUARD = {"kind": "guardrail", "alpha": 0.01}
ERRORS = {**GUARD, "name": "errors", "metric": "errorRate", "source": "prometheus", "bound": 5}
SLOW = {**GUARD, "name": "p99", "metric": "latencyP99", "source": "prometheus"}
LATE = {"name": "late", "kind": "decision", "metric": "reward", "source": "feedback"}
SAME = {**GUARD, "name": "same", "metric": "disagreement", "source": "predictions", "bound": 5}
CANARY = {"type": "canary", "steps": [{"weight": 10}]}


def release(**stated: Any) -> Any:
    content = {"model": "flights", "candidate": "13", "champion": "12", "backend": "gateway",
               "strategy": CANARY, "checks": [ERRORS], **stated}  # fmt: skip
    return spec.parse({"kind": "Release", "metadata": {"name": "flights-13"}, "spec": content})


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param({}, id="canary"),
        pytest.param({"backend": "kserve"}, id="kserve"),
        pytest.param({"backend": "knative"}, id="knative"),
        pytest.param({"checks": [ERRORS, {**SLOW, "bound": "50ms"}]}, id="a-bucket-of-the-servers"),
        pytest.param({"checks": [ERRORS, {**SLOW, "relativeToChampion": True}]}, id="relative-latency"),
        pytest.param({"strategy": {"type": "blueGreen", "warmUp": 0}}, id="blue-green-without-warm-up"),
        pytest.param(
            {"strategy": {"type": "blueGreen", "smoke": [{"body": {"instances": [{"a": 1}]}}]}},
            id="blue-green-with-a-body",
        ),
    ],
)
def test_what_can_be_done_is_not_refused(stated: dict[str, Any]) -> None:
    """Verify that canary and blue-green by Prometheus are carried out."""
    assert able.fault(release(**stated), SETTINGS) is None


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        pytest.param({"backend": "local"}, "windlass up", id="local"),
        pytest.param({"strategy": {"type": "shadow"}, "checks": [SAME]}, "prediction logs", id="shadow"),
        pytest.param(
            {
                "strategy": {"type": "experiment", "unit": {"header": "x-user"}, "maxDuration": "7d",
                             "allocation": {"12": 50, "13": 50}},
                "gateway": {"extension": "envoyGateway"},
                "checks": [ERRORS, LATE],
            },
            "'experiment' is decided by rewards",
            id="experiment",
        ),
        pytest.param(
            {"strategy": {"type": "bandit", "policy": "thompson"}, "checks": [ERRORS, LATE]},
            "'bandit' is decided by rewards",
            id="bandit",
        ),
        pytest.param({"checks": [ERRORS, LATE]}, "check late: reward from feedback", id="reward"),
        pytest.param({"strategy": {"type": "blueGreen"}}, "states no body", id="blue-green-without-a-body"),
        pytest.param({"checks": [ERRORS, {**SLOW, "bound": "47ms"}]}, "50ms", id="no-bucket-of-the-servers"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_what_to_do_instead(stated: dict[str, Any], words: str) -> None:
    """Verify that each reason names the place and a remedy."""
    assert words in (able.fault(release(**stated), SETTINGS) or "")


def test_without_prometheus_nothing_can_be_counted() -> None:
    """Verify that a missing address is said before the release waits for it."""
    settings = Settings(("team",), "team", "one")
    assert "WINDLASS_PROMETHEUS_URL" in (able.fault(release(), settings) or "")


def test_envoy_gateways_buckets_are_its_own() -> None:
    """Verify that a bound is not held to the servers' buckets where they are not asked."""
    settings = Settings(("team",), "team", "one", prometheus_url="http://p", evidence="envoyGateway")
    assert able.fault(release(checks=[ERRORS, {**SLOW, "bound": "47ms"}]), settings) is None
