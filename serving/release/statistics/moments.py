"""What a look needs to know of one arm: sums over its finished observations.

Sums add over shards, servers and looks, do not depend on the order in which outcomes matured, and are small enough
for a journal. An observation is the unit that was randomised (a user) where outcomes of one unit hang together, and
the request where they do not.

The fields may be arrays of equal shape instead of numbers: everything that is computed from moments is arithmetic
that works on both, so that a simulation runs the shipped formulas on thousands of repetitions at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Moments:
    """Sums over the finished observations of one arm.

    Attributes:
        n: observations.
        y, yy: sum and sum of squares of the value (of a ratio metric: of the numerator).
        z, zz, yz: of the denominator of a ratio metric, and of the products; 0 for other metrics.
        x, xx, xy, xz: of the covariate from before the release, and of the products; 0 where there is none.
    """

    n: int = 0
    y: float = 0.0
    yy: float = 0.0
    z: float = 0.0
    zz: float = 0.0
    yz: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    xz: float = 0.0

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, name) - getattr(other, name) for name in _NAMES))

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        denominators: Sequence[float] | None = None,
        covariates: Sequence[float] | None = None,
    ) -> Moments:
        """The sums over observations.

        Raises:
            ValueError: lists of different lengths, or a number that is not finite: a missing outcome is left out by
                the caller, never counted as something.
        """
        z = [0.0] * len(values) if denominators is None else denominators
        x = [0.0] * len(values) if covariates is None else covariates
        if not len(values) == len(z) == len(x):
            raise ValueError(
                f"{len(values)} values, {len(z)} denominators and {len(x)} covariates do not match"
            )
        for number in (*values, *z, *x):
            if not math.isfinite(number):
                raise ValueError(f"observation {number!r} is not a finite number; leave unfinished ones out")
        return cls(
            len(values),
            math.fsum(values),
            _products(values, values),
            math.fsum(z),
            _products(z, z),
            _products(values, z),
            math.fsum(x),
            _products(x, x),
            _products(x, values),
            _products(x, z),
        )


_NAMES = tuple(field.name for field in fields(Moments))


def _products(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))
