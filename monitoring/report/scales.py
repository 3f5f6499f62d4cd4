"""From values to places on a plot, and where the axis marks go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from monitoring.report.values import date


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map of [low, high] to [start, end]."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log10(max(v, 1e-12)) for v in (value, low, high))
        if high == low:
            return (self.start + self.end) / 2
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """The place of a value, at the edge where it lies outside."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within the range."""
        if self.logarithmic:
            return self._decades()
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / max(about, 1)
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _decades(self) -> list[float]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1,) if high - low > 3 else (1, 2, 5) if high - low <= 2 else (1, 3)
        marks = [f * 10.0**e for e in range(low, high + 1) for f in factors]
        return [m for m in marks if self.low * 0.999 <= m <= self.high * 1.001]


def padded(values: Iterable[float], share: float = 0.08) -> tuple[float, float]:
    """The range of the values with some air around it."""
    known = list(values)
    low, high = min(known), max(known)
    air = (high - low) * share or abs(high) * share or 1.0
    return low - air, high + air


def plain(value: float) -> str:
    """A tick's label: no more digits than it needs."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) >= 0.0005 else f"{value:.0e}"


#: Distances of time marks in seconds, with their labels.
_UNITS = (
    *((seconds, "%H:%M:%S") for seconds in (1, 5, 15, 30)),
    *((minutes * 60, "%H:%M") for minutes in (1, 5, 10, 15, 30, 60)),
    *((hours * 3600, "%-d %b %H:%M") for hours in (3, 6, 12)),
    (86400, "%-d %b"),
    (7 * 86400, "%-d %b"),
)


def time_ticks(low: float, high: float, about: int) -> list[tuple[float, str]]:
    """Marks at starts of months, days, hours, minutes or seconds, whichever gives about as many as asked for."""
    span = high - low
    if span > 75 * 86400:
        months = _months(low, high)
        step = max(1, math.ceil(len(months) / max(about, 1)))
        return [(m, date(m, "%b %Y" if date(m, "%-m") == "1" else "%b")) for m in months[::step]]
    for seconds, form in _UNITS:
        first, last = math.ceil(low / seconds), math.floor(high / seconds)
        if last - first < about:
            marks = [s * seconds for s in range(first, last + 1)]
            return [(float(m), date(m, form)) for m in marks] or [(low, date(low, "%-d %b %H:%M"))]
    marks = [s * seconds for s in range(first, last + 1)]
    step = max(1, math.ceil(len(marks) / max(about, 1)))
    return [(float(m), date(m, "%-d %b")) for m in marks[::step]]


def _months(low: float, high: float) -> list[float]:
    start = datetime.fromtimestamp(low, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    marks: list[float] = []
    while start.timestamp() <= high:
        if start.timestamp() >= low - 1:
            marks.append(start.timestamp())
        start = (start + timedelta(days=32)).replace(day=1)
    return marks
