"""What a version knew of its training data, as detection needs it: two views and the noise of each statistic.

"year-ago" knows the season and serves where the reference covers the time of year; "training" does not. Each week of
the reference is measured by fits without it, so that the noise is that of data never seen. A reference without times
gives a baseline that judges with a weaker guarantee, and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monitoring.columns import Floats
from monitoring.detection import decay, noise
from monitoring.detection.decay import Ranking
from monitoring.detection.noise import WEEK, Noise
from monitoring.detection.outcomes import label_noise
from monitoring.detection.rows import Days, days_of
from monitoring.detection.scales import ColumnScale
from monitoring.detection.statistics import DayTable, Statistic, by_day, statistics_of
from monitoring.detection.view import View, fit
from windlass.errors import WindlassError

FOLDS = 5
THINNED = 4
"""Of the rows that a fold was fitted to, one in so many says where its statistics stand."""
MINIMUM_ROWS = 200
MINIMUM_DAYS = 28
SEASON_DAYS = 180
"""A reference over fewer days than this knows no season."""
NEAR_DAYS = 21
YEAR_DAYS = 365.2425

TIMED = (
    "noise learned from {weeks:.0f} weeks of the reference, each measured by fits without it; holds as long as live "
    "weeks vary as those did"
)
UNTIMED = (
    "the reference has no times (or under four weeks of them): every week counts as one observation, which is the "
    "most that its rows can depend on each other; only large changes will be seen"
)


@dataclass(frozen=True, eq=False)
class Measure:
    """A view and its noise.

    Attributes:
        centre: mean of each statistic over the reference, measured by the whole fit.
    """

    name: str
    view: View
    statistics: tuple[Statistic, ...]
    centre: Floats
    noise: Noise


@dataclass(frozen=True, eq=False)
class Baseline:
    """See the module.

    Attributes:
        columns: names of the features, in order.
        training, seasonal: the views; `seasonal` is None where the reference knows no season.
        covered: days of the year (0 to 365) that the reference has.
        labels: noise of the label's statistics; None where the reference has no labels.
        ranking: how scores rank outcomes; None where the reference has no labels.
        digest: names this baseline.
    """

    columns: tuple[str, ...]
    training: Measure
    seasonal: Measure | None
    covered: tuple[int, ...]
    labels: Noise | None
    ranking: Ranking | None
    timed: bool
    digest: str

    @property
    def guarantee(self) -> str:
        """What the stated number of false alarms rests on, in words."""
        return TIMED.format(weeks=self.training.noise.weeks) if self.timed else UNTIMED

    def covers(self, day: int) -> bool:
        """Whether the reference has days of the season of this UTC day."""
        if self.seasonal is None:
            return False
        apart = np.abs(np.asarray(self.covered) - _day_of_year(np.array([day]))[0])
        return int((np.minimum(apart, YEAR_DAYS - apart) <= NEAR_DAYS).sum()) >= WEEK


def build(
    columns: Mapping[str, Any],
    *,
    at: Any = None,
    scores: Any = None,
    categories: Mapping[str, int] | None = None,
    labels: Any = None,
    label_scores: Any = None,
    label_at: Any = None,
) -> Baseline:
    """Make a baseline from reference rows.

    Args:
        columns: model input -> values of each row, in the model's order; NaN is missing, a category its position.
        at: epoch seconds of each row; None where they are not known.
        scores: the model's scores of the same rows.
        categories: of each categorical column how many categories it has.
        labels, label_scores, label_at: labelled rows that the model was not trained on (they need not be the same).

    Raises:
        WindlassError: too few rows.
    """
    names = tuple(columns)
    features = np.column_stack([np.asarray(c, dtype=np.float64) for c in columns.values()])
    if len(features) < MINIMUM_ROWS:
        raise WindlassError(
            f"{len(features)} reference rows; detection needs at least {MINIMUM_ROWS} to know what is normal"
        )
    given = np.full(len(features), np.nan) if scores is None else np.asarray(scores, dtype=np.float64)
    times = None if at is None else np.asarray(at, dtype=np.float64)
    if times is not None and len(np.unique(days_of(times))) < MINIMUM_DAYS:
        times = None
    sizes = dict(categories or {})
    timed = times is not None
    when = np.zeros(len(features)) if times is None else times
    training = _measure("training", names, sizes, when, features, given, timed=timed)
    seasonal = None
    days = np.unique(days_of(when))
    if timed and len(days) >= SEASON_DAYS:
        seasonal = _measure("year-ago", names, sizes, when, features, given, timed=True)
    ranking = outcomes = None
    if labels is not None and label_scores is not None:
        known = np.asarray(labels, dtype=np.float64), np.asarray(label_scores, dtype=np.float64)
        dated = None if label_at is None else np.asarray(label_at, dtype=np.float64)
        ranking = decay.learn(*known, dated)
        outcomes = label_noise(ranking, *known, dated)
    return Baseline(
        columns=names,
        training=training,
        seasonal=seasonal,
        covered=tuple(int(d) for d in np.unique(_day_of_year(days))) if timed else (),
        labels=outcomes,
        ranking=ranking,
        timed=timed,
        digest=_digest(names, features, when, given),
    )


def _measure(
    name: str,
    names: Sequence[str],
    categories: Mapping[str, int],
    at: Floats,
    features: Floats,
    scores: Floats,
    *,
    timed: bool,
) -> Measure:
    season = name == "year-ago"
    view = _fit(names, categories, at, features, scores, season=season)
    statistics = statistics_of(view)
    weights = np.array([s.weight for s in statistics], dtype=np.int64)
    whole = by_day(view, statistics, at, features, scores)
    total = np.maximum(whole.counts[:, weights].sum(axis=0), 1.0)
    centre = whole.sums.sum(axis=0) / total
    if not timed:
        variance = np.maximum(whole.squares.sum(axis=0) / total - np.square(centre), 0.0)
        return Measure(name, view, statistics, centre, noise.without_times(variance, len(features)))
    days = days_of(at)
    fold = _folds(days, contiguous=not season)
    parts = []
    for k in range(FOLDS):
        out = fold == k
        if not out.any() or out.all():
            continue
        other = _fit(names, categories, at[~out], features[~out], scores[~out], season=season, like=view)
        some = np.flatnonzero(~out)[::THINNED]
        left = by_day(other, statistics, at[some], features[some], scores[some])
        rest = left.sums.sum(axis=0) / np.maximum(left.counts[:, weights].sum(axis=0), 1.0)
        parts.append(_about(by_day(other, statistics, at[out], features[out], scores[out]), rest, weights))
    return Measure(name, view, statistics, centre, noise.learn(_joined(parts), weights))


def _fit(
    names: Sequence[str],
    categories: Mapping[str, int],
    at: Floats,
    features: Floats,
    scores: Floats,
    *,
    season: bool,
    like: View | None = None,
) -> View:
    """Fit a view; `like` gives the statistics that it must have, so that folds line up with the whole."""
    scales = [
        ColumnScale.of(
            n, features[:, i], "categorical" if n in categories else "numeric", categories.get(n, 0)
        )
        for i, n in enumerate(names)
    ]
    # a fold may have none of the scores that the whole has
    scored = bool(np.isfinite(scores).any()) if like is None else like.score is not None
    score = ColumnScale.of("score", scores, "score") if scored else None
    if like is not None:
        scales = [_alike(s, old) for s, old in zip(scales, like.scales, strict=True)]
        score = None if like.score is None or score is None else _alike(score, like.score)
    return fit(scales, score, at, features, scores, season=season)


def _alike(scale: ColumnScale, old: ColumnScale) -> ColumnScale:
    log_mean = scale.log_mean if np.isfinite(scale.log_mean) else 0.0
    return replace(
        scale,
        atom=old.atom,
        log_mean=log_mean if np.isfinite(old.log_mean) else float("nan"),
        # which missing values and categories are columns of the matrix follows from these
        null_share=old.null_share,
        shares=old.shares,
    )


def _folds(days: Days, *, contiguous: bool) -> Days:
    """Fold of each row: weeks in turn, or one stretch of time each where seasons are not to be known."""
    if not contiguous:
        return days // WEEK % FOLDS
    distinct, index = np.unique(days, return_inverse=True)
    stretch: Days = np.arange(len(distinct)) * FOLDS // len(distinct)
    return stretch[index]


def _about(table: DayTable, centre: Floats, weights: Days) -> DayTable:
    """The table of deviations from `centre`."""
    counts = table.counts[:, weights]
    sums = table.sums - centre * counts
    squares = table.squares - 2 * centre * table.sums + np.square(centre) * counts
    return replace(table, sums=sums, squares=squares)


def _joined(parts: Sequence[DayTable]) -> DayTable:
    days = np.concatenate([p.days for p in parts])
    order = np.argsort(days, kind="stable")
    return DayTable(
        days[order],
        np.concatenate([p.counts for p in parts])[order],
        np.concatenate([p.sums for p in parts])[order],
        np.concatenate([p.squares for p in parts])[order],
    )


def _day_of_year(days: Days) -> Days:
    dates = days.astype("datetime64[D]")
    position: Days = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    return position


def _digest(names: Sequence[str], *arrays: Floats) -> str:
    found = hashlib.sha256("\0".join(names).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
