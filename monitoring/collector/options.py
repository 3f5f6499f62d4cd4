"""The collector's limits and horizons, stated in one place and checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.collector.connection import MOST_CONNECTIONS
from windlass.errors import UsageError


@dataclass(frozen=True)
class Options:
    """How much is held, how long it is kept.

    Attributes:
        keep_predictions_days, keep_labels_days: a partition is removed when the newest day but one of its model is so
            much later (event time, so that a replay of last year's data keeps it). Keys of what was seen live as long:
            a second delivery is known as one for all that time.
        late_days: a label that became known so long after its prediction is counted as late.
        hold_s: how long a request waits for its response, or a response for its request.
        most_held: halves that wait at most.
        most_connections: that are open at a time; more are refused with 503.
        pending_bytes: of requests that wait for the disk; more are refused with 503 until there is room.
        wal_bytes: of acknowledged events that are not in the store yet; likewise.
        consolidate_s: how often the journal is brought into the store.
        compact_parts, compact_rows: so many files of a partition below so many rows become one.
        grace_s: how long a replaced file stays for those who read it.
    """

    keep_predictions_days: int = 400
    keep_labels_days: int = 400
    late_days: float = 14.0
    hold_s: float = 120.0
    most_held: int = 100_000
    most_connections: int = MOST_CONNECTIONS
    pending_bytes: int = 32 * 1024 * 1024
    wal_bytes: int = 4 * 1024**3
    consolidate_s: float = 30.0
    compact_parts: int = 8
    compact_rows: int = 250_000
    grace_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("keep_predictions_days", "keep_labels_days", "compact_parts"):
            if getattr(self, name) < 2:
                raise UsageError(f"{name} is {getattr(self, name)}; use 2 or more")
        positive = (
            "late_days",
            "most_connections",
            "pending_bytes",
            "wal_bytes",
            "consolidate_s",
            "compact_rows",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}; use more than 0")
