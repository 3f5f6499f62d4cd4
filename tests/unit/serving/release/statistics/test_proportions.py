"""Exact bets on two rates: the expectation by enumeration, the growth beside the best one, the first look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from serving.release.statistics import proportions
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments

NOTHING = (Moments(), Moments())


def design(direction: str = "increase", effect: float | None = 0.2, margin: float | None = None) -> Design:
    return Design("binary", direction, 0.05, effect, margin)


def expectation(
    plan: Design, side: int, past, sizes: tuple[int, int], rates: tuple[float, float]
) -> np.ndarray:
    """Of each bet's factor over a look, by going through all outcomes."""
    n, m = sizes
    a, b = np.meshgrid(np.arange(n + 1.0), np.arange(m + 1.0), indexing="ij")
    new = (Moments(n=np.full_like(a, n), y=a), Moments(n=np.full_like(b, m), y=b))
    held = tuple(Moments(n=np.full_like(a, arm.n), y=np.full_like(a, arm.y)) for arm in past)
    wealth = proportions.add(plan, proportions.start(plan, a.shape), side, held, new)
    chance = np.outer(stats.binom(n, rates[0]).pmf(range(n + 1)), stats.binom(m, rates[1]).pmf(range(m + 1)))
    return (np.exp(wealth) * chance).sum(axis=(1, 2))


PASTS = [
    pytest.param(NOTHING, id="first-look"),
    pytest.param((proportions.moments(50, 3), proportions.moments(50, 2)), id="known-rate"),
    # whatever was learnt, only growth depends on it
    pytest.param((proportions.moments(40, 39), proportions.moments(10, 9)), id="wrongly-known"),
]


@pytest.mark.parametrize("past", PASTS)
@pytest.mark.parametrize(
    ("plan", "sizes"),
    [
        pytest.param(design(), (12, 12), id="equal-arms"),
        pytest.param(design(effect=4.0), (3, 27), id="few-candidates-large-effect"),
        pytest.param(design("decrease", 0.5), (27, 3), id="few-champions"),
        pytest.param(design(effect=None), (10, 10), id="no-plan"),
        pytest.param(design(effect=None, margin=0.3), (6, 20), id="margin"),
        pytest.param(design("decrease", 0.2, 0.5), (15, 5), id="margin-of-a-cost"),
    ],
)
def test_no_bet_gains_where_its_claim_is_false(plan, sizes, past):
    """Verify E <= 1 at and beyond the lift under test, at every rate: the guarantee itself."""
    k = 1 + plan.null
    for rate in (0.001, 0.05, 0.3, 0.6):
        for side in (1, -1):
            upward = side * plan.sign > 0
            for factor in (1.0, 0.5) if upward else (1.0, 1.3):
                if k * rate * factor > 1:
                    continue
                found = expectation(plan, side, past, sizes, (k * rate * factor, rate))
                assert found.max() <= 1 + 1e-12


def test_the_growth_is_that_of_the_best_e_value():
    """Verify the expected log growth of the bet on the truth beside Turner, Ly and Gruenwald's, told both rates."""
    plan = design(effect=0.5)
    champion, candidate = 0.05, 0.075
    past = (proportions.moments(100_000, 7500), proportions.moments(100_000, 5000))
    new = (proportions.moments(1000, 75), proportions.moments(1000, 50))
    grown = proportions.add(plan, proportions.start(plan), 1, past, new)[plan.mixture.multiples.index(1.0)]
    middle = (champion + candidate) / 2
    best = 1000 * sum(
        rate * math.log(rate / middle) + (1 - rate) * math.log((1 - rate) / (1 - middle))
        for rate in (champion, candidate)
    )
    assert 0.98 * best <= grown <= best


def test_a_first_look_is_not_wasted():
    """Verify that a single large look at an unknown rate shows most of what it would if the rate were known."""
    plan = design()
    new = (proportions.moments(20_000, 1200), proportions.moments(20_000, 1000))
    past = (proportions.moments(10**6, 60_000), proportions.moments(10**6, 50_000))
    told = proportions.add(plan, proportions.start(plan), 1, past, new)
    untold = proportions.add(plan, proportions.start(plan), 1, NOTHING, new)
    known, unknown = (float(proportions.log_evidence(plan, wealth)) for wealth in (told, untold))
    assert known > 6
    assert unknown > known - 0.2


def test_a_first_look_is_the_noncentral_hypergeometric_likelihood():
    """Verify against scipy's law."""
    plan = design(effect=0.5)
    new = (proportions.moments(30, 7), proportions.moments(60, 5))
    found = proportions.add(plan, proportions.start(plan), 1, NOTHING, new)
    for lift, log_ratio in zip(proportions.lifts(plan, 1), found, strict=True):
        champion = 12.5 / (30 * (1 + lift) + 60 + 1)
        candidate = min((1 + lift) * champion, (1 + champion) / 2)
        odds = candidate / (1 - candidate) * (1 - champion) / champion
        laws = [stats.nchypergeom_fisher(90, 30, 12, ratio).logpmf(7) for ratio in (odds, 1.0)]
        assert log_ratio == pytest.approx(laws[0] - laws[1], abs=1e-6)


@pytest.mark.parametrize(
    ("direction", "side", "expected"),
    [
        pytest.param("increase", 1, (0.05, 0.1, 0.2, 0.4, 0.8), id="better-is-more"),
        pytest.param("increase", -1, (-0.05, -0.1, -0.2, -0.4, -0.8), id="worse-is-less"),
        pytest.param("decrease", 1, (-0.05, -0.1, -0.2, -0.4, -0.8), id="better-is-less"),
    ],
)
def test_the_lifts_are_multiples_of_the_planned_one(direction, side, expected):
    assert proportions.lifts(design(direction), side) == pytest.approx(expected)


def test_no_rate_is_bet_to_leave_its_range():
    """Verify that lifts which a rate cannot have are cut, and the wealth stays finite whatever comes."""
    for plan in (design(effect=4.0), design("decrease", 4.0), design("decrease", 2.0, 3.0)):
        for events in ((50, 0), (0, 50), (50, 50), (0, 0)):
            new = (proportions.moments(50, events[0]), proportions.moments(50, events[1]))
            for past in (NOTHING, (proportions.moments(9, 9), proportions.moments(9, 9))):
                for side in (1, -1):
                    assert np.isfinite(proportions.add(plan, proportions.start(plan), side, past, new)).all()
