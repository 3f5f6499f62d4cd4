"""Two arms' means or ratios of sums: the difference, its variance and the evidence in it, from moments.

A ratio metric (clicks per view, over users) is linearised: sum(y) / sum(z) behaves as the mean of y - R z over the mean
of z (the delta method, as in A. Deng, U. Knoblich and J. Lu, "Applying the delta method in metric analytics", KDD
2018).

Two things keep the error where it is stated for skewed metrics (revenue: mostly nothing, seldom much). The variance is
the larger of each arm's own and the pooled one: a small arm in which the rare large values have not been seen yet has a
small mean *and* a small variance, and its own variance alone would call that a loss. And no look counts before
`min_samples`. With equal arms skewness cancels in the difference; with unequal ones the smaller arm should have about
355 times the squared skewness (R. Kohavi et al., "Seven rules of thumb for web site experimenters", KDD 2014, rule 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from serving.release.statistics import covariate, mixture
from serving.release.statistics.design import Design
from serving.release.statistics.mixture import Values
from serving.release.statistics.moments import Moments


@dataclass(frozen=True)
class Contrast:
    """Both arms' means, adjusted where there is a covariate, and how sure they are.

    Attributes:
        candidate_variance, champion_variance: of the means.
        size: the mean of both arms without its sign: what a relative effect is relative to. Chance moves it
            independently of the difference.
        deviation: standard deviation of one observation, in the unit of the means.
    """

    candidate: Values
    champion: Values
    candidate_variance: Values
    champion_variance: Values
    size: Values
    deviation: Values

    def against(self, null: float) -> tuple[Values, Values]:
        """Difference from "the lift is `null`" in the metric's unit, and its variance."""
        factor = 1 + null * np.sign(self.champion)
        difference = self.candidate - factor * self.champion
        return difference, self.candidate_variance + factor * factor * self.champion_variance


def contrast(design: Design, candidate: Moments, champion: Moments) -> Contrast:
    """What the moments say of the two arms: two observations each at least, and denominators of a ratio metric."""
    both = candidate + champion
    is_ratio = design.kind == "ratio"
    ratio: Values = both.y / both.z if is_ratio else 0.0
    theta = covariate.coefficient(candidate, champion, ratio) if design.covariate else 0.0
    means, variances = [], []
    for arm in (candidate, champion):
        scale = arm.z / arm.n if is_ratio else 1.0
        own = arm.y / arm.z if is_ratio else arm.y / arm.n
        means.append(own - theta * (arm.x / arm.n - both.x / both.n) / scale if design.covariate else own)
        variances.append(_variance(arm, own if is_ratio else 0.0, theta) / (scale * scale))
    n, m = candidate.n, champion.n
    pooled = ((n - 1) * variances[0] + (m - 1) * variances[1]) / (n + m - 2)
    separate = variances[0] / n + variances[1] / m
    together = pooled * (1 / n + 1 / m)
    inflation = np.maximum(1.0, together / np.where(separate > 0, separate, np.inf))
    return Contrast(
        means[0],
        means[1],
        inflation * variances[0] / n,
        inflation * variances[1] / m,
        np.abs(ratio if is_ratio else both.y / both.n),
        np.sqrt(pooled),
    )


def log_evidence(design: Design, found: Contrast) -> tuple[Values, Values]:
    """Log of the e-values for "better" and for "worse" from cumulative moments."""
    difference, variance = found.against(design.null)
    information = np.where(variance > 0, 1 / np.where(variance > 0, variance, 1.0), 0.0)[()]
    score = design.sign * difference * information
    effect = _effect(design, found)
    better = mixture.log_evidence(score, information, effect, design.mixture)
    return better, mixture.log_evidence(-score, information, effect, design.mixture)


def interval(design: Design, found: Contrast) -> tuple[float, float] | None:
    """The confidence sequence of the lift at this look; None while it is unbounded.

    All lifts whose difference is within the boundary of the mixture: the interval of E. Fieller, "Some problems in
    interval estimation", JRSS B 16 (1954) 175-185, with the boundary in the place of the normal quantile, so it
    excludes the null exactly when a side is decided.
    """
    _, variance = found.against(design.null)
    if not variance > 0:
        return None
    information = 1 / float(variance)
    effect = float(_effect(design, found))
    z = mixture.boundary(information, effect, math.log(2 / design.alpha), design.mixture)
    a, b = float(found.candidate), float(found.champion)
    va, vb = float(found.candidate_variance), float(found.champion_variance)
    if not math.isfinite(z) or b * b <= z * z * vb:
        return None
    centre = a * b
    root = math.sqrt(max(centre * centre - (a * a - z * z * va) * (b * b - z * z * vb), 0.0))
    below = b * b - z * z * vb
    side = math.copysign(1.0, b)
    ends = sorted(side * ((centre + s * root) / below - 1) for s in (-1, 1))
    return ends[0], ends[1]


def _effect(design: Design, found: Contrast) -> Values:
    """The planned effect in the metric's unit."""
    return design.distance * (found.deviation if design.planned is None else found.size)


def _variance(arm: Moments, ratio: Values, theta: Values) -> Values:
    """Variance of one observation of y - `ratio` z - `theta` x in an arm."""
    total = arm.y - ratio * arm.z - theta * arm.x
    squares = (
        arm.yy
        + ratio * ratio * arm.zz
        + theta * theta * arm.xx
        - 2 * ratio * arm.yz
        - 2 * theta * arm.xy
        + 2 * ratio * theta * arm.xz
    )
    return np.maximum(squares - total * total / arm.n, 0.0) / (arm.n - 1)
