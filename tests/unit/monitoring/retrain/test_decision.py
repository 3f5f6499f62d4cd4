"""Whether a signal becomes a retraining: each rule by itself, and what holds whatever comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.retrain.decision import TriggerDecision, decide
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
    given_: dict[str, Any] = {"live_release": False, "run_active": 0, "policy": POLICY, **changed}
    return decide(signal, history, given_.pop("policy"), NOW, **given_)


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


minutes = st.integers(-3 * 1440, 6 * 1440)
steps = st.fixed_dictionaries(
    {
        "jump": minutes,  # the clock may be set back
        "late": st.integers(0, 4 * 1440),
        "cause": st.sampled_from("abcdefgh"),
        "kind": st.sampled_from(("featureDrift", "performanceDecay", "newData", "dataQuality", "manual")),
        "live_release": st.booleans(),
        "quality_failed": st.booleans(),
        "closes": st.sampled_from((None, True, False)),
    }
)
policies = st.builds(
    RetrainPolicy,
    cooldown=st.integers(0, 3 * 1440).map(lambda m: timedelta(minutes=m)),
    per_day=st.integers(1, 3),
    concurrency=st.integers(1, 2),
    escalate_after=st.integers(1, 3),
)


@settings(max_examples=400, deadline=None)
@given(policy=policies, schedule=st.lists(steps, max_size=40), total=st.one_of(st.none(), st.integers(0, 4)))
def test_whatever_comes_the_policy_holds(
    policy: RetrainPolicy, schedule: list[dict[str, Any]], total: int | None
) -> None:
    now, history = NOW, []
    for step in schedule:
        now += timedelta(minutes=step["jump"])
        if step["closes"] is not None and any(not t.finished for t in history):
            i = next(i for i, t in enumerate(history) if not t.finished)
            history[i] = replace(history[i], finished=True, helped=step["closes"])
        running = sum(1 for t in history if not t.finished)
        signal = Signal(step["kind"], step["cause"], now - timedelta(minutes=step["late"]))
        decision = decide(
            signal,
            history,
            policy,
            now,
            live_release=step["live_release"],
            run_active=running,
            data_quality_failed=step["quality_failed"],
            total_budget=total,
        )
        if not decision.accepted:
            continue
        assert not step["live_release"] and not step["quality_failed"] and step["kind"] != "dataQuality"
        assert running < policy.concurrency
        assert step["cause"] not in {t.cause for t in history}, "a cause makes one run"
        assert all(now - t.at >= policy.cooldown for t in history)
        assert sum(1 for t in history if t.at > now - timedelta(days=1)) < policy.per_day
        assert total is None or len(history) < total
        assert all(signal.at >= t.signal_at for t in history if t.at == max(h.at for h in history))
        closed = [t.helped for t in history if t.helped is not None][-policy.escalate_after :]
        assert len(closed) < policy.escalate_after or any(closed)
        history.append(PastTrigger(f"t{len(history)}", signal.kind, signal.cause, now, signal.at))
