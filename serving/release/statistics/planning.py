"""How long a comparison will take: observations for one look, for ours at every look, and days from the traffic.

Fixed horizon: the normal formula of every textbook, n = (z_{1-alpha/2} + z_{power})^2 (v1 + v2) / difference^2 an arm
(R. Kohavi, D. Tang and Y. Xu, "Trustworthy Online Controlled Experiments", 2020, chapter 17, where its rounding is
"16 sigma^2 / delta^2"); rates have their own variances, not pooled.

Sequential: with information t the estimate times t is a Brownian motion with the true effect as its drift, so the
size at which our mixture decides is a first passage through the mixture's boundary. Its law depends on alpha and on the
true effect over the planned one alone, and is found by moving the density of the not yet decided from step to step
(P. Armitage, C. McPherson and B. Rowe, "Repeated significance tests on accumulating data", JRSS A 132 (1969) 235-244).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from serving.release.statistics import mixture
from serving.release.statistics.design import Design
from serving.release.statistics.mixture import Mixture

POWER = 0.8

#: Grid of the first passage: step of time (in units of one over the true effect squared), of the score, last time.
_STEP, _CELL, _LAST = 0.05, 0.06, 400.0

#: A walk with steps of this grid crosses a boundary as late as Brownian motion crosses one that is higher by this
#: (D. Siegmund, "Sequential Analysis", 1985, chapter X: 0.583 standard deviations of a step).
_LATE = 0.5826 * math.sqrt(_STEP)


@dataclass(frozen=True)
class Traffic:
    """What is known before the release.

    Attributes:
        baseline: the champion's mean, rate or ratio.
        deviation: standard deviation of one observation; of a ratio metric: of y - R z over the mean of z. Not needed
            for a binary metric.
        shares: of all traffic that candidate and champion get; with more candidates these do not sum to 1.
        per_second: observations of all arms a second; None where unknown.
        explained: share of the variance that the covariate takes away (`covariate.reduction`).
    """

    baseline: float
    deviation: float | None = None
    shares: tuple[float, float] = (0.5, 0.5)
    per_second: float | None = None
    explained: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.baseline):
            raise ValueError(f"a baseline of {self.baseline!r} is no mean")
        if (
            len(self.shares) != 2
            or not all(share > 0 for share in self.shares)
            or sum(self.shares) > 1 + 1e-9
        ):
            raise ValueError(f"shares {self.shares!r} must be two, positive, and sum to at most 1")
        if self.deviation is not None and not 0 < self.deviation < math.inf:
            raise ValueError(f"a standard deviation of {self.deviation!r} is none; it must be above 0")
        if not 0 <= self.explained < 1:
            raise ValueError(f"an explained share of {self.explained!r} is not from 0 to below 1")
        if self.per_second is not None and not 0 < self.per_second < math.inf:
            raise ValueError(f"{self.per_second!r} observations a second never arrive")


@dataclass(frozen=True)
class Size:
    """Observations of each arm, and how long the traffic takes to bring them (None where the traffic is unknown)."""

    candidate: int
    champion: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What to expect if the lift is the planned one.

    Attributes:
        lift: the planned lift, with its sign.
        fixed: for a single look with 80 % power.
        median, ninety: by when our test, looking all the time, has decided with chance 50 % and 90 %.
    """

    lift: float
    fixed: Size
    median: Size
    ninety: Size


def plan(design: Design, traffic: Traffic, power: float = POWER) -> Plan:
    """Sizes and durations of one comparison.

    Raises:
        ValueError: the design states no effect, or the traffic cannot show it.
    """
    return Plan(
        planned_lift(design),
        fixed_size(design, traffic, power),
        sequential_size(design, traffic, 0.5),
        sequential_size(design, traffic, 0.9),
    )


def planned_lift(design: Design) -> float:
    """The lift that a design is made for: its effect in the good direction, or none where it states a margin alone.

    Raises:
        ValueError: it states neither.
    """
    if design.planned is None:
        raise ValueError(
            "the design states no effect to plan for; set minimumDetectableEffect, the lift that would matter"
        )
    return design.sign * (design.minimum_detectable_effect or 0.0)


def fixed_size(design: Design, traffic: Traffic, power: float = POWER, lift: float | None = None) -> Size:
    """The size for one two-sided look at `design.alpha` that sees `lift` (default: the planned one) with `power`."""
    if not 0 < power < 1:
        raise ValueError(f"power {power!r} is not between 0 and 1")
    lift = planned_lift(design) if lift is None else lift
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - design.alpha / 2) + normal.inv_cdf(power)
    return _size(design, traffic, lift, quantiles**2, 2)


def sequential_size(design: Design, traffic: Traffic, quantile: float, lift: float | None = None) -> Size:
    """The size by which our test has decided with chance `quantile` if `lift` (default: the planned one) is true.

    Raises:
        ValueError: the traffic cannot show the lift, or the plan is so far off that it does not decide.
    """
    lift = planned_lift(design) if lift is None else lift
    towards = abs(lift - design.null)
    unit = design.distance
    if design.planned is None and design.kind != "binary":
        unit *= _deviation(traffic) / abs(traffic.baseline)
    time = passage(design.alpha, design.mixture, towards / unit, quantile)
    return _size(design, traffic, lift, time, design.min_samples)


@lru_cache(maxsize=64)
def passage(alpha: float, bets: Mixture, truth: float, quantile: float) -> float:
    """Information times the squared true effect by which the mixture has decided with chance `quantile`.

    Args:
        alpha: two-sided; half of it is for the side that is true.
        bets: what is bet on.
        truth: the true effect over the planned one.
        quantile: in (0, 1).

    Raises:
        ValueError: no decision within `_LAST`.
    """
    if not truth > 0 or not 0 < quantile < 1:
        raise ValueError(f"a true effect of {truth!r} planned ones with quantile {quantile!r} has no size")
    needed = math.log(2 / alpha)
    deviation = math.sqrt(_STEP)
    reach = math.ceil(6 * deviation / _CELL)
    steps = np.arange(-reach, reach + 1) * _CELL
    kernel = np.exp(-steps * steps / (2 * _STEP))
    kernel /= kernel.sum()
    # the score without its drift: a symmetric walk, and a boundary that comes down to it
    half = math.ceil(5 * math.sqrt(_LAST) / _CELL)
    scores = np.arange(-half, half + 1) * _CELL
    density = np.zeros(len(scores))
    density[half] = 1.0
    low = high = half
    left = 1.0
    for number in range(1, int(_LAST / _STEP) + 1):
        time = number * _STEP
        edge = mixture.boundary(time, 1 / truth, needed, bets) * math.sqrt(time) - time - _LATE
        low, high = max(low - reach, 0), min(high + reach, len(scores) - 1)
        moved = np.convolve(density[low : high + 1], kernel, mode="same")
        top = min(max(math.ceil((edge + scores[-1]) / _CELL), low), high + 1)
        moved[top - low :] = 0.0
        density[low : high + 1] = moved
        before, left = left, float(moved.sum())
        if left <= 1 - quantile:
            return time - _STEP * (1 - quantile - left) / (before - left)
        high = max(top - 1, low)
        # tails that no longer matter are not carried along
        low = max(low, half - math.ceil(5 * math.sqrt(time) / _CELL) - 1)
    raise ValueError(
        f"an effect of {truth:g} times the planned one is not decided with chance {quantile:g} in a time that can be "
        "planned for; state a minimumDetectableEffect nearer to the effect you expect"
    )


def _size(design: Design, traffic: Traffic, lift: float, time: float, least: int) -> Size:
    """From information in units of one over the squared difference to observations of each arm."""
    difference = abs(lift - design.null) * abs(traffic.baseline)
    if not difference > 0:
        raise ValueError(
            f"a lift of {lift:g} of a baseline of {traffic.baseline:g} is no difference from the lift of "
            f"{design.null:g} that the candidate is held to"
        )
    candidate, champion = _variances(design, traffic, lift)
    share, other = traffic.shares
    total = time / difference**2 * (1 - traffic.explained) * (candidate / share + champion / other)
    total = max(total, least / min(share, other))
    seconds = None if traffic.per_second is None else total / traffic.per_second
    return Size(math.ceil(total * share), math.ceil(total * other), seconds)


def _variances(design: Design, traffic: Traffic, lift: float) -> tuple[float, float]:
    if design.kind != "binary":
        return (_deviation(traffic) ** 2,) * 2
    rates = (traffic.baseline * (1 + lift), traffic.baseline)
    if min(rates) <= 0 or max(rates) >= 1:
        raise ValueError(
            f"a rate of {traffic.baseline:g} with a lift of {lift:g} leaves the range from 0 to 1; "
            "state a smaller minimumDetectableEffect"
        )
    return rates[0] * (1 - rates[0]), rates[1] * (1 - rates[1])


def _deviation(traffic: Traffic) -> float:
    if traffic.deviation is None:
        raise ValueError(
            "the size of a continuous or ratio metric needs its standard deviation from past traffic"
        )
    return traffic.deviation
