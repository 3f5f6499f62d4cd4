"""Bandit as a truth table: weights follow rewards, guardrails outrank floors, and only evidence promotes."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.release import spec, state
from serving.release.engine import next_step
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.statistics.moments import Moments

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes):
    return START + timedelta(minutes=minutes)


DOCUMENT = {
    "kind": "Release",
    "metadata": {"name": "layout"},
    "spec": {
        "model": "ranker",
        "candidates": ["13", "14"],
        "champion": "12",
        "strategy": {
            "type": "bandit",
            "floor": 5,
            "update": "1m",
            "maxDuration": "10d",
            "outcomeDelay": "1h",
        },
        "checks": [
            {
                "name": "errors",
                "kind": "guardrail",
                "metric": "errorRate",
                "source": "envoy",
                "relativeToChampion": True,
            },
            {"name": "clicks", "kind": "decision", "metric": "reward", "source": "feedback"},
        ],
    },
}


def arm(n, clicks, errors=0, contexts=None):
    cells = {
        "clicks": {value: Moments(count, ones, ones) for value, (count, ones) in (contexts or {}).items()}
    }
    return ArmEvidence(
        n,
        errors,
        outcomes={"clicks": Moments(n, clicks, clicks)},
        contexts=cells if contexts else {},
    )


def evidence(champion, one, two, **more):
    return Evidence(START, {"12": champion, "13": one, "14": two}, **more)


def begin(document):
    release = spec.parse(document)
    return next_step(state.initial(release, "12"), Evidence(START), START).state


@pytest.fixture
def begun():
    return begin(copy.deepcopy(DOCUMENT))


GOOD_14 = evidence(arm(1000, 50), arm(1000, 52), arm(1000, 75))


def test_weights_begin_equal(begun):
    assert begun.traffic.weights == {"12": 34, "13": 33, "14": 33}


@pytest.mark.parametrize(
    ("seen", "minutes", "action"),
    [
        pytest.param(GOOD_14, 1, "update", id="rewards-move-weights"),
        pytest.param(GOOD_14, 0.5, "hold", id="not-before-the-next-update"),
        pytest.param(
            evidence(*GOOD_14.arms.values(), silent={"feedback": "down"}), 1, "hold", id="silence-holds"
        ),
        pytest.param(
            evidence(*GOOD_14.arms.values(), faults={"reward": "nan"}), 1, "hold", id="nonsense-holds"
        ),
        pytest.param(evidence(arm(0, 0), arm(0, 0), arm(0, 0)), 5, "hold", id="no-rewards-no-move"),
    ],
)
def test_when_weights_move(begun, seen, minutes, action):
    decision = next_step(begun, seen, at(minutes))
    assert decision.action == action, decision.reason
    if action == "update":
        assert decision.weights["14"] > 60
        assert min(decision.weights.values()) >= 5
        assert sum(decision.weights.values()) == 100


def test_a_candidate_that_fails_gets_nothing_floor_or_not(begun):
    now = next_step(begun, GOOD_14, at(1)).state
    failing = evidence(arm(1300, 65), arm(1100, 57), arm(1600, 120, errors=300))
    decision = next_step(now, failing, at(2))
    assert (decision.action, decision.check) == ("drop", "errors")
    assert "14" not in decision.weights
    later = next_step(
        decision.state, evidence(arm(2300, 115), arm(2100, 110), arm(1600, 400, errors=300)), at(4)
    )
    assert later.weights.get("14", 0) == 0
    assert sum(later.weights.values()) == 100


def test_a_champion_that_fails_gets_nothing_either(begun):
    failing = evidence(arm(1000, 50, errors=400), arm(1000, 52), arm(1000, 52))
    decision = next_step(begun, failing, at(1))
    assert (decision.action, decision.check) == ("drop", "errors")
    assert "12" not in decision.weights
    assert sum(decision.weights.values()) == 100
    later = next_step(
        decision.state, evidence(arm(1000, 50, errors=400), arm(2000, 104), arm(2000, 104)), at(3)
    )
    assert later.state.live and "12" not in later.weights


def test_all_candidates_out_gives_the_traffic_back(begun):
    failing = evidence(arm(1000, 50), arm(1000, 52, errors=400), arm(1000, 52, errors=400))
    decision = next_step(begun, failing, at(1))
    assert (decision.action, decision.weights) == ("roll_back", {"12": 100})


@pytest.mark.parametrize(
    ("seen", "minutes", "action", "champion"),
    [
        pytest.param(
            evidence(arm(9000, 450), arm(9000, 455), arm(30_000, 2400)),
            60,
            "promote",
            "14",
            id="shown-better",
        ),
        pytest.param(GOOD_14, 10 * 1440 + 60, "abort", None, id="the-time-is-over"),
    ],
)
def test_how_it_ends(begun, seen, minutes, action, champion):
    decision = next_step(begun, seen, at(minutes))
    assert (decision.action, decision.champion) == (action, champion), decision.reason


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"silent": {"feedback": "away"}}, id="silent"),
        pytest.param({"faults": {"reward": "404"}}, id="of-no-use"),
        pytest.param({"reached": {"feedback": at(10 * 1440 + 59)}}, id="behind"),
    ],
)
def test_an_end_that_cannot_be_judged_waits(begun, missing):
    """Verify that missing rewards are not said to be no better, and that what comes by itself alerts nobody."""
    over = 10 * 1440 + 60
    decision = next_step(begun, replace(GOOD_14, **missing), at(over))
    assert (decision.action, decision.check, decision.weights) == ("hold", "clicks", begun.weights)
    assert decision.alert == (
        None if "reached" in missing else "the planned time is over and clicks cannot be judged"
    )
    assert next_step(decision.state, GOOD_14, at(over + 1)).action == "abort"


def test_a_continuous_reward_never_promotes_by_itself():
    document = copy.deepcopy(DOCUMENT)
    document["spec"]["checks"][1]["valueType"] = "continuous"
    decision = next_step(begin(document), evidence(arm(9000, 450), arm(9000, 455), arm(9000, 2400)), at(60))
    assert decision.action == "update"
    verdict = next(v for v in decision.verdicts if v.check == "clicks" and v.version == "14")
    assert verdict.outcome == "INCONCLUSIVE" and "biased" in verdict.reason


def test_a_loss_is_a_reward_turned():
    document = copy.deepcopy(DOCUMENT)
    document["spec"]["checks"][1]["direction"] = "decrease"
    decision = next_step(begin(document), GOOD_14, at(1))
    assert decision.weights["14"] < decision.weights["12"]


def test_a_context_has_weights_of_its_own():
    document = copy.deepcopy(DOCUMENT)
    document["spec"]["strategy"]["context"] = {"header": "x-device", "values": ["mobile", "desktop"]}
    seen = evidence(
        arm(4000, 200, contexts={"mobile": (2000, 100), "desktop": (2000, 100)}),
        arm(4000, 300, contexts={"mobile": (2000, 240), "desktop": (2000, 60)}),
        arm(4000, 300, contexts={"mobile": (2000, 60), "desktop": (2000, 240)}),
    )
    decision = next_step(begin(document), seen, at(1))
    assert decision.action == "update", decision.reason
    by_value = decision.traffic.segments.weights
    assert decision.traffic.segments.header == "x-device"
    assert by_value["mobile"]["13"] > 80 and by_value["desktop"]["14"] > 80
    assert all(sum(weights.values()) == 100 for weights in by_value.values())
