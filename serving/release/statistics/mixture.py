"""The bets on several effects at once that every decision metric uses, and the boundary that they amount to.

A test that is told the true effect bets on it alone; ours is told a minimum detectable effect, which may be wrong. It
spreads its wealth over multiples of that effect: W(X, t) = sum_j w_j exp(m_j d X - (m_j d)^2 t / 2), where d > 0 is
the planned effect, t the information gathered (one over the variance of the estimated difference) and X the estimate
times t. Under "no effect or one the other way" W is a nonnegative supermartingale whenever X is a Brownian motion
with drift, so it reaches 1/alpha with chance at most alpha over all looks (Ville 1939).

Source: H. Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical
Statistics 41 (1970) 1397-1409 (method of mixtures), one-sided and with a discrete mixing distribution as in
S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, Annals of Statistics 49 (2021), section 3.3. That estimates of means
follow it at all looks at once is I. Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52 (2024), Theorem 2.2.

The weights were found by minimising, for Brownian motion at level 0.025, the largest of (median sample size over that
of the bet on the true effect alone) / (1.2, 1.4, 1.4) for a true effect of 1, 1/2 and 2 times the planned one. The
ratios are 1.11, 1.28 and 1.30; the outer multiples hardly matter there and are for plans that are further off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: A number, or an array of repetitions.
Values = float | NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """Multiples of the planned effect, and the share of the starting wealth that is bet on each (they sum to 1)."""

    multiples: tuple[float, ...]
    weights: tuple[float, ...]


#: For a plan that states the effect it wants to see.
PLANNED = Mixture((0.25, 0.5, 1.0, 2.0, 4.0), (0.02, 0.21, 0.5, 0.25, 0.02))

#: For a plan that states none: from a fifth to eight times `UNPLANNED_EFFECT`, on equal terms.
BROAD = Mixture((0.2, 0.5, 1.0, 2.0, 4.0, 8.0), (1 / 6,) * 6)

#: The effect that stands in for a stated one: relative for a binary metric, in standard deviations for others.
UNPLANNED_EFFECT = 0.1


def log_evidence(score: Values, information: Values, effect: Values, mixture: Mixture) -> Values:
    """Log of W: the evidence for an effect above 0.

    Args:
        score: the estimated difference times the information.
        information: one over the variance of the estimated difference.
        effect: the planned difference, at least 0.
        mixture: what is bet on.
    """
    multiples, weights = columns(mixture, np.ndim(score))
    bets = multiples * effect
    return log_mean(bets * score - bets * bets * (information / 2), weights)


def log_mean(logs: NDArray[np.float64], weights: NDArray[np.float64]) -> Values:
    """Log of the weighted mean of exp(logs) over the first axis; weights sum to 1."""
    top = logs.max(axis=0)
    mean: Values = top + np.log((weights * np.exp(logs - top)).sum(axis=0))
    return mean


def boundary(information: float, effect: float, log_threshold: float, mixture: Mixture) -> float:
    """The standardised estimate (estimate / its standard deviation) at which the evidence reaches the threshold.

    Newton's method from above: the log evidence is convex and increasing in the score.

    Returns:
        inf where nothing can reach it yet: no information, or an effect of 0.
    """
    scale = effect * math.sqrt(information)
    if not 0 < scale < math.inf:
        return math.inf
    pairs = [(m * scale, w) for m, w in zip(mixture.multiples, mixture.weights, strict=True)]
    # where one bet alone reaches it is above where all of them do
    z = min((log_threshold - math.log(w)) / bet + bet / 2 for bet, w in pairs)
    for _ in range(60):
        logs = [math.log(w) + bet * z - bet * bet / 2 for bet, w in pairs]
        top = max(logs)
        parts = [math.exp(log - top) for log in logs]
        total = math.fsum(parts)
        slope = math.fsum(part * bet for part, (bet, _) in zip(parts, pairs, strict=True)) / total
        step = (top + math.log(total) - log_threshold) / slope
        z -= step
        if abs(step) < 1e-10:
            break
    return z


@lru_cache(maxsize=64)
def columns(mixture: Mixture, dimensions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Multiples and weights along a first axis, before `dimensions` axes of repetitions."""
    shape = (len(mixture.multiples),) + (1,) * dimensions
    return np.reshape(mixture.multiples, shape), np.reshape(mixture.weights, shape)
