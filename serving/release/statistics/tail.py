"""A latency guardrail without a bound: the candidate's slow answers against the concurrent champion's, where "slow"
is a quarter beyond the champion's own p99.

The quarter is what a person means by "not slower": with the p99 itself a candidate that takes 15 % longer would be
rolled back in time, and what matters is seen less soon among the champion's own slow answers.

The threshold is an edge of the champion's histogram, and a bet on what comes after it was chosen is as good as one
on a bound that a person wrote: `arms` needs the threshold to be known before the answers, nothing else. What was
seen before is not bet on. It is taken early, from `FIRST` answers of the champion, so that a candidate that is
slow from its first request on is found, and again whenever the champion's answers have doubled, since the largest
of few answers is a poor p99. What was won at the old thresholds is kept: the claim tested is "at no threshold is
the candidate's share of slower answers more than `excess` above the champion's", and each bet is fair under it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.release.statistics import arms, quantiles
from serving.release.statistics.histogram import Histogram

#: Answers of the champion before the first threshold.
FIRST = 20

#: The threshold: this much of this quantile of the champion.
QUANTILE = 0.99
SLACK = 1.25


@dataclass(frozen=True)
class Slow:
    """One arm's answers, and how many of them were beyond the threshold."""

    n: int
    slower: int


@dataclass(frozen=True)
class Tail:
    """What such a guardrail keeps between looks (all of it belongs into the engine's state).

    Attributes:
        threshold_ms: None until the champion has answered `FIRST` requests.
        taken_at: the champion's answers when it was taken.
        candidate, champion: what was seen, at this threshold, up to the last look.
        harm: against "the candidate's tail is no heavier than the champion's".
        safety: against the opposite.
    """

    threshold_ms: float | None = None
    taken_at: int = 0
    candidate: Slow = Slow(0, 0)
    champion: Slow = Slow(0, 0)
    harm: arms.Guard = arms.Guard()
    safety: arms.Wealth = arms.START


def look(before: Tail, candidate: Histogram, champion: Histogram, excess: float) -> Tail:
    """Bet on what came since the last look, then take a new threshold if one is due.

    `candidate` and `champion` are cumulative, with the same edges; answers of one arm alone wait for the other's.
    `excess` is how much larger the candidate's share of slow answers may be.
    """
    after = before
    if before.threshold_ms is not None:
        ours = Slow(candidate.n, candidate.above(before.threshold_ms))
        theirs = Slow(champion.n, champion.above(before.threshold_ms))
        batch = arms.Batch(
            ours.n - before.candidate.n,
            ours.slower - before.candidate.slower,
            theirs.n - before.champion.n,
            theirs.slower - before.champion.slower,
        )
        if batch.candidate <= 0 or batch.champion <= 0:
            return before
        after = Tail(
            before.threshold_ms,
            before.taken_at,
            ours,
            theirs,
            arms.watch(before.harm, batch, excess),
            arms.add(before.safety, batch.swapped(), -excess),
        )
    if champion.n < max(FIRST, 2 * before.taken_at):
        return after
    usual = quantiles.threshold(champion, QUANTILE, FIRST)
    threshold = math.inf if usual is None else champion.edge_for(SLACK * usual)
    if threshold == math.inf:
        return after
    return Tail(
        threshold,
        champion.n,
        Slow(candidate.n, candidate.above(threshold)),
        Slow(champion.n, champion.above(threshold)),
        after.harm,
        after.safety,
    )
