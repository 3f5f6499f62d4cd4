"""Collector and cost: whether events are kept, and what all of it takes."""

from __future__ import annotations

from monitoring.dashboards.panel import BAD, GOOD, OF, TEAM, WARN, Dashboard, Panel, Query


def _rate(metric: str, by: str, legend: str, title: str, help: str) -> Panel:
    expr = f"sum by ({by}) (rate({metric}{{{TEAM}}}[$__rate_interval]))"
    return Panel(title, "timeseries", (Query(expr, legend),), help, unit="cps", low=0)


COLLECTOR = Dashboard(
    "windlass-collector",
    "Windlass: collector and cost",
    "Whether predictions and labels are kept, and what serving, collecting and retraining take.",
    (
        (
            "Collector",
            (
                Panel(
                    "Storage",
                    "stat",
                    (Query(f"min(windlass_collector_storage_ok{{{TEAM}}})"),),
                    "It acknowledges nothing that is not on the disk.",
                    states=((0, "cannot write", BAD), (1, "ok", GOOD)),
                    width=6,
                    height=4,
                ),
                Panel(
                    "Oldest event not in parquet",
                    "stat",
                    (Query(f"max(windlass_collector_lag_seconds{{{TEAM}}})"),),
                    "Over a quarter of an hour rings; such events are safe in the journal.",
                    unit="s",
                    base=GOOD,
                    limits=((300.0, WARN), (900.0, BAD)),
                    width=6,
                    height=4,
                ),
                Panel(
                    "Journal",
                    "stat",
                    (Query(f"sum(windlass_collector_wal_bytes{{{TEAM}}})"),),
                    "Acknowledged and not yet in parquet.",
                    unit="bytes",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Requests that wait",
                    "stat",
                    (Query(f"sum(windlass_collector_pending{{{TEAM}}})"),),
                    "For the disk.",
                    width=6,
                    height=4,
                ),
                _rate(
                    "windlass_collector_events_total",
                    "type",
                    "{{type}}",
                    "Events",
                    "Acknowledged, each once.",
                ),
                _rate(
                    "windlass_collector_refused_total",
                    "reason",
                    "{{reason}}",
                    "Refused",
                    "full: senders wait. storage: the disk does not take it. invalid: they cannot be read.",
                ),
                _rate(
                    "windlass_collector_labels_total",
                    "outcome",
                    "{{outcome}}",
                    "Labels by outcome",
                    "early waits for its prediction; contradicted differs from one that was there.",
                ),
                _rate(
                    "windlass_collector_duplicates_total",
                    "type",
                    "{{type}}",
                    "Delivered twice",
                    "Stored once all the same.",
                ),
                Panel(
                    "Time to an acknowledgement, p99",
                    "timeseries",
                    (
                        Query(
                            "histogram_quantile(0.99, sum by (le) "
                            f"(rate(windlass_collector_commit_seconds_bucket{{{TEAM}}}[$__rate_interval])))",
                            "p99",
                        ),
                    ),
                    "From a request to its being on the disk.",
                    unit="s",
                    low=0,
                ),
                Panel(
                    "Prediction records dropped",
                    "timeseries",
                    (
                        Query(
                            f"sum by (version) (rate(windlass_log_dropped_total{{{OF}}}[$__rate_interval]))",
                            "v{{version}}",
                        ),
                    ),
                    "By a model server whose log could not follow: these are lost to the analysis.",
                    unit="cps",
                    low=0,
                ),
            ),
        ),
        (
            "Cost",
            (
                Panel(
                    "CPU for a thousand requests",
                    "timeseries",
                    (
                        Query(
                            f'sum(rate(process_cpu_seconds_total{{{TEAM},job="windlass-serving"}}[5m])) / '
                            f'sum(rate(windlass_requests_total{{{TEAM},job="windlass-serving",model!=""}}[5m])) * 1000',
                            "CPU seconds",
                        ),
                    ),
                    "Of all model servers.",
                    unit="s",
                    low=0,
                ),
                Panel(
                    "Memory",
                    "timeseries",
                    (
                        Query(
                            f'max by (job, instance) (process_resident_memory_bytes{{{TEAM},job=~"windlass.*"}})',
                            "{{job}} {{instance}}",
                        ),
                    ),
                    "Resident, by process.",
                    unit="bytes",
                    low=0,
                ),
                Panel(
                    "Hours of training in a day",
                    "timeseries",
                    (
                        Query(
                            f"sum by (model) (increase(windlass_retrain_run_seconds_total{{{TEAM}}}[1d])) / 3600",
                            "{{model}}",
                        ),
                    ),
                    "Over four hours makes a ticket.",
                    unit="h",
                    limits=((4.0, WARN),),
                    low=0,
                ),
                Panel(
                    "Time of an analysis",
                    "timeseries",
                    (Query(f"max by (model) (windlass_analysis_duration_seconds{{{TEAM}}})", "{{model}}"),),
                    "Of the last that succeeded.",
                    unit="s",
                    low=0,
                ),
            ),
        ),
    ),
)
