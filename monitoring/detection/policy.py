"""What a person states about detection: how often it may ring for nothing, and which change would matter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from windlass.errors import UsageError

ReferenceChoice = Literal["auto", "year-ago", "week-ago", "training"]

DAYS_OF_A_MONTH = 30.4375
DAY = timedelta(days=1)
DRIFT_SHARE = 0.8
"""Share of the budget of false alarms that drift and quality spend; performance decay has the rest."""


@dataclass(frozen=True)
class DetectionPolicy:
    """When an alarm may ring.

    Attributes:
        false_alarms_per_month: expected number of alarms a month although nothing changed, over all columns, all
            windows and all checks together. A column that alarms counts as one, however long it does.
        window: the span that evidence is stated for; each look also judges half of it and the two newest together,
            so what is large is seen early and what is small is seen at all.
        step: time from one look to the next; who looks more often spends less a look.
        smallest_effect: a shift that matters, in standard deviations of the reference; an alarm needs evidence that
            the change is larger than this, not only that there is one.
        smallest_share: the same for shares of missing and unknown values; a category's share or a tail must move by
            twice as much.
        resolution: a column whose interval reaches beyond this (in standard deviations) is INCONCLUSIVE, not PASS.
        smallest_decay: loss of calibration slope that matters (1 = the scores rank as at training, 0 = by chance).
        minimum_rows, minimum_days: a span with fewer is not judged.
        reference: which reference; "auto" takes the year-ago one where the baseline covers the season, else the
            week-ago one where the state remembers enough days, else training.
    """

    false_alarms_per_month: float = 0.15
    window: timedelta = timedelta(days=14)
    step: timedelta = timedelta(days=7)
    smallest_effect: float = 0.05
    smallest_share: float = 0.01
    resolution: float = 1.0
    smallest_decay: float = 0.15
    minimum_rows: int = 300
    minimum_days: int = 3
    reference: ReferenceChoice = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms_per_month <= 10:
            raise UsageError(
                f"false_alarms_per_month {self.false_alarms_per_month!r} is not in (0, 10]; "
                "0 would need a detector that never rings"
            )
        if self.window < 2 * DAY or self.window % DAY or self.step < DAY or self.step % DAY:
            raise UsageError(
                f"window {self.window} and step {self.step} must be whole days, the window two or more: "
                "evidence is counted by days"
            )
        if not all(s >= 0 for s in (self.smallest_effect, self.smallest_share, self.smallest_decay)):
            raise UsageError("the smallest effects that matter must not be negative")
        if self.minimum_rows < 1 or self.minimum_days < 1:
            raise UsageError(
                f"minimum_rows {self.minimum_rows} and minimum_days {self.minimum_days} must be 1 or more: "
                "of no rows nothing can be said"
            )
        if self.reference not in get_args(ReferenceChoice):
            raise UsageError(
                f"reference {self.reference!r} is none of {', '.join(get_args(ReferenceChoice))}"
            )

    @property
    def spans(self) -> tuple[int, ...]:
        """Days judged together at a look: half a window, a window, two windows."""
        days = self.window // DAY
        return tuple(sorted({max(days // 2, 1), days, 2 * days}))

    @property
    def looks_per_month(self) -> float:
        return DAYS_OF_A_MONTH / (self.step / DAY)

    @property
    def per_look(self) -> float:
        """Expected false alarms of drift and quality at one look, over all columns and spans."""
        return DRIFT_SHARE * self.false_alarms_per_month / self.looks_per_month

    @property
    def days_between_false_decays(self) -> float:
        """Average run length of the decay test, in days with labels, although nothing decayed."""
        return DAYS_OF_A_MONTH / ((1 - DRIFT_SHARE) * self.false_alarms_per_month)
