"""Which rewards count, for whom, and when: nothing before its time, nothing twice, and nothing that is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.labels import Label
from monitoring.release_evidence.outcomes import EARLY_S, Outcomes
from monitoring.release_evidence.times import REPLAY
from serving.release import spec
from serving.release.envoy.access_log import Access
from serving.release.statistics.moments import Moments

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
    outcomes.finish(BEGAN + at)
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


def test_a_second_reward_of_a_request_adds_nothing_while_it_waits():
    outcomes = watch(release(BANDIT, "continuous"))
    outcomes.add_accesses([access("a")])
    outcomes.add_labels([label("a", reward=2.0), label("a", reward=5.0)])
    assert finished(outcomes, 100) == Moments.of([2.0])


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
    assert outcomes.silent() is None
    finished(outcomes, 100)
    assert "any of 2 finished outcomes" in outcomes.silent()
    outcomes.add_accesses([access("c", at=200)])
    outcomes.add_labels([label("c", at=210)])
    assert outcomes.silent() is None


# --- whose word counts


def dated(request, at):
    return replace(request, event_at=at)


def test_a_caller_cannot_date_its_request():
    """Verify that neither a date in the past nor no date at all closes, or blocks, anything."""
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses(
        [dated(access("a", unit="u"), 0.0), dated(access("b", unit="v"), float("nan")), access("c", unit="w")]
    )
    assert finished(outcomes, 50) == Moments()
    outcomes.add_labels([label(name, at=60) for name in "abc"])
    assert finished(outcomes, 100) == ONE + ONE + ONE


def test_a_replay_goes_by_the_time_of_its_events():
    outcomes = Outcomes(release(BANDIT), "1", BEGAN, REPLAY)
    outcomes.add_accesses([dated(access("a", at=9e8), BEGAN + 10)])
    outcomes.add_labels([label("a", at=20, received=BEGAN + 9e8)])
    assert finished(outcomes, 109) == Moments()
    assert finished(outcomes, 110) == ONE


@pytest.mark.parametrize("restarted", [False, True])
def test_a_batch_that_states_an_early_time_is_late_all_the_same(restarted):
    """Verify that what a running platform ignored is ignored by the one that reads it all again."""
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access("a", unit="u")])
    if not restarted:
        finished(outcomes, 100)
    outcomes.add_labels([label("a", at=50, received=BEGAN + 500)])
    assert finished(outcomes, 600) == NONE


@pytest.mark.parametrize(
    ("code", "observed"),
    [
        pytest.param(400, 0, id="the-callers-mistake"),
        pytest.param(404, 0, id="not-found"),
        pytest.param(503, 0, id="the-services-failure"),
        pytest.param(200, 1, id="answered"),
    ],
)
def test_only_an_answer_has_an_outcome(code, observed):
    outcomes = watch(release(BANDIT))
    outcomes.add_accesses([access("a", code=code)])
    assert finished(outcomes, 100).n == observed


# --- what is kept


def test_within_its_time_no_request_is_forgotten(monkeypatch):
    """Verify that with a delay a reward finds its request however many came since."""
    monkeypatch.setattr("monitoring.release_evidence.outcomes.MOST_WAITING", 10)
    for described, units in ((release(BANDIT), False), (release(EXPERIMENT), True)):
        outcomes = watch(described)
        outcomes.add_accesses([access(f"q{n}", unit=f"u{n}" if units else None) for n in range(50)])
        outcomes.add_labels([])
        outcomes.add_labels([label(f"q{n}", at=50) for n in range(50)])
        assert finished(outcomes, 100) == Moments(50, 50.0, 50.0)


def test_a_finished_unit_leaves_nothing_of_its_requests_behind():
    outcomes = watch(release(EXPERIMENT))
    outcomes.add_accesses([access(f"q{n}", unit="u") for n in range(5)])
    outcomes.add_labels([label("q1")])
    finished(outcomes, 100)
    outcomes.add_labels([label("q2", at=101)])
    assert finished(outcomes, 200) == ONE
    assert outcomes.waiting == 0
    assert not outcomes._of_request


def test_what_is_forgotten_without_a_stated_time_is_unknown_and_told(monkeypatch):
    monkeypatch.setattr("monitoring.release_evidence.outcomes.MOST_WAITING", 10)
    outcomes = watch(release(CANARY, "continuous"))
    outcomes.add_accesses([access(f"q{n}") for n in range(30)])
    for _ in range(30):
        outcomes.add_labels([])
    assert (outcomes.waiting, outcomes.unknown) == (10, 20)
    outcomes.add_labels([label(f"q{n}", at=50) for n in range(30)])
    assert outcomes.silent() is None
    assert finished(outcomes, 50 + EARLY_S).n == 10
    assert "the 20 oldest were forgotten" in outcomes.silent()


def test_requests_that_nobody_rewards_are_no_loss(monkeypatch):
    monkeypatch.setattr("monitoring.release_evidence.outcomes.MOST_WAITING", 10)
    outcomes = watch(release(CANARY))
    for n in range(100):
        outcomes.add_accesses([access(f"q{n}")])
        outcomes.add_labels([label(f"q{n}")] if n % 10 == 0 else [])
    assert finished(outcomes, 1000) == Moments(10, 10.0, 10.0)
    assert outcomes.silent() is None


def test_rewards_with_and_without_their_denominator_add_up():
    outcomes = watch(release(EXPERIMENT, "ratio"))
    outcomes.add_accesses([access("a", unit="u"), access("b", unit="u")])
    outcomes.add_labels([label("a", reward=2.0), label("b", reward=2.0, per=3.0)])
    assert finished(outcomes, 100) == Moments.of([4.0], [3.0])


def test_a_pause_shifts_the_end_of_enrolment():
    outcomes = watch(release(EXPERIMENT))
    outcomes.enrolled_until = BEGAN + 1500
    outcomes.add_accesses([access("a", at=1400, unit="u"), access("b", at=1501, unit="v")])
    assert outcomes.units("2") == 1
