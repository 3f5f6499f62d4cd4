"""Shadow as a truth table: users untouched, and a bound must have passed before the candidate meets them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serving.release import spec, state
from serving.release.engine import next_step
from serving.release.evidence import ArmEvidence, Evidence, Pairs
from serving.release.statistics.histogram import Histogram, with_edges

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes):
    return START + timedelta(minutes=minutes)


DOCUMENT = {
    "kind": "Release",
    "metadata": {"name": "flights-13"},
    "spec": {
        "model": "flights",
        "candidate": "13",
        "champion": "12",
        "strategy": {"type": "shadow", "percent": 100, "minSamples": 200},
        "checks": [
            {
                "name": "same",
                "kind": "guardrail",
                "metric": "disagreement",
                "source": "predictions",
                "bound": 5,
            },
            {
                "name": "near",
                "kind": "guardrail",
                "metric": "scoreDistance",
                "source": "predictions",
                "bound": 10,
            },
            {
                "name": "errors",
                "kind": "guardrail",
                "metric": "errorRate",
                "source": "predictions",
                "relativeToChampion": True,
            },
            {
                "name": "slow",
                "kind": "guardrail",
                "metric": "latencyP99",
                "source": "predictions",
                "bound": "50ms",
                "relativeToChampion": True,
            },
        ],
    },
}


def evidence(n, *, differing=0, distance=0.01, errors=0, slow=0, **more):
    quick = Histogram.of((4.0,) * n, with_edges(50))
    arms = {
        "12": ArmEvidence(n, 0, quick),
        "13": ArmEvidence(n, errors, Histogram.of((90.0,) * slow + (4.0,) * (n - slow), with_edges(50))),
    }
    return Evidence(START, arms, pairs=Pairs(n, differing, {round(1000 * distance): n}), **more)


@pytest.fixture
def begun():
    return next_step(state.initial(spec.parse(DOCUMENT), "12"), Evidence(START), START).state


def test_users_get_the_champions_answers_only(begun):
    assert (begun.traffic.weights, begun.traffic.mirror_to) == ({"12": 100}, "13")


@pytest.mark.parametrize(
    ("seen", "action", "check"),
    [
        pytest.param(evidence(600), "promote", None, id="everything-holds"),
        pytest.param(evidence(199), "hold", None, id="too-few"),
        pytest.param(evidence(60, differing=30), "roll_back", "same", id="disagreement-stops"),
        pytest.param(evidence(300, distance=0.4), "roll_back", "near", id="far-scores-stop"),
        pytest.param(evidence(300, errors=60), "roll_back", "errors", id="errors-stop"),
        pytest.param(evidence(300, slow=100), "roll_back", "slow", id="slowness-stops"),
        pytest.param(evidence(600, differing=24), "hold", "same", id="not-failed-is-not-passed"),
        pytest.param(evidence(600, silent={"predictions": "late"}), "hold", "same", id="silence-holds"),
        pytest.param(evidence(600, faults={"scoreDistance": "nan"}), "hold", "near", id="nonsense-holds"),
    ],
)
def test_what_the_shadow_says_decides(begun, seen, action, check):
    decision = next_step(begun, seen, at(5))
    assert (decision.action, decision.check) == (action, check), decision.reason


def test_whatever_happens_no_user_meets_the_candidate_before_its_promotion(begun):
    current = begun
    for minute, seen in enumerate(
        (evidence(50), evidence(120, errors=2), evidence(190, differing=2)), start=1
    ):
        current = next_step(current, seen, at(minute)).state
        assert current.traffic.weights == {"12": 100}
