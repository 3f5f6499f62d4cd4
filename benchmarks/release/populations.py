"""The metrics that the simulations draw: what one observation of one arm is, and how a lift changes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.release.statistics.design import Kind
from serving.release.statistics.moments import Moments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Shape = tuple[int, ...]

RATE = 0.05
DEVIATION = 4.0  # of the normal metric, whose mean is 1: as variable as conversions of 5 %
SIGMA = 1.5  # of the lognormal metric: skewness 33, kurtosis above 10,000
BUYERS, BUYERS_SIGMA = 0.05, 1.2
SESSIONS_SHAPE, SESSIONS_SCALE = 1.0, 3.0
CLICKS_A, CLICKS_B, CLICKS_LARGEST = 0.5, 4.5, 0.4
SLOPE = 0.9


@dataclass(frozen=True)
class Drawn:
    """Observations: values, and denominators and covariates where the metric has them."""

    y: Array
    z: Array | None = None
    x: Array | None = None

    def looks(self, per_look: int) -> Moments:
        """The sums of each look: along the last axis, observations become looks."""

        def total(values: Array) -> Array:
            return values.reshape(*values.shape[:-1], -1, per_look).sum(axis=-1)

        y, yy = total(self.y), total(self.y * self.y)
        sums = dict.fromkeys(("z", "zz", "yz", "x", "xx", "xy", "xz"), 0.0 * y)
        if self.z is not None:
            sums |= {"z": total(self.z), "zz": total(self.z**2), "yz": total(self.y * self.z)}
        if self.x is not None:
            sums |= {"x": total(self.x), "xx": total(self.x**2), "xy": total(self.x * self.y)}
        return Moments(n=0.0 * y + per_look, y=y, yy=yy, **sums)


@dataclass(frozen=True)
class Population:
    """A metric of the champion; a lift multiplies its mean.

    Attributes:
        baseline: the champion's mean, or its ratio of sums.
        draw: random generator, shape and lift -> observations.
        variance: lift -> variance of one observation (of a ratio metric: of y - R z over the mean of z).
    """

    name: str
    kind: Kind
    baseline: float
    draw: Callable[[np.random.Generator, Shape, float], Drawn]
    variance: Callable[[float], float]
    covariate: bool = False


def _binary(rng: np.random.Generator, shape: Shape, lift: float) -> Drawn:
    return Drawn((rng.random(shape) < RATE * (1 + lift)).astype(float))


def _normal(rng: np.random.Generator, shape: Shape, lift: float) -> Drawn:
    return Drawn(rng.normal(1 + lift, DEVIATION, shape))


def _lognormal(rng: np.random.Generator, shape: Shape, lift: float) -> Drawn:
    return Drawn((1 + lift) * rng.lognormal(-(SIGMA**2) / 2, SIGMA, shape))


def _revenue(rng: np.random.Generator, shape: Shape, lift: float) -> Drawn:
    buys = rng.random(shape) < BUYERS
    return Drawn((1 + lift) / BUYERS * buys * rng.lognormal(-(BUYERS_SIGMA**2) / 2, BUYERS_SIGMA, shape))


def _ratio(rng: np.random.Generator, shape: Shape, lift: float) -> Drawn:
    """Clicks per view of users: some come often, and they differ in how often they click."""
    views = 1 + rng.poisson(rng.gamma(SESSIONS_SHAPE, SESSIONS_SCALE, shape))
    clicks = rng.binomial(views, (1 + lift) * CLICKS_LARGEST * rng.beta(CLICKS_A, CLICKS_B, shape))
    return Drawn(clicks.astype(float), z=views.astype(float))


def _ratio_variance(lift: float) -> float:
    more = SESSIONS_SHAPE * SESSIONS_SCALE
    views = 1 + more
    views_squared = more + SESSIONS_SHAPE * SESSIONS_SCALE**2 + views**2
    total = CLICKS_A + CLICKS_B
    largest = (1 + lift) * CLICKS_LARGEST
    mean = largest * CLICKS_A / total
    spread = largest**2 * CLICKS_A * CLICKS_B / (total**2 * (total + 1))
    return (views * (mean - mean**2 - spread) + views_squared * spread) / views**2


def _before(rng: np.random.Generator, shape: Shape, lift: float) -> Drawn:
    before = rng.gamma(0.25, 4.0, shape)
    return Drawn(SLOPE * before + (1 - SLOPE) + lift + rng.normal(0, 1, shape), x=before)


def _ones_variance(lift: float) -> float:
    rate = RATE * (1 + lift)
    return rate * (1 - rate)


_CLICKS = CLICKS_LARGEST * CLICKS_A / (CLICKS_A + CLICKS_B)
_LISTED = (
    Population("binary, 5 %", "binary", RATE, _binary, _ones_variance),
    Population("continuous, normal", "continuous", 1.0, _normal, lambda lift: DEVIATION**2),
    Population(
        "continuous, lognormal (sigma 1.5)",
        "continuous",
        1.0,
        _lognormal,
        lambda lift: (1 + lift) ** 2 * math.expm1(SIGMA**2),
    ),
    Population(
        "continuous, revenue (5 % buy, sigma 1.2)",
        "continuous",
        1.0,
        _revenue,
        lambda lift: (1 + lift) ** 2 * (math.exp(BUYERS_SIGMA**2) / BUYERS - 1),
    ),
    Population("ratio, clicks per view", "ratio", _CLICKS, _ratio, _ratio_variance),
    Population(
        "continuous, with a covariate",
        "continuous",
        1.0,
        _before,
        lambda lift: SLOPE**2 * 4.0 + 1,
        covariate=True,
    ),
)
POPULATIONS = {population.name: population for population in _LISTED}
