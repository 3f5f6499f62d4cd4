"""Each form against the library's own prediction, on real rows: measured on the engine that will serve it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.runtime.bundle import Bundle
from serving.runtime.engines.opening import open_form
from serving.runtime.manifest import Form, Parity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.export.forest import Forest

Predict = Callable[[Sequence[Any]], Sequence[Any]]

ROUNDS = 5
TIMED_ROWS = 60
TIMED_SECONDS = 0.04
"""What a form is timed on in a round: so many rows, or as many as it manages in that time."""
PROBED_ROWS = 8_000
"""Most rows that are made to stand on the thresholds of a forest."""


@dataclass(frozen=True)
class Question:
    """Rows and what the library says of them.

    Attributes:
        rows: one array for each input, N on the first axis.
        expected: one array for each output, of what is served: float32, [N] or [N, …].
        real: the first so many rows are real, the others were made of them to stand on thresholds or to be missing.
    """

    rows: tuple[Any, ...]
    expected: tuple[Any, ...]
    real: int


@dataclass(frozen=True)
class Compared:
    """A form that was opened and asked.

    Attributes:
        run: its engine's.
        mean_difference: over the real rows.
    """

    form: Form
    run: Predict
    size_bytes: int
    parity: Parity
    mean_difference: float

    def timed(self, us: float) -> Form:
        """The form with everything that was measured of it."""
        return replace(self.form, size_bytes=self.size_bytes, single_row_us=us, parity=self.parity)


def compare(bundle: Bundle, form: Form, question: Question, tolerance: float) -> Compared:
    """Run `form` of `bundle` on the question's rows.

    Args:
        tolerance: the largest difference allowed, of an output whose largest value is at most 1; of larger ones the
            bound grows in proportion.

    Raises:
        ImportError, WindlassError: it cannot be opened, or fails on these rows.
    """
    import numpy as np

    engine = open_form(bundle, form)
    largest, scale, total = 0.0, 1.0, 0.0
    for mine, theirs in zip(engine.run(question.rows), question.expected, strict=True):
        away = _difference(mine, theirs)
        largest = max(largest, float(away.max(initial=0.0)))
        total += float(away[: question.real].mean())
        if theirs.dtype != object:
            scale = max(scale, float(np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0.0)))
    # JSON has no infinity
    largest = min(largest, float(np.finfo(np.float32).max))
    files = [n for n in bundle.sha256 if n == form.file or n.startswith(f"{form.file}/")]
    size = sum(Path(bundle.folder, n).stat().st_size for n in files)
    bound = tolerance * scale
    parity = Parity(question.real, largest, bound, largest <= bound)
    return Compared(form, engine.run, size, parity, min(total, largest))


def single_row_us(runs: Sequence[Predict], question: Question) -> list[float]:
    """Microseconds of one row by each engine, on one thread.

    The engines take turns, and of each the quietest round's median counts: what else the machine does then falls on
    all of them, or on none.
    """
    picked = [i % question.real for i in range(TIMED_ROWS)]
    singles = [[a[i : i + 1].copy() for a in question.rows] for i in picked]
    return [
        round(min(medians), 2)
        for medians in zip(*([_median_us(run, singles) for run in runs] for _ in range(ROUNDS)), strict=True)
    ]


def _median_us(run: Predict, singles: list[list[Any]]) -> float:
    times: list[float] = []
    run(singles[0])
    deadline = time.perf_counter() + TIMED_SECONDS
    for single in singles:
        started = time.perf_counter()
        run(single)
        ended = time.perf_counter()
        times.append(ended - started)
        if ended > deadline:
            break
    return statistics.median(times) * 1e6


def _difference(mine: Any, theirs: Any) -> NDArray[np.float64]:
    """Distance of each number; of texts 0 where they are the same."""
    import numpy as np

    if theirs.dtype == object:
        return np.where(mine == theirs, 0.0, np.inf)
    # equal infinities agree, and so do two missing answers; one alone is far away
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        away = np.where(same, 0.0, np.abs(mine.astype(np.float64) - theirs))
    return np.nan_to_num(away, nan=np.inf)


def ask(predict: Predict, rows: tuple[Any, ...], made: tuple[Any, ...]) -> Question:
    """Put real and made rows to the library."""
    import numpy as np

    together = tuple(np.concatenate([r, m]) if len(m) else r for r, m in zip(rows, made, strict=True))
    return Question(together, tuple(predict(together)), len(rows[0]))


def rows_at_thresholds(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Real rows with one value put exactly on a split's threshold, or on its float32 neighbours.

    There alone a `<` that should be a `<=`, or a threshold rounded to the wrong side, shows.
    """
    import numpy as np

    splits = sorted(set(forest.thresholds()))
    step = max(1, 3 * len(splits) // PROBED_ROWS)
    chosen = splits[::step]
    features = np.repeat([f for f, _ in chosen], 3)
    at = np.array([t for _, t in chosen], dtype=np.float32)
    ends = np.float32(-np.inf), np.float32(np.inf)
    values = np.stack([at, np.nextafter(at, ends[0]), np.nextafter(at, ends[1])], axis=1).ravel()
    made = rows[np.arange(len(features)) % len(rows)].copy()
    finite = np.isfinite(values)
    made[np.flatnonzero(finite), features[finite].astype(int)] = values[finite]
    return made


def rows_with_missing(rows: NDArray[np.float32], missing: Sequence[bool]) -> NDArray[np.float32]:
    """For each input that may be missing a real row without it, and one row without any of them."""
    import numpy as np

    columns = np.flatnonzero(missing)
    if not len(columns):
        return rows[:0]
    made = rows[np.arange(len(columns) + 1) % len(rows)].copy()
    made[np.arange(len(columns)), columns] = np.nan
    made[-1, columns] = np.nan
    return made
