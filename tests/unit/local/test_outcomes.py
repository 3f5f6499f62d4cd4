"""Which rewards count, for whom, and when: nothing before its time, nothing twice, and nothing that is not known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monitoring.labels import Label
from serving.release import spec
from serving.release.access_log import Access
from serving.release.statistics.moments import Moments
from windlass.local.outcomes import Outcomes

BEGAN = 1_000_000.0
GUARD = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2}


def release(strategy, value_type="binary", **check):
    reward = {
        "name": "bought",
        "kind": "decision",
        "metric": "reward",
        "source": "feedback",
        "valueType": value_type,
        **check,
    }
    several = strategy["type"] in ("experiment", "bandit")
    return spec.parse(
        {
            "kind": "Release",
            "metadata": {"name": "r"},
            "spec": {
                "model": "shop",
                **({"candidates": ["2"]} if several else {"candidate": "2"}),
                "champion": "1",
                "strategy": strategy,
                "checks": [GUARD, reward],
            },
        }
    )


CANARY = {"type": "canary", "steps": [{"weight": 50}]}
BANDIT = {"type": "bandit", "outcomeDelay": "100s"}
EXPERIMENT = {
    "type": "experiment",
    "unit": {"header": "x-user"},
    "allocation": {"1": 50, "2": 50},
    "outcomeDelay": "100s",
    "maxDuration": "1000s",
    "period": "200s",
}


def access(name, version="2", at=0.0, *, unit=None, route=None, code=200, segment=None):
    route = route or ("arm" if unit else "weights")
    return Access(
        request_id=name,
        model="shop",
        version=version,
        at=BEGAN + at,
        code=code,
        duration_ms=1.0,
        upstream_ms=1.0,
        flags="",
        event_at=None,
        route=route,
        segment=segment,
        unit=unit,
    )


def label(name, at=1.0, value=1, **more):
    return Label(name, value, BEGAN + at, **more)


def watch(described):
    return Outcomes(described, "1", BEGAN)


def finished(outcomes, at):
    outcomes.finish(datetime.fromtimestamp(BEGAN + at, UTC))
    return outcomes.totals("2")["bought"]


ONE, NONE = Moments(1, 1.0, 1.0), Moments(1, 0.0, 0.0)


def test_without_a_delay_a_reward_finishes_its_request_and_silence_stays_unknown():
    outcomes = watch(release(CANARY))
    outcomes.add_accesses([access("a"), access("b"), access("c")])
    outcomes.add_labels([label("a", value=1), label("b", value=0)])
    assert finished(outcomes, 9999) == Moments(2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        pytest.param(99, Moments(), id="not-before-its-time"),
        pytest.param(100, ONE + NONE, id="then-no-reward-is-a-no"),
    ],
)
def test_with_a_delay_a_request_counts_when_its_time_is_over(at, expected):
    outcomes = watch(release(BANDIT))
    outcomes.add_accesses([access("a"), access("b")])
    outcomes.add_labels([label("a", at=50)])
    assert finished(outcomes, at) == expected


def test_a_late_reward_changes_nothing():
    outcomes = watch(release(BANDIT))
    outcomes.add_accesses([access("a")])
    outcomes.add_labels([label("a", at=101)])
    assert finished(outcomes, 200) == NONE


def test_a_number_that_did_not_come_is_unknown_and_not_zero():
    outcomes = watch(release(BANDIT, "continuous"))
    outcomes.add_accesses([access("a"), access("b")])
    outcomes.add_labels([label("a", reward=2.5)])
    assert finished(outcomes, 200) == Moments(1, 2.5, 6.25)
    assert outcomes.unknown == 1


def test_a_reward_may_be_read_before_its_request():
    outcomes = watch(release(CANARY))
    outcomes.add_labels([label("a")])
    outcomes.add_accesses([access("a")])
    assert finished(outcomes, 1) == ONE


def test_a_second_reward_of_a_request_is_not_counted():
    outcomes = watch(release(CANARY))
    outcomes.add_accesses([access("a")])
    outcomes.add_labels([label("a", value=0), label("a", value=1)])
    assert finished(outcomes, 1) == NONE


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(access("x", route="match"), id="the-caller-chose"),
        pytest.param(access("x", code=503), id="it-failed"),
        pytest.param(access("x", version="9"), id="another-version"),
    ],
)
def test_what_is_no_evidence_has_no_outcome(left_out):
    outcomes = watch(release(CANARY))
    outcomes.add_accesses([left_out])
    outcomes.add_labels([label("x")])
    assert finished(outcomes, 1) == Moments()


# --- units


def test_a_unit_is_one_observation_however_often_it_asks():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access(f"a{n}", at=n, unit="u") for n in range(5)])
    outcomes.add_labels([label("a1", at=5), label("a3", at=6)])
    assert outcomes.units("2") == 1
    assert finished(outcomes, 100) == ONE


def test_a_units_time_runs_from_its_first_request():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access("a", at=0, unit="u"), access("b", at=90, unit="u")])
    outcomes.add_labels([label("b", at=120)])
    assert finished(outcomes, 130) == NONE


def test_a_unit_keeps_the_version_that_it_met_first():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access("a", "2", 0, unit="u"), access("b", "1", 10, unit="u")])
    outcomes.add_labels([label("b", at=20)])
    assert finished(outcomes, 200) == NONE
    assert outcomes.totals("1")["bought"] == Moments()
    assert (outcomes.units("1"), outcomes.units("2")) == (0, 1)


def test_a_unit_whose_time_is_over_is_not_enrolled_again():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access("a", at=0, unit="u")])
    assert finished(outcomes, 100) == NONE
    outcomes.add_accesses([access("b", at=150, unit="u")])
    outcomes.add_labels([label("b", at=160)])
    assert finished(outcomes, 400) == NONE


def test_nobody_is_enrolled_after_the_planned_duration():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access("a", at=999, unit="u"), access("b", at=1001, unit="v")])
    assert outcomes.units("2") == 1


def test_outcomes_lie_in_the_period_of_the_first_request():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access("a", at=10, unit="u"), access("b", at=450, unit="v")])
    outcomes.add_labels([label("a", at=20), label("b", at=460)])
    finished(outcomes, 600)
    assert outcomes.periods("2")["bought"] == (ONE, Moments(), ONE)


def test_a_ratio_has_its_denominator_from_the_feedback_or_the_requests():
    outcomes = watch(release(EXPERIMENT, "ratio"))
    outcomes.add_accesses([access("a", unit="u"), access("b", unit="u"), access("c", unit="v")])
    outcomes.add_labels([label("a", reward=3.0), label("c", reward=1.0, per=4.0)])
    assert finished(outcomes, 100) == Moments.of([3.0, 1.0], [2.0, 4.0])


def test_a_covariate_comes_with_the_feedback():
    outcomes = watch(release(EXPERIMENT, "continuous", covariate=True))
    outcomes.add_accesses([access("a", unit="u")])
    outcomes.add_labels([label("a", reward=3.0, covariate=2.0)])
    assert finished(outcomes, 100) == Moments.of([3.0], None, [2.0])


def test_contexts_are_kept_apart():
    context = {"header": "x-device", "values": ["mobile", "desktop"]}
    outcomes = watch(release({**BANDIT, "context": context}))
    outcomes.add_accesses(
        [access("a", route="segment", segment="mobile"), access("b", route="segment", segment="desktop")]
    )
    outcomes.add_labels([label("a")])
    finished(outcomes, 100)
    assert outcomes.contexts("2")["bought"] == {"mobile": ONE, "desktop": NONE}


def test_that_no_feedback_came_at_all_is_known():
    outcomes = watch(release(BANDIT))
    outcomes.add_accesses([access("a"), access("b")])
    finished(outcomes, 100)
    assert (outcomes.heard, outcomes.overdue) == (False, 2)
    outcomes.add_accesses([access("c", at=200)])
    outcomes.add_labels([label("c", at=210)])
    assert outcomes.heard
