"""Confidence sequences of quantiles: another implementation's numbers, coverage at every look, ties."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serving.release.statistics import quantiles
from serving.release.statistics.histogram import EDGES, Histogram

#: (q, n, alpha) -> how far the count at or below the quantile may lie above and below nq. From confseq 0.0.11 (its
#: header uniform_boundaries.h, compiled): beta_binomial_mixture_bound(n q (1 - q), alpha, 1000 q (1 - q), q, 1 - q,
#: alpha, is_one_sided=False), and the same with q and 1 - q exchanged for below.
CONFSEQ = [
    (0.5, 100, 0.05, 19.150459, 19.150459),
    (0.5, 100, 0.01, 21.377025, 21.377025),
    (0.5, 1000, 0.05, 47.950223, 47.950223),
    (0.5, 1000, 0.01, 56.407965, 56.407965),
    (0.5, 20000, 0.05, 236.055672, 236.055672),
    (0.5, 20000, 0.01, 271.416497, 271.416497),
    (0.9, 1000, 0.05, 27.271401, 30.262144),
    (0.9, 1000, 0.01, 31.855323, 35.801991),
    (0.9, 20000, 0.05, 139.808089, 143.564821),
    (0.9, 20000, 0.01, 160.556348, 165.273553),
    (0.99, 1000, 0.05, 7.647023, 11.388405),
    (0.99, 1000, 0.01, 8.633633, 13.620785),
    (0.99, 20000, 0.05, 44.885841, 49.530056),
    (0.99, 20000, 0.01, 51.370705, 57.211185),
]


@pytest.mark.parametrize(("q", "n", "alpha", "above", "below"), CONFSEQ)
def test_the_ranks_are_those_of_another_implementation(q, n, alpha, above, below):
    nq = round(n * q)
    assert quantiles.ranks(n, q, alpha) == (math.ceil(nq - below), math.floor(nq + above))


@pytest.mark.parametrize("n", [0, 1, 30])
def test_few_answers_bound_nothing(n):
    histogram = Histogram.of([5.0] * n)
    assert quantiles.interval(histogram, 0.99, 0.05)[1] == math.inf
    assert quantiles.ranks(n, 0.99, 0.05)[1] == n


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_the_quantile_is_enclosed_at_every_look(q):
    rng = np.random.default_rng(17)
    true = math.exp(2 + 0.7 * {0.5: 0.0, 0.95: 1.6448536}[q])
    missed = 0
    for _ in range(150):
        histogram, inside = Histogram.empty(), True
        for _ in range(20):
            histogram = histogram.plus(rng.lognormal(2, 0.7, 40))
            lower, upper = quantiles.interval(histogram, q, 0.1)
            inside = inside and lower <= true <= upper
        missed += not inside
    assert missed / 150 <= 0.1


def test_a_latency_that_many_answers_share_is_enclosed():
    """Verify ties: of a quantile at an atom, the count at or below it is far above nq."""
    histogram = Histogram.of([4.0] * 900 + [9.0] * 100)
    lower, upper = quantiles.interval(histogram, 0.5, 0.05)
    assert lower < 4.0 <= upper < 4.3


def test_the_interval_closes_in_on_the_quantile():
    values = np.random.default_rng(3).lognormal(2, 0.5, 40_000)
    widths = []
    for n in (400, 4000, 40_000):
        lower, upper = quantiles.interval(Histogram.of(values[:n]), 0.9, 0.05)
        widths.append(upper - lower)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.2 * math.exp(2 + 0.5 * 1.2816)


def test_the_difference_of_two_arms_encloses_the_true_one():
    rng = np.random.default_rng(5)
    champion = Histogram.of(rng.lognormal(2, 0.5, 5000))
    candidate = Histogram.of(rng.lognormal(2, 0.5, 5000) + 20)
    lower, upper = quantiles.difference(candidate, champion, 0.9, 0.05)
    assert 15 < lower < 20 < upper < 25
    assert quantiles.difference(champion, candidate, 0.9, 0.05) == (-upper, -lower)
    low, high = quantiles.interval(candidate, 0.9, 0.025)
    their_low, their_high = quantiles.interval(champion, 0.9, 0.025)
    assert (lower, upper) == (low - their_high, high - their_low)


def test_the_least_answer_bounds_the_quantile_as_soon_as_it_may():
    n = next(n for n in range(1, 100) if quantiles.ranks(n, 0.5, 0.05)[0] == 1)
    assert quantiles.interval(Histogram.of([5.0] * n), 0.5, 0.05)[0] > 4.7
    assert quantiles.interval(Histogram.of([5.0] * (n - 1)), 0.5, 0.05)[0] == 0


def test_the_threshold_leaves_at_most_its_share_beyond_it():
    histogram = Histogram.of(np.random.default_rng(6).lognormal(2, 1, 500))
    found = quantiles.threshold(histogram, 0.99, 100)
    assert histogram.above(found) <= 5 < histogram.above(EDGES[EDGES.index(found) - 1])


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1.0] * 99, id="too-few-answers"),
        pytest.param([2e5] * 200, id="beyond-the-last-edge"),
    ],
)
def test_there_may_be_no_threshold(values):
    assert quantiles.threshold(Histogram.of(values), 0.99, 100) is None


@pytest.mark.parametrize(("q", "alpha"), [(0, 0.05), (1, 0.05), (0.5, 0), (0.5, 1)])
def test_levels_that_are_none_are_refused(q, alpha):
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        quantiles.interval(Histogram.of([1.0]), q, alpha)
