"""What the collector says, look by look, over its silence and over a change of process."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serving.release import spec, state
from serving.release.collector.client import Collector, Question, RefusedError, SilentError
from serving.release.engine import next_step, obey
from serving.release.evidence import ArmEvidence, Evidence, Pairs
from serving.release.journal import evidence_json
from serving.release.journal.evidence_json import Values
from serving.release.state import ReleaseState
from serving.release.statistics.moments import Moments
from windlass.operator import collected, evidence
from windlass.operator.collected import Collected, Known

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ERRORS = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "prometheus", "bound": 5}
BOOKED = {"name": "booked", "kind": "decision", "metric": "reward", "source": "feedback"}


class Said(Collector):
    """A collector's words without a wire."""

    def __init__(self) -> None:
        super().__init__("http://collector")
        self.next: Evidence | Exception = Evidence(START)
        self.asked: list[tuple[Question, dict[str, tuple[float, ...]]]] = []

    def evidence(self, question: Question, known: Values, at: datetime) -> Evidence:
        self.asked.append((question, {name: tuple(values) for name, values in known.items()}))
        if isinstance(self.next, Exception):
            raise self.next
        return self.next


def live(check: dict[str, Any] = BOOKED, **strategy: Any) -> ReleaseState:
    """A release that has begun."""
    document = {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {"model": "flights", "candidate": "13", "champion": "12", "backend": "gateway",
                 "gateway": {"extension": "envoyGateway"}, "strategy": strategy, "checks": [ERRORS, check]},
    }  # fmt: skip
    return next_step(state.initial(spec.parse(document), "12"), Evidence(START), START).state


EXPERIMENT = {"type": "experiment", "unit": {"header": "x-user"}, "allocation": {"12": 50, "13": 50},
              "maxDuration": "7d"}  # fmt: skip
CANARY = {"type": "canary", "steps": [{"weight": 10}]}


def arm(*rewards: float, units: int | None = None) -> ArmEvidence:
    return ArmEvidence(units=units, outcomes={"booked": Moments.of(list(rewards))})


def test_silence_leaves_what_was_known() -> None:
    """Verify that the newest answer stands, its sources are silent, and that pairs go on where they were."""
    said, begun = Said(), live(**EXPERIMENT)
    found = Collected(said, Known())
    full = Evidence(
        START, {"12": arm(1.0, units=3), "13": arm(0.0, units=2)}, {"brier": (0.1,)}, Pairs(1, 0, {0: 1})
    )
    said.next = full
    first = found.look(begun, START)
    assert (first.arms, first.paired, first.pairs, first.silent) == (full.arms, full.paired, full.pairs, {})
    said.next = SilentError("it is away")
    second = found.look(begun, START + timedelta(seconds=5))
    assert (second.arms, second.paired, second.pairs) == (full.arms, full.paired, full.pairs)
    assert second.silent == {"predictions": "it is away", "feedback": "it is away"}
    assert said.asked[1][1] == {"brier": (0.1,)}


def test_an_experiment_of_which_nothing_is_known_has_no_units() -> None:
    """Verify that a silent collector does not make requests the units: shares of users would be judged by requests."""
    said = Said()
    said.next = SilentError("it is away")
    silent = Collected(said, Known()).look(live(**EXPERIMENT), START)
    assert {version: found.units for version, found in silent.arms.items()} == {"12": 0, "13": 0}
    assert Collected(said, Known()).look(live(**CANARY), START).arms == {}


def test_requests_are_split_as_prometheus_counts_them_while_it_is_silent() -> None:
    """Verify that units in the journal, which Prometheus counted, do not stand for all time after a restart."""
    before = Evidence(START, {"13": ArmEvidence(requests=100, units=90), "12": arm(1.0, units=80)})
    known = collected.of_journal([{"kind": "decision", "evidence": evidence_json.to_json(before, {})}])
    said = Said()
    said.next = SilentError("it is away")
    silent = Collected(said, known).look(live(**CANARY), START)
    counted = Evidence(
        START, {"12": ArmEvidence(requests=1000, units=900), "13": ArmEvidence(requests=300, units=290)}
    )
    found = evidence.merged(counted, silent)
    assert {v: (one.requests, one.units) for v, one in found.arms.items()} == {
        "12": (1000, 900),
        "13": (300, 290),
    }
    assert found.arms["12"].outcomes == before.arms["12"].outcomes
    kept = Collected(said, known).look(live(**EXPERIMENT), START)
    assert {version: one.units for version, one in kept.arms.items()} == {"12": 80, "13": 90}


def test_a_refusal_is_an_error_of_the_checks_that_rest_on_it() -> None:
    """Verify that a person is told, and that errors are judged all the same."""
    said, begun = Said(), live(**CANARY)
    said.next = RefusedError("asked for with another spec")
    found = Collected(said, Known()).look(begun, START)
    assert found.faults == {"reward": "asked for with another spec"} and found.silent == {}
    later = START + timedelta(seconds=5)
    decision = next_step(begun, found, later)
    assert {v.check: v.outcome for v in decision.verdicts}["booked"] == "ERROR"
    assert decision.action == "hold" and decision.alert is not None


def test_how_far_its_words_reach_is_kept() -> None:
    """Verify that an experiment is not over before the collector has come to its end, also as the journal tells it."""
    said, begun = Said(), live(**EXPERIMENT)
    over = START + timedelta(days=7)
    arms = {"12": arm(*[0.0] * 500, units=500), "13": arm(*[0.0] * 500, units=500)}
    for known, action in ((over - timedelta(seconds=1), "hold"), (over, "abort")):
        said.next = Evidence(known, arms)
        at = over + timedelta(seconds=20)
        found = Collected(said, Known()).look(begun, at)
        assert found.reached == {"predictions": known, "feedback": known}
        assert evidence_json.from_json(evidence_json.to_json(found, {}), {}) == found
        assert next_step(begun, found, at).action == action
    said.next = SilentError("it is away")
    assert Collected(said, Known()).look(begun, over).reached == {}


def test_a_pause_shifts_the_end_of_enrolment() -> None:
    """Verify that the end goes on before it while it lasts, and stays later by as much."""
    said, begun = Said(), live(**EXPERIMENT)
    found = Collected(said, Known())
    found.look(begun, START)
    paused = obey(begun, "pause", START + timedelta(hours=1)).state
    found.look(paused, START + timedelta(hours=2))
    resumed = obey(paused, "resume", START + timedelta(hours=3)).state
    found.look(resumed, START + timedelta(hours=4))
    later = [
        question.enrolled_until - timedelta(days=7) - START
        for question, _ in said.asked
        if question.enrolled_until
    ]
    assert later == [timedelta(hours=hours) for hours in (0, 1, 2)]
    assert {question.since for question, _ in said.asked} == {START}
    assert [q.enrolled_until for q in (collected._question(live(**CANARY), START),)] == [None]


def test_a_pause_after_enrolment_changes_no_question() -> None:
    """Verify that the collector is not made to count everything again at each look of such a pause, nor after it."""
    said, begun = Said(), live(**{**EXPERIMENT, "outcomeDelay": "2d"})
    found, over = Collected(said, Known()), START + timedelta(days=7)
    paused = obey(begun, "pause", over + timedelta(hours=1)).state
    for hours in (2, 3, 4):
        found.look(paused, over + timedelta(hours=hours))
    found.look(obey(paused, "resume", over + timedelta(hours=5)).state, over + timedelta(hours=6))
    assert [question.enrolled_until for question, _ in said.asked] == [over] * 4


def test_another_process_goes_on_from_the_journal() -> None:
    """Verify that all pairs of all records are known again, and the newest sums; and nothing that Prometheus counts."""
    first = Evidence(
        START, {"13": ArmEvidence(requests=5, units=1)}, {"brier": (0.1, 0.2)}, Pairs(2, 0, {0: 2})
    )
    second = Evidence(
        START + timedelta(seconds=5),
        {"13": ArmEvidence(requests=9, errors=1, units=4)},
        {"brier": (0.1, 0.2, 0.3)},
        Pairs(3, 1, {0: 3}),
    )
    records = [
        {"kind": "release"},
        {"kind": "decision", "evidence": evidence_json.to_json(first, {})},
        {"kind": "confirmed", "seq": 1},
        {"kind": "decision", "evidence": evidence_json.to_json(second, first.paired)},
        {"kind": "decision", "evidence": None},
    ]
    known = collected.of_journal(records)
    assert known == Known({"13": ArmEvidence(units=4)}, Pairs(3, 1, {0: 3}), {"brier": (0.1, 0.2, 0.3)})
    assert collected.of_journal([]) == Known()


@pytest.mark.parametrize(
    ("less", "said"),
    [
        pytest.param({"pairs": Pairs(1, 0, {0: 1})}, "counts 1 pairs now, and 2 before", id="pairs"),
        pytest.param({"pairs": None}, "counts 0 pairs now", id="no-pairs"),
        pytest.param({"paired": {"brier": (0.1,)}}, "counts 1 values of brier now, and 2", id="values"),
        pytest.param(
            {"arms": {"12": arm(1.0, units=2)}}, "counts 2 units of version 12 now, and 3", id="units"
        ),
        pytest.param({"arms": {"12": arm(units=3)}}, "outcomes of booked of version 12 now", id="outcomes"),
    ],
)
def test_a_collector_that_says_less_than_before_is_not_believed(less: dict[str, Any], said: str) -> None:
    """Verify that what was known stands and a person is told, until it says as much again."""
    said_by, begun = Said(), live(**EXPERIMENT)
    full = Evidence(START, {"12": arm(1.0, units=3)}, {"brier": (0.1, 0.2)}, Pairs(2, 0, {0: 2}))
    found = Collected(said_by, Known())
    said_by.next = full
    found.look(begun, START)
    said_by.next = replace(full, **less)
    at = START + timedelta(seconds=5)
    second = found.look(begun, at)
    assert said in second.faults["reward"]
    assert (second.arms["12"], second.paired, second.pairs) == (full.arms["12"], full.paired, full.pairs)
    decision = next_step(begun, second, at)
    assert decision.action == "hold" and decision.alert is not None
    said_by.next = full
    assert found.look(begun, at).faults == {}


SKEWED = {"name": "skew", "kind": "guardrail", "metric": "featureSkew", "source": "predictions", "bound": 2}


def skewed(checked: int, mismatched: int = 0, why: str | None = None) -> ArmEvidence:
    silent = {} if why is None else {"featureSkew": why}
    by_input = {"sales": mismatched} if mismatched else {}
    return ArmEvidence(
        requests=400, skew_checked=checked, skew_mismatched=mismatched, skew_by_input=by_input, silent=silent
    )


def judged(*looks: ArmEvidence | Exception) -> tuple[Evidence, Any]:
    """The newest evidence of a canary with the check alone, and what was decided, after one look after the other."""
    # of several looks none is the last one
    steps = [{"weight": 10, "minDuration": "1h" if len(looks) > 1 else "0s"}]
    said, begun = Said(), live(SKEWED, type="canary", steps=steps)
    found = Collected(said, Known())
    for number, arm in enumerate(looks):
        at = START + timedelta(seconds=5 * number)
        said.next = arm if isinstance(arm, Exception) else Evidence(at, {"12": skewed(400), "13": arm})
        evidence = found.look(begun, at)
        decision = next_step(begun, evidence, at)
        begun = decision.state
    return evidence, decision


def test_a_version_that_is_served_other_features_is_rolled_back() -> None:
    """Verify the decision, that it says which input differs, and that the journal's evidence gives it again."""
    evidence, decision = judged(skewed(100, 90))
    assert (decision.action, decision.check) == ("roll_back", "skew")
    assert "90 of 100" in decision.reason and "most often sales (90)" in decision.reason
    assert evidence_json.from_json(evidence_json.to_json(evidence, {}), {}) == evidence
    # whatever it does not know beside that
    assert judged(skewed(100, 90, "rows are late"))[1].action == "roll_back"


@pytest.mark.parametrize("arm", [skewed(0, why="no bundle of it"), skewed(4000, why="no bundle of it")])
def test_what_is_not_known_of_features_holds_the_release(arm: ArmEvidence) -> None:
    """Verify that too little is inconclusive, with the collector's words, and that other checks are judged."""
    _, decision = judged(arm)
    verdicts = {v.check: v for v in decision.verdicts}
    assert decision.action == "hold"
    assert verdicts["skew"].outcome == "INCONCLUSIVE"
    assert verdicts["skew"].reason == "source predictions: no bundle of it"
    assert "no bundle of it" in decision.reason
    assert verdicts["errors"].outcome == "PASS"
    assert {v.check: v.outcome for v in judged(skewed(4000))[1].verdicts}["skew"] == "PASS"


def test_an_older_collector_says_nothing_of_features() -> None:
    """Verify that nobody waits for it without a word."""
    evidence, decision = judged(skewed(0))
    assert "no older than the operator" in evidence.arms["13"].silent["featureSkew"]
    assert decision.action == "hold"


def test_fewer_vectors_than_before_are_lost_and_fewer_that_differ_are_not() -> None:
    """Verify that what was compared stands and a person is told where it becomes less; that a collector which says why
    it compares none holds the release without an alarm; and that corrected offline rows count."""
    lost, decision = judged(skewed(100, 1), skewed(60))
    assert (lost.arms["13"].skew_checked, lost.arms["13"].skew_mismatched) == (100, 1)
    assert "60 vectors of version 13, and 100 before" in lost.faults["featureSkew"]
    assert decision.action == "hold" and decision.alert is not None
    assert {v.check: v.outcome for v in decision.verdicts}["errors"] == "PASS"
    quiet, decision = judged(skewed(100, 1), skewed(0, why="rows are being made"))
    assert (quiet.arms["13"].skew_checked, quiet.faults) == (100, {})
    assert (decision.action, decision.alert) == ("hold", None)
    corrected, _ = judged(skewed(100, 1), skewed(100))
    assert (corrected.arms["13"].skew_mismatched, corrected.faults) == (0, {})
    back, _ = judged(skewed(100, 1), skewed(60), skewed(120, 1))
    assert (back.arms["13"].skew_checked, back.faults) == (120, {})
    away, _ = judged(skewed(100, 1), SilentError("it is away"))
    assert (away.arms["13"].skew_checked, away.silent["predictions"]) == (100, "it is away")


def test_who_needs_the_collector() -> None:
    """Verify that an experiment and a reward do, and that errors alone ask nobody else."""
    counted = {
        "kind": "Release",
        "metadata": {"name": "flights-13"},
        "spec": {"model": "flights", "candidate": "13", "champion": "12", "backend": "gateway",
                 "strategy": CANARY, "checks": [ERRORS]},
    }  # fmt: skip
    assert collected.is_needed(live(**EXPERIMENT).release)
    assert collected.is_needed(live(**CANARY).release)
    assert not collected.is_needed(spec.parse(counted))
