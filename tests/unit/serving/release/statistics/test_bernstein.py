"""The empirical-Bernstein sequence against a second reading of its theorem, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest

from serving.release.statistics.bernstein import EmpiricalBernstein


def by_the_theorem(values, alpha):
    """Theorem 2 of the paper, written with whole arrays instead of running sums."""
    x = np.asarray(values)
    t = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    mean_before = np.concatenate([[0.5], mean[:-1]])
    variance_before = np.concatenate([[0.25], variance[:-1]])
    bets = np.minimum(0.5, np.sqrt(2 * np.log(2 / alpha) / (variance_before * t * np.log(1 + t))))
    v = 4 * (x - mean_before) ** 2
    psi = (-np.log(1 - bets) - bets) / 4
    centre = (bets @ x) / bets.sum()
    width = (np.log(2 / alpha) + v @ psi) / bets.sum()
    return centre - width, centre + width


@pytest.mark.parametrize("n", [1, 2, 50, 700])
def test_running_sums_give_the_theorem(n):
    values = np.random.default_rng(n).beta(3, 9, n).tolist()
    lower, upper = EmpiricalBernstein(0.05).extend(values).interval
    expected = by_the_theorem(values, 0.05)
    assert (lower, upper) == pytest.approx((max(0, expected[0]), min(1, expected[1])), abs=1e-12)


def test_it_holds_the_mean_at_every_sample():
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(200):
        state = EmpiricalBernstein(0.05)
        for value in rng.binomial(1, 0.1, 500):
            state = state.add(float(value))
            lower, upper = state.interval
            if not lower <= 0.1 <= upper:
                missed += 1
                break
    assert missed / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_small_variance_makes_it_narrow():
    rng = np.random.default_rng(4)
    narrow = EmpiricalBernstein(0.05).extend(rng.uniform(0.49, 0.51, 1000).tolist()).interval
    wide = EmpiricalBernstein(0.05).extend(rng.integers(0, 2, 1000).astype(float).tolist()).interval
    assert narrow[1] - narrow[0] < 0.2 * (wide[1] - wide[0])


def test_nothing_seen_bounds_nothing():
    assert EmpiricalBernstein(0.05).interval == (0.0, 1.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_value_outside_the_range_is_refused(value):
    with pytest.raises(ValueError, match="outside"):
        EmpiricalBernstein(0.05).add(value)
