"""How good the live predictions were, month by month, beside two models that nobody was served by.

*Frozen* is the first model, never retrained. *Control* is retrained whenever the champion is, but on as much
data as the first model had (the newest January-sized window), so that what more data brings is told apart from
what newer data brings. Both score the vectors that a correct feature lookup gives at request time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scorer = Callable[[NDArray[np.float32]], Floats]


@dataclass(frozen=True)
class Control:
    """A control model and the event time (epoch seconds) from which it stands in for the one before."""

    since: float
    score: Scorer


def auc(labels: Floats, scores: Floats) -> float | None:
    """Area under the ROC curve by the rank sum, ties counted half (Hanley & McNeil 1982); None for one class only."""
    from scipy.stats import rankdata

    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def control_scores(controls: Sequence[Control], at: Floats, vectors: NDArray[np.float32]) -> Floats:
    """Score each row by the control that stood at its time; `controls` in the order of `since`."""
    scores = np.full(len(at), np.nan)
    for number, control in enumerate(controls):
        until = controls[number + 1].since if number + 1 < len(controls) else np.inf
        rows = (at >= (control.since if number else -np.inf)) & (at < until)
        if rows.any():
            scores[rows] = control.score(vectors[rows])
    return scores


def by_month(
    months: Sequence[str], labels: Floats, live: Floats, frozen: Floats, control: Floats
) -> list[dict[str, Any]]:
    """The `months` of the summary.

    Args:
        months: "2013-02" for each row.
        labels: 0 or 1, NaN where no outcome will ever be known; such rows are counted, never scored.
        live, frozen, control: scores, a row each.
    """
    names = np.array(months)
    rows = []
    for name in sorted(set(months)):
        inside = names == name
        known = inside & ~np.isnan(labels) & ~np.isnan(live)
        rows.append(
            {
                "month": name,
                "rows": int(inside.sum()),
                "late_rate": _rounded(float(labels[known].mean()) if known.any() else None),
                "auc_live": _rounded(auc(labels[known], live[known])),
                "auc_frozen": _rounded(auc(labels[known], frozen[known])),
                "auc_control": _rounded(auc(labels[known], control[known])),
            }
        )
    return rows


def pooled(
    months: Sequence[str], first: str, labels: Floats, live: Floats, frozen: Floats, control: Floats
) -> dict[str, Any]:
    """AUC over all rows from the month `first` on, for each of the three."""
    known = (np.array(months) >= first) & ~np.isnan(labels) & ~np.isnan(live)
    return {
        "from": first,
        "rows": int(known.sum()),
        "auc_live": _rounded(auc(labels[known], live[known])),
        "auc_frozen": _rounded(auc(labels[known], frozen[known])),
        "auc_control": _rounded(auc(labels[known], control[known])),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
