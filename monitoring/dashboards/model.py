"""Model quality and drift: the verdicts, what moved, how good it still is, and on what that rests."""

from __future__ import annotations

from monitoring.dashboards.panel import BAD, GOOD, OF, WARN, Dashboard, Panel, Query

_VERDICTS = ((0.0, "PASS", GOOD), (1.0, "INCONCLUSIVE", WARN), (2.0, "FAIL", BAD))


def _performance(metric: str) -> tuple[Query, ...]:
    chosen = f'{OF},metric="{metric}"'
    by = "by (version, kind)"
    return (
        Query(f"max {by} (windlass_performance{{{chosen}}})", "v{{version}} {{kind}}"),
        Query(f"max {by} (windlass_performance_lower{{{chosen}}})", "v{{version}} {{kind}}, lower"),
        Query(f"max {by} (windlass_performance_upper{{{chosen}}})", "v{{version}} {{kind}}, upper"),
    )


MODEL = Dashboard(
    "windlass-model",
    "Windlass: model quality and drift",
    "What the analysis found, window by window. A gap is a window of which nothing is known.",
    (
        (
            "Verdicts",
            (
                Panel(
                    "Verdicts of the analysis",
                    "state-timeline",
                    (
                        Query(
                            f'max by (check) (windlass_verdict{{{OF},verdict="FAIL"}} * 2\n'
                            f'or windlass_verdict{{{OF},verdict="INCONCLUSIVE"}}\n'
                            f'or windlass_verdict{{{OF},verdict="PASS"}} * 0)',
                            "{{check}}",
                        ),
                    ),
                    "INCONCLUSIVE is not good: too little is known to say.",
                    states=_VERDICTS,
                    width=16,
                    height=10,
                ),
                Panel(
                    "Since the last analysis",
                    "stat",
                    (Query(f"time() - max(windlass_analysis_last_success_timestamp_seconds{{{OF}}})"),),
                    "Older than two days rings: no verdict means anything then.",
                    unit="s",
                    base=GOOD,
                    limits=((86400.0, WARN), (172800.0, BAD)),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Since the newest prediction",
                    "stat",
                    (Query(f"max(windlass_data_age_seconds{{{OF}}})"),),
                    "Age of the newest prediction event.",
                    unit="s",
                    base=GOOD,
                    limits=((259200.0, BAD),),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Since the newest label",
                    "stat",
                    (Query(f"max(windlass_label_age_seconds{{{OF}}})"),),
                    "Older than two days rings: decay is only estimated then.",
                    unit="s",
                    base=GOOD,
                    limits=((172800.0, BAD),),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Rows against expected",
                    "stat",
                    (Query(f"max(windlass_volume_ratio{{{OF}}})"),),
                    "Rows of the window over those of comparable windows.",
                    unit="percentunit",
                    width=4,
                    height=5,
                ),
            ),
        ),
        (
            "What moved",
            (
                Panel(
                    "Drift by column, in thresholds",
                    "status-history",
                    (
                        Query(
                            f"max by (column) (windlass_drift_lower{{{OF}}} / windlass_drift_threshold{{{OF}}})",
                            "{{column}}",
                        ),
                    ),
                    "Lower bounds of the sizes of the changes: beyond 1 the whole confidence interval lies beyond the "
                    "threshold, after control of false alarms over all columns and windows.",
                    base=GOOD,
                    limits=((0.66, WARN), (1.0, BAD)),
                    height=12,
                ),
                Panel(
                    "Size of the changes",
                    "timeseries",
                    (
                        Query(
                            f"topk(5, max by (kind, column) (windlass_drift_score{{{OF}}} / "
                            f"windlass_drift_threshold{{{OF}}}))",
                            "{{kind}} {{column}}",
                        ),
                    ),
                    "The five largest, sure or not: a large change of a noisy column is no alarm.",
                    limits=((1.0, BAD),),
                    low=0,
                    height=12,
                ),
                Panel(
                    "Quality that fails",
                    "table",
                    (Query(f"max by (version, column, check) (windlass_quality_failed{{{OF}}}) > 0"),),
                    "Columns of the logged requests that are not as in training.",
                    absent="nothing fails",
                ),
                Panel(
                    "Skew",
                    "timeseries",
                    (Query(f"max by (version) (windlass_skew_mismatch_ratio{{{OF}}})", "v{{version}}"),),
                    "Share of served feature vectors that differ from their point-in-time recomputation.",
                    unit="percentunit",
                    low=0,
                ),
            ),
        ),
        (
            "How good it is",
            (
                Panel(
                    "Performance: $metric",
                    "timeseries",
                    _performance("$metric"),
                    "Measured where labels have matured, estimated before, against the evaluation it was released on.",
                    width=16,
                    height=10,
                ),
                Panel(
                    "Slices that got worse",
                    "table",
                    (Query(f"topk(10, max by (version, slice) (windlass_slice_loss{{{OF}}}))"),),
                    "Loss of the ten worst slices beyond that of their evaluation.",
                    width=8,
                    height=10,
                ),
                Panel(
                    "Labels that arrived",
                    "timeseries",
                    (Query(f"max by (version) (windlass_label_coverage{{{OF}}})", "v{{version}}"),),
                    "Share of the matured rows that have a label.",
                    unit="percentunit",
                    low=0,
                    high=1,
                ),
                Panel(
                    "Rows of the window",
                    "timeseries",
                    (Query(f"max by (version) (windlass_window_rows{{{OF}}})", "v{{version}}"),),
                    "What the verdicts rest on.",
                    low=0,
                ),
            ),
        ),
    ),
    since="now-30d",
    choices=(("metric", ("auc", "brier", "log_loss", "accuracy")),),
)
