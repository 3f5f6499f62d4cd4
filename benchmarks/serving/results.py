"""What was measured, round by round: medians, spreads and the ratios that survive a noisy machine."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

ROUNDED = 4


@dataclass(frozen=True)
class Load:
    """How a contender is asked."""

    rows: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.rows} row{'s' if self.rows > 1 else ''}, concurrency {self.concurrency}"


@dataclass(frozen=True)
class Sample:
    """One contender under one load in one round.

    Attributes:
        rate: answers a second.
        cpu_s: CPU seconds of the server's processes per 1,000 requests.
        failed: requests that were not answered with 200.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    failed: int


UNITS = {"rate": "1/s", "p50_ms": "ms", "p99_ms": "ms", "cpu_s": "s", "failed": "requests"}
NAMES = {
    "rate": "requests per second",
    "p50_ms": "latency p50",
    "p99_ms": "latency p99",
    "cpu_s": "CPU per 1,000 requests",
    "failed": "failed",
}


@dataclass
class Results:
    """All rounds of all parts.

    Attributes:
        samples: (contender, load) -> one sample of each round.
        extra: measurements that are no samples, in the form of the report.
        targets: of parts that judge themselves, in the form of the report.
        figures: values by name, for targets that are no ratios of samples.
        not_run: contender -> why it is missing.
    """

    samples: dict[tuple[str, Load], dict[int, Sample]] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)

    def add(self, contender: str, load: Load, number: int, sample: Sample) -> None:
        self.samples.setdefault((contender, load), {})[number] = sample

    def note(self, name: str, contender: str, values: list[float], unit: str) -> None:
        """Take one measurement down, its median over `values`; it is a figure too."""
        self.extra.append({"name": name, "contender": contender, **_spread(values), "unit": unit})
        self.figures[f"{contender}: {name}"] = statistics.median(values)

    def values(self, contender: str, load: Load, what: str) -> list[float]:
        return [getattr(sample, what) for sample in self.samples.get((contender, load), {}).values()]

    def ratio(self, what: str, ours: tuple[str, Load], theirs: tuple[str, Load]) -> float | None:
        """The median of the ratios within each round: what slows the machine down slows both sides of it."""
        mine, other = self.samples.get(ours, {}), self.samples.get(theirs, {})
        found = [getattr(mine[n], what) / getattr(other[n], what) for n in mine.keys() & other.keys()]
        return statistics.median(found) if found else None

    def measurements(self) -> list[dict[str, Any]]:
        """Everything in the form of the report."""
        listed = []
        for (contender, load), samples in self.samples.items():
            for what, name in NAMES.items():
                found = _spread([getattr(sample, what) for sample in samples.values()])
                listed.append(
                    {"name": name, "contender": contender, "load": str(load), **found, "unit": UNITS[what]}
                )
        return listed + self.extra


def _spread(values: list[float]) -> dict[str, float]:
    found = {"value": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, ROUNDED) for name, value in found.items()}
