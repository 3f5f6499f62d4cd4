"""Confidence sequences for a quantile, from a histogram: for latencies as people read them ("p99 41-53 ms").

Of n answers, how many lie at or below the true q-quantile is a count of independent trials with chance q. The counts
that a mixture of binomials against q does not refute - a fixed test, whatever the distribution of the latencies -
are a range around nq, and the latencies of those ranks enclose the quantile at all times at once.

Source: S. Howard and A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", Bernoulli 28 (2022) 1704-1728, Theorem 1 with the beta-binomial mixture for the width (their
equation 8; the mixture is Proposition 7 of Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49 (2021)).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from serving.release.statistics import ratio
from serving.release.statistics.histogram import Histogram

#: Sample size at which the intervals are made tightest.
BEST_AT = 1000


def interval(histogram: Histogram, q: float, alpha: float, best_at: int = BEST_AT) -> tuple[float, float]:
    """Bounds in milliseconds of the q-quantile that hold at all looks together with chance 1 - `alpha`.

    They are edges of the histogram, the safe ones: 0 and `inf` where the data bound nothing.

    Raises:
        ValueError: q or alpha outside (0, 1).
    """
    low, high = ranks(histogram.n, q, alpha, best_at)
    lower = histogram.at_rank(low)[0] if low >= 1 else 0.0
    upper = histogram.at_rank(high + 1)[1] if high < histogram.n else math.inf
    return lower, upper


def difference(
    candidate: Histogram, champion: Histogram, q: float, alpha: float, best_at: int = BEST_AT
) -> tuple[float, float]:
    """Bounds in milliseconds of the candidate's quantile minus the champion's, of level 1 - `alpha` at all looks.

    Each arm's interval at half of alpha: for display, wider than the tests that decide (`arms`, `tail`).
    """
    low, high = interval(candidate, q, alpha / 2, best_at)
    their_low, their_high = interval(champion, q, alpha / 2, best_at)
    return low - their_high, high - their_low


def ranks(n: int, q: float, alpha: float, best_at: int = BEST_AT) -> tuple[int, int]:
    """The least and the largest number of n answers at or below the q-quantile that is not refuted."""
    if not (0 < q < 1 and 0 < alpha < 1):
        raise ValueError(f"quantile {q} and alpha {alpha} must lie in (0, 1)")
    if n == 0:
        return 0, 0
    concentration = mixing(alpha, best_at)
    needed = math.log(1 / alpha)

    def refuted(count: int) -> bool:
        return ratio.log_evidence((count, n - count), (q, 1 - q), concentration) >= needed

    # the evidence is convex in the count, and near nq nothing is ever refuted
    middle = round(n * q)
    return _last_held(refuted, middle, 0), _last_held(refuted, middle, n)


def threshold(histogram: Histogram, q: float, at_least: int) -> float | None:
    """The least edge that at most a share 1 - q of the latencies exceed; None of fewer than `at_least` latencies,
    and where it is beyond the last edge."""
    if histogram.n < at_least:
        return None
    found = histogram.quantile(q)
    return found if found is not None and math.isfinite(found) else None


def mixing(alpha: float, best_at: int) -> float:
    """The weight, in answers, of the beta mixture around q that makes the intervals at `best_at` about tightest.

    The approximation of the 2021 paper's Section 3.5 for a normal mixture, taken over to counts as its authors'
    package confseq does.
    """
    needed = -2 * math.log(alpha)
    return max(best_at / (needed + math.log(needed + 1)) - 1, 1e-3)


def _last_held(refuted: Callable[[int], bool], held: int, end: int) -> int:
    """The count farthest from `held` towards `end` that is not refuted, by bisection."""
    if not refuted(end):
        return end
    while abs(end - held) > 1:
        middle = (held + end) // 2
        if refuted(middle):
            end = middle
        else:
            held = middle
    return held
