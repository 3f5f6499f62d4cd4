"""What the route says of a request: who may say it, and what follows where nobody did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from monitoring.release_evidence import question
from monitoring.release_evidence.cumulative import Answer, Cumulative

BEGAN = 1_700_049_600
GUARD = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 2}
REWARD = {"name": "worth", "kind": "decision", "metric": "reward", "source": "feedback"}
CANARY = {"type": "canary", "steps": [{"weight": 50}]}
CHOSEN = {**CANARY, "match": {"header": "x-canary", "value": "always"}}
EXPERIMENT = {
    "type": "experiment", "unit": {"header": "x-user"}, "allocation": {"1": 50, "2": 50}, "outcomeDelay": "20s",
}  # fmt: skip
CONTEXTUAL = {
    "type": "bandit",
    "outcomeDelay": "20s",
    "context": {"header": "x-device", "values": ["mobile", "desktop"]},
}


def summed(strategy: dict[str, Any], given: list[Answer], backend: str = "gateway") -> Cumulative:
    """The evidence of predictions that all came in the first second."""
    several = strategy["type"] in ("experiment", "bandit")
    described = {
        "model": "m", "champion": "1", "backend": backend, "strategy": strategy, "checks": [GUARD, REWARD],
        **({"candidates": ["2"]} if several else {"candidate": "2"}),
        **({"gateway": {"extension": "envoyGateway"}} if backend == "gateway" else {}),
    }  # fmt: skip
    body = {
        "release": {"kind": "Release", "metadata": {"name": "r"}, "spec": described},
        "champion": "1",
        "since": datetime.fromtimestamp(BEGAN, UTC).isoformat(),
    }
    found = Cumulative(question.read(body, now=BEGAN + 1000))
    found.add(BEGAN + 1, given, [])
    return found


def answers(version: str, count: int, route: str | None, unit: str | None = None) -> list[Answer]:
    return [
        Answer(f"{version}-{route}-{n}", version, False, BEGAN + 0.5, 0.5, route, unit) for n in range(count)
    ]


@pytest.mark.parametrize(
    ("backend", "observed"),
    [
        pytest.param("kserve", 85, id="kserve"),
        pytest.param("knative", 85, id="knative"),
        pytest.param("gateway", 5, id="the-header-is-the-routes"),
    ],
)
def test_where_no_route_is_ours_no_caller_speaks_for_it(backend: str, observed: int) -> None:
    """Verify that a caller's own header does not take its requests out of a canary's evidence."""
    found = summed(
        CANARY, [*answers("1", 40, "match"), *answers("2", 40, "match"), *answers("2", 5, None)], backend
    )
    assert found.held == observed
    assert found.evidence(BEGAN + 2).silent == {}


@pytest.mark.parametrize(
    ("strategy", "route", "what"),
    [
        pytest.param(EXPERIMENT, "arm", "which unit it is of", id="experiment"),
        pytest.param(CONTEXTUAL, "segment/mobile", "which context it is of", id="contextual-bandit"),
        pytest.param(CHOSEN, "weights", "whether its caller chose the version", id="canary-with-a-match"),
        pytest.param(CANARY, "weights", None, id="who-needs-no-route"),
        pytest.param({"type": "bandit"}, "weights", None, id="a-bandit-by-weights"),
    ],
)
def test_one_version_whose_servers_say_nothing_is_told_of(
    strategy: dict[str, Any], route: str, what: str | None
) -> None:
    """Verify that the many predictions of another version do not hide those of servers that are too old."""
    told = answers("1", 960, route, unit="0" * 16)
    found = summed(strategy, [*told, *answers("2", 38, None), *answers("2", 2, route, unit="1" * 16)])
    silent = found.evidence(BEGAN + 2).silent
    assert silent.get("feedback", "").startswith(
        "" if what is None else f"38 of 40 predictions of version 2 do not say {what}; "
    )
    assert bool(silent) is (what is not None)
    enough = [*told, *answers("2", 2, None), *answers("2", 38, route, unit="1" * 16)]
    assert summed(strategy, enough).evidence(BEGAN + 2).silent == {}
