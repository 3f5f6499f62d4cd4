"""What a release waits for, for how long, and what must not end it: outages, plans, counts that cannot be true."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.release import spec, state
from serving.release.engine import next_step, obey
from serving.release.evidence import ArmEvidence, Evidence, Smoke
from serving.release.journal import evidence_json
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.moments import Moments

START = datetime(2026, 3, 1, tzinfo=UTC)
BOUNDED = {"name": "errors", "kind": "guardrail", "metric": "errorRate", "source": "envoy", "bound": 2}
RELATIVE = {**BOUNDED, "relativeToChampion": True}
SKEW = {"name": "skew", "kind": "guardrail", "metric": "featureSkew", "source": "predictions", "bound": 2}
REWARD = {"name": "bought", "kind": "decision", "metric": "reward", "source": "feedback"}


def at(hours):
    return START + timedelta(hours=hours)


class Told:
    """A release that is looked at; what it decided last."""

    def __init__(self, strategy, checks, candidates=("13",), **more):
        several = strategy["type"] in ("experiment", "bandit")
        del_bound = [
            {k: v for k, v in c.items() if k != "bound" or not c.get("relativeToChampion")} for c in checks
        ]
        release = spec.parse(
            {
                "kind": "Release",
                "metadata": {"name": "r"},
                "spec": {
                    "model": "flights",
                    **({"candidates": list(candidates)} if several else {"candidate": candidates[0]}),
                    "champion": "12",
                    "strategy": strategy,
                    "checks": del_bound,
                    **more,
                },
            }
        )
        self.state = next_step(state.initial(release, "12"), Evidence(START), START).state

    def look(self, hours, arms, **more):
        decision = next_step(self.state, Evidence(at(hours), arms, **more), at(hours))
        self.state = decision.state
        return decision


def arm(n, errors=0, bought=None, **more):
    outcomes = {} if bought is None else {"bought": Moments(n, bought, bought)}
    return ArmEvidence(n, errors, outcomes=outcomes, **more)


CANARY = {
    "type": "canary",
    "steps": [{"weight": 10, "minSamples": 1000}, {"weight": 50, "minSamples": 100_000}],
}


def test_an_outage_in_a_later_step_is_not_judged_by_the_champions_good_past():
    """Verify an absolute bound while both versions fail, and after they have recovered."""
    told = Told(CANARY, [BOUNDED])
    told.look(1, {"12": arm(90), "13": arm(10)})
    assert told.look(100, {"12": arm(18_000, 18), "13": arm(2000, 2)}).action == "advance"
    told.look(100.1, {"12": arm(18_050, 18), "13": arm(2050, 2)})
    n, bad = 0, 0
    for k in range(1, 60):
        n, bad = 20 * k, 10 * k
        decision = told.look(100.1 + k / 60, {"12": arm(18_050 + n, 18 + bad), "13": arm(2050 + n, 2 + bad)})
        assert decision.action == "hold", decision.reason
    for k in range(1, 60):
        m = n + 20 * k
        decision = told.look(102 + k / 60, {"12": arm(18_050 + m, 18 + bad), "13": arm(2050 + m, 2 + bad)})
        assert decision.action == "hold", decision.reason
    # its own fault afterwards is still its own
    decision = told.look(
        104, {"12": arm(18_050 + m + 300, 18 + bad), "13": arm(2050 + m + 300, 2 + bad + 200)}
    )
    assert (decision.action, decision.check) == ("roll_back", "errors")
    # and judged without what was answered while both failed
    assert next(v.n for v in decision.verdicts if v.check == "errors") == 2050 + m + 300 - n


def test_a_candidate_that_is_far_worse_is_stopped_during_an_outage_too():
    told = Told(CANARY, [BOUNDED])
    told.look(1, {"12": arm(900), "13": arm(100)})
    decision = told.look(2, {"12": arm(1800, 200), "13": arm(200, 100)})
    assert (decision.action, decision.check) == ("roll_back", "errors")


EXPERIMENT = {
    "type": "experiment",
    "unit": {"header": "x-user"},
    "allocation": {"12": 50, "13": 50},
    "maxDuration": "14d",
}


@pytest.mark.parametrize(
    ("strategy", "checks", "arms", "hours"),
    [
        pytest.param(
            EXPERIMENT,
            [RELATIVE, REWARD],
            {"12": arm(15_000, bought=1500), "13": arm(15_000, bought=1500)},
            72,
            id="experiment",
        ),
        pytest.param(
            {"type": "canary", "steps": [{"weight": 50, "minSamples": 10, "minDuration": "2d"}]},
            [BOUNDED],
            {"12": arm(500), "13": arm(500)},
            25,
            id="minDuration",
        ),
    ],
)
def test_a_planned_wait_is_no_lack_of_progress(strategy, checks, arms, hours):
    """Verify that neither time in the plan nor one bad look ends what is on its way."""
    told = Told(strategy, checks, inconclusiveAfter="24h", whenInconclusive="abort")
    told.look(0.01, {version: arm(0, bought=0) for version in arms})
    told.look(1, arms)
    assert told.look(hours, arms).action == "hold"
    nonsense = told.look(hours + 0.1, arms, faults={"errorRate": "NaN once"})
    assert (nonsense.action, nonsense.alert is not None) == ("hold", True)
    # for as long as it is stated, and then it is
    assert told.look(hours + 20, arms, faults={"errorRate": "NaN again"}).action == "hold"
    assert told.look(hours + 24.2, arms, faults={"errorRate": "NaN still"}).action == "abort"


def test_warm_time_is_part_of_the_plan():
    told = Told(
        {"type": "blueGreen", "keepWarm": "2d", "smoke": [{"body": {}}]},
        [BOUNDED],
        inconclusiveAfter="24h",
        whenInconclusive="abort",
    )
    assert told.look(1, {"12": arm(100), "13": arm(0)}, smoke=Smoke(1)).action == "advance"
    assert told.look(2, {"12": arm(100), "13": arm(2000)}, smoke=Smoke(1)).action == "hold"
    assert told.look(30, {"12": arm(100), "13": arm(20_000)}, smoke=Smoke(1)).action == "hold"
    assert told.look(49.1, {"12": arm(100), "13": arm(40_000)}, smoke=Smoke(1)).action == "promote"


def test_a_pause_does_not_count_as_silence():
    told = Told(CANARY, [BOUNDED], inconclusiveAfter="2h", whenInconclusive="abort")
    told.look(1, {"12": arm(90), "13": arm(10)}, silent={"envoy": "down"})
    told.state = obey(told.state, "pause", at(1.5)).state
    told.state = obey(told.state, "resume", at(50)).state
    assert told.look(50.1, {"12": arm(90), "13": arm(10)}, silent={"envoy": "down"}).action == "hold"


def test_events_that_go_backwards_are_no_evidence():
    told = Told({"type": "canary", "steps": [{"weight": 50, "minSamples": 10_000}]}, [RELATIVE])
    for k in range(1, 20):
        told.look(k, {"12": arm(100 * k, 3 * k), "13": arm(100 * k, 3 * k)})
    decision = told.look(20, {"12": arm(2000, 0), "13": arm(2000, 57)})
    assert (decision.action, decision.check) == ("hold", "errors")
    assert "backwards" in decision.reason


def test_requests_that_go_backwards_blind_only_who_counts_them():
    told = Told(CANARY, [BOUNDED, SKEW])
    told.look(1, {"12": arm(90), "13": arm(10, skew_checked=10)})
    decision = told.look(2, {"12": arm(5), "13": arm(1, skew_checked=200, skew_mismatched=180)})
    assert (decision.action, decision.check) == ("roll_back", "skew")


BANDIT = {"type": "bandit", "floor": 5, "update": "1m", "maxDuration": "1h"}


def test_a_bandit_does_not_end_on_a_champion_that_is_out():
    told = Told(BANDIT, [RELATIVE, REWARD], ("13", "14"), inconclusiveAfter="30m", whenInconclusive="abort")
    arms = {"12": arm(200, 100, 10), "13": arm(200, 0, 10), "14": arm(200, 0, 10)}
    assert told.look(0.1, arms).action == "drop"
    later = {"12": arm(200, 100, 10), "13": arm(2000, 0, 100), "14": arm(2000, 0, 100)}
    decisions = [told.look(0.1 + k / 10, later) for k in range(1, 20)]
    assert all("12" not in decision.weights for decision in decisions)
    assert told.state.live
    alerts = [decision.alert for decision in decisions if decision.alert]
    assert any("promote a version or abort" in alert for alert in alerts)
    assert len(alerts) == len(set(alerts))


def test_a_bandit_without_floors_survives_the_end_of_its_champion():
    told = Told({**BANDIT, "floor": 0}, [BOUNDED, REWARD])
    told.look(0.1, {"12": arm(5000, 0, 4000), "13": arm(5000, 0, 3900)})
    decision = told.look(0.2, {"12": arm(9000, 4000, 7000), "13": arm(5000, 0, 3900)})
    assert decision.action in ("drop", "roll_back")
    assert sum(decision.weights.values()) == 100


def test_what_was_better_once_and_is_worse_now_is_not_promoted():
    told = Told({**EXPERIMENT, "minDuration": "7d"}, [RELATIVE, REWARD])
    told.look(0.1, {"12": arm(0, bought=0), "13": arm(0, bought=0)})
    good = told.look(24, {"12": arm(10_000, bought=500), "13": arm(10_000, bought=900)})
    assert next(v for v in good.verdicts if v.check == "bought").outcome == "PASS"
    worse = told.look(24 * 8, {"12": arm(100_000, bought=5000), "13": arm(100_000, bought=3300)})
    assert worse.action == "hold"
    assert "now is worse" in worse.reason


def test_a_suspicion_holds_until_it_is_a_verdict_or_fades():
    """Verify that enough samples alone promote nobody while a guardrail is half of the way to a stop."""
    once = {"type": "canary", "steps": [{"weight": 50, "minSamples": 40}]}
    told = Told(once, [{**BOUNDED, "bound": 10}])
    told.look(1, {"12": arm(20), "13": arm(20, 2)})
    suspected = told.look(2, {"12": arm(45), "13": arm(45, 12)})
    assert (suspected.action, suspected.check) == ("hold", "errors")
    assert "suspected" in suspected.reason
    faded = told.look(3, {"12": arm(245), "13": arm(245, 14)})
    assert faded.action == "promote"


TAIL = {
    "name": "p99",
    "kind": "guardrail",
    "metric": "latencyP99",
    "source": "envoy",
    "relativeToChampion": True,
}


@pytest.mark.parametrize(
    ("measured", "missing"),
    [pytest.param("12", "the candidate", id="candidate"), pytest.param("13", "the champion", id="champion")],
)
def test_a_version_without_latencies_is_named(measured, missing):
    told = Told({"type": "canary", "steps": [{"weight": 50, "minSamples": 10}]}, [TAIL])
    quick = Histogram.of((4.0,) * 60)
    arms = {v: arm(60, latencies=quick if v == measured else None) for v in ("12", "13")}
    decision = told.look(1, arms)
    assert decision.action == "hold"
    assert f"no latencies of {missing}" in next(v.reason for v in decision.verdicts if v.check == "p99")


def test_a_winner_that_waits_for_the_stated_time_is_no_lack_of_progress():
    told = Told({**EXPERIMENT, "minDuration": "7d"}, [RELATIVE, REWARD], inconclusiveAfter="24h")
    told.look(0.1, {"12": arm(0, bought=0), "13": arm(0, bought=0)})
    won = {"12": arm(10_000, bought=500), "13": arm(10_000, bought=900)}
    decisions = [told.look(24 * day, won) for day in range(1, 7)]
    assert [decision.alert for decision in decisions] == [None] * 6
    assert told.look(24 * 7, won).action == "promote"


STAYS = {"type": "canary", "steps": [{"weight": 50, "minSamples": 100_000}]}


def compared(checked, mismatched, **more):
    return arm(100, skew_checked=checked, skew_mismatched=mismatched, **more)


def test_an_online_store_that_is_stale_for_all_versions_is_no_candidates_fault():
    """Verify that a release holds, and a person is told, where the champion's vectors differ as much; and that a
    candidate whose vectors differ far more goes back all the same."""
    told = Told(STAYS, [SKEW])
    for k in range(1, 10):
        decision = told.look(k, {"12": compared(50 * k, 10 * k), "13": compared(50 * k, 10 * k)})
        assert decision.action == "hold"
    assert "both versions fail it alike" in decision.reason
    told = Told(STAYS, [SKEW])
    decision = told.look(1, {"12": compared(100, 10), "13": compared(100, 80, skew_by_input={"sales": 80})})
    assert (decision.action, decision.check) == ("roll_back", "skew")
    assert "most often sales (80)" in decision.reason
    told = Told(STAYS, [SKEW])
    assert told.look(1, {"12": compared(100, 0), "13": compared(100, 20)}).action == "roll_back"


def test_a_bandits_versions_are_not_taken_out_for_a_store_that_is_stale():
    told = Told(BANDIT, [SKEW, REWARD], ("13", "14"))
    for k in range(1, 6):
        arms = {v: compared(50 * k, 10 * k, bought=20 * k) for v in ("12", "13", "14")}
        assert told.look(k / 100, arms).action == "hold"
    arms = {v: compared(500, 100, bought=100) for v in ("13", "14")} | {"12": compared(500, 300, bought=100)}
    decision = told.look(0.1, arms)
    assert decision.action == "drop" and "12" not in decision.weights


def test_offline_rows_that_are_corrected_are_evidence():
    """Verify that fewer vectors that differ are no fault, and are bet on anew."""
    told = Told(STAYS, [SKEW])
    told.look(1, {"12": compared(100, 10), "13": compared(100, 10)})
    decision = told.look(2, {"12": compared(120, 0), "13": compared(120, 0)})
    verdict = next(v for v in decision.verdicts if v.check == "skew")
    assert verdict.outcome == "INCONCLUSIVE" and " 0 of 120 " in verdict.reason
    decision = told.look(3, {"12": compared(140, 0), "13": compared(220, 90)})
    assert (decision.action, decision.check) == ("roll_back", "skew")


def test_what_is_not_known_of_a_version_holds_that_one_alone():
    """Verify that a metric of which too little is known is inconclusive with its reason, that the others of its source
    are judged, and that a failure counts whatever else is not known."""
    told = Told(CANARY, [SKEW, {**BOUNDED, "source": "prometheus"}])
    unknown = {"featureSkew": "no bundle of it"}
    decision = told.look(1, {"12": compared(900, 0), "13": arm(900, skew_checked=900, silent=unknown)})
    assert decision.action == "hold" and decision.alert is None
    verdicts = {v.check: v for v in decision.verdicts}
    assert (verdicts["skew"].outcome, verdicts["skew"].reason) == (
        "INCONCLUSIVE",
        "source predictions: no bundle of it",
    )
    assert verdicts["errors"].outcome == "PASS"
    late = {"12": compared(900, 0), "13": compared(900, 800, silent=unknown)}
    assert told.look(2, late).action == "roll_back"


def test_an_experiment_whose_winner_is_not_known_well_enough_has_not_ended():
    """Verify that the planned end waits for the features of a version that was shown to be better."""
    told = Told(EXPERIMENT, [SKEW, REWARD])
    told.look(0.1, {"12": arm(0, bought=0), "13": arm(0, bought=0)})
    unknown = {"featureSkew": "rows are late"}
    arms = {
        "12": compared(900, 0, bought=500),
        "13": compared(900, 0, bought=900, silent=unknown),
    }
    for version in arms:
        arms[version] = replace(
            arms[version], outcomes=arm(10_000, bought=500 + 400 * (version == "13")).outcomes
        )
    decision = told.look(24 * 60, arms)
    assert decision.action == "hold"
    assert decision.alert == "the planned time is over and skew cannot be judged"
    assert "rows are late" in decision.reason


DOWN = "none of its servers has answered for 120 s"


def test_a_candidate_that_is_down_is_taken_back_however_little_was_counted():
    """Verify that a source which says nothing of it keeps nobody from that, that the journal has it, and that where the
    champion is down too a person is told and nothing moves."""
    told = Told({"type": "canary", "steps": [{"weight": 10}, {"weight": 50}]}, [BOUNDED])
    assert told.look(1, {"12": arm(900), "13": arm(100)}).action != "roll_back"
    before = told.state
    arms = {"12": arm(900, down=DOWN), "13": arm(100, down=DOWN)}
    held = next_step(before, Evidence(at(1.1), arms), at(1.1))
    assert (held.action, held.check) == ("hold", "servers") and held.alert is not None
    arms["12"] = arm(900)
    decision = told.look(1.1, arms, silent={"envoy": "late"})
    assert (decision.action, decision.check) == ("roll_back", "servers") and DOWN in decision.reason
    assert told.state.weights == {"12": 100}
    plain = evidence_json.to_json(decision.evidence, {})
    again = next_step(before, evidence_json.from_json(plain, {}), decision.at)
    assert again == decision


def test_of_several_candidates_the_one_that_is_down_goes():
    """Verify that the others stay, and that one without traffic is not judged by its servers."""
    bandit = {"type": "bandit", "policy": "thompson", "maxDuration": "7d", "update": "1h"}
    told = Told(bandit, [BOUNDED, REWARD], candidates=("13", "14"))
    arms = {version: arm(500, bought=100) for version in ("12", "13", "14")}
    decision = told.look(1, {**arms, "14": arm(500, bought=100, down=DOWN)})
    assert (decision.action, decision.check) == ("drop", "servers")
    assert "14" not in told.state.candidates and "13" in told.state.candidates
    shadow = Told(
        {"type": "shadow", "percent": 50, "minSamples": 1000}, [{**BOUNDED, "source": "predictions"}]
    )
    assert shadow.look(1, {"12": arm(500), "13": arm(500, down=DOWN)}).action == "hold"
