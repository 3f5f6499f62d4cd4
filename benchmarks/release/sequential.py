"""Our test on thousands of simulated comparisons at once: the shipped formulas, on arrays instead of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from serving.release.statistics import comparison, means, proportions
from serving.release.statistics.design import Design
from serving.release.statistics.moments import Moments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

NEVER = -1
NAMES = tuple(field.name for field in fields(Moments))


def each(moments: Moments, change: Any) -> Moments:
    """`change` applied to every sum."""
    return Moments(*(change(getattr(moments, name)) for name in NAMES))


def joined(pieces: Sequence[Moments]) -> Moments:
    """The repetitions of several draws under one another."""
    import numpy as np

    return Moments(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in NAMES))


def cumulative(looks: Moments) -> Moments:
    return each(looks, lambda values: values.cumsum(axis=-1))


def decisions(design: Design, candidate: Moments, champion: Moments) -> tuple[NDArray[Any], NDArray[Any]]:
    """The look (0 is the first) at which each repetition decides, `NEVER` where none does, and for which side.

    Args:
        design: of the comparison.
        candidate, champion: the sums of each look, shape (repetitions, looks).

    Returns:
        (looks, sides), a side being 1 for better and -1 for worse.
    """
    exact = comparison.exact(design)
    return (_bets if exact else _sequence)(design, candidate, champion)


def first(reached: Array) -> NDArray[Any]:
    """Index of the first True along the last axis, `NEVER` where there is none."""
    import numpy as np

    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), NEVER)


def _sequence(design: Design, candidate: Moments, champion: Moments) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    a, b = cumulative(candidate), cumulative(champion)
    start = int(np.argmax(np.minimum(a.n[0], b.n[0]) >= max(design.min_samples, 2)))
    a, b = (each(arm, lambda values: values[:, start:]) for arm in (a, b))
    better, worse = means.log_evidence(design, means.contrast(design, a, b))
    needed = math.log(2 / design.alpha)
    at = first((better >= needed) | (worse >= needed))
    rows = np.arange(len(at))
    sides = np.where(at == NEVER, 0, np.where(better[rows, at] >= needed, 1, -1))
    return np.where(at == NEVER, NEVER, at + start), sides


def _bets(design: Design, candidate: Moments, champion: Moments) -> tuple[NDArray[Any], NDArray[Any]]:
    import numpy as np

    repetitions, looks = candidate.y.shape
    at = np.full(repetitions, NEVER)
    sides = np.zeros(repetitions, dtype=int)
    open_ = np.arange(repetitions)
    better, worse = (proportions.start(design, (repetitions,)) for _ in range(2))
    past = (
        each(candidate, lambda values: 0.0 * values[:, 0]),
        each(champion, lambda values: 0.0 * values[:, 0]),
    )
    needed = math.log(2 / design.alpha)
    for look in range(looks):
        rows = open_

        def now(values: Array, look: int = look, rows: Array = rows) -> Array:
            return values[rows, look]

        new = (each(candidate, now), each(champion, now))
        better = proportions.add(design, better, 1, past, new)
        worse = proportions.add(design, worse, -1, past, new)
        past = (past[0] + new[0], past[1] + new[1])
        if min(past[0].n[0], past[1].n[0]) < max(design.min_samples, 2):
            continue
        up = proportions.log_evidence(design, better) >= needed
        ended = up | (proportions.log_evidence(design, worse) >= needed)
        if ended.any():
            at[open_[ended]] = look
            sides[open_[ended]] = np.where(up[ended], 1, -1)
            kept = ~ended
            open_, better, worse = open_[kept], better[:, kept], worse[:, kept]
            past = tuple(each(arm, lambda values, kept=kept: values[kept]) for arm in past)  # type: ignore[assignment]
            if not len(open_):
                break
    return at, sides
