"""One look after another: verdicts that stay, data that does not count, both sides, and arrays beside numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from serving.release.statistics import comparison, means, proportions
from serving.release.statistics.design import START, Design
from serving.release.statistics.moments import Moments

BINARY = Design("binary", "increase", 0.05, 0.3)
MEAN = Design("continuous", "increase", 0.05, 0.3)


def counts(n: int, events: float) -> Moments:
    return proportions.moments(n, events)


def run(design: Design, rates: tuple[float, float], rng, looks: int = 200, per_look: int = 50):
    """The evidence after looks until a verdict."""
    evidence, arms = START, [Moments(), Moments()]
    for _ in range(looks):
        for place, rate in enumerate(rates):
            new = rng.binomial(per_look, rate)
            arms[place] = arms[place] + counts(per_look, float(new))
        evidence = comparison.add(design, evidence, *arms)
        if evidence.decided != "none":
            break
    return evidence


@pytest.mark.parametrize(
    ("design", "rates", "expected"),
    [
        pytest.param(BINARY, (0.15, 0.10), "better", id="more-of-a-good-thing"),
        pytest.param(BINARY, (0.07, 0.10), "worse", id="less-of-a-good-thing"),
        pytest.param(replace(BINARY, direction="decrease"), (0.07, 0.10), "better", id="less-of-a-bad-thing"),
        pytest.param(replace(BINARY, direction="decrease"), (0.15, 0.10), "worse", id="more-of-a-bad-thing"),
        pytest.param(
            replace(BINARY, minimum_detectable_effect=None, margin=0.3), (0.2, 0.2), "better", id="within-a-margin"
        ),
        pytest.param(
            replace(BINARY, minimum_detectable_effect=None, margin=0.1), (0.1, 0.2), "worse", id="outside-a-margin"
        ),
        pytest.param(replace(MEAN, min_samples=50), (0.3, 0.2), "better", id="asymptotic"),
    ],
)  # fmt: skip
def test_a_real_difference_is_called_by_its_side(design, rates, expected):
    evidence = run(design, rates, np.random.default_rng(1))
    found = comparison.result(design, evidence)
    assert (evidence.decided, found.decided) == (expected, expected)
    needed = math.log(2 / design.alpha)
    assert (found.log_better >= needed, found.log_worse >= needed) == (
        expected == "better",
        expected == "worse",
    )
    upward = (expected == "better") == (design.direction == "increase")
    assert found.lower >= design.null if upward else found.upper <= design.null


def test_without_a_difference_few_comparisons_err():
    """Verify 5 % over 40 looks of 100 comparisons; the benchmark has 1,000 looks of 2,000."""
    rng = np.random.default_rng(2)
    wrong = sum(run(BINARY, (0.2, 0.2), rng, looks=40).decided != "none" for _ in range(100))
    assert wrong <= 5


def test_the_result_of_a_look_is_what_was_counted():
    evidence = comparison.add(BINARY, START, counts(400, 60), counts(500, 50))
    found = comparison.result(BINARY, evidence)
    assert (found.n_candidate, found.n_champion) == (400, 500)
    assert found.estimate == pytest.approx(0.5)
    assert found.difference == pytest.approx(0.05)
    assert found.lower < 0.5 < found.upper


@pytest.mark.parametrize(
    ("events", "inside"),
    [
        pytest.param((60, 300), (-0.9, -0.5), id="far-below"),
        pytest.param((300, 60), (1.5, 8.0), id="far-above"),
        pytest.param((100, 100), (-0.5, 0.7), id="alike"),
    ],
)
def test_the_bounds_are_near_the_estimate_and_not_only_on_its_side(events, inside):
    found = comparison.result(
        BINARY, comparison.add(BINARY, START, *(counts(1000, count) for count in events))
    )
    assert inside[0] < found.lower < found.estimate < found.upper < inside[1]


def test_a_verdict_stays():
    """Verify that a verdict survives data that would not have given it: it was reached, and nothing flaps."""
    decided = run(BINARY, (0.2, 0.1), np.random.default_rng(3))
    assert decided.decided == "better"
    later = comparison.add(
        BINARY, decided, decided.candidate + counts(5000, 400), decided.champion + counts(5000, 600)
    )
    assert later.decided == "better"
    assert later.log_better < decided.log_better


@pytest.mark.parametrize("design", [pytest.param(BINARY, id="exact"), pytest.param(MEAN, id="asymptotic")])
def test_below_the_minimum_nothing_is_decided(design):
    """Verify that a landslide waits, and is then called."""
    design = replace(design, min_samples=200)
    early = comparison.add(design, START, counts(150, 120), counts(150, 10))
    assert early.decided == "none"
    assert comparison.result(design, early).lower is None
    assert comparison.add(design, early, counts(200, 160), counts(200, 13)).decided == "better"


@pytest.mark.parametrize("design", [pytest.param(BINARY, id="exact"), pytest.param(MEAN, id="asymptotic")])
def test_the_same_moments_again_change_nothing(design):
    """Verify that a look without news is no evidence."""
    once = comparison.add(design, START, counts(300, 40), counts(300, 30))
    assert comparison.add(design, once, counts(300, 40), counts(300, 30)) == once


def test_what_one_arm_alone_answered_waits_for_the_other():
    """Verify that a silent candidate loses nothing of the champion's requests, and nothing is judged meanwhile."""
    once = comparison.add(BINARY, START, counts(200, 30), counts(200, 20))
    silent = comparison.add(BINARY, once, counts(200, 30), counts(900, 95))
    assert silent == once
    both = comparison.add(BINARY, silent, counts(250, 40), counts(950, 100))
    assert both == comparison.add(BINARY, once, counts(250, 40), counts(950, 100))


@pytest.mark.parametrize("kind", ["binary", "continuous", "ratio"])
def test_nothing_yet_is_no_result(kind):
    design = Design(kind, "increase", 0.05, 0.1)
    found = comparison.result(design, comparison.add(design, START, Moments(), Moments()))
    assert (found.estimate, found.lower, found.upper, found.difference) == (None,) * 4
    assert (found.log_better, found.log_worse, found.decided) == (0.0, 0.0, "none")


@pytest.mark.parametrize(
    ("design", "candidate", "said"),
    [
        pytest.param(BINARY, counts(99, 5), "candidate has 99 observations after 100", id="restarted"),
        pytest.param(BINARY, counts(120, 121), "121 events among 120", id="more-events-than-requests"),
        pytest.param(
            BINARY,
            counts(120, 30),
            "30 events among 120 observations .before: 5 among 100",
            id="too-many-new",
        ),
        pytest.param(BINARY, counts(120, 4), "4 events among 120 observations .before: 5", id="events-gone"),
        pytest.param(MEAN, Moments(120, math.nan, 5.0), "not finite", id="missing-sum"),
        pytest.param(MEAN, Moments(120, 5.0, math.inf), "not finite", id="infinite-sum"),
    ],
)
def test_a_source_that_answers_nonsense_does_not_count(design, candidate, said):
    before = comparison.add(design, START, counts(100, 5), counts(100, 5))
    with pytest.raises(ValueError, match=said):
        comparison.add(design, before, candidate, counts(120, 6))


def test_a_ratio_without_denominators_holds():
    """Verify that users without a single view give no verdict and no division by zero."""
    design = Design("ratio", "increase", 0.05, 0.1)
    evidence = comparison.add(design, START, Moments(500), Moments(500, 10.0, 10.0, 700.0, 1500.0, 20.0))
    found = comparison.result(design, evidence)
    assert (found.estimate, found.decided) == (None, "none")


def test_the_two_sides_mirror_each_other():
    """Verify that swapping the arms of a continuous metric swaps the sides."""
    a, b = Moments.of([1.0, 2.0, 4.0] * 60), Moments.of([1.0, 2.0, 3.0] * 60)
    one, other = (comparison.add(MEAN, START, *arms) for arms in ((a, b), (b, a)))
    assert (one.log_better, one.log_worse) == pytest.approx((other.log_worse, other.log_better))


def test_simulations_on_arrays_are_what_releases_do_one_by_one():
    """Verify the exact and the asymptotic path against `add`, look by look: the benchmark runs the shipped formulas."""
    rng = np.random.default_rng(4)
    events = rng.binomial(40, 0.15, (2, 6, 3)).astype(float)
    arms = [[Moments(n=np.full(3, 40.0), y=look, yy=look) for look in arm] for arm in events]
    wealth, past = proportions.start(BINARY, (3,)), (Moments(n=np.zeros(3)), Moments(n=np.zeros(3)))
    alone = [START] * 3
    for candidate, champion in zip(*arms, strict=True):
        wealth = proportions.add(BINARY, wealth, 1, past, (candidate, champion))
        past = (past[0] + candidate, past[1] + champion)
        for row in range(3):
            sums = [counts(int(arm.n[row]), float(arm.y[row])) for arm in past]
            alone[row] = comparison.add(BINARY, alone[row], *sums)
            asymptotic = comparison.add(MEAN, START, *sums).log_better
            if past[0].n[row] >= MEAN.min_samples:
                together, _ = means.log_evidence(MEAN, means.contrast(MEAN, *past))
                assert together[row] == pytest.approx(asymptotic)
        assert proportions.log_evidence(BINARY, wealth) == pytest.approx([one.log_better for one in alone])


def test_a_ratio_of_small_denominators_has_an_estimate():
    """Verify that a denominator is in the workload's unit, whatever its size."""
    design = Design("ratio", "increase", 0.05, 0.1)
    ours, theirs = (
        Moments.of([0.02, 0.03, 0.01], [0.1, 0.2, 0.1]),
        Moments.of([0.01, 0.02, 0.01], [0.1, 0.2, 0.1]),
    )
    found = comparison.result(design, comparison.add(design, START, ours, theirs))
    assert found.estimate == pytest.approx(0.5)
