"""One release's journal as the invariants follow it, beside the engine's own state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from serving.release.journal.store import Entry, Record
from serving.release.release import Release


@dataclass
class Stratum:
    """Events of the two arms, compared within each look, so that nothing that moves both counts."""

    excess: float = 0.0
    variance: float = 0.0
    last: tuple[int, int, int, int] = (0, 0, 0, 0)

    def add(self, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        now = (*ours, *theirs)
        n, events, m, their_events = (a - b for a, b in zip(now, self.last, strict=True))
        if n <= 0 or m <= 0 or not 0 <= events <= n or not 0 <= their_events <= m:
            return
        self.last = now
        total = n + m
        rate = (events + their_events) / total
        self.excess += events - n * rate
        if total > 1:
            self.variance += rate * (1 - rate) * n * m / (total - 1)

    def skip(self, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        """Leave out what came since, so that no stratum spans it: shares and rates may have changed meanwhile."""
        now = (*ours, *theirs)
        sane = ours[0] >= ours[1] and theirs[0] >= theirs[1]
        if sane and all(a >= b for a, b in zip(now, self.last, strict=True)):
            self.last = now

    @property
    def z(self) -> float:
        return self.excess / math.sqrt(self.variance) if self.variance > 0 else 0.0


class Told:
    """The journal of one release as the invariants follow it."""

    def __init__(self, entry: Entry, record: Record, release: Release) -> None:
        self.entry = entry
        self.release = release
        self.champion: str = record["champion"]
        self.phase = "Pending"
        self.seq = 0
        self.last: Record | None = None
        self.acted: Record | None = None
        self.confirmed = True
        self.entered: Record | None = None
        self.paused: timedelta = timedelta(0)
        self.paused_at: datetime | None = None
        self.pairs: dict[str, Sequence[float]] = {}
        self.alerts = 0
        self.repaired = False
        self.harm: dict[tuple[str, str], Stratum] = {}
        self.clean: dict[str, Stratum] = {}

    @property
    def live(self) -> bool:
        return self.phase in ("Pending", "Progressing", "Paused")
