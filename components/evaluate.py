"""How good a set of scores is: ranking, calibration and cost, each with an interval, overall and by slice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components import delong

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 10
REPLICATES = 300
# the largest block of resampled rows held at once: 8 bytes each, a few arrays of it
BLOCK = 2_000_000
TINY = 1e-7


@dataclass(frozen=True)
class Bin:
    """One equal-mass bin of the calibration curve."""

    rows: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class SliceMetrics:
    """Metrics of the rows with one value of one column; `auc` is None where one class is absent."""

    column: str
    value: str
    rows: int
    positive_rate: float
    mean_score: float
    auc: float | None
    brier: float


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one window.

    Attributes:
        business_cost: cost a row at `threshold`, the best one on these rows.
        intervals: 95 % intervals; of the AUC by DeLong, of the others by bootstrap over rows.
    """

    rows: int
    positive_rate: float
    auc: float
    log_loss: float
    brier: float
    calibration_error: float
    business_cost: float
    threshold: float
    intervals: Mapping[str, tuple[float, float]]
    calibration: tuple[Bin, ...]
    slices: tuple[SliceMetrics, ...]


def evaluate(
    labels: Floats,
    scores: Floats,
    *,
    false_negative_cost: float,
    false_positive_cost: float,
    slices: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate scores of labelled rows; both classes must occur."""
    threshold, cost = best_threshold(labels, scores, false_negative_cost, false_positive_cost)
    alarm = scores >= threshold
    row_costs = {
        "log_loss": row_log_loss(labels, scores),
        "brier": (scores - labels) ** 2,
        "business_cost": false_negative_cost * (labels * ~alarm)
        + false_positive_cost * ((1 - labels) * alarm),
    }
    auc = delong.auc(labels, scores)
    curve = calibration(labels, scores)
    return Evaluation(
        rows=len(labels),
        positive_rate=float(labels.mean()),
        auc=auc.value,
        log_loss=float(row_costs["log_loss"].mean()),
        brier=float(row_costs["brier"].mean()),
        calibration_error=calibration_error(curve),
        business_cost=cost,
        threshold=threshold,
        intervals={"auc": (auc.low, auc.high), **mean_intervals(row_costs, seed=seed)},
        calibration=curve,
        slices=tuple(
            metrics
            for column, values in (slices or {}).items()
            for metrics in by_slice(labels, scores, column, values)
        ),
    )


def row_log_loss(labels: Floats, scores: Floats) -> Floats:
    """Log loss of each row, scores kept off 0 and 1."""
    import numpy as np

    p = np.clip(scores, TINY, 1 - TINY)
    out: Floats = -(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return out


def calibration(labels: Floats, scores: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """Return the calibration curve over bins of equal mass; rows with one score never part, so bins may be fewer."""
    import numpy as np

    order = np.argsort(scores, kind="stable")
    s, y = scores[order], labels[order]
    n = len(s)
    cuts = [0]
    for k in range(1, bins):
        cut = round(n * k / bins)
        # to the end of its run of equal scores, so that the bins do not depend on the order of ties
        cut = int(np.searchsorted(s, s[cut - 1], side="right")) if cut else 0
        if cuts[-1] < cut < n:
            cuts.append(cut)
    cuts.append(n)
    return tuple(
        Bin(b - a, float(s[a:b].mean()), float(y[a:b].mean())) for a, b in itertools.pairwise(cuts) if b > a
    )


def calibration_error(curve: Sequence[Bin]) -> float:
    """Expected calibration error: the mean distance of predicted and observed, by rows."""
    total = sum(b.rows for b in curve)
    return sum(b.rows * abs(b.predicted - b.observed) for b in curve) / total


def best_threshold(
    labels: Floats, scores: Floats, false_negative: float, false_positive: float
) -> tuple[float, float]:
    """Return the alarm threshold (`score >= threshold`) of least cost, and that cost a row."""
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    s, y = scores[order], labels[order]
    alarms_right, alarms_wrong = np.cumsum(y), np.cumsum(1 - y)
    total = float(y.sum())
    costs = (false_negative * (total - alarms_right) + false_positive * alarms_wrong) / len(s)
    # a threshold can only stand where the score changes
    last_of_run = np.append(s[1:] != s[:-1], True)
    costs = np.where(last_of_run, costs, np.inf)
    at = int(np.argmin(costs))
    never = false_negative * total / len(s)
    if never <= costs[at]:
        return math.nextafter(float(s[0]), math.inf), never
    return float(s[at]), float(costs[at])


def mean_intervals(
    row_values: Mapping[str, Floats], *, seed: int, replicates: int = REPLICATES, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Bootstrap percentile intervals of means over rows, all from the same resamples."""
    import numpy as np

    rng = np.random.default_rng(seed)
    values = np.column_stack(list(row_values.values()))
    n = len(values)
    means = np.empty((replicates, values.shape[1]))
    step = max(1, BLOCK // n)
    for start in range(0, replicates, step):
        count = min(step, replicates - start)
        drawn = rng.integers(0, n, size=(count, n))
        drawn += np.arange(count)[:, None] * n
        weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        means[start : start + count] = weights @ values / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(row_values)}


def by_slice(labels: Floats, scores: Floats, column: str, values: Sequence[str]) -> list[SliceMetrics]:
    """Return metrics for each value of a column, most rows first."""
    import numpy as np

    names, codes = np.unique(np.asarray(values, dtype=str), return_inverse=True)
    out = []
    for k, name in enumerate(names):
        rows = codes == k
        y, s = labels[rows], scores[rows]
        auc = delong.point(y, s)
        out.append(
            SliceMetrics(
                column, str(name), int(rows.sum()), float(y.mean()), float(s.mean()),
                None if math.isnan(auc) else auc, float(((s - y) ** 2).mean()),
            )
        )  # fmt: skip
    return sorted(out, key=lambda m: (-m.rows, m.value))
