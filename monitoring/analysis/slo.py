"""Error budgets: how much of what may go wrong has gone wrong, and how fast the rest burns.

An objective of 99.3 % allows 7 requests of 1,000 to fail; that is the budget of a period of 30 days. A burn rate of 1
spends it in just that period (The Site Reliability Workbook, Google 2018, chapter 5). Counts of the serving side come
from Prometheus where there is one; the logged predictions know the latency of every answer and nothing of a request
that got none, so that without Prometheus the availability is unknown and not 100 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np

from monitoring.analysis.check import Check
from monitoring.columns import Floats
from monitoring.verdict import Verdict

Name = Literal["availability", "latency"]
WINDOWS: Mapping[str, timedelta] = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "3d": timedelta(days=3),
}
PERIOD = timedelta(days=30)
Z = 3.0


@dataclass(frozen=True)
class Objective:
    """What is promised of the requests of a period.

    Attributes:
        target: share of them that must be good.
        within_ms: "latency": a request is good that is answered so fast.
        minimum_rows: fewer requests in the period decide nothing.
    """

    name: Name
    target: float
    within_ms: float | None = None
    minimum_rows: int = 300


OBJECTIVES = (Objective("availability", 0.993), Objective("latency", 0.99, within_ms=50.0))


@dataclass(frozen=True)
class Counted:
    """Requests of the period and of the burn windows, (all, bad) each; a window that nobody counted is absent."""

    source: str
    period: tuple[float, float]
    windows: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Resources:
    """What serving took over the period, as Prometheus has it; None where it has nothing.

    Attributes:
        cpu_seconds_per_1000: CPU seconds of the model servers for 1,000 requests.
        memory_bytes: the largest resident memory of a model server.
    """

    cpu_seconds_per_1000: float | None = None
    memory_bytes: float | None = None


@dataclass(frozen=True)
class Budget:
    """One objective's budget.

    Attributes:
        remaining: share of the budget that is left; below 0 it is overspent, None where nothing was counted.
        burn: burn rate by window; None where nothing came in it.
    """

    slo: Name
    target: float
    source: str
    requests: float
    bad: float
    remaining: float | None
    burn: Mapping[str, float | None]
    verdict: Verdict
    reason: str


def budget(objective: Objective, counted: Counted | None) -> Budget:
    """Judge one objective: FAIL only where chance alone does not overspend it (three standard errors)."""
    if counted is None or counted.period[0] <= 0:
        source = "nothing" if counted is None else counted.source
        reason = f"{objective.name}: no request was counted"
        return Budget(objective.name, objective.target, source, 0.0, 0.0, None, {}, "INCONCLUSIVE", reason)
    total, bad = counted.period
    allowed = 1 - objective.target
    share = bad / total
    remaining = 1 - share / allowed
    burn = {
        name: (b / n / allowed if n > 0 else None)
        for name, (n, b) in counted.windows.items()
        if name in WINDOWS
    }
    sure = share - Z * math.sqrt(allowed * (1 - allowed) / total)
    verdict: Verdict = "PASS" if share <= allowed else "FAIL" if sure > allowed else "INCONCLUSIVE"
    if total < objective.minimum_rows:
        verdict = "INCONCLUSIVE"
    what = "failed" if objective.name == "availability" else f"took over {objective.within_ms:g} ms"
    reason = (
        f"{objective.name}: {bad:.0f} of {total:.0f} requests {what}, {allowed:.1%} may: {remaining:.0%} left"
    )
    return Budget(
        objective.name, objective.target, counted.source, total, bad, remaining, burn, verdict, reason
    )


def of_log(
    at: Floats, latency_ms: Floats, now: float, objective: Objective, *, weight: Floats | None = None
) -> Counted | None:
    """Count slow answers in the prediction log; None where it tells no latency, or for another objective.

    Args:
        weight: how many answers each row stands for; one where it is None.
    """
    if objective.within_ms is None:
        return None
    known = np.isfinite(latency_ms)
    weight = np.ones(len(at))[known] if weight is None else weight[known]
    at, slow = at[known], latency_ms[known] > objective.within_ms

    def count(span: timedelta) -> tuple[float, float]:
        chosen = (at > now - span.total_seconds()) & (at <= now)
        return float(weight[chosen].sum()), float(weight[chosen & slow].sum())

    period = count(PERIOD)
    if period[0] == 0:
        return None
    return Counted("prediction log", period, {name: count(span) for name, span in WINDOWS.items()})


def judge(budgets: tuple[Budget, ...], resources: Resources | None) -> Check:
    """One check over all objectives: FAIL if any is overspent, PASS if all hold."""
    verdicts = {b.verdict for b in budgets}
    verdict: Verdict = "FAIL" if "FAIL" in verdicts else "PASS" if verdicts == {"PASS"} else "INCONCLUSIVE"
    evidence: dict[str, Any] = {
        "period_days": PERIOD.days,
        "budgets": [asdict(b) for b in budgets],
        "resources": asdict(resources or Resources()),
    }
    return Check("slo", verdict, "; ".join(b.reason for b in budgets), evidence)
