"""The fast algorithm against the definition it computes, and against a value worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from components import delong


def by_definition(
    labels: NDArray[np.float64], scores: list[NDArray[np.float64]]
) -> tuple[list[float], NDArray[np.float64]]:
    """DeLong et al. (1988), equations 1 to 5, pair by pair."""
    positive, negative = labels == 1, labels == 0
    placements = []
    for s in scores:
        pairs = (s[positive][:, None] > s[negative][None, :]) + 0.5 * (
            s[positive][:, None] == s[negative][None, :]
        )
        placements.append((pairs.mean(axis=1), pairs.mean(axis=0)))
    k, m, n = len(scores), positive.sum(), negative.sum()
    values = [float(p[0].mean()) for p in placements]
    covariance = np.zeros((k, k))
    for r in range(k):
        for s in range(k):
            s10 = sum((placements[r][0] - values[r]) * (placements[s][0] - values[s])) / (m - 1)
            s01 = sum((placements[r][1] - values[r]) * (placements[s][1] - values[s])) / (n - 1)
            covariance[r, s] = s10 / m + s01 / n
    return values, covariance


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [pytest.param(1, id="many-ties"), pytest.param(9, id="no-ties")])
def test_the_paired_comparison_equals_the_definition(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(180) < 0.3).astype(float)
    first = np.round(rng.normal(size=180) + labels, decimals)
    second = np.round(0.6 * first + rng.normal(size=180), decimals)
    values, covariance = by_definition(labels, [first, second])
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = delong.compare(labels, first, second, alpha=0.05)
    assert difference.value == pytest.approx(values[0] - values[1])
    assert difference.standard_error == pytest.approx(error)
    assert difference.lower == pytest.approx(values[0] - values[1] - 1.6448536269514722 * error)
    single = delong.auc(labels, first)
    assert single.value == pytest.approx(values[0]) == pytest.approx(delong.point(labels, first))
    assert single.high - single.value == pytest.approx(
        min(1.959963984540054 * math.sqrt(covariance[0, 0]), 1 - values[0])
    )


def test_a_case_small_enough_for_paper() -> None:
    """Positives .8 and .4, negatives .5 and .1: 3 of 4 pairs in order; each variance is 1/8, so 1/8/2 + 1/8/2."""
    labels, scores = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.8, 0.4, 0.5, 0.1])
    values, covariance = delong._covariance(labels, [scores])
    assert values == [0.75]
    assert covariance == [[pytest.approx(0.125)]]


def test_the_same_scores_differ_by_nothing_with_no_error() -> None:
    rng = np.random.default_rng(0)
    labels, scores = (rng.random(300) < 0.4).astype(float), rng.random(300)
    assert delong.compare(labels, scores, scores) == delong.Difference(0.0, 0.0, 0.0)


def test_the_interval_covers_at_its_level() -> None:
    """Scores N(d, 1) against N(0, 1) have AUC Phi(d / sqrt 2); 400 samples, so 95 % may look like 92 to 98 %."""
    truth = 0.5 * (1 + math.erf(1.0 / 2))
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        labels = np.repeat([1.0, 0.0], [60, 140])
        interval = delong.auc(labels, rng.normal(size=200) + labels)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_one_class_alone_has_no_auc() -> None:
    with pytest.raises(ValueError, match="both classes; there are 0 positive and 3 negative rows"):
        delong.auc(np.zeros(3), np.arange(3.0))
    assert math.isnan(delong.point(np.zeros(3), np.arange(3.0)))
