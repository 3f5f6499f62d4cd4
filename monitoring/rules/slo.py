"""Availability and latency: error budgets, and alerts on how fast they burn.

Multi-window, multi-burn-rate alerts as in The Site Reliability Workbook (Google, 2018), chapter 5, "6: Multiwindow,
Multi-Burn-Rate Alerts", table 5-8: of a budget of 30 days, 2 % in an hour (burn rate 14.4) or 5 % in six hours (6)
call a person, 10 % in a day (3) or in three days (1) make a ticket. A twelfth of each window must burn as well, so
that the alert ends soon after its cause.
"""

from __future__ import annotations

from collections.abc import Callable

from monitoring.rules.objectives import Objectives
from monitoring.rules.rule import MODEL, Alert, Group, Recording

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
FAST = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))
"""(burn rate, long window, short window)."""

RATE = "model:windlass_requests:rate5m"
"""Requests a second of each model that answers."""

Recorded = Callable[[str], str]

# Requests that name no model at all (a wrong path) are nobody's budget.
KNOWN = 'model!=""'


def groups(objectives: Objectives) -> tuple[Group, ...]:
    # one group: what is evaluated together sees the shares of the same moment
    return (Group("windlass-slo", (*_recordings(objectives), *_alerts(objectives))),)


def errors(window: str) -> str:
    """The recorded share of requests that failed on our side."""
    return f"model:windlass_request_errors:ratio_rate{window}"


def slow(window: str) -> str:
    """The recorded share of requests that took too long."""
    return f"model:windlass_request_slow:ratio_rate{window}"


def _recordings(objectives: Objectives) -> tuple[Recording, ...]:
    found: list[Recording] = []
    for window in WINDOWS:
        every = f"sum by (namespace, model) (rate(windlass_requests_total{{{KNOWN}}}[{window}]))"
        failed = f'sum by (namespace, model) (rate(windlass_requests_total{{{KNOWN},code=~"5.."}}[{window}]))'
        # no failure yet is a counter that does not exist, and that is a true zero;
        # no request at all gives no series: nothing is known then
        found.append(Recording(errors(window), f"({failed} or 0 * {every}) / ({every} > 0)"))
    for window in WINDOWS:
        timed = f"sum by (namespace, model) (rate(windlass_request_seconds_count{{{KNOWN}}}[{window}]))"
        within = (
            f'sum by (namespace, model) (rate(windlass_request_seconds_bucket{{{KNOWN},le="{objectives.fast_seconds}"}}'
            f"[{window}]))"
        )
        found.append(Recording(slow(window), f"1 - {within} / ({timed} > 0)"))
    found.append(Recording(RATE, f"sum by (namespace, model) (rate(windlass_requests_total{{{KNOWN}}}[5m]))"))
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        buckets = f"sum by (namespace, model, le) (rate(windlass_request_seconds_bucket{{{KNOWN}}}[5m]))"
        found.append(
            Recording(f"model:windlass_request_seconds:{name}_5m", f"histogram_quantile({share}, {buckets})")
        )
    return tuple(found)


def _alerts(objectives: Objectives) -> tuple[Alert, ...]:
    status = "Next: `windlass status`, then the runbook."
    failing = "its error budget of 30 days"
    slowing = "its latency budget of 30 days"
    unavailable, late = _rest(objectives.availability), _rest(objectives.fast)
    shown = "{{ $value | humanizePercentage }}"
    milliseconds = f"{float(objectives.fast_seconds) * 1000:g} ms"
    return (
        Alert(
            "WindlassErrorBudgetBurnFast",
            _burns(errors, FAST, unavailable),
            "2m",
            "page",
            MODEL + ": " + failing + " burns so fast that it is gone in days",
            f"{shown} of the requests fail, {_percent(unavailable)} may. " + status,
        ),
        Alert(
            "WindlassErrorBudgetBurnSlow",
            _burns(errors, SLOW, unavailable),
            "15m",
            "ticket",
            MODEL + ": " + failing + " does not last",
            f"{shown} of the requests failed in the long window, {_percent(unavailable)} may. " + status,
        ),
        Alert(
            "WindlassLatencyBudgetBurnFast",
            _burns(slow, FAST, late),
            "2m",
            "page",
            MODEL + ": " + slowing + " burns so fast that it is gone in days",
            f"{shown} of the requests take over {milliseconds}, {_percent(late)} may. " + status,
        ),
        Alert(
            "WindlassLatencyBudgetBurnSlow",
            _burns(slow, SLOW, late),
            "15m",
            "ticket",
            MODEL + ": " + slowing + " does not last",
            f"{shown} of the requests took over {milliseconds} in the long window, {_percent(late)} may. "
            + status,
        ),
    )


def _burns(ratio: Recorded, windows: tuple[tuple[float, str, str], ...], budget: float) -> str:
    return "\nor\n".join(
        f"({ratio(long)} > {_plain(rate * budget)} and {ratio(short)} > {_plain(rate * budget)})"
        for rate, long, short in windows
    )


def _rest(objective: float) -> float:
    return round(1 - objective, 9)


def _plain(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{share * 100:g}%"
