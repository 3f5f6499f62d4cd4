"""Overview and SLO: is it up, is it fast, does the budget last, who is ringing."""

from __future__ import annotations

from monitoring.dashboards.panel import BAD, GOOD, OF, WARN, Dashboard, Panel, Query
from monitoring.rules import slo
from monitoring.rules.objectives import Objectives
from monitoring.rules.platform import FAILURES, FALLBACK, SHED

#: Of the model, and of what all models of its namespace share, or all namespaces: the collector, a target that does not
#: answer, no target at all.
RINGS = 'ALERTS{alertname=~"Windlass.*",alertstate="firing",namespace=~"$namespace|",model=~"$model|"}'
_GOALS = Objectives()
_FAILING, _LATE = round(1 - _GOALS.availability, 9), round(1 - _GOALS.fast, 9)


def _budget(title: str, name: str) -> Panel:
    return Panel(
        title,
        "stat",
        (Query(f'min(windlass_slo_budget_remaining_ratio{{{OF},slo="{name}"}})'),),
        "Share of the budget of 30 days that is left, as the last analysis counted it.",
        unit="percentunit",
        base=BAD,
        limits=((0.0, WARN), (0.25, GOOD)),
        width=4,
        height=4,
    )


def _stat(title: str, expr: str, help: str, unit: str, limits: tuple[tuple[float, str], ...] = ()) -> Panel:
    return Panel(title, "stat", (Query(expr),), help, unit=unit, base=GOOD, limits=limits, width=4, height=4)


def _burn(title: str, recorded: slo.Recorded, budget: float) -> Panel:
    return Panel(
        title,
        "timeseries",
        tuple(Query(f"{recorded(w)}{{{OF}}} / {budget:g}", w) for w in ("5m", "1h", "6h", "1d", "3d")),
        "1 spends the budget in exactly 30 days. 14.4 over an hour or 6 over six hours calls a person, 3 over a day or "
        "1 over three days makes a ticket.",
        limits=((1.0, WARN), (14.4, BAD)),
        low=0,
    )


OVERVIEW = Dashboard(
    "windlass-overview",
    "Windlass: overview and SLO",
    "Whether a model answers, how fast, and how long its error budgets last.",
    (
        (
            "Now",
            (
                _stat(
                    "Alerts that ring",
                    f"count({RINGS})",
                    "About this model or what all share. Nothing is shown where none rings, or no rules are loaded.",
                    "short",
                    ((1, BAD),),
                ),
                _stat(
                    "Requests",
                    f"model:windlass_requests:rate5m{{{OF}}}",
                    "A second, over five minutes.",
                    "reqps",
                ),
                _stat(
                    "Requests that fail",
                    f"{slo.errors('5m')}{{{OF}}}",
                    "5xx, over five minutes.",
                    "percentunit",
                    ((_FAILING, WARN), (14.4 * _FAILING, BAD)),
                ),
                _stat(
                    "Latency p99",
                    f"model:windlass_request_seconds:p99_5m{{{OF}}}",
                    "From a complete request to its response, over five minutes.",
                    "s",
                    ((float(_GOALS.fast_seconds), BAD),),
                ),
                _budget("Error budget left", "availability"),
                _budget("Latency budget left", "latency"),
            ),
        ),
        (
            "Objectives",
            (
                _burn("Burn rate of the error budget", slo.errors, _FAILING),
                _burn("Burn rate of the latency budget", slo.slow, _LATE),
                Panel(
                    "Requests by version and code",
                    "timeseries",
                    (
                        Query(
                            f"sum by (version, code) (rate(windlass_requests_total{{{OF}}}[$__rate_interval]))",
                            "v{{version}} {{code}}",
                        ),
                    ),
                    "Who answers. A canary shows as a second version.",
                    unit="reqps",
                    low=0,
                ),
                Panel(
                    "Latency",
                    "timeseries",
                    (
                        Query(f"model:windlass_request_seconds:p50_5m{{{OF}}}", "p50"),
                        Query(f"model:windlass_request_seconds:p99_5m{{{OF}}}", "p99"),
                    ),
                    f"{_GOALS.fast * 100:g} % are to be answered below the line.",
                    unit="s",
                    limits=((float(_GOALS.fast_seconds), BAD),),
                    low=0,
                ),
            ),
        ),
        (
            "What stands behind an answer",
            (
                Panel(
                    "Rows by source of their features",
                    "timeseries",
                    (
                        Query(
                            f"sum by (source) (rate(windlass_feature_rows_total{{{OF}}}[$__rate_interval]))",
                            "{{source}}",
                        ),
                    ),
                    "online is the store; cached and default are what is answered with while it cannot be read.",
                    unit="rps",
                    low=0,
                ),
                Panel(
                    "Not online, shed, failed",
                    "timeseries",
                    (
                        Query(f"{FALLBACK}{{{OF}}}", "v{{version}} features not online"),
                        Query(f"{SHED}{{{OF}}}", "v{{version}} requests turned away"),
                        Query(f"{FAILURES}{{{OF}}}", "v{{version}} model runs failed"),
                    ),
                    "Shares over five minutes.",
                    unit="percentunit",
                    low=0,
                ),
                Panel(
                    "Circuit breakers",
                    "state-timeline",
                    (
                        Query(
                            f'max by (version, of) (windlass_breaker_state{{{OF},state="open"}} > bool 0)',
                            "v{{version}} {{of}}",
                        ),
                    ),
                    "Open: the store or the model is left alone for a while, and a fallback answers.",
                    states=((0, "closed", GOOD), (1, "open", BAD)),
                ),
                Panel(
                    "Alerts that ring",
                    "state-timeline",
                    (
                        Query(
                            f"max by (alertname) ({RINGS})",
                            "{{alertname}}",
                        ),
                    ),
                    "A row an alert, as long as it rings.",
                    states=((1, "rings", BAD),),
                    absent="none",
                ),
            ),
        ),
    ),
)
