"""Whether a signal becomes a retraining: each rule by itself, and what holds whatever comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitoring.retrain.decision import Standing, TriggerDecision, decide
from monitoring.retrain.signals import PastTrigger, Signal, incident, trigger_id
from windlass.contract import RetrainPolicy

NOW = datetime(2013, 6, 1, tzinfo=UTC)
POLICY = RetrainPolicy(cooldown=timedelta(days=30), per_day=2, concurrency=1, escalate_after=2)
DRIFT = Signal("featureDrift", "featureDrift/3", NOW)


def past(days_ago: float, cause: str = "featureDrift/1", **changed: Any) -> PastTrigger:
    at = NOW - timedelta(days=days_ago)
    done = PastTrigger(
        f"t{days_ago}", "featureDrift", cause, at, at, submitted=True, finished=True, helped=True
    )
    return replace(done, **changed)


def judged(signal: Signal = DRIFT, *history: PastTrigger, **changed: Any) -> TriggerDecision:
    policy = changed.pop("policy", POLICY)
    return decide(signal, history, policy, NOW, Standing(**changed))


@pytest.mark.parametrize(
    ("decision", "rule"),
    [
        pytest.param(judged(), "accepted", id="nothing-holds-it-back"),
        pytest.param(judged(DRIFT, past(31)), "accepted", id="cool-down-over"),
        pytest.param(judged(policy=replace(POLICY, signals=("manual",))), "kind", id="kind-not-in-policy"),
        pytest.param(
            judged(DRIFT, past(99, "featureDrift/3")), "duplicate", id="same-cause-however-long-ago"
        ),
        pytest.param(
            judged(replace(DRIFT, kind="dataQuality")), "dataQuality", id="broken-data-is-not-trained-on"
        ),
        pytest.param(judged(data_quality_failed=True), "dataQuality", id="blackout-while-validation-fails"),
        pytest.param(
            judged(replace(DRIFT, at=NOW - timedelta(days=50)), past(40)),
            "stale",
            id="measured-before-the-last-retraining",
        ),
        pytest.param(
            judged(DRIFT, past(70, helped=False), past(40, "x", helped=False)), "escalated", id="two-in-vain"
        ),
        pytest.param(
            judged(DRIFT, past(99, "x", helped=False), past(70, "y", helped=False), past(40)),
            "accepted",
            id="helped-since",
        ),
        pytest.param(judged(live_release=True), "blackout", id="release-being-judged"),
        pytest.param(judged(run_active=True), "concurrency", id="a-run-going-on"),
        pytest.param(
            judged(run_active=1, policy=replace(POLICY, concurrency=2)),
            "accepted",
            id="two-at-a-time-allowed",
        ),
        pytest.param(judged(DRIFT, past(29)), "cooldown", id="cool-down"),
        pytest.param(
            judged(DRIFT, past(0.9, "a"), past(0.5, "b"), policy=replace(POLICY, cooldown=timedelta(0))),
            "dailyBudget",
            id="two-in-a-day",
        ),
        pytest.param(
            judged(DRIFT, past(90, "a"), past(60, "b"), total_budget=2), "totalBudget", id="total-budget"
        ),
        pytest.param(
            judged(
                Signal("manual", "m", NOW, override=True),
                past(1, "a", helped=False),
                past(2, "b", helped=False),
            ),
            "accepted",
            id="a-person-insists",
        ),
        pytest.param(
            judged(Signal("manual", "m", NOW, override=True), live_release=True),
            "blackout",
            id="not-even-then-in-a-release",
        ),
    ],
)
def test_the_rule_that_decides(decision: TriggerDecision, rule: str) -> None:
    assert decision.rule == rule
    assert decision.accepted == (rule == "accepted")
    assert decision.reason


def test_a_person_is_called_where_a_person_is_needed() -> None:
    assert judged(DRIFT, past(70, helped=False), past(40, "x", helped=False)).escalate
    assert judged(replace(DRIFT, kind="dataQuality")).escalate
    assert not judged(DRIFT, past(29)).escalate


def test_a_clock_that_was_set_back_keeps_the_cool_down() -> None:
    assert judged(replace(DRIFT, at=NOW + timedelta(days=400)), past(-300)).rule == "cooldown"


def test_an_incident_keeps_its_name_until_a_retraining_failed_or_the_champion_changed() -> None:
    assert incident("featureDrift", "3") == "featureDrift/3"
    assert incident("featureDrift", "3", [past(5, "featureDrift/3", helped=None)]) == "featureDrift/3"
    failed = past(5, "featureDrift/3", helped=False)
    assert incident("featureDrift", "3", [failed]) == "featureDrift/3#1"
    assert (
        incident("featureDrift", "3", [failed, past(4, "featureDrift/3#1", helped=False)])
        == "featureDrift/3#2"
    )
    assert incident("featureDrift", "4", [failed]) == "featureDrift/4"


def test_a_run_has_one_name_for_a_cause_and_another_for_any_other() -> None:
    assert trigger_id("flights", "featureDrift/3") == trigger_id("flights", "featureDrift/3")
    names = {
        trigger_id(w, c) for w in ("flights", "trains") for c in ("featureDrift/3", "featureDrift/4", "x")
    }
    assert len(names) == 6


BEHIND = Standing(newest=NOW + timedelta(hours=2))
NEW = Signal("newData", "newData/7", NOW, {"new_rows": 10})


def ruled(signal: Signal, standing: Standing, *history: PastTrigger, **changed: Any) -> TriggerDecision:
    return decide(signal, history, replace(POLICY, **changed), NOW, standing)


@pytest.mark.parametrize(
    ("decision", "rule"),
    [
        pytest.param(ruled(DRIFT, BEHIND), "clock", id="the-clock-was-set-back"),
        pytest.param(
            ruled(replace(DRIFT, at=NOW - timedelta(days=2)), BEHIND, past(0.5)),
            "clock",
            id="what-a-wrong-clock-calls-stale-is-kept",
        ),
        pytest.param(
            ruled(Signal("manual", "m", NOW, override=True), BEHIND), "accepted", id="a-person-knows-the-time"
        ),
        pytest.param(
            ruled(DRIFT, Standing(newest=NOW + timedelta(seconds=30))),
            "accepted",
            id="two-processes-read-the-clock-at-different-moments",
        ),
        pytest.param(
            ruled(replace(DRIFT, champion="3"), Standing(champion="4")), "stale", id="about-a-former-champion"
        ),
        pytest.param(
            ruled(replace(DRIFT, champion="3"), Standing(champion="3")), "accepted", id="about-the-champion"
        ),
        pytest.param(
            ruled(replace(DRIFT, champion="3"), Standing()), "accepted", id="nobody-knows-the-champion"
        ),
        pytest.param(ruled(DRIFT, Standing(ended=NOW)), "stale", id="it-has-ended-meanwhile"),
        pytest.param(
            ruled(DRIFT, Standing(ended=NOW - timedelta(minutes=1))), "accepted", id="it-began-again-since"
        ),
        pytest.param(
            ruled(replace(DRIFT, at=NOW - timedelta(days=50)), Standing(), past(40, helped=False)),
            "accepted",
            id="a-vain-retraining-answers-nothing",
        ),
        pytest.param(
            ruled(DRIFT, Standing(), past(31, lead=timedelta(days=2))),
            "cooldown",
            id="a-clock-set-forward-ends-no-cool-down",
        ),
        pytest.param(
            ruled(
                DRIFT,
                Standing(),
                past(1.5, "a", lead=timedelta(days=1)),
                past(1.2, "b", lead=timedelta(days=1)),
                cooldown=timedelta(0),
            ),
            "dailyBudget",
            id="nor-a-day",
        ),
        pytest.param(
            ruled(
                DRIFT,
                Standing(champion="3"),
                past(70, "x", helped=False, champion="3"),
                past(40, "y", helped=False, champion="3"),
            ),
            "escalated",
            id="the-champion-that-nothing-helped",
        ),
        pytest.param(
            ruled(
                DRIFT,
                Standing(champion="3"),
                past(70, "x", helped=False, champion="2"),
                past(40, "y", helped=False, champion="2"),
            ),
            "accepted",
            id="a-person-has-put-another-in-its-place",
        ),
        pytest.param(ruled(NEW, Standing()), "accepted", id="any-new-rows-where-no-count-is-asked-for"),
        pytest.param(ruled(NEW, Standing(), new_rows=20), "volume", id="nobody-says-how-many-are-new"),
        pytest.param(ruled(NEW, Standing(new_rows=19), new_rows=20), "volume", id="too-few-new-rows"),
        pytest.param(ruled(NEW, Standing(new_rows=20), new_rows=20), "accepted", id="enough-new-rows"),
        pytest.param(
            ruled(NEW, Standing(new_rows=20), new_rows=0.1), "volume", id="a-share-of-nobody-knows-what"
        ),
        pytest.param(
            ruled(NEW, Standing(new_rows=20, trained_rows=201), new_rows=0.1),
            "volume",
            id="less-than-a-tenth-of-what-there-was",
        ),
        pytest.param(
            ruled(NEW, Standing(new_rows=20, trained_rows=200), new_rows=0.1),
            "accepted",
            id="a-tenth-of-what-there-was",
        ),
    ],
)
def test_what_a_decision_takes_of_the_world(decision: TriggerDecision, rule: str) -> None:
    assert decision.rule == rule and decision.reason


@pytest.mark.parametrize(
    ("decision", "held"),
    [
        pytest.param(judged(live_release=True), True, id="a-release-ends"),
        pytest.param(judged(run_active=1), True, id="a-run-ends"),
        pytest.param(judged(DRIFT, past(29)), True, id="a-cool-down-ends"),
        pytest.param(judged(data_quality_failed=True), True, id="data-is-repaired"),
        pytest.param(ruled(DRIFT, BEHIND), True, id="a-clock-catches-up"),
        pytest.param(judged(), False, id="accepted"),
        pytest.param(judged(DRIFT, past(99, "featureDrift/3")), False, id="a-duplicate-stays-one"),
        pytest.param(judged(replace(DRIFT, kind="dataQuality")), False, id="broken-data-is-never-trained-on"),
        pytest.param(
            judged(Signal("manual", "m", NOW), past(1)), False, id="a-person-was-told-and-may-ask-again"
        ),
        pytest.param(
            judged(DRIFT, past(70, helped=False), past(40, "x", helped=False)), False, id="a-person-decides"
        ),
    ],
)
def test_what_passes_by_itself_is_decided_again(decision: TriggerDecision, held: bool) -> None:
    assert decision.held is held
