"""Blue-green as a truth table: smoke, one switch, blue warm, final."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serving.release import spec, state
from serving.release.engine import next_step, obey
from serving.release.evidence import ArmEvidence, Evidence, Smoke
from serving.release.statistics.histogram import Histogram, with_edges
from serving.release.traffic import Match

START = datetime(2026, 3, 1, tzinfo=UTC)
SMOKED = Smoke(passed=2)


def at(minutes):
    return START + timedelta(minutes=minutes)


def document(**strategy):
    return {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {
            "model": "flights",
            "candidate": "13",
            "champion": "12",
            "strategy": {
                "type": "blueGreen",
                "keepWarm": "1h",
                "minSamples": 50,
                "smoke": [{"body": {"instances": [{}]}}, {"body": {"instances": [{}]}, "maxLatency": "50ms"}],
                **strategy,
            },
            "checks": [
                {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2},
                {
                    "name": "p99",
                    "kind": "guardrail",
                    "metric": "latencyP99",
                    "source": "envoy",
                    "bound": "50ms",
                },
            ],
        },
    }


def evidence(green=None, smoke=None, *, errors=0, slow=0, blue=400):
    arms = {"12": arm(blue)}
    if green is not None:
        arms["13"] = arm(green, errors, slow)
    return Evidence(START, arms, smoke=smoke)


def arm(requests, errors=0, slow=0):
    values = (90.0,) * slow + (4.0,) * (requests - slow)
    return ArmEvidence(requests, errors, Histogram.of(values, with_edges(50)))


@pytest.fixture
def preview():
    release = spec.parse(document())
    return next_step(state.initial(release, "12"), Evidence(START), START).state


@pytest.fixture
def switched(preview):
    decision = next_step(preview, evidence(0, SMOKED), at(1))
    assert decision.action == "advance"
    return decision.state


def test_before_the_switch_green_can_be_previewed_and_gets_no_traffic(preview):
    assert preview.traffic.weights == {"12": 100}
    assert preview.traffic.matches == (Match("header", "x-windlass-preview", "13", "13"),)


@pytest.mark.parametrize(
    ("smoke", "action", "check"),
    [
        pytest.param(None, "hold", "smoke", id="nothing-was-asked"),
        pytest.param(Smoke(passed=1), "hold", "smoke", id="one-of-two"),
        pytest.param(SMOKED, "advance", None, id="all-passed"),
        pytest.param(Smoke(1, 1, "status 500"), "roll_back", "smoke", id="one-failed"),
    ],
)
def test_smoke_decides_the_switch(preview, smoke, action, check):
    decision = next_step(preview, evidence(0, smoke), at(1))
    assert (decision.action, decision.check) == (action, check), decision.reason


def test_the_switch_is_one_change_of_everything(switched):
    assert switched.traffic.weights == {"13": 100}
    assert switched.traffic.matches == ()


@pytest.mark.parametrize(
    ("seen", "minutes", "action", "check"),
    [
        pytest.param(evidence(500, SMOKED), 61, "promote", None, id="warm-time-over"),
        pytest.param(evidence(500, SMOKED), 60, "hold", None, id="still-warm"),
        pytest.param(evidence(49, SMOKED), 90, "hold", None, id="too-few-requests"),
        pytest.param(evidence(200, SMOKED, errors=30), 5, "roll_back", "errors", id="errors-switch-back"),
        pytest.param(evidence(200, SMOKED, slow=40), 5, "roll_back", "p99", id="slow-switches-back"),
        pytest.param(Evidence(START, silent={"envoy": "down"}), 90, "hold", None, id="silence-is-no-consent"),
    ],
)
def test_after_the_switch(switched, seen, minutes, action, check):
    decision = next_step(switched, seen, at(minutes))
    assert (decision.action, decision.check) == (action, check), decision.reason
    if action == "roll_back":
        assert decision.weights == {"12": 100}
    if action == "promote":
        assert (decision.weights, decision.champion) == ({"13": 100}, "13")


def test_the_alias_moves_only_at_the_end(preview, switched):
    assert next_step(preview, evidence(0, SMOKED), at(1)).champion is None
    assert next_step(switched, evidence(500, SMOKED), at(62)).champion == "13"


def test_a_pause_stops_the_warm_time(switched):
    paused = obey(switched, "pause", at(10)).state
    assert next_step(paused, evidence(500, SMOKED), at(90)).action == "hold"
    resumed = obey(paused, "resume", at(100)).state
    assert next_step(resumed, evidence(500, SMOKED), at(140)).action == "hold"
    assert next_step(resumed, evidence(500, SMOKED), at(151)).action == "promote"


def test_without_smoke_and_warm_up_the_switch_comes_at_once():
    release = document(warmUp=0)
    del release["spec"]["strategy"]["smoke"]
    release = spec.parse(release)
    begun = next_step(state.initial(release, "12"), Evidence(START), START).state
    assert next_step(begun, evidence(0), at(0)).action == "advance"
