"""One look at a decision metric: take the arms' cumulative moments, say what they show.

Binary metrics are judged by exact bets (`proportions.py`), all others, and binary ones with a covariate, by the
asymptotic sequence (`means.py`). "Better" and "worse" are two tests of level alpha / 2 each.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from serving.release.statistics import means, proportions
from serving.release.statistics.design import Decided, Design, Evidence, Result
from serving.release.statistics.moments import Moments


def exact(design: Design) -> bool:
    """Whether the error rate holds without approximation."""
    return design.kind == "binary" and not design.covariate


def add(design: Design, before: Evidence, candidate: Moments, champion: Moments) -> Evidence:
    """The evidence after a look at both arms' *cumulative* moments.

    A verdict once reached is kept: that is what the guarantee is about. The same moments again change nothing.

    Raises:
        ValueError: fewer observations than at the last look, or numbers that are no moments: the source restarted
            or answers nonsense, and the look must not count.
    """
    for name, now, then in (
        ("candidate", candidate, before.candidate),
        ("champion", champion, before.champion),
    ):
        _check(design, name, now, then)
    if exact(design):
        after = _bet(design, before, candidate, champion)
    else:
        after = replace(before, candidate=candidate, champion=champion)
        if _enough(design, candidate, champion):
            better, worse = means.log_evidence(design, means.contrast(design, candidate, champion))
            after = replace(after, log_better=float(better), log_worse=float(worse))
    if after.decided == "none" and _enough(design, candidate, champion):
        after = replace(after, decided=verdict(design, after.log_better, after.log_worse))
    return after


def verdict(design: Design, log_better: float, log_worse: float) -> Decided:
    """What the evidence of one look decides."""
    needed = math.log(2 / design.alpha)
    if log_better >= needed:
        return "better"
    return "worse" if log_worse >= needed else "none"


def result(design: Design, evidence: Evidence) -> Result:
    """What the evidence shows, with the confidence sequence of the lift.

    The bounds of a binary metric are asymptotic while its verdict is exact; where they disagree about the lift that
    the candidate is held to, the verdict is right and the bound moves there.
    """
    candidate, champion = evidence.candidate, evidence.champion
    if exact(design):
        candidate, champion = (proportions.moments(arm.n, arm.y) for arm in (candidate, champion))
    estimate = lower = upper = difference = None
    if min(candidate.n, champion.n) >= 2 and (design.kind != "ratio" or min(candidate.z, champion.z) > 0):
        found = means.contrast(design, candidate, champion)
        difference = float(found.candidate) - float(found.champion)
        if found.champion:
            estimate = difference / abs(float(found.champion))
        if _enough(design, candidate, champion) and (ends := means.interval(design, found)):
            lower, upper = ends
    if exact(design) and lower is not None and upper is not None:
        lower, upper = _agreeing(design, evidence, lower, upper)
    return Result(
        candidate.n, champion.n, estimate, lower, upper, difference,
        evidence.log_better, evidence.log_worse, evidence.decided,
    )  # fmt: skip


def _bet(design: Design, before: Evidence, candidate: Moments, champion: Moments) -> Evidence:
    new = (candidate - before.candidate, champion - before.champion)
    if min(new[0].n, new[1].n) == 0:
        return before  # one arm alone says nothing of the difference: its requests wait for the next look
    past = (before.candidate, before.champion)
    sides = []
    for side, held in ((1, before.better), (-1, before.worse)):
        wealth = np.asarray(held) if held else proportions.start(design)
        sides.append(proportions.add(design, wealth, side, past, new))
    better, worse = sides
    return replace(
        before,
        candidate=candidate,
        champion=champion,
        better=tuple(better.tolist()),
        worse=tuple(worse.tolist()),
        log_better=float(proportions.log_evidence(design, better)),
        log_worse=float(proportions.log_evidence(design, worse)),
    )


def _enough(design: Design, candidate: Moments, champion: Moments) -> bool:
    if design.kind == "ratio" and min(candidate.z, champion.z) <= 0:
        return False
    return min(candidate.n, champion.n) >= max(design.min_samples, 2)


def _agreeing(design: Design, evidence: Evidence, lower: float, upper: float) -> tuple[float, float]:
    needed = math.log(2 / design.alpha)
    above, below = evidence.log_better >= needed, evidence.log_worse >= needed
    if design.direction == "decrease":
        above, below = below, above
    lower = max(lower, design.null) if above else min(lower, design.null)
    upper = min(upper, design.null) if below else max(upper, design.null)
    return min(lower, upper), max(lower, upper)


def _check(design: Design, name: str, now: Moments, then: Moments) -> None:
    if now.n < then.n:
        raise ValueError(
            f"the {name} has {now.n} observations after {then.n} at the last look; "
            "give the sums since the start of the release, and start anew where the source did"
        )
    numbers = (now.y, now.yy, now.z, now.zz, now.yz, now.x, now.xx, now.xy, now.xz)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"the {name}'s sums hold a number that is not finite; leave unfinished observations out"
        )
    if design.kind == "binary" and not (0 <= now.y <= now.n and 0 <= now.y - then.y <= now.n - then.n):
        raise ValueError(
            f"the {name}'s {now.y:g} events among {now.n} observations (before: {then.y:g} among {then.n}) "
            "are no counts of zeros and ones"
        )
