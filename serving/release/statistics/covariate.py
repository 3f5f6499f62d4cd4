"""Less variance from what was known of a unit before the release: regression adjustment (CUPED).

The part of an outcome that a covariate from before the release predicts is the same for both arms up to chance, so it
is taken out: y - theta (x - mean of x). Assignment does not depend on x, hence whatever theta is, the difference of
the arms keeps its expectation; theta = cov(x, y) / var(x) makes its variance smallest, by the factor 1 - correlation^2.

Source: A. Deng, Y. Xu, R. Kohavi and T. Walker, "Improving the sensitivity of online controlled experiments by
utilizing pre-experiment data", WSDM 2013, section 3 (control variates), theta from both arms. For a ratio metric the
linearised outcome y - R z takes the place of y, as in their appendix.
"""

from __future__ import annotations

import numpy as np

from serving.release.statistics.mixture import Values
from serving.release.statistics.moments import Moments


def coefficient(candidate: Moments, champion: Moments, ratio: Values) -> Values:
    """Theta from both arms: slope of y - `ratio` z on x within arms; 0 where x does not vary.

    Within arms, so that an effect of the candidate does not count as a relation of x and y.
    """
    spread = _within(candidate.x, candidate.x, candidate.xx, candidate.n)
    spread = spread + _within(champion.x, champion.x, champion.xx, champion.n)
    joint: Values = 0.0
    for arm in (candidate, champion):
        joint = joint + _within(arm.x, arm.y - ratio * arm.z, arm.xy - ratio * arm.xz, arm.n)
    return np.where(spread > 0, joint / np.where(spread > 0, spread, 1.0), 0.0)[()]


def reduction(candidate: Moments, champion: Moments, ratio: Values = 0.0) -> Values:
    """The share of the variance that the covariate takes away: the squared correlation within arms, 0 to 1."""
    theta = coefficient(candidate, champion, ratio)
    joint: Values = 0.0
    total: Values = 0.0
    for arm in (candidate, champion):
        value = arm.y - ratio * arm.z
        square = arm.yy - 2 * ratio * arm.yz + ratio * ratio * arm.zz
        joint = joint + _within(arm.x, value, arm.xy - ratio * arm.xz, arm.n)
        total = total + _within(value, value, square, arm.n)
    return np.where(total > 0, theta * joint / np.where(total > 0, total, 1.0), 0.0)[()]


def _within(left: Values, right: Values, product: Values, n: Values) -> Values:
    """Sum of the products of the deviations from the arm's means."""
    return product - left * right / np.maximum(n, 1)
