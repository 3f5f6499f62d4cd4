"""Experiment as a truth table: who is assigned, who wins, who is out, and how it ends."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.release import buckets, spec, state
from serving.release.engine import next_step, obey
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.statistics.moments import Moments

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(hours):
    return START + timedelta(hours=hours)


DOCUMENT = {
    "kind": "Release",
    "metadata": {"name": "banner"},
    "spec": {
        "model": "ranker",
        "candidates": ["13", "14"],
        "champion": "12",
        "strategy": {
            "type": "experiment",
            "unit": {"header": "x-user-id"},
            "allocation": {"12": 40, "13": 30, "14": 30},
            "minDuration": "24h",
            "maxDuration": "14d",
            "outcomeDelay": "2h",
            "period": "1d",
        },
        "checks": [
            {
                "name": "errors",
                "kind": "guardrail",
                "metric": "errorRate",
                "source": "envoy",
                "relativeToChampion": True,
            },
            {
                "name": "bought",
                "kind": "decision",
                "metric": "reward",
                "source": "feedback",
                "minimumDetectableEffect": 20,
            },
        ],
    },
}


def binary(n, ones):
    return Moments(n, ones, ones)


def arm(units, bought, *, requests=None, errors=0, periods=()):
    requests = 3 * units if requests is None else requests
    return ArmEvidence(
        requests,
        errors,
        units=units,
        outcomes={"bought": binary(units, bought)},
        periods={"bought": tuple(binary(*period) for period in periods)} if periods else {},
    )


def evidence(champion, one, two, **more):
    return Evidence(START, {"12": champion, "13": one, "14": two}, **more)


EVEN = evidence(arm(4000, 200), arm(3000, 150), arm(3000, 150))
WON = evidence(arm(40_000, 2000), arm(30_000, 1900), arm(30_000, 1500))


@pytest.fixture
def release():
    return spec.parse(copy.deepcopy(DOCUMENT))


@pytest.fixture
def begun(release):
    first = next_step(state.initial(release, "12"), Evidence(START), START).state
    # the first look after a change of the traffic gives the sample ratio its base
    return next_step(first, evidence(arm(0, 0), arm(0, 0), arm(0, 0)), at(0.1)).state


def test_units_are_assigned_by_the_allocation(begun):
    assignment = begun.traffic.assignment
    assert begun.traffic.weights == {"12": 40, "13": 30, "14": 30}
    assert {v: buckets.size(ranges) for v, ranges in assignment.buckets.items()} == {
        "12": 4000,
        "13": 3000,
        "14": 3000,
    }
    assert (assignment.unit.kind, assignment.unit.name) == ("header", "x-user-id")
    assert (assignment.salt, assignment.otherwise) == ("banner", "12")


@pytest.mark.parametrize(
    ("seen", "hours", "action", "check", "winner"),
    [
        pytest.param(WON, 48, "promote", "bought", "13", id="a-winner"),
        pytest.param(WON, 12, "hold", None, None, id="not-before-the-stated-time"),
        pytest.param(EVEN, 48, "hold", "bought", None, id="nothing-to-tell-apart"),
        pytest.param(
            evidence(arm(40_000, 2000), arm(30_000, 1500), arm(30_000, 1900), silent={"feedback": "down"}),
            48,
            "hold",
            "bought",
            None,
            id="no-outcomes-no-verdict",
        ),
        pytest.param(EVEN, 14 * 24 + 1, "hold", "bought", None, id="the-last-outcomes-are-waited-for"),
        pytest.param(EVEN, 14 * 24 + 2, "abort", "bought", None, id="the-planned-time-is-over"),
        pytest.param(
            evidence(arm(4000, 200), arm(3000, 150, errors=400), arm(3000, 150, errors=400)),
            2,
            "roll_back",
            "errors",
            None,
            id="every-candidate-fails",
        ),
        pytest.param(
            evidence(arm(40_000, 2000), arm(30_000, 900), arm(30_000, 900)),
            30,
            "roll_back",
            "bought",
            None,
            id="every-candidate-is-worse",
        ),
        pytest.param(
            evidence(arm(4000, 200), arm(1000, 50), arm(3000, 150)),
            48,
            "hold",
            "sampleRatio",
            None,
            id="units-were-lost",
        ),
    ],
)
def test_how_it_ends(begun, seen, hours, action, check, winner):
    decision = next_step(begun, seen, at(hours))
    assert (decision.action, decision.check) == (action, check), decision.reason
    assert decision.champion == winner
    if action in ("abort", "roll_back"):
        assert decision.weights == {"12": 100}


def test_a_candidate_that_fails_leaves_and_nobody_else_moves(begun):
    seen = evidence(arm(4000, 200), arm(3000, 150, errors=400), arm(3000, 150))
    decision = next_step(begun, seen, at(2))
    assert (decision.action, decision.check) == ("drop", "errors")
    assert "version 13 is out" in decision.reason
    assert decision.weights == {"12": 70, "14": 30}
    before, after = begun.traffic.assignment.buckets, decision.traffic.assignment.buckets
    assert after["14"] == before["14"]
    assert buckets.size(after["12"]) == 7000
    assert decision.state.candidates == ("14",)
    later = next_step(decision.state, WON, at(48))
    assert (later.action, later.champion) != ("promote", "13")


def test_a_fading_effect_is_not_promoted(begun):
    periods = ((15_000, 1400), (15_000, 620))
    seen = evidence(
        arm(40_000, 2000, periods=((20_000, 1000), (20_000, 1000))),
        arm(30_000, 2020, periods=periods),
        arm(30_000, 1500),
    )
    decision = next_step(begun, seen, at(48))
    assert (decision.action, decision.check) == ("hold", "novelty")
    assert decision.alert and "fades" in decision.alert


OVER = 14 * 24 + 2


@pytest.mark.parametrize(
    ("seen", "hours", "check", "told"),
    [
        pytest.param(replace(EVEN, silent={"feedback": "away"}), OVER, "bought", "away", id="silent"),
        pytest.param(replace(EVEN, faults={"reward": "404"}), OVER + 5, "bought", "404", id="of-no-use"),
        pytest.param(replace(WON, silent={"envoy": "away"}), OVER, "errors", "away", id="a-winner-unwatched"),
    ],
)
def test_what_cannot_be_judged_is_not_said_to_be_no_better(begun, seen, hours, check, told):
    """Verify that it holds and a person is told once, and that it ends with the first look that can be judged."""
    first = next_step(begun, seen, at(hours))
    assert (first.action, first.check, first.state.phase) == ("hold", check, "Progressing")
    assert first.alert == f"the planned time is over and {check} cannot be judged"
    assert told in first.reason
    assert next_step(first.state, seen, at(hours + 1)).alert is None
    known = next_step(first.state, replace(seen, silent={}, faults={}), at(hours + 2))
    assert known.action == ("promote" if seen.arms == WON.arms else "abort")


def test_who_is_no_winner_needs_no_guardrails_to_lose(begun):
    decision = next_step(begun, replace(EVEN, silent={"envoy": "away"}), at(OVER))
    assert (decision.action, "no candidate was shown" in decision.reason) == ("abort", True)


@pytest.mark.parametrize("what", ["hold", "abort"])
def test_silence_at_the_end_lasts_as_long_as_silence_may(what):
    document = copy.deepcopy(DOCUMENT)
    document["spec"] |= {"inconclusiveAfter": "3h", "whenInconclusive": what}
    now = next_step(state.initial(spec.parse(document), "12"), Evidence(START), START).state
    for hours in (1, OVER - 1):
        now = next_step(now, EVEN, at(hours)).state
    silent = replace(EVEN, silent={"feedback": "away"})
    for hours in (OVER, OVER + 2):
        decision = next_step(now, silent, at(hours))
        assert decision.action == "hold"
        now = decision.state
    decision = next_step(now, silent, at(OVER + 3))
    assert decision.action == what
    assert decision.reason.startswith(
        "no progress for 3h: the planned time is over and bought cannot be judged"
    )


def test_it_ends_with_what_is_known_of_its_end(begun):
    """Verify that a source that lies behind is waited for, without an alert, up to the last outcome and no longer."""
    behind = replace(EVEN, reached={"feedback": at(OVER) - timedelta(seconds=1)})
    decision = next_step(begun, behind, at(OVER + 0.01))
    assert (decision.action, decision.alert, decision.state.blocked_since) == ("hold", None, None)
    assert "what is known of feedback ends before it" in decision.reason
    there = replace(EVEN, reached={"feedback": at(OVER), "predictions": at(1)})
    assert next_step(decision.state, there, at(OVER + 0.02)).action == "abort"


def test_a_pause_after_enrolment_opens_it_no_more(begun):
    """Verify that a pause puts off the end of an enrolment that was not over, and of no other."""
    assert begun.enrolled_until == at(14 * 24)
    early = obey(begun, "pause", at(24)).state
    assert early.enrolment_paused
    assert obey(early, "resume", at(34)).state.enrolled_until == at(14 * 24 + 10)
    late = obey(begun, "pause", at(14 * 24 + 1)).state
    assert not late.enrolment_paused
    resumed = obey(late, "resume", at(15 * 24)).state
    assert resumed.enrolled_until == at(14 * 24)
    assert next_step(resumed, EVEN, at(15 * 24)).action == "abort"


def test_planned_waiting_is_no_lack_of_progress(begun):
    # inconclusiveAfter is a day, the plan two weeks
    assert next_step(begun, EVEN, at(100)).alert is None


def test_lack_of_data_is(begun):
    nothing = evidence(arm(0, 0), arm(0, 0), arm(0, 0))
    assert next_step(begun, nothing, at(25)).alert == "no progress for 1d"


@pytest.mark.parametrize(
    ("to", "action", "champion"),
    [
        pytest.param("14", "promote", "14", id="named"),
        pytest.param(None, "hold", None, id="which"),
        pytest.param("15", "hold", None, id="unknown"),
    ],
)
def test_a_person_promotes_one_of_several_by_name(begun, to, action, champion):
    decision = obey(begun, "promote", at(1), to=to)
    assert (decision.action, decision.champion) == (action, champion)
