"""One view of the reference: scales, and each column's regression on all the others.

Days count, not rows: the covariance is the one between the means of days, plus a tenth of the one within days and a
small ridge, which settle what the days alone leave open. The regression of each column on all others is then a column
of the inverse (the precision matrix; Lauritzen, Graphical Models, 1996, section 5.1): residual = Z Θ_j / Θ_jj.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.columns import Floats
from monitoring.detection.design import Design
from monitoring.detection.rows import Days, days_of
from monitoring.detection.scales import ColumnScale

WITHIN = 0.1
RIDGE = 0.003
SMALLEST_VARIANCE = 1e-4


@dataclass(frozen=True, eq=False)
class View:
    """What a window is measured with.

    Attributes:
        scales: of the features, in their order.
        score: of the scores; None where the reference has none.
        centre: mean of the matrix's columns.
        residuals: matrix × (numeric columns, then missing ones): turns rows into residuals.
        score_weights: what predicts the normal score of the scores.
        predicted_variance: of what the others say of each numeric column, then of the scores; all have variance 1.
    """

    scales: tuple[ColumnScale, ...]
    score: ColumnScale | None
    design: Design
    centre: Floats
    residuals: Floats
    score_weights: Floats
    predicted_variance: Floats


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows as a view sees them, in columns: the numeric features, then the scores.

    Attributes:
        normal: normal scores, NaN where missing.
        residual: of the normal score given the other columns; 0 where missing.
        missing: residual of "is missing" given the others, for those columns that the design has, in shares.
    """

    normal: Floats
    residual: Floats
    missing: Floats


def fit(
    scales: Sequence[ColumnScale],
    score: ColumnScale | None,
    at: Floats,
    features: Floats,
    scores: Floats,
    *,
    season: bool,
) -> View:
    """Fit the regressions to the reference's rows."""
    design = Design.of(scales, season=season)
    normal = _normal(scales, score, design, features, scores)
    width = len(design.numeric)
    matrix = design.matrix(normal[:, :width], features, at)
    together = matrix if score is None else np.hstack((matrix, np.nan_to_num(normal[:, width:])))
    centre, covariance = _covariance(together, days_of(at))
    size = matrix.shape[1]
    precision = np.linalg.inv(covariance[:size, :size] + RIDGE * np.eye(size))
    targets = width + len(design.missing)
    residuals = (precision / np.diag(precision))[:, :targets]
    weights = np.empty(0) if score is None else precision @ covariance[:size, size]
    blank = np.ones(width + (score is not None))
    view = View(
        tuple(scales), score, design, centre[:size], residuals, weights, blank
    )  # measured with to find the variances
    seen = _measured(view, normal, matrix)
    present = np.isfinite(seen.normal)
    predicted = np.where(present, np.nan_to_num(seen.normal) - seen.residual, np.nan)
    return View(
        scales=view.scales,
        score=score,
        design=design,
        centre=view.centre,
        residuals=residuals,
        score_weights=weights,
        predicted_variance=_variance(predicted),
    )


def measure(view: View, at: Floats, features: Floats, scores: Floats) -> Measured:
    """Measure rows."""
    normal = _normal(view.scales, view.score, view.design, features, scores)
    matrix = view.design.matrix(normal[:, : len(view.design.numeric)], features, at)
    return _measured(view, normal, matrix)


def _normal(
    scales: Sequence[ColumnScale], score: ColumnScale | None, design: Design, features: Floats, scores: Floats
) -> Floats:
    columns = [scales[i].normal(features[:, i]) for i in design.numeric]
    if score is not None:
        columns.append(score.normal(scores))
    return np.column_stack(columns) if columns else np.empty((len(features), 0))


def _measured(view: View, normal: Floats, matrix: Floats) -> Measured:
    centred = matrix - view.centre
    width = len(view.design.numeric)
    all_residuals = centred @ view.residuals
    residual = all_residuals[:, :width]
    if view.score is not None:
        of_score = np.nan_to_num(normal[:, width]) - centred @ view.score_weights
        residual = np.column_stack((residual, of_score))
    missing = all_residuals[:, width:] * view.design.deviations[: len(view.design.missing)]
    return Measured(normal, np.where(np.isfinite(normal), residual, 0.0), missing)


def _covariance(matrix: Floats, days: Days) -> tuple[Floats, Floats]:
    _, index, counts = np.unique(days, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    means = np.add.reduceat(matrix[order], starts, axis=0) / counts[:, None]
    centre = np.average(means, axis=0, weights=counts)
    between = np.atleast_2d(np.cov(means.T, aweights=counts)) if len(counts) > 1 else 0.0
    inside = matrix - means[index]
    return centre, between + WITHIN * (inside.T @ inside) / max(len(matrix) - len(counts), 1)


def _variance(columns: Floats) -> Floats:
    if not columns.size:
        return np.empty(columns.shape[1])
    present = np.isfinite(columns)
    counts = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, columns, 0.0).sum(axis=0) / counts
    spread = np.where(present, columns - mean, 0.0)
    variance: Floats = np.maximum(np.square(spread).sum(axis=0) / counts, SMALLEST_VARIANCE)
    return variance
