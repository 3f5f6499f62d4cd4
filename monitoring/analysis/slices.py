"""Where did it get worse? Stretches of the inputs whose loss rose more than everywhere else, ranked by what they cost.

A hundred slices that are looked at are a hundred chances to be fooled. So a slice is named only where its loss rose
beyond that of all other rows, by more than chance can do: errors by days (`monitoring.analysis.days`), the share of
false names held down over all slices (Benjamini and Hochberg 1995), and the bounds corrected for being chosen
(Benjamini and Yekutieli 2005). A slice that is named takes its rows with it before the next is sought: what only
overlaps it is not named again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.analysis import days
from monitoring.analysis.cuts import Cut, Ints
from monitoring.columns import Floats


@dataclass(frozen=True)
class SlicePolicy:
    """Which slices are judged and named.

    Attributes:
        minimum_rows: rows that a slice needs on either side, labelled ones.
        minimum_days: days on which it needs them, on either side.
        false_share: expected share of wrongly named slices.
        most: how many are named at most.
        same: a crossing that holds more than this share of one of its two sides is that side, and is left out; a
            simple slice is named instead of a crossing where it costs at least this share of it.
    """

    minimum_rows: int = 100
    minimum_days: int = 4
    false_share: float = 0.05
    most: int = 10
    same: float = 0.8


@dataclass(frozen=True, eq=False)
class Losses:
    """Rows whose outcome is known: their loss and their day."""

    loss: Floats
    day: Ints


@dataclass(frozen=True)
class Slice:
    """One slice that got worse.

    Attributes:
        loss, reference_loss: mean loss in the window and at training.
        increase: by how much it rose.
        beyond_rest: by how much more than in all other rows.
        lower: lower bound of `beyond_rest`, corrected for having been chosen among `tested`.
        p_value: of `beyond_rest` > 0, one-sided.
        cost: `lower` times the slice's share of the rows: what it adds to the loss of all, at least. Ranks.
    """

    name: str
    rows: int
    reference_rows: int
    loss: float
    reference_loss: float
    increase: float
    beyond_rest: float
    lower: float
    p_value: float
    cost: float


@dataclass(frozen=True)
class SliceReport:
    """What was found.

    Attributes:
        tested: slices that had enough rows on both sides.
        worse: named ones, the costliest first; none where nothing stands out.
        highest: slices with the highest loss now, whether it rose or not, (name, loss, rows).
        increase: of the loss over all rows.
    """

    tested: int
    reason: str
    worse: tuple[Slice, ...] = ()
    highest: tuple[tuple[str, float, int], ...] = ()
    increase: float | None = None

    def document(self) -> dict[str, Any]:
        return {
            "tested": self.tested,
            "reason": self.reason,
            "increase": self.increase,
            "worse": [asdict(s) for s in self.worse],
            "highest": [{"slice": n, "loss": loss, "rows": rows} for n, loss, rows in self.highest],
        }


def find(
    cuts: Sequence[Cut], reference: Losses, window: Losses, policy: SlicePolicy | None = None
) -> SliceReport:
    """Find where the loss rose beyond the rest.

    Args:
        cuts: of the rows of `reference` and `window`, in their order.
    """
    policy = policy or SlicePolicy()
    for what, side in (("the window", window), ("the training-time evaluation", reference)):
        count = len(np.unique(side.day))
        if len(side.loss) < 2 * policy.minimum_rows or count < policy.minimum_days:
            reason = (
                f"{what} has {len(side.loss)} labelled rows of {count} days; {2 * policy.minimum_rows} rows of "
                f"{policy.minimum_days} days are needed"
            )
            return SliceReport(0, reason)
    kept, kept_reference = np.ones(len(window.loss), bool), np.ones(len(reference.loss), bool)
    named: list[Slice] = []
    tested = 0
    highest: tuple[tuple[str, float, int], ...] = ()
    while len(named) < policy.most:
        table = _Table.of(cuts, reference, window, kept_reference, kept, policy)
        if not named:
            tested, highest = len(table.names), table.highest(policy.most)
        best = table.costliest(policy, len(window.loss))
        if best is None:
            break
        found, which, cell = best
        named.append(found)
        kept &= cuts[which].window != cell
        kept_reference &= cuts[which].reference != cell
        if min(kept.sum(), kept_reference.sum()) < 2 * policy.minimum_rows:
            break
    increase = float(window.loss.mean() - reference.loss.mean())
    reason = f"{len(named)} of {tested} slices got worse than the rest"
    if named:
        reason += f": {named[0].name} by at least {named[0].lower:.3f}"
    return SliceReport(tested, reason, tuple(named), highest, increase)


@dataclass(frozen=True, eq=False)
class _Side:
    """Sums over the rows of each cell on one side."""

    rows: Floats
    days_met: Floats
    mean: Floats
    rest_mean: Floats
    variance: Floats
    days: int


@dataclass(frozen=True, eq=False)
class _Table:
    """All slices with enough rows, an entry each."""

    names: list[str]
    where: list[tuple[int, int]]
    simple: NDArray[np.bool_]
    rows: Floats
    reference_rows: Floats
    loss: Floats
    reference_loss: Floats
    beyond: Floats
    error: Floats
    freedom: int

    @classmethod
    def of(
        cls,
        cuts: Sequence[Cut],
        reference: Losses,
        window: Losses,
        kept_reference: NDArray[np.bool_],
        kept: NDArray[np.bool_],
        policy: SlicePolicy,
    ) -> _Table:
        names: list[str] = []
        where: list[tuple[int, int]] = []
        parts: list[tuple[Floats, ...]] = []
        freedom = 10**6
        for which, one in enumerate(cuts):
            here, there = one.window[kept], one.reference[kept_reference]
            # only cells that can be judged are summed up: a column of thousands of texts has millions of crossings
            frequent = [_frequent(side, len(one.cells), policy.minimum_rows) for side in (here, there)]
            large = np.intersect1d(frequent[0], frequent[1], assume_unique=True)
            now = _side(here, window.loss[kept], window.day[kept], large)
            then = _side(there, reference.loss[kept_reference], reference.day[kept_reference], large)
            freedom = min(freedom, now.days - 1, then.days - 1)
            enough = np.minimum(now.days_met, then.days_met) >= policy.minimum_days
            if one.shape is not None:
                enough &= ~_is_a_side(here, large, now.rows, one.shape, policy.same)
            # all rows have no rest to be compared with
            enough &= (kept.sum() - now.rows >= policy.minimum_rows) & (
                kept_reference.sum() - then.rows >= policy.minimum_rows
            )
            for cell in large[enough]:
                names.append(one.cells[int(cell)])
                where.append((which, int(cell)))
            beyond = (now.mean - now.rest_mean) - (then.mean - then.rest_mean)
            error = np.sqrt(now.variance + then.variance)
            parts.append(tuple(v[enough] for v in (now.rows, then.rows, now.mean, then.mean, beyond, error)))
        gathered = [np.concatenate([p[i] for p in parts]) if parts else np.empty(0) for i in range(6)]
        rows, reference_rows, loss, reference_loss, beyond, error = gathered
        simple = np.array([cuts[which].shape is None for which, _ in where], dtype=bool)
        return cls(
            names=names,
            where=where,
            simple=simple,
            rows=rows,
            reference_rows=reference_rows,
            loss=loss,
            reference_loss=reference_loss,
            beyond=beyond,
            error=error,
            freedom=max(freedom, 1),
        )

    def highest(self, most: int) -> tuple[tuple[str, float, int], ...]:
        order = np.argsort(-self.loss, kind="stable")[:most]
        return tuple((self.names[i], float(self.loss[i]), int(self.rows[i])) for i in order)

    def costliest(self, policy: SlicePolicy, rows: int) -> tuple[Slice, int, int] | None:
        """The slice that adds most to the loss of all, of those that stand out; None where none does."""
        count, false_share = len(self.names), policy.false_share
        if not count:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.nan_to_num(self.beyond / self.error, nan=0.0)
        p_values = days.beyond(statistic, self.freedom)
        ordered = np.sort(p_values)
        passing = np.flatnonzero(ordered <= false_share * np.arange(1, count + 1) / count)
        if not len(passing):
            return None
        chosen = int(passing[-1]) + 1
        level = chosen * false_share / count
        lower = self.beyond - days.quantile(1 - level, self.freedom) * self.error
        cost = np.where(p_values <= ordered[passing[-1]], lower * self.rows / rows, -np.inf)
        best = int(np.argmax(cost))
        if self.simple.any():
            simplest = int(np.argmax(np.where(self.simple, cost, -np.inf)))
            best = simplest if cost[simplest] >= policy.same * cost[best] else best
        found = Slice(
            name=self.names[best],
            rows=int(self.rows[best]),
            reference_rows=int(self.reference_rows[best]),
            loss=float(self.loss[best]),
            reference_loss=float(self.reference_loss[best]),
            increase=float(self.loss[best] - self.reference_loss[best]),
            beyond_rest=float(self.beyond[best]),
            lower=float(lower[best]),
            p_value=float(p_values[best]),
            cost=float(cost[best]),
        )
        return found, *self.where[best]


def _frequent(cell: Ints, cells: int, least: int) -> Ints:
    """The cells with at least so many rows, ascending."""
    if cells <= 4 * len(cell):
        return np.flatnonzero(np.bincount(cell, minlength=cells) >= least)
    present, counts = np.unique(cell, return_counts=True)
    return np.asarray(present[counts >= least])


def _is_a_side(
    cell: Ints, large: Ints, rows: Floats, shape: tuple[int, int], same: float
) -> NDArray[np.bool_]:
    first = np.bincount(cell // shape[1], minlength=shape[0])[large // shape[1]]
    second = np.bincount(cell % shape[1], minlength=shape[1])[large % shape[1]]
    return np.asarray(rows > same * np.minimum(first, second), dtype=bool)


def _side(cell: Ints, loss: Floats, day: Ints, large: Ints) -> _Side:
    """Means of each cell and of its rest, and the variance of their difference, by days and at least by rows.

    Args:
        large: the cells, ascending; rows of others are in every cell's rest.
    """
    cells = len(large) + 1
    if len(large):
        place = np.minimum(np.searchsorted(large, cell), len(large) - 1)
        cell = np.where(large[place] == cell, place, len(large))
    else:
        cell = np.zeros(len(cell), dtype=np.int64)
    day = np.unique(day, return_inverse=True)[1]
    count = int(day.max()) + 1 if len(day) else 1
    both = cell * count + day
    rows = np.bincount(both, minlength=cells * count).reshape(cells, count).astype(np.float64)
    sums = np.bincount(both, weights=loss, minlength=cells * count).reshape(cells, count)
    squares = np.bincount(cell, weights=np.square(loss), minlength=cells)
    n, total = rows.sum(axis=1), sums.sum(axis=1)
    rest_n, rest_total = n.sum() - n, total.sum() - total
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, rest_mean = total / n, rest_total / rest_n
        influence = (sums - mean[:, None] * rows) / n[:, None]
        influence -= (sums.sum(axis=0) - sums - rest_mean[:, None] * (rows.sum(axis=0) - rows)) / rest_n[
            :, None
        ]
        clustered = np.square(influence).sum(axis=1) * count / max(count - 1, 1)
        own = (squares / n - np.square(mean)) / n
        others = ((squares.sum() - squares) / rest_n - np.square(rest_mean)) / rest_n
    variance = np.maximum(clustered, own + others)
    met = (rows > 0).sum(axis=1).astype(np.float64)
    # the last one holds whatever is in no large cell
    n, met, mean, rest_mean, variance = (v[:-1] for v in (n, met, mean, rest_mean, variance))
    return _Side(n, met, mean, rest_mean, variance, count)
