"""Performance of a window whose labels are not known yet, estimated from its scores.

Confidence-based performance estimation (CBPE, as NannyML's documentation describes it, "How it works: Performance
Estimation"): where a score is a calibrated probability p, a row answered yes is right with probability p, and so
every measure has an expected value. Its limit is its assumption. It sees that the scores moved to where the model is
less sure; that the outcome depends on the inputs in another way than at training (concept drift) it cannot see at
all, because no label is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitoring.analysis import days
from monitoring.analysis.calibration import Calibration, choose
from monitoring.columns import Floats

Metric = Literal["auc", "accuracy", "brier", "log_loss"]
METRICS: tuple[Metric, ...] = ("auc", "accuracy", "brier", "log_loss")
SMALLEST = 1e-6
MINIMUM_ROWS = 300
MINIMUM_PER_CLASS = 30


@dataclass(frozen=True)
class Estimate:
    """What a measure of the window will be once its labels are known.

    Attributes:
        error: standard error of (measured later - `value`): the outcomes' own noise, what the rows of a day share,
            and that of the calibration.
        lower, upper: an interval that holds the measured value with the confidence asked for.
        freedom: degrees of freedom of `error`; 0 where rows had to be taken as independent.
    """

    metric: Metric
    value: float
    error: float
    lower: float
    upper: float
    freedom: int


@dataclass(frozen=True)
class Change:
    """An expected measure then and now; `error` is that of the difference, NaN where it is not known."""

    metric: Metric
    before: float
    now: float
    error: float
    freedom: int


@dataclass(frozen=True)
class Sampled:
    """A mean over rows of days, see `days.standard_error`."""

    value: float
    error: float
    freedom: int


@dataclass(frozen=True, eq=False)
class Estimator:
    """Fitted on the rows that a version was judged on.

    Attributes:
        labels, scores, day: those rows, in the order of time; `day` is None where their times are not known.
        threshold: score from which the answer is a yes.
    """

    labels: Floats
    scores: Floats
    day: days.Ints | None
    calibration: Calibration
    threshold: float = 0.5

    def estimate(
        self, scores: Floats, at: Floats, *, confidence: float = 0.95, metrics: tuple[Metric, ...] = METRICS
    ) -> Mapping[Metric, Estimate]:
        """Estimate the measures of a window.

        Args:
            scores, at: the window's scores and their times in epoch seconds.

        Returns:
            The measures that are defined; none for a window without rows.
        """
        if not len(scores):
            return {}
        probabilities = self.calibration.calibrator(scores)
        window_day = days.codes(at)
        found: dict[Metric, Estimate] = {}
        for metric in metrics:
            value, gain = expected(metric, scores, probabilities, self.threshold)
            if not math.isfinite(value):
                continue
            noise = float(np.sum(probabilities * (1 - probabilities) * np.square(gain))) / len(scores) ** 2
            variance, freedom = self._shared(metric, window_day)
            error = math.sqrt(noise + variance)
            reach = days.quantile(0.5 + confidence / 2, freedom) * error
            found[metric] = Estimate(metric, value, error, value - reach, value + reach, freedom)
        return found

    def change(self, metric: Metric, scores: Floats, at: Floats) -> Change:
        """How the expected value of a measure differs between the window and the rows that it was fitted on.

        Both are expectations under one calibration, whose error they share; no outcome's noise is in them. So this
        sees a smaller change than the difference of two estimates.
        """
        before = _sampled(metric, self.scores, self.calibration.cross_fitted, self.threshold, self.day)
        now = _sampled(metric, scores, self.calibration.calibrator(scores), self.threshold, days.codes(at))
        known = [s.freedom for s in (before, now) if s.freedom > 0]
        return Change(
            metric, before.value, now.value, math.hypot(before.error, now.error), min(known, default=0)
        )

    def _shared(self, metric: Metric, window_day: days.Ints) -> tuple[float, int]:
        """Variance of a window's mean by what its days share, and by the calibration's own error."""
        p = self.calibration.cross_fitted
        _, gain = expected(metric, self.scores, p, self.threshold)
        noise = p * (1 - p) * np.square(gain)
        fitted = float(np.sum(noise)) / len(p) ** 2
        if self.day is None:
            return fitted, 0
        shared, freedom = days.between_variance((self.labels - p) * gain, noise, self.day)
        weight = days.shared_weight(window_day) + days.shared_weight(self.day)
        return fitted + shared * weight, freedom


def fit(labels: Floats, scores: Floats, at: Floats | None, *, threshold: float = 0.5) -> Estimator | None:
    """Fit an estimator; None where there are too few rows to calibrate scores on.

    Args:
        at: times of the rows, epoch seconds; None where they are not known: rows count as independent then.
    """
    positives = int(np.sum(labels == 1))
    if len(labels) < MINIMUM_ROWS or min(positives, len(labels) - positives) < MINIMUM_PER_CLASS:
        return None
    if at is None:
        return Estimator(labels, scores, None, choose(labels, scores), threshold)
    order = np.argsort(at, kind="stable")
    labels, scores = labels[order], scores[order]
    return Estimator(labels, scores, days.codes(at[order]), choose(labels, scores), threshold)


def measured(
    metric: Metric, labels: Floats, scores: Floats, at: Floats | None, threshold: float = 0.5
) -> Sampled:
    """A measure of rows whose labels are known, with its error by days (by rows where `at` is None).

    An outcome that is known has the probability 0 or 1, so that this is the expected value of a special case.
    """
    return _sampled(metric, scores, labels, threshold, None if at is None else days.codes(at))


def _sampled(metric: Metric, scores: Floats, p: Floats, threshold: float, day: days.Ints | None) -> Sampled:
    value, gain = expected(metric, scores, p, threshold)
    if not math.isfinite(value):
        return Sampled(math.nan, math.nan, 0)
    if metric == "auc":
        influence = _auc_influence(scores, p, value)
    else:
        if_zero = _losses(metric, scores, threshold)[1]
        influence = (p * gain + if_zero - value) / len(scores)
    if day is not None:
        # rows of one day alone do not tell how days differ: the error is not known then
        return Sampled(value, *days.standard_error(influence, day))
    return Sampled(value, math.sqrt(float(np.sum(np.square(influence)))), 0)


def expected(metric: Metric, scores: Floats, p: Floats, threshold: float) -> tuple[float, Floats]:
    """Expected value of a measure where each outcome is 1 with probability `p`.

    Returns:
        The value, and what each outcome does to it: n times its derivative by the outcome, so that
        (measured - expected) is the mean of (y - p) times this. For the AUC that is its linear part, as in DeLong's
        variance (DeLong, DeLong and Clarke-Pearson 1988).
    """
    if metric == "auc":
        return _auc(scores, p)
    if_one, if_zero = _losses(metric, scores, threshold)
    return float(np.mean(p * if_one + (1 - p) * if_zero)), if_one - if_zero


def _losses(metric: Metric, scores: Floats, threshold: float) -> tuple[Floats, Floats]:
    """A row's part in a measure that is a mean, if its outcome is 1 and if it is 0."""
    if metric == "accuracy":
        yes = (scores >= threshold).astype(np.float64)
        return yes, 1.0 - yes
    if metric == "brier":
        return np.square(1.0 - scores), np.square(scores)
    clipped = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return -np.log(clipped), -np.log1p(-clipped)


def _auc(scores: Floats, p: Floats) -> tuple[float, Floats]:
    above, below, positives, negatives = _placements(scores, p)
    # a row is not compared with itself
    itself = float(np.sum(p * (1 - p)))
    pairs = positives * negatives - itself
    if min(positives, negatives) <= 0 or pairs <= 0:
        return math.nan, np.zeros(len(scores))
    auc = (float(np.sum(p * below)) - itself / 2) / pairs
    n = len(scores)
    as_one = (below / negatives - auc) / (positives / n)
    as_zero = (above / positives - auc) / (negatives / n)
    return auc, as_one - as_zero


def _auc_influence(scores: Floats, p: Floats, auc: float) -> Floats:
    above, below, positives, negatives = _placements(scores, p)
    influence = p * (below / negatives - auc) / positives + (1 - p) * (above / positives - auc) / negatives
    return np.asarray(influence, dtype=np.float64)


def _placements(scores: Floats, p: Floats) -> tuple[Floats, Floats, float, float]:
    """For each row the expected positives above and negatives below it, ties half, and how many there are of either."""
    values, place = np.unique(scores, return_inverse=True)
    ones = np.bincount(place, weights=p, minlength=len(values))
    zeros = np.bincount(place, weights=1 - p, minlength=len(values))
    positives, negatives = float(ones.sum()), float(zeros.sum())
    below = (np.cumsum(zeros) - zeros / 2)[place]
    above = positives - (np.cumsum(ones) - ones / 2)[place]
    return above, below, positives, negatives
