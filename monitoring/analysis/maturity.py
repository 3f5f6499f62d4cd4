"""When labels come: how long one takes, which rows have had that time, and how many of them have one.

A window whose labels are still coming shows only the quick ones, and those are not like the rest (an early flight
lands early). So performance is measured on the newest stretch of rows whose labels have had their time, and judged
only where enough of them came.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monitoring.analysis.traffic import between
from monitoring.collector.reading import StoredWindow

ENOUGH = 100
DELAY_QUANTILE = 0.95


@dataclass(frozen=True)
class Maturity:
    """What is known of labels at one moment.

    Attributes:
        delays: seconds from a prediction to its label, by quantile ("0.5", "0.9", "0.95"); empty where too few labels
            are known to tell.
        through: rows before this time (epoch seconds) have had the delay of 95 % of the labels; None where unknown.
        rows, labelled: rows of the measured stretch and those of them with a label.
        coverage: `labelled` / `rows`; None without rows.
        age: seconds since the newest label came; None where none ever did.
    """

    delays: dict[str, float]
    through: float | None
    rows: int
    labelled: int
    coverage: float | None
    age: float | None

    def document(self) -> dict[str, Any]:
        return asdict(self)


def measure(history: StoredWindow, *, end: float, now: float, span: float) -> tuple[Maturity, StoredWindow]:
    """Say when labels come, and cut out the newest stretch of `span` seconds whose labels have had their time.

    Args:
        history: everything kept of one version up to `end`, labels as known at `now`.
        end: end of the analysed window, epoch seconds.
        now: when it is analysed; long after `end` where an old window is, or where the platform's clock stands.

    Returns:
        What is known, and the matured rows (the labels of some may still be missing).
    """
    known = np.isfinite(history.labels) & np.isfinite(history.label_at)
    age = float(max(end - np.max(history.label_at[known]), 0.0)) if known.any() else None
    delays = history.label_at - history.at
    usual = delays[known & _settled(history)]
    if len(usual) < ENOUGH:
        usual = delays[known]
    if len(usual) < ENOUGH:
        return Maturity({}, None, 0, 0, None, age), between(history, end, end)
    quantiles = {f"{q:g}": float(np.quantile(usual, q)) for q in (0.5, 0.9, DELAY_QUANTILE)}
    through = min(end, now - max(quantiles[f"{DELAY_QUANTILE:g}"], 0.0))
    stretch = between(history, through - span, through)
    labelled = int(np.isfinite(stretch.labels).sum())
    coverage = labelled / len(stretch) if len(stretch) else None
    return Maturity(quantiles, through, len(stretch), labelled, coverage, age), stretch


def _settled(history: StoredWindow) -> np.ndarray[Any, np.dtype[np.bool_]]:
    # of the newest rows only quick labels are known yet; the older half has had the most time
    settled: np.ndarray[Any, np.dtype[np.bool_]] = history.at <= np.median(history.at)
    return settled
