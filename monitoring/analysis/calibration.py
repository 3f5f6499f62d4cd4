"""Scores as probabilities: the calibration that an estimate of performance without labels stands on.

Fitted on the rows that a version was judged on and never trained on. The method is chosen by log loss on rows that
the fit did not see (cross-fitting), and a score that is a good probability already is left as it is: every fit
costs variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.columns import Floats

Method = Literal["identity", "platt", "isotonic"]
METHODS: tuple[Method, ...] = ("identity", "platt", "isotonic")
"""From the simplest on."""
FOLDS = 5
SMALLEST = 1e-6
NEWTON_STEPS = 50


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A monotone map of scores to probabilities.

    Attributes:
        slope, intercept: of the log-odds, for "platt" (Platt 1999).
        knots, values: of the step function, drawn through linearly, for "isotonic" (Zadrozny and Elkan 2002).
    """

    method: Method
    slope: float = 1.0
    intercept: float = 0.0
    knots: Floats | None = None
    values: Floats | None = None

    def __call__(self, scores: Floats) -> Floats:
        """Return the probability of each score, within (0, 1)."""
        if self.method == "platt":
            found = 1.0 / (1.0 + np.exp(-(self.slope * log_odds(scores) + self.intercept)))
        elif self.knots is not None and self.values is not None:
            found = np.interp(scores, self.knots, self.values)
        else:
            found = np.asarray(scores, dtype=np.float64)
        return np.clip(found, SMALLEST, 1 - SMALLEST)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibrator with what it says of rows that it did not see.

    Attributes:
        cross_fitted: probability of each fitted row by a calibrator fitted on the other folds.
        log_loss: of `cross_fitted`, by method.
    """

    calibrator: Calibrator
    cross_fitted: Floats
    log_loss: dict[Method, float]


def log_odds(scores: Floats) -> Floats:
    clipped = np.clip(np.asarray(scores, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def fit(method: Method, labels: Floats, scores: Floats) -> Calibrator:
    """Fit one method; labels are 0 or 1."""
    if method == "platt":
        return _platt(labels, scores)
    return _isotonic(labels, scores) if method == "isotonic" else Calibrator("identity")


def choose(labels: Floats, scores: Floats, *, folds: int = FOLDS) -> Calibration:
    """Fit the simplest method whose cross-fitted log loss is least, or within one standard error of the least.

    Args:
        labels, scores: rows in the order of time; folds are stretches of it, so that a day is not in two.
    """
    part = np.arange(len(labels)) * folds // max(len(labels), 1)
    losses: dict[Method, Floats] = {}
    fitted: dict[Method, Floats] = {}
    for method in METHODS:
        out = np.empty(len(labels))
        for fold in range(folds):
            held = part == fold
            out[held] = fit(method, labels[~held], scores[~held])(scores[held])
        fitted[method] = out
        losses[method] = -(labels * np.log(out) + (1 - labels) * np.log1p(-out))
    least = losses[min(METHODS, key=lambda m: float(losses[m].mean()))]
    best = next(m for m in METHODS if _alike(losses[m] - least))
    means = {m: float(each.mean()) for m, each in losses.items()}
    return Calibration(fit(best, labels, scores), fitted[best], means)


def _alike(difference: Floats) -> bool:
    return bool(difference.mean() <= difference.std() / np.sqrt(len(difference)))


def _platt(labels: Floats, scores: Floats) -> Calibrator:
    # Platt's targets: as if one more row of each class had been seen, so that no parameter runs away
    positives = float(labels.sum())
    negatives = len(labels) - positives
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack([log_odds(scores), np.ones(len(scores))])
    parameters = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        fitted = 1.0 / (1.0 + np.exp(-design @ parameters))
        weight = fitted * (1 - fitted)
        # a ridge too small to be seen: scores that are all equal have no slope of their own
        curvature: NDArray[np.float64] = (design * weight[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (target - fitted))
        before, scale = _cross_entropy(design @ parameters, target), 1.0
        # far from the optimum the loss is nearly straight, and a whole step leaps over it
        while scale > 1e-6 and _cross_entropy(design @ (parameters + scale * step), target) > before:
            scale /= 2
        parameters = parameters + scale * step
        if float(np.abs(scale * step).max()) < 1e-9:
            break
    return Calibrator("platt", slope=float(parameters[0]), intercept=float(parameters[1]))


def _cross_entropy(odds: Floats, target: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, odds) - target * odds))


def _isotonic(labels: Floats, scores: Floats) -> Calibrator:
    from scipy.optimize import isotonic_regression

    knots, place = np.unique(scores, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    means = np.bincount(place, weights=labels) / counts
    values = np.asarray(isotonic_regression(means, weights=counts).x, dtype=np.float64)
    # a block of nothing but one class would be certain for ever: it is as sure as its rows allow
    n = len(labels)
    return Calibrator("isotonic", knots=knots, values=np.clip(values, 1 / (n + 2), 1 - 1 / (n + 2)))
