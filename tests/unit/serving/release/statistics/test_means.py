"""Differences of means and of ratios: beside scipy, by resampling, and on the metrics that are hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from serving.release.statistics import covariate, means
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments


def design(kind="continuous", effect=0.1, direction="increase", margin=None):
    return Design(kind, direction, 0.05, effect, margin)


def sums(y, z=None, size=1):
    """Cumulative moments of looks of `size` observations; the last axis becomes looks."""

    def total(values):
        return values.reshape(*values.shape[:-1], -1, size).sum(axis=-1).cumsum(axis=-1)

    parts = {"y": total(y), "yy": total(y * y)}
    if z is not None:
        parts |= {"z": total(z), "zz": total(z * z), "yz": total(y * z)}
    return Moments(n=total(np.ones_like(y)), **parts)


def test_the_standardised_difference_is_welchs_for_equal_arms():
    rng = np.random.default_rng(1)
    a, b = rng.gamma(2, 1, 200), rng.gamma(2, 1.1, 200)
    found = means.contrast(design(), Moments.of(a.tolist()), Moments.of(b.tolist()))
    difference, variance = found.against(0.0)
    assert difference / math.sqrt(variance) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).statistic)


def test_a_small_calm_arm_gets_the_pooled_variance():
    """Verify that an arm which has not seen the rare large values yet is not taken for sure of its mean."""
    calm, wild = [1.0, 1.1, 0.9, 1.0] * 5, [1.0] * 170 + [100.0] * 10
    found = means.contrast(design(), Moments.of(calm), Moments.of(wild))
    _, variance = found.against(0.0)
    pooled = (19 * np.var(calm, ddof=1) + 179 * np.var(wild, ddof=1)) / 198
    assert variance == pytest.approx(pooled * (1 / 20 + 1 / 180))
    assert variance > 5 * (np.var(calm, ddof=1) / 20 + np.var(wild, ddof=1) / 180)


def test_the_variance_of_a_ratio_is_the_resampled_one():
    rng = np.random.default_rng(2)
    views = 1.0 + rng.poisson(rng.gamma(1, 3, 3000))
    clicks = rng.binomial(views.astype(int), rng.beta(1, 9, 3000)).astype(float)
    found = means.contrast(
        design("ratio"),
        Moments.of(clicks.tolist(), views.tolist()),
        Moments.of(clicks.tolist(), views.tolist()),
    )
    chosen = rng.integers(0, 3000, (800, 3000))
    resampled = clicks[chosen].sum(axis=1) / views[chosen].sum(axis=1)
    assert found.candidate == pytest.approx(clicks.sum() / views.sum())
    assert found.candidate_variance == pytest.approx(resampled.var(), rel=0.15)


def revenue(rng, shape):
    return (rng.random(shape) < 0.05) * rng.lognormal(3, 1.2, shape)


@pytest.mark.parametrize(
    ("kind", "draw", "shares"),
    [
        pytest.param("continuous", lambda rng, n: rng.lognormal(0, 1.5, n), (1, 1), id="lognormal"),
        pytest.param("continuous", lambda rng, n: rng.lognormal(0, 1.5, n), (1, 9), id="lognormal-small-arm"),
        pytest.param("continuous", lambda rng, n: rng.standard_t(3, n) + 2, (1, 1), id="t-with-3-degrees"),
        pytest.param("continuous", revenue, (1, 9), id="revenue-small-arm"),
        pytest.param("ratio", lambda rng, n: rng.gamma(0.5, 1, n), (1, 1), id="ratio"),
    ],
)  # fmt: skip
def test_without_a_difference_few_looks_err(kind, draw, shares):
    """Verify the level over 100 looks, from the minimum on; the benchmark has the 1,000 looks of 2,000 repetitions."""
    rng = np.random.default_rng(3)
    arms = []
    for share in shares:
        shape = (250, 100 * 20 * share)
        y = draw(rng, shape)
        arms.append(sums(y, 1.0 + rng.poisson(2, shape) if kind == "ratio" else None, 20 * share))
    plan = design(kind)
    better, worse = means.log_evidence(plan, means.contrast(plan, *arms))
    wrong = (np.maximum(better, worse)[:, 4:] >= math.log(40)).any(axis=1)
    assert wrong.mean() <= 0.05


@pytest.mark.parametrize(
    ("plan", "factor"),
    [
        pytest.param(design(), 1.3, id="better"),
        pytest.param(design(), 0.75, id="worse"),
        pytest.param(design(direction="decrease", effect=None), 0.8, id="less-is-better"),
        pytest.param(design(margin=0.2, effect=None), 1.0, id="not-much-worse"),
        pytest.param(design("ratio"), 1.2, id="ratio"),
    ],
)
def test_the_interval_excludes_the_null_exactly_when_a_side_is_decided(plan, factor):
    """Verify it at every look of some growing comparisons, on both sides of the decision."""
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(4):
        a, b = factor * rng.gamma(1, 1, 3000), rng.gamma(1, 1, 3000)
        for n in range(200, 3001, 200):
            views = ([1.0, 2.0] * n)[:n] if plan.kind == "ratio" else None
            arms = [Moments.of(values[:n].tolist(), views) for values in (a, b)]
            found = means.contrast(plan, *arms)
            ends = means.interval(plan, found)
            decided = max(means.log_evidence(plan, found)) >= math.log(40)
            assert ends is not None
            assert decided == (not ends[0] <= plan.null <= ends[1])
            seen.add(decided)
    assert seen == {True, False}


def test_the_interval_holds_the_lift_at_all_looks_at_once():
    rng = np.random.default_rng(5)
    plan, covered = design(effect=0.2), 0
    for _ in range(80):
        a, b = (sums(factor * rng.exponential(1, 4000), size=100) for factor in (1.2, 1.0))
        looks = []
        for look in range(40):
            arms = [
                Moments(*(float(np.asarray(s)[look]) if np.ndim(s) else s for s in vars(arm).values()))
                for arm in (a, b)
            ]
            looks.append(means.interval(plan, means.contrast(plan, *arms)))
        covered += all(ends is None or ends[0] <= 0.2 <= ends[1] for ends in looks)
    assert covered >= 0.95 * 80


def test_a_negative_mean_keeps_the_direction():
    """Verify that of two losses the smaller one is better, and its lift positive."""
    rng = np.random.default_rng(6)
    a, b = rng.normal(-1, 1, 4000), rng.normal(-2, 1, 4000)
    plan = design(effect=0.2)
    found = means.contrast(plan, Moments.of(a.tolist()), Moments.of(b.tolist()))
    better, worse = means.log_evidence(plan, found)
    assert better > 20 > 0 > worse
    lower, upper = means.interval(plan, found)
    assert 0 < lower < 0.5 < upper < 1


def test_a_ratio_with_a_covariate_is_adjusted_per_denominator():
    """Verify means and variances of y - R z - theta x over the mean of z by hand."""
    rng = np.random.default_rng(9)
    plan = Design("ratio", "increase", 0.05, 0.1, covariate=True)
    arms = []
    for size in (300, 500):
        x = rng.gamma(2, 1, size)
        z = 1.0 + rng.poisson(x)
        arms.append((0.3 * z + 0.5 * x + rng.normal(0, 1, size), z, x))
    moments = [Moments.of(*(values.tolist() for values in arm)) for arm in arms]
    found = means.contrast(plan, *moments)
    ratio = sum(y.sum() for y, _, _ in arms) / sum(z.sum() for _, z, _ in arms)
    theta = covariate.coefficient(*moments, ratio)
    centre = np.concatenate([arms[0][2], arms[1][2]]).mean()
    variances = []
    for (y, z, x), mean in zip(arms, (found.candidate, found.champion), strict=True):
        own = y.sum() / z.sum()
        assert mean == pytest.approx(own - theta * (x.mean() - centre) / z.mean())
        variances.append(np.var(y - own * z - theta * x, ddof=1) / z.mean() ** 2)
    separate = variances[0] / 300 + variances[1] / 500
    pooled = (299 * variances[0] + 499 * variances[1]) / 798 * (1 / 300 + 1 / 500)
    assert found.against(0.0)[1] == pytest.approx(max(separate, pooled))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_metric_does_not_matter(scale):
    rng = np.random.default_rng(7)
    a, b = rng.gamma(2, 1.1, 500), rng.gamma(2, 1, 500)
    for plan in (design(), design(effect=None)):
        one, other = (
            means.log_evidence(
                plan, means.contrast(plan, Moments.of((s * a).tolist()), Moments.of((s * b).tolist()))
            )
            for s in (1.0, scale)
        )
        assert other == pytest.approx(one)


@pytest.mark.parametrize("other", [2.0, 3.0])
def test_a_metric_that_never_varies_shows_nothing(other):
    """Verify that constants, even different ones, are no evidence: there is nothing to measure chance by."""
    plan = design()
    found = means.contrast(plan, Moments.of([2.0] * 200), Moments.of([other] * 200))
    assert means.log_evidence(plan, found) == pytest.approx((0, 0))
    assert means.interval(plan, found) is None


def test_a_mean_of_about_nothing_has_no_bounded_lift():
    rng = np.random.default_rng(8)
    plan = design()
    arms = [Moments.of(rng.normal(0, 1, 300).tolist()) for _ in range(2)]
    assert means.interval(plan, means.contrast(plan, *arms)) is None
