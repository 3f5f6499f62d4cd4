"""What a plan promises, held against the engine's own rules and the books' formulas."""

from __future__ import annotations

import copy
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from release_stories import BANDIT, BLUE_GREEN, CANARY, ERRORS, EXPERIMENT, SHADOW, Arm, Story, document

from serving.release import checks, spec
from serving.release.counts import Counts
from serving.release.people import expectation, past, plan, plan_text
from serving.release.people.past import Baseline, Known

RATE = Known(20.0, "given", {"bookings": Baseline(0.05, None, "given")})


def planned(document, known=RATE):
    return plan.plan(spec.parse(document), None, known)


@pytest.mark.parametrize(
    ("document", "weights", "requests"),
    [
        pytest.param(CANARY, [{"12": 90, "13": 10}, {"12": 50, "13": 50}], [3000, 3000], id="canary"),
        pytest.param(BLUE_GREEN, [{"12": 100}, {"13": 100}], [0, 200], id="blue-green"),
        pytest.param(SHADOW, [{"12": 100}], [600], id="shadow"),
        pytest.param(EXPERIMENT, [{"12": 50, "13": 50}], [0], id="experiment"),
        pytest.param(BANDIT, [{"12": 34, "13": 33, "14": 33}], [0], id="bandit"),
    ],
)
def test_steps_say_who_answers_and_how_much_must_be_seen(document, weights, requests):
    """Verify the steps of each strategy."""
    found = planned(document)
    assert [step["weights"] for step in found["steps"]] == weights
    assert [step["requests"] for step in found["steps"]] == requests
    json.dumps(found)
    assert found["strategy"] in plan_text.text(found)


def test_the_plan_of_a_bandit_begins_as_the_bandit_does(tmp_path):
    """Verify that the first weights are the engine's and not a copy of its rule that drifts away."""
    story = Story(tmp_path, BANDIT, {v: Arm() for v in ("12", "13", "14")}).start()
    assert planned(BANDIT)["steps"][0]["weights"] == dict(story.router.now["flights"].weights)


def test_the_fixed_size_is_that_of_the_textbook():
    """Verify 8,155 an arm: 5 % against 6 %, alpha 0.05, power 0.8 (Fleiss et al. 2003, equation 4.14, by hand)."""
    size = planned(EXPERIMENT)["sample_size"]
    z = 1.959964 + 0.841621
    by_hand = z * z * (0.05 * 0.95 + 0.06 * 0.94) / 0.01**2
    assert size["fixed"]["per_arm"] == pytest.approx({"12": by_hand, "13": by_hand}, abs=1)
    assert size["total"] == size["per_arm"]["12"] + size["per_arm"]["13"]


def test_the_duration_follows_from_the_traffic():
    """Verify that half the traffic takes twice the time, down to the stated minimum."""
    document = copy.deepcopy(EXPERIMENT)
    document["spec"]["strategy"]["minDuration"] = "1m"
    slow = planned(document, Known(2.0, "given", RATE.baselines))
    fast = planned(document, Known(4.0, "given", RATE.baselines))
    assert slow["expected_duration"]["seconds"] == pytest.approx(slow["sample_size"]["total"] / 2, rel=0.01)
    assert fast["expected_duration"]["seconds"] == pytest.approx(
        slow["expected_duration"]["seconds"] / 2, rel=0.01
    )
    kept = planned(EXPERIMENT)["expected_duration"]["seconds"]
    assert kept == timedelta(days=2).total_seconds()


def test_a_shadow_takes_as_long_as_its_guardrails_need_to_pass():
    """Verify that the few requests of its step do not hide that a guardrail must have passed."""
    document = copy.deepcopy(SHADOW)
    document["spec"]["strategy"]["minSamples"] = 10
    found = planned(document)
    passes = [e["seconds"] for check in found["checks"] for e in check["expected"] if e["outcome"] == "PASS"]
    assert found["expected_duration"]["seconds"] == max(passes) > 10 / 20


@pytest.mark.parametrize(
    ("document", "known", "words"),
    [
        pytest.param(CANARY, Known(), "traffic", id="traffic"),
        pytest.param(EXPERIMENT, Known(20.0, "given"), "baseline of bookings", id="baseline"),
        pytest.param(
            document(
                EXPERIMENT["spec"]["strategy"],
                ERRORS,
                {"name": "b", "kind": "decision", "metric": "reward", "source": "feedback"},
            ),
            RATE,
            "minimumDetectableEffect",
            id="effect",
        ),
    ],
)
def test_what_nobody_knows_is_named_and_not_guessed(document, known, words):
    """Verify that a duration is unknown rather than made up."""
    found = planned(document, known)
    assert any(words in what for what in found["unknown"])
    assert found["expected_duration"]["seconds"] is None
    assert found["expected_duration"]["text"] == "unknown"


def test_a_short_experiment_is_told_its_small_power():
    """Verify that the chance to decide before the end falls with the time."""
    document = copy.deepcopy(EXPERIMENT)
    document["spec"]["strategy"] |= {"minDuration": "1m", "maxDuration": "5m"}
    short = planned(document)["sample_size"]["power_by_end"]
    long = planned(EXPERIMENT)["sample_size"]["power_by_end"]
    assert short < 0.5 < 0.9 <= long


# --- expectations


def test_an_expected_size_is_where_the_rule_decides():
    """Verify that the check fails at the promised size, and not clearly before it."""
    release = spec.parse(SHADOW)
    check = release.check("errors")
    for found in expectation.of_check(check, 1.0, check.alpha, None):
        rate = {"4": 0.04, "20": 0.2, "no": 0.0}[found.effect.split(" ")[0]]
        n = found.observations

        def outcome(n, rate=rate):
            return checks.judge_rate(check, Counts(n, round(rate * n)), check.alpha).outcome

        assert outcome(n) == found.outcome
        assert outcome(int(n * 0.9) - 1) == "INCONCLUSIVE"


def test_a_tenfold_error_rate_is_stopped_about_as_soon_as_a_run_stops_it(tmp_path):
    """Verify the promise for 2 % instead of 0.2 % at 10 % traffic on releases played by the engine."""
    check = spec.parse(CANARY).check("errors")
    expected = list(expectation.of_check(check, 0.1, check.alpha, None))[-1].observations
    seen = []
    for seed in range(9):
        story = Story(
            tmp_path / str(seed),
            document({"type": "canary", "steps": [{"weight": 10, "minSamples": 100000}]}, ERRORS),
            {"12": Arm(), "13": Arm(errors=0.02)},
            every=timedelta(minutes=1),
            seed=seed,
        )
        story.start().play(300)
        seen.append(story.arms["13"].seen)
    assert expected / 2 < sorted(seen)[4] < expected * 2


def test_without_a_spread_pairs_have_no_size():
    """Verify that a paired metric asks for what an earlier release measured."""
    brier = {"name": "brier", "kind": "decision", "metric": "brier", "source": "feedback", "margin": 0.01}
    told = document({"type": "canary", "mirror": True, "steps": [{"weight": 10}]}, ERRORS, brier)
    (unknown,) = expectation.of_check(spec.parse(told).check("brier"), 1.0, 0.05, None)
    assert unknown.observations is None
    found = list(expectation.of_check(spec.parse(told).check("brier"), 1.0, 0.05, Baseline(0.0, 0.05, "x")))
    assert [(e.outcome, e.observations is not None) for e in found] == [("PASS", True), ("FAIL", True)]


# --- what is known


def line(at, code=200):
    return {
        "at": at,
        "cluster": "flights@12",
        "request_id": f"r{at}",
        "code": code,
        "duration_us": 900,
        "upstream_us": 800,
        "flags": "-",
        "event_at": "-",
        "route": "flights",
        "bucket": "-",
        "unit": "-",
    }


def test_the_rate_is_that_of_the_last_minutes(tmp_path):
    """Verify the requests a second and the failures of the newest part of a log, and that old traffic is no rate."""
    log = tmp_path / "access.jsonl"
    now = 10_000.0
    lines = [line(now - 5000 + i) for i in range(900)]
    lines += [line(now - 60 + i / 2, 500 if i % 10 == 0 else 200) for i in range(120)]
    log.write_text("".join(json.dumps(each) + "\n" for each in lines) + '{"torn')
    found = past.measured(log, "flights", now)
    assert found.per_second == pytest.approx(2.0)
    assert found.baselines["errorRate"].mean == pytest.approx(0.1)
    assert past.measured(log, "taxis", now) == Known()
    assert past.measured(log, "flights", now + 5000) == Known()
    assert past.measured(tmp_path / "none", "flights", now) == Known()


def test_an_earlier_release_gives_the_baseline(tmp_path):
    """Verify that the champion's outcomes in the newest journal are the next plan's baseline."""
    story = Story(tmp_path, EXPERIMENT, {"12": Arm(), "13": Arm()}, every=timedelta(hours=2)).start()
    for _ in range(3):
        story.look()
    check = story.release.check("bookings")
    found = past.baseline(tmp_path, "flights", check)
    moments = story.arms["12"].outcomes
    assert found.mean == moments.y / moments.n
    assert found.source == "release flights-13"
    assert past.baseline(tmp_path, "taxis", check) is None


# --- documents that people start from


def examples():
    """YAML examples of the manual that are whole documents."""
    text = (Path(__file__).parents[5] / "docs" / "releases.md").read_text()
    return [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: Release" in block]


ARCHITECTURE = """\
kind: Release
metadata: {name: flights-13}
spec:
  model: flights
  candidate: "13"
  champion: "12"
  backend: local
  strategy:
    type: canary
    steps: [{weight: 10, minSamples: 500, minDuration: 10m}, {weight: 50, minSamples: 2000}]
  checks:
  - {name: errors, kind: guardrail, metric: errorRate, source: envoy, relativeToChampion: true, alpha: 0.01}
  - {name: p99, kind: guardrail, metric: latencyP99, source: envoy, bound: 50ms, alpha: 0.01}
  - {name: late-cost, kind: decision, metric: reward, source: feedback, minimumDetectableEffect: 5}
  onConflict: refuse
  inconclusiveAfter: 24h
  whenInconclusive: hold
"""


def test_there_are_examples():
    """Verify that the manual is read at all."""
    assert examples()


@pytest.mark.parametrize("content", [*examples(), ARCHITECTURE])
def test_every_example_has_a_plan(content):
    """Verify that each check of it says when it decides, as an object and as text."""
    found = plan.plan(spec.loads(content), None, Known(per_second=20))
    assert all(check["expected"] for check in found["checks"] if check["metric"] != "reward")
    assert plan_text.text(found)


@pytest.mark.parametrize("metric", ["latencyP50", "latencyP95", "latencyP99"])
def test_a_latency_check_against_the_champions_own_tail_is_sized(metric):
    """Verify that all answers being slow is found sooner than some, and from how many champions' answers on."""
    check = {
        "name": "slow",
        "kind": "guardrail",
        "metric": metric,
        "source": "envoy",
        "relativeToChampion": True,
    }
    release = spec.parse(document(CANARY["spec"]["strategy"], check))
    some, every = expectation.of_check(release.checks[0], 0.1, 0.01, None)
    assert every.observations is not None and every.observations < 60
    assert some.observations is None or some.observations > every.observations
    assert "the champion's own p99" in some.effect
