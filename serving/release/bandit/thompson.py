"""Thompson sampling without drawing: each version is weighted by the chance that it is the best.

W. R. Thompson, Biometrika 25 (1933) 285-294, asks for traffic in proportion to the posterior chance of being best;
drawing from the posteriors and taking the largest draw does that one request at a time (O. Chapelle and L. Li, NIPS
2011; D. Russo, B. Van Roy, A. Kazerouni, I. Osband and Z. Wen, Foundations and Trends in Machine Learning 11 (2018)
1-96). Here the chances themselves are computed and handed to the router, which draws. That also fits delayed
rewards: the chances stay spread as long as rewards are out, while a deterministic index would send everything to one
version (Chapelle and Li compare both under delay).

A version's prior is worth the requests that give one reward, centred on what all living versions earned. So a version
whose rewards have not come, or never come, is taken for one like the others, neither bad nor best; a uniform
prior would take one of unknown rate for better than any of 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from serving.release.bandit import integration
from serving.release.bandit.arm import Arm
from windlass.errors import UsageError


def binary(arms: Sequence[Arm]) -> list[float]:
    """Chance of each that its rate is the highest; equal chances without any reward.

    Rewards are 0 or 1, the posterior of a rate is Beta(a + successes, b + failures). The prior has the pooled rate m
    as its mean and is Beta(1, (1 - m) / m), mirrored above one half: both parameters at least 1, so the density
    is bounded.

    Raises:
        UsageError: sums that zeros and ones cannot have.
    """
    pulls = sum(arm.pulls for arm in arms)
    if pulls <= 0:
        return equal(len(arms))
    for arm in arms:
        if not -1e-9 <= arm.total <= arm.pulls + 1e-9:
            raise UsageError(
                f"version {arm.version}: rewards sum to {arm.total:g} in {arm.pulls:g} requests, "
                "which zeros and ones cannot; state reward: continuous"
            )
    pooled = (sum(arm.total for arm in arms) + 1) / (pulls + 2)
    a = np.array([max(arm.total, 0.0) + max(1.0, pooled / (1 - pooled)) for arm in arms])
    b = np.array([max(arm.pulls - arm.total, 0.0) + max(1.0, (1 - pooled) / pooled) for arm in arms])
    centres = a / (a + b)
    scales = np.sqrt(centres * (1 - centres) / (a + b + 1))
    x, half = integration.panels(centres, scales, 0.0, 1.0)
    log_x, log_rest = np.log(x), np.log1p(-x)
    shape = (len(arms), 1, 1)
    logs = (a - 1).reshape(shape) * log_x + (b - 1).reshape(shape) * log_rest
    return [float(chance) for chance in integration.largest(logs, half)]


def continuous(arms: Sequence[Arm]) -> list[float]:
    """Chance of each that its mean is the highest; equal chances until rewards differ at all.

    Normal rewards of unknown mean and variance: with a normal-inverse-gamma prior the posterior of a mean is
    Student's t (A. Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.3). The prior is worth one
    reward: centred on the pooled mean, with the pooled variance and 2 degrees of freedom. Rewards that are not
    normal are covered as far as their means are, by the central limit theorem.
    """
    n = sum(arm.pulls for arm in arms)
    if n < 2:
        return equal(len(arms))
    mean = sum(arm.total for arm in arms) / n
    spread = sum(arm.squares for arm in arms) / n - mean * mean
    # what rounding leaves of a difference of squares is not a variance
    if spread <= 1e-12 * mean * mean:
        return equal(len(arms))
    counts = np.array([arm.pulls for arm in arms], dtype=float)
    totals = np.array([arm.total for arm in arms])
    squares = np.array([arm.squares for arm in arms])
    own = np.divide(totals, counts, out=np.full(len(arms), mean), where=counts > 0)
    within = np.maximum(squares - counts * own**2, 0.0)
    worth = counts + 1
    degrees = counts + 2
    variance = (2 * spread + within + counts / worth * (own - mean) ** 2) / degrees
    centres = (mean + totals) / worth
    scales = np.sqrt(variance / worth)
    x, half = integration.panels(centres, scales, -math.inf, math.inf)
    shape = (len(arms), 1, 1)
    t = (x - centres.reshape(shape)) / scales.reshape(shape)
    logs = -(degrees.reshape(shape) + 1) / 2 * np.log1p(t * t / degrees.reshape(shape))
    return [float(chance) for chance in integration.largest(logs, half)]


def sharpened(chances: Sequence[float], power: float) -> list[float]:
    """Chances raised to `power`, sum 1: more of the traffic to what looks best.

    Chapelle and Li ("posterior reshaping") find that a sharper posterior costs less over a finite horizon and has more
    unlucky runs; an exploration floor bounds what those cost.
    """
    raised = [chance**power for chance in chances]
    total = sum(raised)
    return [value / total for value in raised]


def equal(n: int) -> list[float]:
    return [1 / n] * n
