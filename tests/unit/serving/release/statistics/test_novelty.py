"""The effect of the first period beside the later ones: what fades, what grows, what is steady, what is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from serving.release.statistics import novelty
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments

DESIGN = Design("continuous", "increase", 0.05, 0.2)


def periods(lifts, rng, size=2000, direction=1):
    """The champion has mean 2 and deviation 1; the candidate's mean is `lift` above in each period."""
    found = []
    for lift in lifts:
        candidate, champion = rng.normal(2 * (1 + direction * lift), 1, size), rng.normal(2, 1, size)
        found.append((Moments.of(candidate.tolist()), Moments.of(champion.tolist())))
    return found


@pytest.mark.parametrize(
    ("lifts", "expected"),
    [
        pytest.param((0.3, 0.05, 0.0, 0.0), "fading", id="fading"),
        pytest.param((-0.1, 0.1, 0.15, 0.15), "growing", id="growing"),
        pytest.param((0.1, 0.1, 0.1, 0.1), "steady", id="steady"),
        pytest.param((0.0, 0.0, 0.0), "steady", id="steadily-nothing"),
        pytest.param((0.3,), "too little data", id="one-period"),
        pytest.param((), "too little data", id="no-period"),
    ],
)
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_the_verdict(lifts, expected, direction):
    """Verify it for a metric that should rise and, mirrored, for one that should fall."""
    design = Design("continuous", direction, 0.05, 0.2)
    told = periods(lifts, np.random.default_rng(1), direction=design.sign)
    found = novelty.check(design, told)
    assert found.verdict == expected
    assert len(found.periods) == len(lifts)
    for period, lift in zip(found.periods, lifts, strict=True):
        assert period.lift == pytest.approx(design.sign * lift, abs=0.06)


def test_the_numbers_are_those_of_the_periods():
    told = periods((0.3, 0.1, 0.0), np.random.default_rng(2))
    found = novelty.check(DESIGN, told)
    assert found.first == found.periods[0].lift
    assert found.later == pytest.approx((found.periods[1].lift + found.periods[2].lift) / 2, abs=0.005)
    assert found.change == pytest.approx(found.later - found.first)
    assert found.lower < found.change < found.upper < 0


def test_the_error_of_a_period_is_that_of_a_quotient_of_means():
    """Verify the delta method by hand, at the smallest size that counts."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(3, 1, 100), rng.normal(2, 2, 100)
    (period,) = novelty.check(DESIGN, [(Moments.of(a.tolist()), Moments.of(b.tolist()))]).periods
    quotient = a.mean() / b.mean()
    expected = np.sqrt(a.var(ddof=1) / 100 + quotient**2 * b.var(ddof=1) / 100) / b.mean()
    assert period.lift == pytest.approx(quotient - 1)
    assert period.error == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "silent"),
    [
        pytest.param("continuous", Moments.of([2.0] * 200), id="never-varies"),
        pytest.param("continuous", Moments.of([0.0] * 200), id="all-zero"),
        pytest.param("ratio", Moments.of([0.0] * 200, [0.0] * 200), id="no-denominators"),
    ],
)
def test_a_period_that_says_nothing_is_left_out(kind, silent):
    """Verify that it neither counts as a change nor divides by zero, first or later."""
    design = Design(kind, "increase", 0.05, 0.2)
    rng = np.random.default_rng(8)
    views = [1.0] * 2000 if kind == "ratio" else None
    told = [tuple(Moments.of(rng.normal(2, 1, 2000).tolist(), views) for _ in range(2)) for _ in range(2)]
    without = novelty.check(design, told)
    found = novelty.check(design, [*told, (silent, silent)])
    assert (found.change, found.verdict) == (without.change, without.verdict)
    assert novelty.check(design, [(silent, silent), *told]).verdict == "too little data"


def test_small_periods_are_not_steady():
    """Verify that too little data is not taken for "no change", nor a period below the minimum for a lift."""
    few = novelty.check(DESIGN, periods((0.1, 0.1), np.random.default_rng(3), size=110))
    assert few.verdict == "too little data"
    assert few.lower < -0.2
    tiny = novelty.check(DESIGN, periods((0.1, 0.1), np.random.default_rng(3), size=40))
    assert [period.lift for period in tiny.periods] == [None, None]
    assert tiny.verdict == "too little data"


def test_a_period_without_observations_is_left_out():
    """Verify that a day on which nothing was served neither fades nor grows anything."""
    told = periods((0.1, 0.1, 0.1), np.random.default_rng(4))
    gap = [told[0], (Moments(), Moments()), *told[1:]]
    with_gap, without = novelty.check(DESIGN, gap), novelty.check(DESIGN, told)
    assert (with_gap.change, with_gap.verdict) == (without.change, without.verdict)


def test_a_steady_effect_is_seldom_called_anything_else_at_any_look():
    """Verify 5 % over looks after each of 20 periods, for 200 releases."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(200):
        means = [rng.normal([2.2, 2.0], 1 / np.sqrt(500)) for _ in range(20)]
        told = [
            tuple(Moments(500, 500 * mean, 499 + 500 * mean**2) for mean in map(float, pair))
            for pair in means
        ]
        verdicts = {novelty.check(DESIGN, told[:end]).verdict for end in range(2, 21, 2)}
        wrong += bool(verdicts & {"fading", "growing"})
    assert wrong <= 10


def test_without_a_stated_effect_half_of_the_first_lift_matters():
    broad = Design("continuous", "increase", 0.05, None)
    told = periods((0.3, 0.3, 0.3, 0.3), np.random.default_rng(6))
    assert novelty.check(broad, told).verdict == "steady"
    told = periods((0.3, 0.05, 0.0), np.random.default_rng(6))
    assert novelty.check(broad, told).verdict == "fading"
