"""Incidents: one alarm from the look that it begins at until its evidence has been gone for two looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitoring.detection.rows import DAY_S

STAYS_FROM = 0.5
"""Share of the evidence that an alarm needs, at which an incident that is on stays on."""
QUIET_LOOKS = 2


@dataclass
class Incidents:
    """Notes the evidence of one look; what the next one needs is read from it afterwards.

    Attributes:
        before, quiet_before: as the state had them.
        day: the UTC day that ends this look.
    """

    before: Mapping[str, int]
    quiet_before: Mapping[str, int]
    day: int
    on: dict[str, int] = field(default_factory=dict)
    quiet: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, evidence: float) -> None:
        """Begin, keep or end the incident `name`; evidence above 1 rings, NaN is unknown and keeps what is on."""
        if name in self.before:
            strong = not evidence < STAYS_FROM
            looks = 0 if strong else self.quiet_before.get(name, 0) + 1
            if looks < QUIET_LOOKS:
                self.on[name] = self.before[name]
                self.quiet[name] = looks
        elif evidence > 1.0:
            self.on[name] = self.day
            self.quiet[name] = 0

    def alarm(self, name: str) -> bool:
        return name in self.on

    def new(self, name: str) -> bool:
        """Whether this look began it."""
        return name in self.on and name not in self.before

    def since(self, name: str) -> float | None:
        """Epoch seconds at which it began."""
        return float(self.on[name] * DAY_S) if name in self.on else None

    @property
    def new_columns(self) -> int:
        """Columns that ring now and did not before, whatever their checks; names end with the column."""
        known = {name.split("/", 1)[1] for name in self.before}
        return len({name.split("/", 1)[1] for name in self.on} - known)
