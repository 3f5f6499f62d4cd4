"""Does the effect last? The first period of an experiment beside all later ones.

Users try what is new, or first resist it, and then come back to their habits: an effect of the first days may be gone
in the third week (R. Kohavi, D. Tang and Y. Xu, "Trustworthy Online Controlled Experiments", 2020, chapter 3, "novelty
effect" and "primacy effect"). The periods are equally long and hold each observation once, in the period in which the
unit was assigned or the request answered.

What is tested is the contrast C = (lift in the first period) - (lift in all later ones together). The first lift
stays, the later one is a weighted mean with the inverse variances as weights, so for looks s < t the covariance of C(s)
and C(t) is the variance of C(t): the information 1 / Var C grows and C times it is a Brownian motion with the true
contrast as drift (the canonical joint distribution of C. Jennison and B. Turnbull, "Group Sequential Methods with
Applications to Clinical Trials", 2000, chapter 3). Hence the mixture of `mixture.py` may be looked at after every
period. The bets are planned for a change by the minimum detectable effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serving.release.statistics import means, mixture
from serving.release.statistics.design import Design
from serving.release.statistics.mixture import BROAD, PLANNED
from serving.release.statistics.moments import Moments

Verdict = Literal["steady", "fading", "growing", "too little data"]

#: Chance of calling a steady effect fading or growing, over all looks.
ALPHA = 0.05


@dataclass(frozen=True)
class Period:
    """The lift within one period and its standard error; both None where the period says too little."""

    n_candidate: int
    n_champion: int
    lift: float | None
    error: float | None


@dataclass(frozen=True)
class Novelty:
    """What the periods show.

    Attributes:
        first, later: the lift in the first period, and in all later ones that say enough.
        change: later minus first, positive where the candidate became better (in the design's direction).
        lower, upper: confidence sequence of `change`, of level 1 - alpha over all looks.
        verdict: "fading" and "growing" where the sequence excludes 0; "steady" where it also excludes changes of
            the size that the release cares about; else "too little data".
    """

    periods: tuple[Period, ...]
    first: float | None
    later: float | None
    change: float | None
    lower: float | None
    upper: float | None
    verdict: Verdict


def check(design: Design, periods: Sequence[tuple[Moments, Moments]], alpha: float = ALPHA) -> Novelty:
    """Judge the periods, each the moments of candidate and champion in that period alone, in order of time.

    A change matters from the design's minimum detectable effect on; where it states none, from half of the first
    period's lift on.
    """
    told = tuple(_period(design, candidate, champion) for candidate, champion in periods)
    known = [(each.lift, each.error) for each in told[1:] if each.lift is not None and each.error]
    if not told or told[0].lift is None or not told[0].error or not known:
        first = told[0].lift if told else None
        return Novelty(told, first, None, None, None, None, "too little data")
    weights = [1 / (error * error) for _, error in known]
    later = math.fsum(w * lift for w, (lift, _) in zip(weights, known, strict=True)) / math.fsum(weights)
    variance = told[0].error ** 2 + 1 / math.fsum(weights)
    change = design.sign * (later - told[0].lift)
    matters = design.minimum_detectable_effect or abs(told[0].lift) / 2
    bets = PLANNED if design.minimum_detectable_effect else BROAD
    effect = matters if design.minimum_detectable_effect else told[0].error
    width = math.sqrt(variance) * mixture.boundary(1 / variance, effect, math.log(2 / alpha), bets)
    lower, upper = change - width, change + width
    verdict: Verdict = "too little data"
    if upper < 0:
        verdict = "fading"
    elif lower > 0:
        verdict = "growing"
    elif -matters < lower and upper < matters:
        verdict = "steady"
    return Novelty(told, told[0].lift, later, change, lower, upper, verdict)


def _period(design: Design, candidate: Moments, champion: Moments) -> Period:
    """The lift by the delta method on the quotient of the two means."""
    n, m = candidate.n, champion.n
    empty = Period(n, m, None, None)
    if min(n, m) < max(design.min_samples, 2):
        return empty
    if design.kind == "ratio" and min(candidate.z, champion.z) <= 0:
        return empty
    found = means.contrast(design, candidate, champion)
    base = abs(float(found.champion))
    if not base:
        return empty
    quotient = float(found.candidate) / float(found.champion)
    variance = float(found.candidate_variance) + quotient * quotient * float(found.champion_variance)
    lift = (float(found.candidate) - float(found.champion)) / base
    return Period(n, m, lift, math.sqrt(variance) / base)
