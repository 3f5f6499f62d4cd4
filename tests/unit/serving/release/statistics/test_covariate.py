"""Regression adjustment: the slope, the variance it saves, and that it moves no verdict where there is no effect."""

from __future__ import annotations

import numpy as np
import pytest

from serving.release.statistics import covariate, means
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments


def arm(rng, size, lift=0.0, slope=2.0):
    before = rng.gamma(2.0, 1.0, size)
    return slope * before + lift + rng.normal(0, 1.5, size), before


def moments(values, before):
    return Moments.of(values.tolist(), covariates=before.tolist())


def test_the_slope_is_that_of_least_squares_with_an_intercept_for_each_arm():
    rng = np.random.default_rng(1)
    (y1, x1), (y2, x2) = arm(rng, 300, lift=5.0), arm(rng, 200)
    rows = np.column_stack(
        [np.concatenate([x1, x2]), np.repeat([1, 0], [300, 200]), np.repeat([0, 1], [300, 200])]
    )
    expected = np.linalg.lstsq(rows, np.concatenate([y1, y2]), rcond=None)[0][0]
    assert covariate.coefficient(moments(y1, x1), moments(y2, x2), 0.0) == pytest.approx(expected)


def test_of_a_ratio_it_is_the_linearised_value_that_is_explained():
    """Verify slope and squared correlation of y - R z with x, within arms, beside numpy."""
    rng = np.random.default_rng(6)
    arms, deviations = [], []
    for size, lift in ((400, 1.0), (300, 0.0)):
        y, x = arm(rng, size, lift)
        z = 1.0 + rng.poisson(0.5 * x)
        arms.append(Moments.of(y.tolist(), z.tolist(), x.tolist()))
        value = y - 1.7 * z
        deviations.append(np.stack([value - value.mean(), x - x.mean()]))
    value, before = np.concatenate(deviations, axis=1)
    assert covariate.coefficient(*arms, 1.7) == pytest.approx(value @ before / (before @ before))
    correlation = value @ before / np.sqrt((value @ value) * (before @ before))
    assert covariate.reduction(*arms, 1.7) == pytest.approx(correlation**2)


def test_nothing_is_explained_where_nothing_varies():
    still = Moments.of([2.0] * 50, covariates=[3.0] * 50)
    assert covariate.reduction(still, still) == 0


def test_the_variance_falls_by_what_the_covariate_explains():
    """Verify the estimated and the actual variance of the difference: 1 - correlation^2 of the plain one."""
    rng = np.random.default_rng(2)
    plain, helped, told = [], [], []
    for _ in range(400):
        arms = [moments(*arm(rng, 150)) for _ in range(2)]
        for design, found in ((DESIGN, helped), (WITHOUT, plain)):
            difference, variance = means.contrast(design, *arms).against(0.0)
            found.append(difference)
            if design is DESIGN:
                told.append((variance, covariate.reduction(*arms)))
    expected = 1.5**2 / (4 * 2 + 1.5**2)
    assert np.var(helped) / np.var(plain) == pytest.approx(expected, rel=0.2)
    assert np.mean([variance for variance, _ in told]) == pytest.approx(np.var(helped), rel=0.2)
    assert 1 - np.mean([reduction for _, reduction in told]) == pytest.approx(expected, rel=0.05)


DESIGN = Design("continuous", "increase", 0.05, 0.1, covariate=True)
WITHOUT = Design("continuous", "increase", 0.05, 0.1)


def test_arms_that_differ_by_chance_before_are_made_comparable():
    """Verify that a candidate with better users, and no effect, shows none."""
    rng = np.random.default_rng(3)
    values, before = arm(rng, 4000)
    chosen = before > np.quantile(before, 0.1)
    candidate, champion = moments(values[chosen], before[chosen]), moments(*arm(rng, 4000))
    plain, _ = means.contrast(WITHOUT, candidate, champion).against(0.0)
    helped, variance = means.contrast(DESIGN, candidate, champion).against(0.0)
    assert plain > 0.3
    assert abs(helped) < 3 * variance**0.5


@pytest.mark.parametrize("kind", ["continuous", "ratio"])
def test_without_an_effect_the_error_stays(kind):
    """Verify 300 A/A comparisons with 100 looks each."""
    rng = np.random.default_rng(4)
    design = Design(kind, "increase", 0.05, 0.1, covariate=True)
    arms = []
    for _ in range(2):
        y, x = arm(rng, (300, 100, 20))
        z = 1.0 + rng.poisson(2, y.shape)
        y = y * z if kind == "ratio" else y
        sums = {"y": y, "yy": y * y, "x": x, "xx": x * x, "xy": x * y}
        if kind == "ratio":
            sums |= {"z": z, "zz": z * z, "yz": y * z, "xz": x * z}
        totals = {name: values.sum(axis=-1).cumsum(axis=-1) for name, values in sums.items()}
        arms.append(Moments(n=20.0 * np.arange(1, 101) + np.zeros((300, 1)), **totals))
    better, worse = means.log_evidence(design, means.contrast(design, *arms))
    wrong = (np.maximum(better, worse)[:, 5:] >= np.log(40)).any(axis=1)
    assert wrong.mean() <= 0.05


def test_a_covariate_that_does_not_vary_changes_nothing():
    rng = np.random.default_rng(5)
    arms = [Moments.of(rng.normal(1, 1, 50).tolist(), covariates=[3.0] * 50) for _ in range(2)]
    assert covariate.coefficient(*arms, 0.0) == 0
    assert means.contrast(DESIGN, *arms).against(0.0) == means.contrast(WITHOUT, *arms).against(0.0)


def test_a_covariate_of_small_numbers_counts_as_one_of_large():
    x = [0.01, 0.02, 0.03, 0.04]
    arm = Moments.of([3 * value for value in x], None, x)
    assert covariate.coefficient(arm, arm, 0.0) == pytest.approx(3.0)
