"""Two arms of zeros and ones: exact evidence that their rates differ by more or less than a stated lift.

Between two looks the arms answered n and m requests. For a bet A, a centre c and k = 1 + the lift under test, each
request multiplies the wealth by

    1 + A (y - k c)          for the candidate's,
    1 - A k n/m (y - c)      for the champion's.

If the champion's rate is p and the candidate's is k p, the expectation of the product over the look is
(1 + A k (p - c))^n (1 - A k n/m (p - c))^m <= exp(0) = 1, whatever p, A and c are, as long as these were chosen
before the look; for A > 0 it is smaller still if the candidate's rate is below k p, for A < 0 if it is above. So the
wealth is a supermartingale under "the lift is at most (at least) the stated one" for any n, and no approximation is
made. p may change from look to look; within one look it must be the same for both arms.

For a lift of 0 these are the growth-rate-optimal e-variables of R. Turner, A. Ly and P. Gruenwald, "Generic
E-variables for exact sequential k-sample tests that allow for optional stopping", Journal of Statistical Planning and
Inference 230 (2024), Theorem 1 (there c is the rate of both arms together under the alternative), up to terms of second
order in the bet: it is the one that maximises the expected logarithm to second order, which exists for every k. The
champion's rate is learnt from earlier looks; a wrong guess costs growth, never validity. The wealth is spread over
several lifts as in `mixture.py`.

At the first look nothing is learnt yet. There the wealth is multiplied by the likelihood ratio of the candidate's
events given those of both arms, which no rate enters under a lift of 0: R. Fisher's conditional test, here a noncentral
against the central hypergeometric law. With a margin that does not hold, and the first look bets on events alone
(c = 0), which is good where events are rare and safe everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.release.statistics import mixture
from serving.release.statistics.design import Design
from serving.release.statistics.mixture import Values
from serving.release.statistics.moments import Moments

Array = NDArray[np.float64]

#: Of the largest bet that cannot go bankrupt.
LARGEST = 0.9


def lifts(design: Design, side: int) -> tuple[float, ...]:
    """The lifts that are bet on: `side` 1 for "better", -1 for "worse"."""
    towards = design.sign * side
    spread = (design.null + towards * multiple * design.distance for multiple in design.mixture.multiples)
    return tuple(max(lift, -0.98) for lift in spread)


def start(design: Design, shape: tuple[int, ...] = ()) -> Array:
    """Log wealth of each bet before the first look, for one comparison or for an array of repetitions."""
    return np.zeros((len(design.mixture.multiples), *shape))


def add(
    design: Design, wealth: Array, side: int, past: tuple[Moments, Moments], new: tuple[Moments, Moments]
) -> Array:
    """Log wealth of each bet after one more look.

    Args:
        wealth: before the look; first axis the bets.
        side: 1 for "better", -1 for "worse".
        past: moments of candidate and champion before the look.
        new: what both answered since; at least one request each.
    """
    dimensions = np.ndim(new[0].n)
    wanted = np.reshape(lifts(design, side), (-1,) + (1,) * dimensions)
    if np.all(past[0].n + past[1].n == 0):
        return wealth + (_first(wanted, new) if design.null == 0 else _first_events(design.null, wanted, new))
    return wealth + _gains(design.null, wanted, _rates(wanted, past), new)


def log_evidence(design: Design, wealth: Array) -> Values:
    """Log of the e-value of the mixture over the lifts."""
    _, weights = mixture.columns(design.mixture, np.ndim(wealth) - 1)
    return mixture.log_mean(wealth, weights)


def moments(n: int, events: float) -> Moments:
    """Of `n` zeros and ones."""
    return Moments(n=n, y=events, yy=events)


def _rates(wanted: Array, past: tuple[Moments, Moments]) -> Array:
    """The champion's rate under each lift: all events so far over what they would be at a rate of 1."""
    candidate, champion = past
    events = candidate.y + champion.y + 0.5
    rates: Array = np.minimum(events / ((1 + wanted) * candidate.n + champion.n + 1), 0.98)
    return rates


def _first(wanted: Array, new: tuple[Moments, Moments]) -> Array:
    """Log growth over the first look, given the events of both arms together."""
    candidate, champion = new
    champion_rate = _rates(wanted, new)
    rate = np.minimum((1 + wanted) * champion_rate, (1 + champion_rate) / 2)
    log_odds = np.log(rate / (1 - rate)) - np.log(champion_rate / (1 - champion_rate))
    counts = np.asarray((candidate.n, champion.n, candidate.y, champion.y), dtype=np.int64)
    gains = np.empty(log_odds.shape)
    for place in np.ndindex(*counts.shape[1:]):
        here = (slice(None), *place)
        gains[here] = _conditional(log_odds[here], *map(int, counts[here]))
    return gains


def _conditional(log_odds: Array, n: int, m: int, mine: int, theirs: int) -> Array:
    """Log likelihood ratio of odds ratios against 1, of `mine` of the events being the candidate's."""
    events = mine + theirs
    low, high = max(0, events - m), min(n, events)
    at = np.arange(low, high, dtype=float)
    rise = np.log((n - at) * (events - at)) - np.log((at + 1) * (m - events + at + 1))
    chances = np.concatenate([[0.0], np.cumsum(rise)])
    chances -= chances.max()
    chances -= np.log(np.exp(chances).sum())
    tilted = chances + log_odds[:, None] * (np.arange(low, high + 1) - mine)
    top = tilted.max(axis=1)
    gains: Array = -(top + np.log(np.exp(tilted - top[:, None]).sum(axis=1)))
    return gains


def _first_events(null: float, wanted: Array, new: tuple[Moments, Moments]) -> Array:
    """Log growth over the first look with c = 0: the best bet on events then needs no rate."""
    candidate, champion = new
    k = 1 + null
    odds = candidate.n / champion.n
    bet = np.clip((wanted - null) / (1 + wanted + k * k * odds), -LARGEST, LARGEST / (k * odds))
    gains: Array = candidate.y * np.log1p(bet) + champion.y * np.log1p(-bet * k * odds)
    return gains


def _gains(null: float, wanted: Array, champion_rate: Array, new: tuple[Moments, Moments]) -> Array:
    """Log growth of each bet over one look."""
    candidate, champion = new
    k = 1 + null
    odds = candidate.n / champion.n
    share = candidate.n / (candidate.n + champion.n)
    # a lift that a rate cannot have stops half way from the lift under test to 1: the bet keeps its side
    champion_rate = np.minimum(champion_rate, 0.98 / max(k, 1.0))
    rate = np.minimum((1 + wanted) * champion_rate, (1 + k * champion_rate) / 2)
    centre = np.minimum(share * rate / k + (1 - share) * champion_rate, 0.98 / max(k, 1.0))
    spread = rate + k * centre * (k * centre - 2 * rate)
    spread = spread + k * k * odds * (champion_rate + centre * (centre - 2 * champion_rate))
    bet = (rate - k * champion_rate) / spread
    other = k * odds
    up = 1 / np.maximum(k * centre, other * (1 - centre))
    down = 1 / np.maximum(1 - k * centre, other * centre)
    bet = np.clip(bet, -LARGEST * down, LARGEST * up)
    against = bet * other
    gains: Array = (
        candidate.y * np.log1p(bet * (1 - k * centre))
        + (candidate.n - candidate.y) * np.log1p(-bet * k * centre)
        + champion.y * np.log1p(-against * (1 - centre))
        + (champion.n - champion.y) * np.log1p(against * centre)
    )
    return gains
