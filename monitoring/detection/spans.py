"""Evidence of spans of days: each statistic's effect, the interval that the budget leaves it, and what stands out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats
from monitoring.detection import lasting
from monitoring.detection.noise import WEEK, Noise
from monitoring.detection.policy import DAY, DetectionPolicy
from monitoring.detection.state import DayRecord
from monitoring.detection.statistics import Unit


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of each statistic, over the span in which most stands out; NaN where no span could be judged.

    Attributes:
        effect: what lasts of it, see `monitoring.detection.lasting`.
        evidence: (|effect| - threshold) over the half width of its interval; above 1 it rings.
        width: that half width.
        resolution: smallest effect that any span would have shown.
        span, rows: days and rows of that span.
    """

    effect: Floats
    width: Floats
    threshold: Floats
    evidence: Floats
    resolution: Floats
    span: NDArray[np.int64]
    rows: Floats

    def strongest(self, positions: Sequence[int]) -> float:
        """The most of the evidence of these statistics; -inf where none could be judged."""
        return float(np.nan_to_num(self.evidence[list(positions)], nan=-np.inf).max())


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of the days.

    Attributes:
        weights: the count behind each statistic.
        centre: its mean at training.
        spending: expected false alarms of each statistic at this look, over all spans.
        threshold: effect from which each matters.
        freedom: degrees of freedom of its noise.
        brief: statistics that a single day may move: no storm does, and a day of it is a fault.
    """

    weights: NDArray[np.int64]
    centre: Floats
    noise: Noise
    spending: Floats
    threshold: Floats
    freedom: Floats
    brief: NDArray[np.bool_]


def smallest(unit: Unit, policy: DetectionPolicy) -> float:
    """Effect from which a statistic of this unit matters."""
    of: dict[Unit, float] = {
        "sd": policy.smallest_effect,
        "slope": policy.smallest_effect,
        "spread": policy.smallest_effect,
        "log": math.log1p(5 * policy.smallest_effect),
        "share": 2 * policy.smallest_share,
        "quality share": policy.smallest_share,
    }
    return of[unit]


def weigh(
    records: Sequence[DayRecord], end: int, question: Question, policy: DetectionPolicy, *, week_ago: bool
) -> Evidence:
    """Judge the spans that end before UTC day `end`.

    Args:
        week_ago: compare with the days before each span instead of with training.
    """
    size = len(question.centre)
    best = _nothing(question)
    judged: set[int] = set()
    if not any(end - policy.window // DAY <= r.day < end for r in records):
        return best  # nothing came: the window before, which the longest span reaches, is no news of this one
    for span in policy.spans:
        inside = [r for r in records if end - span <= r.day < end]
        if len(inside) < min(policy.minimum_days, span) or len(inside) in judged:
            continue
        judged.add(len(inside))
        effect, lasts, rows = _means(inside, question)
        deviation = question.noise.deviation(len(inside), rows)
        if week_ago:
            before = [r for r in records if r.day < end - span]
            if len(before) < WEEK:
                continue
            earlier, earlier_lasts, earlier_rows = _means(before, question)
            effect, lasts = effect - earlier, lasts - earlier_lasts
            deviation = np.hypot(deviation, question.noise.deviation(len(before), earlier_rows))
        effect = np.where(question.brief, effect, lasting.smaller(effect, lasts))
        critical = _critical(question.spending / len(policy.spans), question.freedom)
        width = critical * deviation
        evidence = np.where(
            rows >= policy.minimum_rows, (np.abs(effect) - question.threshold) / width, np.nan
        )
        better = np.nan_to_num(evidence, nan=-np.inf) > np.nan_to_num(best.evidence, nan=-np.inf)
        resolution = np.where(np.isfinite(evidence), width + question.threshold, np.nan)
        best = Evidence(
            effect=np.where(better, effect, best.effect),
            width=np.where(better, width, best.width),
            threshold=question.threshold,
            evidence=np.where(better, evidence, best.evidence),
            resolution=np.fmin(resolution, best.resolution),
            span=np.where(better, np.full(size, span), best.span),
            rows=np.where(better, rows, best.rows),
        )
    return best


def _nothing(question: Question) -> Evidence:
    unknown = np.full(len(question.centre), np.nan)
    zero = np.zeros(len(question.centre))
    return Evidence(unknown, unknown, question.threshold, unknown, unknown, zero.astype(np.int64), zero)


def _means(records: Sequence[DayRecord], question: Question) -> tuple[Floats, Floats, Floats]:
    """Deviation from training of each statistic over these days, without the outermost, and the rows behind it."""
    sums = np.array([r.sums for r in records])
    counts = np.array([r.counts for r in records])[:, question.weights]
    rows = counts.sum(axis=0)
    effect = sums.sum(axis=0) / np.maximum(rows, 1.0) - question.centre
    return effect, lasting.trimmed(sums / np.maximum(counts, 1.0) - question.centre, counts), rows


def _critical(spending: Floats, freedom: Floats) -> Floats:
    from scipy.special import stdtrit

    quantiles: Floats = stdtrit(freedom, 1 - np.minimum(spending, 0.5) / 2)
    return quantiles
