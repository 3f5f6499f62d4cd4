"""Verdicts: a row an outcome."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from serving.release import checks, counts, effects
from serving.release.checks import Comparison
from serving.release.counts import ArmCounts, Counts
from serving.release.evidence import Pairs
from serving.release.release import Check
from serving.release.statistics import asymptotic
from serving.release.statistics.design import START
from serving.release.statistics.moments import Moments

RATE = Check("errors", "guardrail", "errorRate", "envoy", bound=0.02)
SLOW = Check("p99", "guardrail", "latencyP99", "envoy", bound=50.0)
RELATIVE = Check("p99", "guardrail", "latencyP99", "envoy", bound=50.0, relative_to_champion=True)
BRIER = Check("brier", "decision", "brier", "feedback", margin=0.01, alpha=0.05, min_samples=100)
SUPERIOR = Check("brier", "decision", "brier", "feedback", alpha=0.05, min_samples=100)


@pytest.mark.parametrize(
    ("check", "n", "events", "outcome"),
    [
        pytest.param(RATE, 0, 0, "INCONCLUSIVE", id="no-data-is-no-pass"),
        pytest.param(RATE, 5, 0, "INCONCLUSIVE", id="too-little-to-say"),
        pytest.param(RATE, 600, 0, "PASS", id="clearly-below"),
        pytest.param(RATE, 600, 12, "INCONCLUSIVE", id="at-the-bound"),
        pytest.param(RATE, 200, 40, "FAIL", id="clearly-above"),
        pytest.param(RATE, 3, 3, "FAIL", id="three-of-three"),
        pytest.param(SLOW, 2, 2, "FAIL", id="p99-two-slow-of-two"),
        pytest.param(SLOW, 2000, 2, "PASS", id="p99-two-slow-of-2000"),
    ],
)
def test_a_rate_against_its_bound(check, n, events, outcome):
    verdict = checks.judge_rate(check, Counts(n, events), check.alpha)
    assert verdict.outcome == outcome
    assert verdict.n == n
    if n:
        assert verdict.lower <= verdict.estimate <= verdict.upper
        assert (verdict.outcome == "FAIL") == (verdict.lower > verdict.bound)
        assert (verdict.outcome == "FAIL") == (verdict.evidence >= 100)


def seen(check, *looks, forgive=False):
    comparison = Comparison()
    for look in looks:
        comparison = checks.compare(check, comparison, look)
    return checks.judge_comparison(check, comparison, looks[-1], check.alpha, forgive_a_spell=forgive)


def both(ours, our_events, theirs, their_events):
    return ArmCounts(Counts(ours, our_events), Counts(theirs, their_events))


@pytest.mark.parametrize(
    ("looks", "outcome"),
    [
        pytest.param([both(0, 0, 0, 0)], "INCONCLUSIVE", id="no-data"),
        pytest.param([both(30, 30, 0, 0)], "INCONCLUSIVE", id="no-champion-to-compare-with"),
        pytest.param([both(0, 0, 30, 0)], "INCONCLUSIVE", id="no-candidate"),
        pytest.param([both(8, 8, 72, 0)], "FAIL", id="only-the-candidate-is-slow"),
        pytest.param([both(8, 8, 72, 72)], "INCONCLUSIVE", id="both-are-slow"),
        pytest.param([both(800, 0, 800, 0)], "PASS", id="neither-is-slow"),
        pytest.param([both(30, 30, 0, 0), both(30, 30, 300, 0)], "FAIL", id="late-champion-data-still-count"),
    ],
)
def test_a_rate_against_the_concurrent_champion(looks, outcome):
    assert seen(RELATIVE, *looks).outcome == outcome


@pytest.mark.parametrize(
    ("check", "values", "outcome"),
    [
        pytest.param(BRIER, (), "INCONCLUSIVE", id="no-pairs"),
        pytest.param(BRIER, (-0.9,) * 99, "INCONCLUSIVE", id="fewer-pairs-than-the-minimum"),
        pytest.param(BRIER, (0.0,) * 700, "PASS", id="equal-is-non-inferior"),
        pytest.param(SUPERIOR, (0.0,) * 700, "INCONCLUSIVE", id="equal-is-not-better"),
        pytest.param(SUPERIOR, (-0.05,) * 400, "PASS", id="better"),
        pytest.param(BRIER, (0.1,) * 400, "FAIL", id="worse-by-more-than-the-margin"),
        pytest.param(BRIER, (0.01,) * 4000, "INCONCLUSIVE", id="exactly-at-the-margin"),
    ],
)
@pytest.mark.parametrize("method", ["betting", "asymptotic"])
def test_a_paired_loss_against_its_margin(check, values, outcome, method):
    from dataclasses import replace

    if method == "asymptotic":
        # a constant series has no variance; real differences have
        values = tuple(v + 0.02 * (-1) ** i for i, v in enumerate(values))
        values = values[: len(values) // 2 * 2] if len(values) != 99 else values
    verdict = checks.judge_pairs(replace(check, method=method), values)
    assert verdict.outcome == outcome
    if verdict.lower is not None:
        assert verdict.lower <= verdict.estimate <= verdict.upper


def test_a_verdict_is_plain_json_even_where_the_evidence_overflows():
    verdict = checks.judge_rate(RATE, Counts(5000, 5000), RATE.alpha)
    assert verdict.outcome == "FAIL"
    assert math.isfinite(verdict.evidence)


def test_the_reason_carries_the_numbers():
    verdict = seen(RELATIVE, both(8, 8, 72, 1))
    assert "8 of 8" in verdict.reason and "1 of 72" in verdict.reason and "50 ms" in verdict.reason


@pytest.mark.parametrize(
    ("looks", "forgive", "outcome"),
    [
        pytest.param([both(8, 8, 72, 0)], False, "FAIL", id="every-event-counts"),
        pytest.param([both(8, 8, 72, 0)], True, "INCONCLUSIVE", id="one-look-may-be-a-stall"),
        pytest.param([both(20, 20, 180, 0)], True, "FAIL", id="more-than-a-stall-explains"),
        pytest.param(
            [both(4, 4, 36, 0), both(8, 8, 72, 0), both(12, 12, 108, 0)],
            True,
            "FAIL",
            id="three-looks-are-no-stall",
        ),
    ],
)
def test_one_stall_of_the_machine_is_forgiven(looks, forgive, outcome):
    assert seen(RELATIVE, *looks, forgive=forgive).outcome == outcome


@pytest.mark.parametrize(
    ("candidate", "champion", "outcome"),
    [
        pytest.param(Counts(200, 40), Counts(1800, 2), "FAIL", id="the-candidate-alone-fails"),
        pytest.param(Counts(200, 40), Counts(1800, 360), "INCONCLUSIVE", id="both-fail-alike"),
        pytest.param(Counts(200, 120), Counts(1800, 360), "FAIL", id="both-fail-and-the-candidate-far-more"),
        pytest.param(Counts(200, 40), Counts(10, 8), "FAIL", id="too-little-of-the-champion-excuses-nothing"),
    ],
)
def test_a_bound_that_both_versions_fail_is_not_the_candidates_fault(candidate, champion, outcome):
    comparison = checks.compare(RATE, Comparison(), ArmCounts(candidate, champion))
    failed = checks.judge_rate(RATE, candidate, RATE.alpha)
    assert failed.outcome == "FAIL"
    assert checks.shared_fault(RATE, failed, champion, comparison).outcome == outcome


@pytest.mark.parametrize(
    ("check", "share"),
    [pytest.param(SUPERIOR, 2, id="two-sides-share-alpha"), pytest.param(BRIER, 1, id="a-margin-has-one")],
)
def test_superiority_spends_half_of_alpha_on_each_side(check, share):
    values = tuple(0.02 * (-1) ** i - 0.001 for i in range(400))
    verdict = checks.judge_pairs(replace(check, method="asymptotic"), values)
    assert (verdict.lower, verdict.upper) == asymptotic.bounds(values, check.alpha / share)


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        pytest.param(checks.unusable(RATE, "NaN"), "ERROR", id="nonsense"),
        pytest.param(checks.silent(RATE, "down"), "INCONCLUSIVE", id="silence"),
    ],
)
def test_what_was_not_seen_counts_nothing(verdict, outcome):
    assert (verdict.outcome, verdict.n, verdict.estimate) == (outcome, 0, None)


REWARD = Check("bought", "decision", "reward", "feedback", alpha=0.05, direction="increase", min_samples=10)


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "said"),
    [
        pytest.param(Moments(), Moments(), "INCONCLUSIVE", "no finished outcomes", id="nothing"),
        pytest.param(
            Moments(50, 5.0, 5.0),
            Moments(50, 0.0, 0.0),
            "INCONCLUSIVE",
            "no finished outcomes",
            id="no-baseline",
        ),
        pytest.param(
            Moments(200, 22.0, 22.0), Moments(200, 20.0, 20.0), "INCONCLUSIVE", "better:", id="leans"
        ),
        pytest.param(
            Moments(200, 18.0, 18.0), Moments(200, 20.0, 20.0), "INCONCLUSIVE", "worse:", id="leans-down"
        ),
        pytest.param(
            Moments(4000, 400.0, 400.0), Moments(4000, 200.0, 200.0), "PASS", "better:", id="better"
        ),
        pytest.param(Moments(4000, 100.0, 100.0), Moments(4000, 200.0, 200.0), "FAIL", "worse:", id="worse"),
    ],
)
def test_a_reward_against_the_champions(ours, theirs, outcome, said):
    _, verdict = effects.judge(REWARD, 1, START, ours, theirs)
    assert (verdict.outcome, verdict.n) == (outcome, min(ours.n, theirs.n))
    assert verdict.reason.startswith(said)


@pytest.mark.parametrize(
    ("pairs", "true"),
    [
        pytest.param(Pairs(3, 1, {0: 1, 1000: 2}), True, id="from-the-same-to-the-opposite"),
        pytest.param(Pairs(3, 4), False, id="more-differ-than-there-are"),
        pytest.param(Pairs(3, 1, {1001: 1}), False, id="farther-than-the-opposite"),
        pytest.param(Pairs(3, 1, {-1: 1}), False, id="nearer-than-the-same"),
        pytest.param(Pairs(-1), False, id="negative"),
    ],
)
def test_counts_of_pairs_that_can_be_true(pairs, true):
    assert (counts.pairs_fault(pairs) is None) is true
