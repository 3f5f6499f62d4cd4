"""What the operator refuses, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.release import spec
from windlass.operator import able
from windlass.operator.settings import Settings

SETTINGS = Settings(
    ("team",), "team", "one", prometheus_url="http://prometheus:9090", collector_url="http://collector:8088"
)
ALONE = Settings(("team",), "team", "one", prometheus_url="http://prometheus:9090")
GUARD = {"kind": "guardrail", "alpha": 0.01}
ERRORS = {**GUARD, "name": "errors", "metric": "errorRate", "source": "prometheus", "bound": 5}
SLOW = {**GUARD, "name": "p99", "metric": "latencyP99", "source": "prometheus"}
LATE = {"name": "late", "kind": "decision", "metric": "reward", "source": "feedback"}
SAME = {**GUARD, "name": "same", "metric": "disagreement", "source": "predictions", "bound": 5}
SKEWED = {**GUARD, "name": "skew", "metric": "featureSkew", "source": "predictions", "bound": 1}
CANARY = {"type": "canary", "steps": [{"weight": 10}]}
SHADOW = {"strategy": {"type": "shadow"}, "checks": [SAME]}
EXPERIMENT = {
    "strategy": {"type": "experiment", "unit": {"header": "x-user"}, "maxDuration": "7d",
                 "allocation": {"12": 50, "13": 50}},
    "gateway": {"extension": "envoyGateway"},
    "checks": [ERRORS, LATE],
}  # fmt: skip
BANDIT = {"strategy": {"type": "bandit", "policy": "thompson"}, "checks": [ERRORS, LATE]}
SMOKE = {"body": {"instances": [{"a": 1}]}}


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
        pytest.param({"strategy": {"type": "blueGreen", "smoke": [SMOKE]}}, id="blue-green-with-a-body"),
        pytest.param(
            {"strategy": {"type": "blueGreen", "smoke": [{"body": {}, "status": 400}, SMOKE]}},
            id="blue-green-with-a-body-beside-a-wrong-one",
        ),
        pytest.param(SHADOW, id="shadow"),
        pytest.param(EXPERIMENT, id="experiment"),
        pytest.param(BANDIT, id="bandit"),
        pytest.param({"checks": [ERRORS, LATE]}, id="reward"),
        pytest.param({"backend": "kserve", "checks": [ERRORS, LATE]}, id="reward-on-kserve"),
        pytest.param({"checks": [ERRORS, SKEWED]}, id="skew"),
    ],
)
def test_what_can_be_done_is_not_refused(stated: dict[str, Any]) -> None:
    """Verify that every strategy is carried out where Prometheus and a collector are."""
    assert able.fault(release(**stated), SETTINGS) is None


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        pytest.param({"backend": "local"}, "windlass up", id="local"),
        pytest.param({"strategy": {"type": "blueGreen"}}, "states no body", id="blue-green-without-a-body"),
        pytest.param(
            {"strategy": {"type": "blueGreen", "smoke": [{**SMOKE, "status": 400}]}},
            "states no body that is to be answered by 200",
            id="blue-green-with-a-wrong-body-alone",
        ),
        pytest.param({"checks": [ERRORS, {**SLOW, "bound": "47ms"}]}, "50ms", id="no-bucket-of-the-servers"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_what_to_do_instead(stated: dict[str, Any], words: str) -> None:
    """Verify that each reason names the place and a remedy."""
    assert words in (able.fault(release(**stated), SETTINGS) or "")


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        pytest.param(SHADOW, "check same (disagreement)", id="shadow"),
        pytest.param(EXPERIMENT, "check late (reward)", id="experiment"),
        pytest.param(BANDIT, "check late (reward)", id="bandit"),
        pytest.param({"checks": [ERRORS, LATE]}, "check late (reward)", id="reward"),
        pytest.param({"checks": [ERRORS, SKEWED]}, "check skew (featureSkew)", id="skew"),
        pytest.param(
            {"strategy": {"type": "shadow"}, "checks": [{**ERRORS, "source": "predictions"}]},
            "spec.strategy.type = 'shadow'",
            id="a-shadow-of-counters-alone",
        ),
    ],
)
def test_without_a_collector_nothing_is_known_of_outcomes(stated: dict[str, Any], words: str) -> None:
    """Verify that the address that is missing is said, and by what it is set."""
    found = able.fault(release(**stated), ALONE) or ""
    assert found.startswith(words)
    assert "WINDLASS_COLLECTOR_URL" in found and "operator.collectorUrl" in found


def test_servers_that_send_nothing_are_said_before_anybody_waits() -> None:
    """Verify that a release is refused whose predictions will never arrive, and no other."""
    found = able.fault(release(**BANDIT), SETTINGS, logs=None) or ""
    assert "the servers of 'flights' send none" in found and "payload" in found
    assert able.fault(release(), SETTINGS, logs=None) is None


def test_who_logs_no_units_counts_none() -> None:
    """Verify that KServe's logger is enough for a reward by request, and not for what the route alone knows."""
    context = {"header": "x-device", "values": ["mobile", "desktop"]}
    contextual = {**BANDIT, "strategy": {"type": "bandit", "context": context}}
    chosen: dict[str, Any] = {"strategy": {**CANARY, "match": {"header": "x-canary", "value": "always"}}}
    told: list[dict[str, Any]] = [EXPERIMENT, contextual, {**chosen, "checks": [ERRORS, LATE]}]
    for stated in told:
        assert "payload.sender: runtime" in (able.fault(release(**stated), SETTINGS, logs="kserve") or "")
        assert able.fault(release(**stated), SETTINGS, logs="runtime") is None
    for stated in (BANDIT, {"checks": [ERRORS, LATE]}, chosen):
        assert able.fault(release(**stated), SETTINGS, logs="kserve") is None


def test_who_logs_no_vectors_is_compared_with_nothing() -> None:
    """Verify that the check is refused under KServe's logger, whatever else a release rests on, and under no other."""
    for strategy in (CANARY, {"type": "shadow"}):
        checks = [SKEWED] if strategy is not CANARY else [ERRORS, SKEWED]
        found = able.fault(release(strategy=strategy, checks=checks), SETTINGS, logs="kserve") or ""
        assert found.startswith("check skew (featureSkew)") and "payload.sender: runtime" in found
        assert able.fault(release(strategy=strategy, checks=checks), SETTINGS, logs="runtime") is None
    sent = able.fault(release(checks=[ERRORS, SKEWED]), SETTINGS, logs=None) or ""
    assert "the servers of 'flights' send none" in sent


def test_without_a_collector_counters_are_enough_for_a_canary() -> None:
    """Verify that who needs none is not refused."""
    assert able.fault(release(), ALONE) is None


def test_without_prometheus_nothing_can_be_counted() -> None:
    """Verify that a missing address is said before the release waits for it."""
    settings = Settings(("team",), "team", "one")
    assert "WINDLASS_PROMETHEUS_URL" in (able.fault(release(), settings) or "")


def test_envoy_gateways_buckets_are_its_own() -> None:
    """Verify that a bound is not held to the servers' buckets where they are not asked."""
    settings = replace(SETTINGS, evidence="envoyGateway")
    assert able.fault(release(checks=[ERRORS, {**SLOW, "bound": "47ms"}]), settings) is None
    # the copies of a shadow are counted by its servers all the same
    copies = {**SLOW, "source": "predictions", "bound": "47ms"}
    assert "50ms" in (able.fault(release(strategy={"type": "shadow"}, checks=[copies]), settings) or "")
