"""Sizes and durations, beside published figures, another package's and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from serving.release.statistics import mixture, planning
from serving.release.statistics.design import Design
from serving.release.statistics.mixture import PLANNED, Mixture
from serving.release.statistics.planning import Traffic

BINARY = Design("binary", "increase", 0.05, 0.10)


@pytest.mark.parametrize(
    ("effect", "alpha", "power", "shares", "expected"),
    [
        # statsmodels 0.15.0: NormalIndPower().solve_power(effect_size, alpha=, power=, ratio=champions per candidate)
        pytest.param(0.1, 0.05, 0.8, (0.5, 0.5), 1569.77, id="tenth-of-a-deviation"),
        pytest.param(0.1, 0.05, 0.9, (0.1, 0.9), 1167.49, id="a-tenth-of-the-traffic"),
        pytest.param(0.25, 0.01, 0.8, (0.5, 0.5), 373.73, id="one-percent"),
    ],
)
def test_the_fixed_size_of_a_mean_is_that_of_statsmodels(effect, alpha, power, shares, expected):
    design = Design("continuous", "increase", alpha, effect / 2)
    found = planning.fixed_size(design, Traffic(2.0, deviation=1.0, shares=shares), power)
    assert found.candidate == math.ceil(expected)


def test_the_fixed_size_of_a_rate_is_the_known_one():
    """Verify the classic example: 5 % to 5.5 %, 5 % level, 80 % power, 31,231 of each."""
    found = planning.fixed_size(BINARY, Traffic(0.05))
    assert (found.candidate, found.champion, found.seconds) == (31231, 31231, None)


def test_a_single_bet_passes_as_brownian_motion_does():
    """Verify the quantiles of the inverse Gaussian law: the log wealth of the true effect is a walk with drift 1/2."""
    level = math.log(40)
    law = stats.invgauss(mu=2 / level, scale=level**2)
    for quantile in (0.1, 0.5, 0.9):
        found = planning.passage(0.05, Mixture((1.0,), (1.0,)), 1.0, quantile)
        assert found == pytest.approx(law.ppf(quantile), rel=0.01)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.0])
def test_our_mixture_passes_as_simulated(truth):
    """Verify median and 90 % by walks with small steps (they are a little late, as looks are)."""
    step, looks = 0.02, 2000
    times = step * np.arange(1, looks + 1)
    rng = np.random.default_rng(4)
    scores = np.cumsum(rng.normal(step, math.sqrt(step), (600, looks)), axis=1)
    reached = mixture.log_evidence(scores, times, 1 / truth, PLANNED) >= math.log(40)
    at = np.where(reached.any(axis=1), times[reached.argmax(axis=1)], np.inf)
    for quantile in (0.5, 0.9):
        found = planning.passage(0.05, PLANNED, truth, quantile)
        assert found == pytest.approx(np.quantile(at, quantile), rel=0.15)
        assert np.mean(at <= found) == pytest.approx(quantile, abs=0.06)


def test_a_plan_within_the_target_of_the_limit():
    """Verify the medians over that of the bet which is told the truth: 1.2 as planned, 1.4 off by two either way."""
    limit = planning.passage(0.05, Mixture((1.0,), (1.0,)), 1.0, 0.5)
    ratios = {truth: planning.passage(0.05, PLANNED, truth, 0.5) / limit for truth in (0.5, 1.0, 2.0)}
    assert ratios[1.0] <= 1.15
    assert max(ratios.values()) <= 1.35


def test_the_duration_follows_from_the_traffic():
    """Verify that two arms with a tenth each of 50 requests a second wait for their own share."""
    found = planning.plan(BINARY, Traffic(0.05, shares=(0.1, 0.1), per_second=50.0))
    assert found.fixed.seconds == pytest.approx(31231 / 5, rel=1e-3)
    assert found.median.candidate < found.fixed.candidate < found.ninety.candidate
    assert found.median.seconds == pytest.approx(found.median.candidate / 5, rel=1e-3)


def test_a_covariate_shortens_it_by_what_it_explains():
    design = Design("continuous", "increase", 0.05, 0.1, covariate=True)
    plain = planning.sequential_size(design, Traffic(1.0, 4.0), 0.5)
    helped = planning.sequential_size(design, Traffic(1.0, 4.0, explained=0.75), 0.5)
    assert helped.candidate == pytest.approx(plain.candidate / 4, rel=1e-3)


def test_a_margin_is_planned_for_a_candidate_that_is_equal():
    """Verify that "not more than 10 % worse" takes about the size of "10 % better", for a lift of nothing."""
    margin = Design("binary", "increase", 0.05, None, margin=0.1)
    found = planning.plan(margin, Traffic(0.05))
    assert found.lift == 0
    assert found.median.candidate == pytest.approx(
        planning.plan(BINARY, Traffic(0.05)).median.candidate, rel=0.1
    )


def test_no_size_is_below_the_minimum():
    design = Design("continuous", "increase", 0.05, 5.0, min_samples=300)
    found = planning.sequential_size(design, Traffic(1.0, 0.1, shares=(0.1, 0.9)), 0.5)
    assert (found.candidate, found.champion) == (300, 2700)


def test_a_broad_plan_can_be_asked_about_any_lift():
    broad = Design("binary", "increase", 0.05, None)
    sizes = [planning.sequential_size(broad, Traffic(0.05), 0.5, lift).candidate for lift in (0.05, 0.1, 0.2)]
    assert sizes == sorted(sizes, reverse=True)
    told = planning.sequential_size(BINARY, Traffic(0.05), 0.5).candidate
    assert told < sizes[1] < 1.6 * told


@pytest.mark.parametrize(
    ("call", "said"),
    [
        pytest.param(
            lambda: planning.plan(Design("binary", "increase", 0.05, None), Traffic(0.05)),
            "set minimumDetectableEffect",
            id="no-effect-stated",
        ),
        pytest.param(
            lambda: planning.plan(BINARY, Traffic(0.95)), "leaves the range from 0 to 1", id="rate-over-1"
        ),
        pytest.param(
            lambda: planning.plan(Design("ratio", "increase", 0.05, 0.1), Traffic(0.3)),
            "needs its standard deviation",
            id="no-deviation",
        ),
        pytest.param(lambda: planning.fixed_size(BINARY, Traffic(0.05), 1.0), "power 1.0", id="power"),
        pytest.param(
            lambda: planning.fixed_size(BINARY, Traffic(0.05), lift=0.0), "is no difference", id="no-lift"
        ),
        pytest.param(
            lambda: planning.sequential_size(BINARY, Traffic(0.05), 0.5, 0.005),
            "is not decided",
            id="plan-far-off",
        ),
        pytest.param(
            lambda: planning.sequential_size(BINARY, Traffic(0.05), 1.0), "quantile 1.0", id="certainty"
        ),
        pytest.param(
            lambda: planning.sequential_size(BINARY, Traffic(0.05), 0.0), "quantile 0.0", id="quantile-0"
        ),
        pytest.param(lambda: Traffic(0.05, explained=1.0), "explained share of 1.0", id="all-explained"),
        pytest.param(lambda: Traffic(0.05, deviation=0.0), "deviation of 0.0", id="never-varies"),
        pytest.param(lambda: Traffic(0.05, shares=(0.6, 0.6)), "sum to at most 1", id="shares"),
        pytest.param(lambda: Traffic(0.05, per_second=0.0), "never arrive", id="no-traffic"),
    ],
)
def test_what_cannot_be_planned_says_why(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_lift_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves the range"):
        planning.fixed_size(Design("binary", "decrease", 0.05, 1.0), planning.Traffic(0.05))
