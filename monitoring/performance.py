"""Measured performance of a window once its labels are known, and whether it decayed since training.

A point estimate of a small window proves nothing, so every figure has a standard error and decay is a test:
FAIL only where the loss exceeds a margin beyond chance, PASS only where it is shown to stay below it,
INCONCLUSIVE in between and where there are too few rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from monitoring.columns import Floats
from monitoring.verdict import Verdict

SMALLEST_PROBABILITY = 1e-6
BINS = 10


@dataclass(frozen=True)
class Performance:
    """Measures of (label, score) rows; NaN where a measure is not defined (no rows, one class only).

    Attributes:
        auc_error, brier_error, log_loss_error: standard errors; the AUC's is DeLong's.
        calibration_error: expected calibration error over 10 bins of equal mass.
        score_mean, label_mean: mean prediction and rate of positives.
    """

    n: int
    positives: int
    auc: float
    auc_error: float
    brier: float
    brier_error: float
    log_loss: float
    log_loss_error: float
    calibration_error: float
    score_mean: float
    label_mean: float


def measure(labels: Any, scores: Any) -> Performance:
    """Measure rows whose label is known; labels are 0 or 1."""
    y = np.asarray(labels, dtype=np.float64)
    p = np.asarray(scores, dtype=np.float64)
    auc, auc_error = auc_delong(y, p)
    clipped = np.clip(p, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses = -(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))
    brier, brier_error = _mean(np.square(p - y))
    log_loss, log_loss_error = _mean(losses)
    return Performance(
        n=len(y),
        positives=int(y.sum()),
        auc=auc,
        auc_error=auc_error,
        brier=brier,
        brier_error=brier_error,
        log_loss=log_loss,
        log_loss_error=log_loss_error,
        calibration_error=calibration_error(y, p),
        score_mean=_mean(p)[0],
        label_mean=_mean(y)[0],
    )


def auc_delong(y: Floats, p: Floats) -> tuple[float, float]:
    """Area under the ROC curve and its standard error by DeLong's method, from midranks."""
    positive, negative = p[y == 1], p[y == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return math.nan, math.nan
    ranks = _midranks(np.concatenate((positive, negative)))
    above_negatives = (ranks[:m] - _midranks(positive)) / n  # share of negatives below each positive
    above_positives = 1.0 - (ranks[m:] - _midranks(negative)) / m
    auc = float(above_negatives.mean())
    if m == 1 or n == 1:
        return auc, math.nan
    return auc, math.sqrt(
        float(np.var(above_negatives, ddof=1)) / m + float(np.var(above_positives, ddof=1)) / n
    )


def _midranks(values: Floats) -> Floats:
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, side="left")
    last = np.searchsorted(ordered, values, side="right")
    ranks: Floats = (first + last + 1) / 2.0
    return ranks


def calibration_error(y: Floats, p: Floats, bins: int = BINS) -> float:
    """Expected calibration error: mean gap between rate and mean score over bins of equal mass."""
    if len(y) == 0:
        return math.nan
    order = np.argsort(p, kind="stable")
    gaps = [abs(float(part.sum())) for part in np.array_split((y - p)[order], bins)]
    return sum(gaps) / len(y)


def calibration_curve(y: Floats, p: Floats, bins: int = BINS) -> tuple[tuple[float, float, int], ...]:
    """(mean score, rate of positives, rows) of bins of equal mass, by ascending score."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return tuple((float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts)


def _mean(values: Floats) -> tuple[float, float]:
    if len(values) == 0:
        return math.nan, math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error


@dataclass(frozen=True)
class DecayPolicy:
    """When a loss of performance counts.

    Attributes:
        margins: largest tolerated loss by metric; a metric without one is not judged. AUC is the default,
            because Brier score and log loss move with the rate of positives although the model did not decay.
        alpha: level of each one-sided test.
        minimum_rows, minimum_per_class: below these a window decides nothing.
    """

    margins: tuple[tuple[Literal["auc", "brier", "log_loss"], float], ...] = (("auc", 0.02),)
    alpha: float = 0.01
    minimum_rows: int = 300
    minimum_per_class: int = 30


@dataclass(frozen=True)
class DecayTest:
    """One metric then and now.

    Attributes:
        loss: how much worse it is now, positive = worse.
        lower, upper: confidence interval of `loss`, each bound at level alpha.
    """

    metric: str
    baseline: float
    current: float
    loss: float
    lower: float
    upper: float
    margin: float
    verdict: Verdict


@dataclass(frozen=True)
class Decay:
    """Whether performance decayed, over all judged metrics: FAIL if any failed, PASS if all passed."""

    verdict: Verdict
    reason: str
    tests: tuple[DecayTest, ...]
    current: Performance


def decay(baseline: Performance, current: Performance, policy: DecayPolicy | None = None) -> Decay:
    """Test the measured performance of a window against that at training time (independent samples)."""
    policy = policy or DecayPolicy()
    for name, measured in (("the window", current), ("the training-time evaluation", baseline)):
        fewest = min(measured.positives, measured.n - measured.positives)
        if measured.n < policy.minimum_rows or fewest < policy.minimum_per_class:
            reason = (
                f"{name} has {measured.n} labelled rows, {fewest} in the smaller class; "
                f"at least {policy.minimum_rows} and {policy.minimum_per_class} are needed"
            )
            return Decay("INCONCLUSIVE", reason, (), current)
    z = NormalDist().inv_cdf(1 - policy.alpha)
    tests = tuple(_test(metric, margin, baseline, current, z) for metric, margin in policy.margins)
    failed = [t for t in tests if t.verdict == "FAIL"]
    if failed:
        return Decay("FAIL", "; ".join(map(_sentence, failed)), tests, current)
    if all(t.verdict == "PASS" for t in tests):
        return Decay("PASS", "; ".join(map(_sentence, tests)), tests, current)
    return Decay(
        "INCONCLUSIVE", "; ".join(_sentence(t) for t in tests if t.verdict != "PASS"), tests, current
    )


def _test(metric: str, margin: float, baseline: Performance, current: Performance, z: float) -> DecayTest:
    before, now = getattr(baseline, metric), getattr(current, metric)
    loss = before - now if metric == "auc" else now - before
    error = math.hypot(getattr(baseline, f"{metric}_error"), getattr(current, f"{metric}_error"))
    lower, upper = loss - z * error, loss + z * error
    verdict: Verdict = "FAIL" if lower > margin else "PASS" if upper < margin else "INCONCLUSIVE"
    return DecayTest(metric, before, now, loss, lower, upper, margin, verdict)


def _sentence(test: DecayTest) -> str:
    return (
        f"{test.metric} {test.current:.3f} against {test.baseline:.3f} at training: "
        f"loss {test.loss:.3f} ({test.lower:.3f} to {test.upper:.3f}), margin {test.margin:g}"
    )
