"""Bets on a bounded mean: exact expectations, error under peeking at every sample, power."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import stats

from serving.release.statistics import betting
from serving.release.statistics.bernstein import EmpiricalBernstein
from serving.release.statistics.betting import PAIR_BETS, RATE_BETS, Sample


@functools.cache
def rate_evidence(n, events, bound, above=True):
    sample = betting.of_counts(n, events)
    judge = betting.log_evidence_above if above else betting.log_evidence_below
    return judge(sample, bound, RATE_BETS)


@pytest.mark.parametrize("bound", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("n", [1, 17, 120])
def test_at_the_bound_the_expected_evidence_is_exactly_one(n, bound):
    """Verify the martingale property over all outcomes, not by simulation; below the bound it is less."""
    events = np.arange(n + 1)
    # in logs: the evidence of an outcome that never comes overflows
    at_bound, lower = stats.binom.logpmf(events, n, bound), stats.binom.logpmf(events, n, bound / 2)
    above = np.array([rate_evidence(n, int(k), bound) for k in events])
    below = np.array([rate_evidence(n, int(k), bound, above=False) for k in events])
    assert np.exp(at_bound + above).sum() == pytest.approx(1, rel=1e-9)
    assert np.exp(at_bound + below).sum() == pytest.approx(1, rel=1e-9)
    assert np.exp(lower + above).sum() < 1


@pytest.mark.parametrize(("bound", "alpha"), [(0.01, 0.01), (0.02, 0.01), (0.3, 0.05)])
def test_looking_after_every_sample_errs_at_most_alpha(bound, alpha):
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(1000):
        running = np.cumsum(rng.random(600) < bound)
        wrong += any(
            rate_evidence(n, int(running[n - 1]), bound) >= math.log(1 / alpha) for n in range(1, 601, 1)
        )
    # alpha plus three standard errors of the simulation
    assert wrong / 1000 <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 1000)


def stopping_times(rate, bound, alpha, repetitions, limit):
    rng = np.random.default_rng(3)
    times = []
    for _ in range(repetitions):
        running = np.cumsum(rng.random(limit) < rate)
        hits = (
            n
            for n in range(1, limit + 1)
            if rate_evidence(n, int(running[n - 1]), bound) >= math.log(1 / alpha)
        )
        times.append(next(hits, math.inf))
    return times


@pytest.mark.parametrize(
    ("rate", "bound", "within"),
    [
        pytest.param(1.0, 0.01, 5, id="every-answer-too-slow"),
        pytest.param(0.3, 0.02, 40, id="30-percent-of-rows-differ"),
        pytest.param(0.05, 0.01, 600, id="5-percent-too-slow"),
    ],
)
def test_a_violated_bound_is_noticed_in_time(rate, bound, within):
    times = stopping_times(rate, bound, 0.01, 200, within)
    assert np.mean(np.isfinite(times)) >= 0.95


def test_bounds_agree_with_the_evidence():
    """Verify that a rate is outside the interval exactly where the evidence against it suffices."""
    sample = betting.of_counts(400, 31)
    lower, upper = betting.bounds(sample, 0.01, RATE_BETS)
    needed = math.log(100)
    assert (
        betting.log_evidence_above(sample, lower, RATE_BETS)
        >= needed
        > betting.log_evidence_above(sample, lower + 1e-4, RATE_BETS)
    )
    assert (
        betting.log_evidence_below(sample, upper, RATE_BETS)
        >= needed
        > betting.log_evidence_below(sample, upper - 1e-4, RATE_BETS)
    )
    assert lower < 31 / 400 < upper


def test_bounds_hold_the_mean_at_all_times_and_are_tighter_than_bernstein():
    rng = np.random.default_rng(5)
    missed = 0
    for repetition in range(100):
        values = rng.beta(2, 5, size=800)
        widths = []
        for n in range(20, 801, 60):
            sample = betting.of_values(values[:n].tolist(), 0, 1)
            lower, upper = betting.bounds(sample, 0.025, RATE_BETS, tolerance=1e-4)
            widths.append(upper - lower)
            missed += not lower <= 2 / 7 <= upper
        if repetition == 0:
            low, high = EmpiricalBernstein(0.05).extend(values.tolist()).interval
            assert widths[-1] < high - low
    assert missed <= 10


def squared_error_differences(n, rng, worse=0.0):
    """Two similar models' squared errors on the same flights, as in a canary of a retrained model."""
    logit = rng.normal(-1.5, 0.9, n)
    late = rng.random(n) < 1 / (1 + np.exp(-logit))
    champion = 1 / (1 + np.exp(-(logit + rng.normal(0, 0.25, n))))
    candidate = 1 / (1 + np.exp(-(logit + rng.normal(0, 0.25, n))))
    return (candidate - late) ** 2 - (champion - late) ** 2 + worse


def test_an_equal_model_is_non_inferior_within_some_hundreds_of_pairs():
    rng = np.random.default_rng(8)
    times = []
    for _ in range(40):
        values = squared_error_differences(1000, rng)
        for n in range(100, 1001, 25):
            sample = betting.of_values(values[:n].tolist(), -1, 1)
            if betting.log_evidence_below(sample, (0.01 + 1) / 2, PAIR_BETS) >= math.log(20):
                times.append(n)
                break
        else:
            times.append(math.inf)
    assert np.median(times) <= 500


def test_a_model_at_the_margin_passes_at_most_alpha_of_the_time():
    rng = np.random.default_rng(9)
    wrong = 0
    for _ in range(200):
        values = squared_error_differences(600, rng, worse=0.01)
        sample = [betting.of_values(values[:n].tolist(), -1, 1) for n in range(20, 601, 20)]
        wrong += any(betting.log_evidence_below(s, (0.01 + 1) / 2, PAIR_BETS) >= math.log(20) for s in sample)
    assert wrong / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_the_order_of_the_values_does_not_matter():
    values = [0.1, 0.9, 0.4, 0.4]
    one, other = (betting.of_values(v, 0, 1) for v in (values, values[::-1]))
    assert betting.bounds(one, 0.05, PAIR_BETS) == betting.bounds(other, 0.05, PAIR_BETS)


@pytest.mark.parametrize("value", [-1.01, 1.01, math.nan, math.inf])
def test_a_value_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match="outside"):
        betting.of_values([0.0, value], -1, 1)


def test_nothing_seen_bounds_nothing():
    assert betting.bounds(betting.of_counts(0, 0), 0.05, RATE_BETS) == (0.0, 1.0)
    assert betting.log_evidence_above(betting.of_values([], 0, 1), 0.5, RATE_BETS) == 0


@pytest.mark.parametrize("bets", [RATE_BETS, PAIR_BETS], ids=["rate", "pair"])
@pytest.mark.parametrize(
    ("n", "events"), [(1, 0), (1, 1), (40, 40), (50, 3), (777, 500), (45_000, 90), (1_000_000, 1)]
)
def test_counts_give_what_the_same_values_give(n, events, bets):
    """Verify the plain arithmetic on counts against the arrays and the bisection on values."""
    counts = betting.of_counts(n, events)
    values = Sample((0.0, 1.0), (n - events, events))  # in this order they are treated as any values
    for judge in (betting.log_evidence_above, betting.log_evidence_below):
        assert judge(counts, 0.03, bets) == pytest.approx(judge(values, 0.03, bets), rel=1e-11, abs=1e-11)
    for alpha in (0.05, 0.001):
        lower, upper = betting.bounds(counts, alpha, bets)
        slower, wider = betting.bounds(values, alpha, bets, tolerance=1e-7)
        assert (lower, upper) == (pytest.approx(slower, abs=2e-7), pytest.approx(wider, abs=2e-7))
