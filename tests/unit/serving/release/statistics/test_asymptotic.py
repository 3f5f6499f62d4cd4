"""The asymptotic sequence: its error from the stated minimum on, its shape, its power."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serving.release.statistics import asymptotic


def squared_error_differences(shape, rng):
    logit = rng.normal(-1.5, 0.9, shape)
    late = rng.random(shape) < 1 / (1 + np.exp(-logit))
    champion = 1 / (1 + np.exp(-(logit + rng.normal(0, 0.25, shape))))
    candidate = 1 / (1 + np.exp(-(logit + rng.normal(0, 0.25, shape))))
    return (candidate - late) ** 2 - (champion - late) ** 2


def uppers(values, alpha, first):
    """Upper bounds of many series at every sample from `first` on."""
    n = np.arange(1, values.shape[1] + 1)
    mean = np.cumsum(values, axis=1) / n
    spread = np.cumsum(values**2, axis=1) - n * mean**2
    deviation = np.sqrt(np.maximum(spread, 0) / np.maximum(n - 1, 1))
    width = np.array([asymptotic.boundary(int(k), alpha) for k in n])
    return (mean + deviation * width)[:, first - 1 :], (mean - deviation * width)[:, first - 1 :]


@pytest.mark.parametrize(
    ("draw", "alpha", "first"),
    [
        pytest.param(lambda shape, rng: rng.normal(0, 1, shape), 0.05, 100, id="normal-5"),
        pytest.param(lambda shape, rng: rng.normal(0, 1, shape), 0.01, 100, id="normal-1"),
        # two similar models with the same noise: their mean difference is zero by symmetry
        pytest.param(squared_error_differences, 0.05, 100, id="squared-errors-of-two-models-5"),
        pytest.param(squared_error_differences, 0.01, 100, id="squared-errors-of-two-models-1"),
        # the module says so: a skewed metric needs more than 100
        pytest.param(lambda shape, rng: rng.exponential(1, shape) - 1, 0.05, 300, id="skewed-from-300"),
    ],
)
def test_looking_at_every_sample_from_a_minimum_on_errs_at_most_alpha(draw, alpha, first):
    rng = np.random.default_rng(17)
    values = draw((1500, 1500), rng)
    upper, lower = uppers(values, alpha, first)
    tolerated = alpha + 3 * math.sqrt(alpha * (1 - alpha) / 1500)
    assert np.mean((upper < 0).any(axis=1)) <= tolerated
    assert np.mean((lower > 0).any(axis=1)) <= tolerated


def test_the_bounds_are_mean_and_deviation_times_the_boundary():
    values = [0.1, -0.2, 0.4, 0.0, 0.05]
    lower, upper = asymptotic.bounds(values, 0.05)
    half = np.std(values, ddof=1) * asymptotic.boundary(5, 0.05)
    assert (lower, upper) == pytest.approx((np.mean(values) - half, np.mean(values) + half))


def test_the_boundary_is_tightest_near_where_it_was_tuned():
    """Verify that tuning for 300 beats tuning for 30 and 3,000 at 300."""
    at_300 = {best: asymptotic.boundary(300, 0.05, best) for best in (30, 300, 3000)}
    assert at_300[300] < min(at_300[30], at_300[3000])


def test_the_boundary_falls_and_exceeds_one_look():
    widths = [asymptotic.boundary(n, 0.05) for n in (100, 300, 1000, 10000)]
    assert widths == sorted(widths, reverse=True)
    assert all(w > 1.645 / math.sqrt(n) for w, n in zip(widths, (100, 300, 1000, 10000), strict=True))


def test_an_equal_model_is_non_inferior_within_some_hundreds_of_pairs():
    rng = np.random.default_rng(6)
    upper, _ = uppers(squared_error_differences((100, 800), rng), 0.05, first=100)
    first = np.where((upper < 0.01).any(axis=1), (upper < 0.01).argmax(axis=1) + 100, 10**6)
    assert np.median(first) <= 350


def test_too_few_values_bound_nothing():
    assert asymptotic.bounds([0.1], 0.05) == (-math.inf, math.inf)
