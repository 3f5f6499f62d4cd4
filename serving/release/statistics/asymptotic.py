"""The asymptotic confidence sequence: what the central limit theorem is to one look, for all looks at once.

Source: I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy and A. Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52 (2024) 2613-2640, Theorem 2.2, one-sided: its
mixture over all effects becomes one over positive effects only.
The guarantee is a limit: it holds for looks from a sample size on at which the normal approximation is good, and
the caller states that size. Simulated error at every look from 100 samples on, 5 % asked for: 2.9 % for normal
values and for differences of two models' squared errors, 6.4 % for exponential ones (3.8 % from 300 on). So a
skewed metric needs a larger minimum, and where every verdict must be trusted there is `betting.py`. It needs no
range, only a finite variance (more than two moments).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Sample size at which the sequence is made tightest.
BEST_AT = 300


def bounds(values: Sequence[float], alpha: float, best_at: int = BEST_AT) -> tuple[float, float]:
    """Lower and upper bound of the mean, each of level 1 - `alpha` over all looks; infinite below two values.

    Raises:
        ValueError: a value is not finite, or as `boundary`.
    """
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    mean = math.fsum(values) / n
    if not math.isfinite(mean):
        raise ValueError(f"the mean of {n} values is {mean!r}: one of them is not a finite number")
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    width = deviation * boundary(n, alpha, best_at)
    return mean - width, mean + width


def boundary(n: int, alpha: float, best_at: int = BEST_AT) -> float:
    """Half-width of the one-sided sequence for a standard deviation of 1.

    Raises:
        ValueError: no value was seen, or alpha is not between 0 and 1.
    """
    if not n >= 1 or not best_at >= 1 or not 0 < alpha < 1:
        raise ValueError(
            f"no sequence for n {n!r}, alpha {alpha!r}, best at {best_at!r}: n from 1, alpha in (0, 1)"
        )
    squared = tuning(alpha, best_at) ** 2
    spread = n * squared + 1
    return math.sqrt(2 * spread / (n * n * squared) * math.log(1 + math.sqrt(spread) / (2 * alpha)))


def tuning(alpha: float, best_at: int) -> float:
    """The mixture's scale (rho) that makes the width at `best_at` smallest, by the paper's closed-form approximation.

    A one-sided sequence of level alpha is tuned like a two-sided one of level 2 alpha.
    """
    level = min(2 * alpha, 0.999)
    return math.sqrt((-2 * math.log(level) + math.log(-2 * math.log(level) + 1)) / best_at)
