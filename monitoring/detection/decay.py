"""Concept drift by matured labels: does the score still rank outcomes as it did at training?

What is followed is the calibration slope of a day: b in logit P(late) = a + b·logit(score), with an intercept of the
day's own. Label shift (other rates of the outcome, the same features within each class) and a calm or stormy day move
a and leave b; drifted features alone move neither, as long as the model is right about them. A changed relation
between features and outcome lowers b. So a low slope is concept drift, and the rate beside it tells label shift.

The test is an e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", 2022, section 3): for each bet λ the CUSUM max(M, 1)·exp(-λ z - λ²/2) of standardised daily slopes z, and
their mean. Where z given the past is sub-Gaussian with unit scale and mean at least 0 — the scale is learned from the
reference's own days, and no day counts for more than three of it — it stays below a
threshold for that many days in the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monitoring.columns import Floats
from monitoring.detection.rows import Days, days_of
from monitoring.detection.state import DecayState
from windlass.errors import WindlassError

BETS = (0.5, 1.0, 2.0)
MOST_EVIDENCE = 4.0
"""The log evidence is held below this many thresholds' logarithms, so that an incident can end again."""
FEWEST_PER_CLASS = 5
LEAST_INFORMATION = 4.0
CLIP = 3.0
"""A day counts for at most so many deviations: a few days of a year have no ranking at all, and nothing decayed."""
MINIMUM_LABELS = 200
UNTIMED_INFLATION = 3.0
SMALLEST = 1e-6


@dataclass(frozen=True)
class Ranking:
    """How the scores of held-out rows ranked their outcomes.

    Attributes:
        intercept, slope: the calibration of the scores: logit P = intercept + slope·logit(score).
        rate: rate of positives.
        between: standard deviation of the slope of a day beyond the noise of its labels.
        days: days behind it; 0 where they had no times.
    """

    intercept: float
    slope: float
    rate: float
    between: float
    days: int

    def log_odds(self, scores: Floats) -> Floats:
        """Calibrated log odds."""
        return self.intercept + self.slope * log_odds(scores)


@dataclass(frozen=True, eq=False)
class DaySlopes:
    """Deviation of each day's slope from 1, with its information (1 / variance of label noise)."""

    days: Days
    deviations: Floats
    information: Floats
    labels: Floats


def log_odds(scores: Floats) -> Floats:
    """Logit of scores, kept finite."""
    p = np.clip(scores, SMALLEST, 1 - SMALLEST)
    logs: Floats = np.log(p) - np.log1p(-p)
    return logs


def learn(labels: Floats, scores: Floats, at: Floats | None) -> Ranking:
    """Calibrate on held-out rows and learn how much slopes of days vary.

    Raises:
        WindlassError: too few labels, or of one class only.
    """
    known = np.isfinite(labels) & np.isfinite(scores)
    y, odds = labels[known], log_odds(scores[known])
    if len(y) < MINIMUM_LABELS or not 0 < y.mean() < 1:
        raise WindlassError(
            f"{len(y)} held-out labels with rate {y.mean() if len(y) else math.nan:.2f}: at least {MINIMUM_LABELS} "
            "of both classes are needed to follow the ranking"
        )
    intercept, slope = _calibrate(y, odds)
    ranking = Ranking(intercept, slope, float(y.mean()), 0.0, 0)
    if at is not None:
        daily = day_slopes(ranking, at[known], y, scores[known])
        if len(daily.days) >= 7:
            # about zero: that days differ in the mean from the pooled slope is part of their noise
            square = np.square(daily.deviations)
            between = math.sqrt(max(float((square - 1 / daily.information).mean()), float(square.mean()) / 5))
            return Ranking(intercept, slope, float(y.mean()), between, len(daily.days))
    p = 1 / (1 + np.exp(-(intercept + slope * odds)))
    information = float((p * (1 - p)).mean() * np.var(slope * odds))
    # without days only the noise of a thousand independent labels is known; days vary more
    return Ranking(intercept, slope, float(y.mean()), UNTIMED_INFLATION / math.sqrt(1000 * information), 0)


def day_slopes(ranking: Ranking, at: Floats, labels: Floats, scores: Floats) -> DaySlopes:
    """One step of Newton's method from slope 1, with the intercept of each day fitted; thin days are left out."""
    days, index = np.unique(days_of(at), return_inverse=True)
    odds = ranking.log_odds(scores)
    size = len(days)

    def sums(values: Floats) -> Floats:
        added: Floats = np.bincount(index, weights=values, minlength=size).astype(np.float64)
        return added

    labelled, positives = sums(np.ones(len(labels))), sums(labels)
    shift = np.zeros(size)
    enough = (positives >= FEWEST_PER_CLASS) & (labelled - positives >= FEWEST_PER_CLASS)
    for _ in range(8):
        p = 1 / (1 + np.exp(-(odds + shift[index])))
        step = (positives - sums(p)) / np.maximum(sums(p * (1 - p)), SMALLEST)
        shift = shift + np.where(enough, np.clip(step, -2, 2), 0.0)
    p = 1 / (1 + np.exp(-(odds + shift[index])))
    weight = p * (1 - p)
    centre = sums(weight * odds) / np.maximum(sums(weight), SMALLEST)
    apart = odds - centre[index]
    information = sums(weight * np.square(apart))
    enough &= information >= LEAST_INFORMATION
    moved = sums((labels - p) * apart) / np.maximum(information, SMALLEST)
    return DaySlopes(days[enough], moved[enough], information[enough], labelled[enough])


def advance(
    state: DecayState, ranking: Ranking, daily: DaySlopes, *, smallest_decay: float, log_threshold: float
) -> DecayState:
    """Consume days that are younger than `state.through`, in order."""
    wealth = list(state.log_wealth) or [0.0] * len(BETS)
    days, labels, slopes, through = state.days, state.labels, state.slopes, state.through
    for day, moved, information, labelled in zip(
        daily.days, daily.deviations, daily.information, daily.labels, strict=True
    ):
        if day <= through:
            continue
        if all(w <= 0 for w in wealth):
            days, labels, slopes = 0, 0, 0.0
        scale = math.sqrt(ranking.between**2 + 1 / information)
        z = min(max((moved + smallest_decay) / scale, -CLIP), CLIP)
        wealth = [
            min(max(w, 0.0) - bet * z - bet * bet / 2, MOST_EVIDENCE * log_threshold)
            for w, bet in zip(wealth, BETS, strict=True)
        ]
        days, labels, slopes, through = days + 1, labels + int(labelled), slopes + 1 + moved, int(day)
    return DecayState(through, tuple(wealth), days, labels, slopes)


def log_evidence(state: DecayState) -> float:
    """Log of the e-detector."""
    if not state.log_wealth:
        return -math.inf
    most = max(state.log_wealth)
    return most + math.log(sum(math.exp(w - most) for w in state.log_wealth) / len(state.log_wealth))


def _calibrate(y: Floats, odds: Floats) -> tuple[float, float]:
    intercept, slope = 0.0, 1.0
    for _ in range(25):
        p = 1 / (1 + np.exp(-(intercept + slope * odds)))
        weight = np.maximum(p * (1 - p), SMALLEST)
        gradient = np.array([(y - p).sum(), ((y - p) * odds).sum()])
        crossed = (weight * odds).sum()
        information = np.array([[weight.sum(), crossed], [crossed, (weight * odds * odds).sum()]])
        step = np.linalg.solve(information + SMALLEST * np.eye(2), gradient)
        intercept, slope = intercept + float(np.clip(step[0], -2, 2)), slope + float(np.clip(step[1], -1, 1))
        if np.abs(step).max() < 1e-9:
            break
    return intercept, slope
