"""A Release's status: what it says of a state, and when it is worth writing again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving.release import spec, state
from serving.release.decision import Decision
from serving.release.traffic import Segments, Traffic
from serving.release.verdict import Verdict
from windlass.operator import conditions, status
from windlass.operator.seen import REFUSED, Seen, of_object
from windlass.operator.status import View

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
RELEASE = spec.parse(
    {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {
            "model": "flights",
            "candidate": "13",
            "champion": "12",
            "backend": "gateway",
            "strategy": {"type": "canary", "steps": [{"weight": 10}, {"weight": 50}]},
            "checks": [{"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus",
                        "bound": 5, "alpha": 0.01}],
        },
    }
)  # fmt: skip
LIVE = replace(
    state.initial(RELEASE, "12"),
    phase="Progressing",
    step=0,
    traffic=Traffic({"12": 90, "13": 10}),
    started_at=NOW,
)


def seen(**told: Any) -> Seen:
    body = {
        "metadata": {
            "name": "flights-13",
            "namespace": "team",
            "uid": "u",
            "resourceVersion": "7",
            "generation": 1,
        },
        "spec": {"model": "flights"},
        "status": told,
    }
    return of_object(body)


def decision(reason: str = "step 1 has 20 of 100 requests", **more: Any) -> Decision:
    verdict = Verdict("errors", "guardrail", "INCONCLUSIVE", 20, "rule", "no more than 1 of 20", version="13")
    return Decision("hold", reason, NOW, LIVE, verdicts=(verdict,), **more)


def truths(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


def test_a_live_release_says_where_it_is() -> None:
    """Verify phase, step, traffic, checks and conditions of a release that goes on."""
    found = status.of(seen(), View(state=LIVE, decision=decision(), in_force=True), NOW)
    assert (found["phase"], found["step"], found["steps"]) == ("Progressing", 1, 2)
    assert found["weights"] == {"12": 90, "13": 10} and found["champion"] == "12"
    assert found["candidate"] == "13" and found["candidates"] == ["13"] and found["observedGeneration"] == 1
    assert found["checks"] == [
        {"name": "errors", "kind": "guardrail", "verdict": "INCONCLUSIVE", "reason": "no more than 1 of 20",
         "observations": 20, "candidate": "13"}
    ]  # fmt: skip
    assert found["startedAt"] == "2026-03-01T12:00:00Z" and "finishedAt" not in found
    assert truths(found) == {
        "Progressing": ("True", "Judging"),
        "Available": ("True", "InForce"),
        "Degraded": ("False", "Well"),
    }


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(
            View(reason="WaitingForServers", message="version 13: no pods"),
            {
                "Progressing": ("True", "WaitingForServers"),
                "Available": ("Unknown", "NotStarted"),
                "Degraded": ("False", "Well"),
            },
            id="pending",
        ),
        pytest.param(
            View(phase="Queued", reason="Queued", message="waits for release flights-12 to end"),
            {
                "Progressing": ("True", "Queued"),
                "Available": ("Unknown", "NotStarted"),
                "Degraded": ("False", "Well"),
            },
            id="queued",
        ),
        pytest.param(
            View(phase=REFUSED, reason="InvalidSpec", message="spec.model = missing"),
            {
                "Progressing": ("False", "InvalidSpec"),
                "Available": ("Unknown", "NotStarted"),
                "Degraded": ("True", "InvalidSpec"),
            },
            id="refused",
        ),
        pytest.param(
            View(state=replace(LIVE, phase="Paused"), in_force=True),
            {
                "Progressing": ("Unknown", "Paused"),
                "Available": ("True", "InForce"),
                "Degraded": ("False", "Well"),
            },
            id="paused",
        ),
        pytest.param(
            View(state=LIVE, in_force=False, trouble="the router is away", trouble_reason="ActFailed"),
            {
                "Progressing": ("True", "Judging"),
                "Available": ("False", "NotInForce"),
                "Degraded": ("True", "ActFailed"),
            },
            id="an-act-fails",
        ),
        pytest.param(
            View(state=replace(LIVE, alert="both versions fail alike"), in_force=True),
            {
                "Progressing": ("True", "Judging"),
                "Available": ("True", "InForce"),
                "Degraded": ("True", "NeedsAPerson"),
            },
            id="an-alert",
        ),
        pytest.param(
            View(state=replace(LIVE, phase="RolledBack", alert="old"), in_force=True),
            {
                "Progressing": ("False", "RolledBack"),
                "Available": ("True", "InForce"),
                "Degraded": ("False", "Well"),
            },
            id="over",
        ),
    ],
)
def test_conditions_say_whether_a_person_is_needed(view: View, expected: dict[str, Any]) -> None:
    """Verify the three conditions of each kind of state."""
    assert truths(status.of(seen(), view, NOW)) == expected


def test_a_condition_keeps_the_time_of_its_change() -> None:
    """Verify that lastTransitionTime moves with the status alone, not with reason and words."""
    first = status.of(seen(), View(state=LIVE, decision=decision(), in_force=True), NOW)
    paused = View(state=replace(LIVE, phase="Paused"), in_force=True)
    second = status.of(seen(**first), paused, LATER)
    at = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert at == {
        "Progressing": "2026-03-01T12:05:00Z",
        "Available": "2026-03-01T12:00:00Z",
        "Degraded": "2026-03-01T12:00:00Z",
    }


def test_what_needs_a_person_is_told_with_its_reason() -> None:
    """Verify that an alert, which is kept short, stands with what the look that found it said."""
    refused = replace(LIVE, alert="the router refused the traffic")
    for reason, told in (
        (
            "the router refused the traffic: no such Gateway",
            "the router refused the traffic: no such Gateway",
        ),
        ("step 1 has 40 of 100 requests", "the router refused the traffic"),
    ):
        found = status.of(seen(), View(state=refused, decision=decision(reason), in_force=False), NOW)
        (degraded,) = (c for c in found["conditions"] if c["type"] == "Degraded")
        assert (degraded["reason"], degraded["message"]) == ("NeedsAPerson", told)


def test_what_is_known_stays_where_nothing_new_is() -> None:
    """Verify that checks, decision, the end's time and the handled command outlive a restart."""
    first = status.of(seen(), View(state=LIVE, decision=decision(), in_force=True, handled="resume"), NOW)
    over = replace(LIVE, phase="Promoted")
    second = status.of(seen(**first), View(state=over, in_force=True), NOW)
    third = status.of(seen(**second), View(state=over, in_force=True), LATER)
    for key in ("checks", "decision", "handledCommand"):
        assert third[key] == first[key]
    assert third["finishedAt"] == "2026-03-01T12:00:00Z"


def test_numbers_alone_are_no_news() -> None:
    """Verify that a look which only counted on is not written at once, and that a verdict, a weight or an act is."""
    view = View(state=LIVE, decision=decision(), in_force=True)
    before = status.of(seen(), view, NOW)
    counted = status.of(
        seen(**before), replace(view, decision=decision("step 1 has 40 of 100 requests")), LATER
    )
    assert counted != before and not status.says_more(counted, before)
    failed = replace(decision(), verdicts=(replace(decision().verdicts[0], outcome="FAIL"),))
    acted = Decision("advance", "step 1 is done", LATER, LIVE)
    moved = replace(LIVE, traffic=Traffic({"12": 50, "13": 50}))
    for news in (
        replace(view, decision=failed),
        replace(view, decision=acted),
        replace(view, state=moved),
        replace(view, trouble="the router is away"),
        replace(view, handled="pause"),
    ):
        assert status.says_more(status.of(seen(**before), news, LATER), before)


def test_a_long_reason_is_cut() -> None:
    """Verify that no message is longer than an API server and a person take."""
    found = status.of(seen(), View(state=LIVE, decision=decision("x" * 5000), in_force=True), NOW)
    assert len(found["message"]) == conditions.LONGEST_MESSAGE


def test_more_than_weights_is_told() -> None:
    """Verify what a shadow copies, what each context gets, and who is out; and that a change of it is worth a write."""
    shadow = replace(LIVE, traffic=Traffic({"12": 100}, mirror_to="13", mirror_percent=20))
    found = status.of(seen(), View(state=shadow), NOW)
    assert (found["weights"], found["copies"]) == ({"12": 100}, {"to": "13", "percent": 20})
    by_device = Segments("x-device", {"mobile": {"12": 5, "13": 95}, "desktop": {"12": 95, "13": 5}})
    bandit = replace(
        LIVE, traffic=Traffic({"12": 50, "13": 50}, segments=by_device), dropped={"14": "errors: FAIL"}
    )
    told = status.of(seen(), View(state=bandit), NOW)
    assert told["segments"] == {"mobile": {"12": 5, "13": 95}, "desktop": {"12": 95, "13": 5}}
    assert told["dropped"] == {"14": "errors: FAIL"} and "copies" not in told
    moved = replace(by_device, weights={**by_device.weights, "mobile": {"12": 10, "13": 90}})
    later = status.of(
        seen(), View(state=replace(bandit, traffic=replace(bandit.traffic, segments=moved))), NOW
    )
    assert status.says_more(later, told)
    plain = status.of(seen(), View(state=LIVE), NOW)
    assert not {"segments", "copies", "dropped"} & set(plain)
