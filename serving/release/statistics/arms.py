"""Two concurrent arms of zeros and ones: evidence that the candidate's rate exceeds the champion's by too much.

Between two looks each arm answered some requests and some of them were events (errors, or answers slower than a
bound). Requests went to the arms by chance, so whatever befalls both arms alike - a slow disk, a burst of bad
requests - falls on them in proportion to their shares, at any rate and however the rate moves. The bet is only
on who gets the events:

    candidate's event  1 + lambda (1/w - excess)        w: the candidate's share of the requests of this look
    champion's event   1 - lambda (1/(1-w) + excess)
    neither            1 - lambda excess

Its expectation per request is 1 + lambda (p_candidate - p_champion - excess), at most 1 under the claim
"the candidate's rate is at most the champion's plus `excess`". That w is the share that came out, not the one
decided, only lowers it: drawing without replacement makes assignments negatively associated (W. Hoeffding, JASA
58 (1963) Theorem 4; K. Joag-Dev and F. Proschan, Annals of Statistics 11 (1983) 2.11), and the factors rise in
them. For excess 0 the process is the conditional test of each event's arm, as in J. ter Schure, M. Perez-Ortiz,
A. Ly and P. Gruenwald, "The safe logrank test", New England Journal of Statistics in Data Science 2 (2024) 190-214;
for an excess it bets on inverse-propensity differences with the capital process of Theorem 3 of I. Waudby-Smith and
A. Ramdas, JRSS B 86 (2024) 1-27.

Mirrored requests, which both arms answer, are covered as well: there w = 1/2, and the product over a pair is at most
1 in expectation whatever the two answers have to do with each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Fractions of the largest bet that cannot go bankrupt; the wealth starts in equal shares.
FRACTIONS = (0.02, 0.05, 0.12, 0.25, 0.4, 0.6, 0.8, 0.95)


@dataclass(frozen=True)
class Batch:
    """What the arms answered between two looks."""

    candidate: int
    candidate_events: int
    champion: int
    champion_events: int

    def swapped(self) -> Batch:
        return Batch(self.champion, self.champion_events, self.candidate, self.candidate_events)


#: Log wealth of each fraction.
Wealth = tuple[float, ...]

START: Wealth = (0.0,) * len(FRACTIONS)


def add(wealth: Wealth, batch: Batch, excess: float) -> Wealth:
    """The wealth after `batch`, against "candidate's rate <= champion's rate + `excess`".

    A batch in which one arm answered nothing says nothing about the difference: the caller keeps its counts for
    the next look.

    Raises:
        ValueError: such a batch.
    """
    if batch.candidate == 0 or batch.champion == 0:
        raise ValueError("a batch needs requests of both arms")
    share = batch.candidate / (batch.candidate + batch.champion)
    quiet = batch.candidate + batch.champion - batch.candidate_events - batch.champion_events
    largest = 1 / (1 / (1 - share) + excess)
    gained = []
    for fraction in FRACTIONS:
        bet = fraction * largest
        gained.append(
            batch.candidate_events * math.log1p(bet * (1 / share - excess))
            + batch.champion_events * math.log1p(-fraction)
            + quiet * math.log1p(-bet * excess)
        )
    return tuple(held + gain for held, gain in zip(wealth, gained, strict=True))


def log_evidence(wealth: Wealth) -> float:
    """Log of the e-value of the equal mixture over the fractions."""
    return float(np.logaddexp.reduce(np.asarray(wealth))) - math.log(len(wealth))
