"""Retraining and releases: what was asked for, what was decided, where a release stands, who carries it out."""

from __future__ import annotations

from monitoring.dashboards.panel import BAD, GOOD, OF, PLAIN, TEAM, WARN, Dashboard, Panel, Query


def _flag(title: str, metric: str, help: str, yes: str) -> Panel:
    return Panel(
        title,
        "stat",
        (Query(f"max({metric}{{{OF}}})"),),
        help,
        states=((0, "no", GOOD), (1, yes, BAD)),
        width=4,
        height=4,
    )


def _p99(metric: str) -> str:
    return f"histogram_quantile(0.99, sum by (namespace, le, kind) (rate({metric}_bucket[$__rate_interval])))"


RETRAINING = Dashboard(
    "windlass-retraining",
    "Windlass: retraining and releases",
    "From a signal to a release: what was held back and why, what runs, what a release rests on.",
    (
        (
            "Retraining",
            (
                _flag(
                    "Waits for a person",
                    "windlass_retrain_escalated",
                    "The last retrainings did not help.",
                    "yes",
                ),
                _flag(
                    "Training data refused",
                    "windlass_retrain_data_refused",
                    "The newest data fails validation.",
                    "refused",
                ),
                Panel(
                    "Oldest open trigger",
                    "stat",
                    (Query(f"max(windlass_retrain_queue_age_seconds{{{OF}}})"),),
                    "Since it was accepted; over six hours rings.",
                    unit="s",
                    base=GOOD,
                    limits=((21600.0, BAD),),
                    width=4,
                    height=4,
                    absent="none open",
                ),
                Panel(
                    "Since the last that helped",
                    "stat",
                    (Query(f"time() - max(windlass_retrain_last_success_timestamp_seconds{{{OF}}})"),),
                    "Since a retrained model took over.",
                    unit="s",
                    width=4,
                    height=4,
                    absent="never",
                ),
                Panel(
                    "Runs of a day",
                    "stat",
                    (Query(f"sum(increase(windlass_retrain_run_seconds_total{{{OF}}}[1d]))"),),
                    "Time that runs took; over four hours rings.",
                    unit="s",
                    base=GOOD,
                    limits=((14400.0, WARN),),
                    width=4,
                    height=4,
                ),
                Panel(
                    "Clock jumps of a day",
                    "stat",
                    (Query(f"sum(increase(windlass_retrain_clock_jumps_total{{{TEAM}}}[1d]))"),),
                    "Cool-down and budget hold until the clock has caught up.",
                    base=GOOD,
                    limits=((1.0, WARN),),
                    width=4,
                    height=4,
                ),
                Panel(
                    "Signals by the rule that decided",
                    "timeseries",
                    (
                        Query(
                            f"sum by (kind, rule) (increase(windlass_retrain_signals_total{{{OF}}}[1h]))",
                            "{{kind}}: {{rule}}",
                        ),
                    ),
                    "accepted starts a run; every other rule held the signal back. Each hour.",
                    low=0,
                ),
                Panel(
                    "Triggers by state",
                    "timeseries",
                    (Query(f"max by (state) (windlass_retrain_triggers{{{OF}}})", "{{state}}"),),
                    "accepted, submitted and running pass; one that stays is stuck.",
                    low=0,
                ),
                Panel(
                    "Notifications to the trigger",
                    "timeseries",
                    (
                        Query(
                            "sum by (result) "
                            f"(rate(windlass_retrain_webhook_requests_total{{{TEAM}}}[$__rate_interval]))",
                            "{{result}}",
                        ),
                    ),
                    "unauthorized: Alertmanager has another token than the trigger, or a stranger asks; full: all its "
                    "connections are taken.",
                    unit="reqps",
                    low=0,
                ),
                Panel(
                    "Runs on Kubeflow by how they ended",
                    "timeseries",
                    (
                        Query(
                            f"sum by (state) (increase(windlass_retrain_runs_ended_total{{{OF}}}[1h]))",
                            "{{state}}",
                        ),
                    ),
                    "Scheduled and submitted ones among them; one that FAILED rings for a day. Each hour.",
                    low=0,
                ),
            ),
        ),
        (
            "Releases",
            (
                _flag(
                    "Waits for a person", "windlass_release_alert", "The evidence does not decide it.", "yes"
                ),
                Panel(
                    "Phase",
                    "state-timeline",
                    (Query(f"max by (phase) (windlass_release_phase{{{OF}}} == 1)", "{{phase}}"),),
                    "Of the newest release.",
                    states=((1, "now", GOOD),),
                    width=20,
                    height=6,
                ),
                Panel(
                    "Weights",
                    "timeseries",
                    (Query(f"max by (version) (windlass_release_weight_percent{{{OF}}})", "v{{version}}"),),
                    "Share of the requests that was decided for each version.",
                    unit="percent",
                    low=0,
                    high=100,
                ),
                Panel(
                    "Decisions",
                    "timeseries",
                    (
                        Query(
                            f"sum by (action, check) (increase(windlass_release_decisions_total{{{OF}}}[1h]))",
                            "{{action}} {{check}}",
                        ),
                    ),
                    "What was done, and the check that decided. Each hour.",
                    low=0,
                ),
                Panel(
                    "Checks: estimate and confidence sequence",
                    "timeseries",
                    (
                        Query(f"windlass_release_verdict_estimate{{{OF}}}", "v{{version}} {{check}}"),
                        Query(f"windlass_release_verdict_lower{{{OF}}}", "v{{version}} {{check}}, lower"),
                        Query(f"windlass_release_verdict_upper{{{OF}}}", "v{{version}} {{check}}, upper"),
                        Query(f"windlass_release_verdict_bound{{{OF}}}", "v{{version}} {{check}}, bound"),
                    ),
                    "Decided once the band has left the bound behind.",
                    width=24,
                ),
            ),
        ),
        (
            "The operators of a cluster",
            (
                Panel(
                    "Replica that leads",
                    "state-timeline",
                    (Query("max by (namespace, pod) (windlass_operator_leader)", "{{namespace}} {{pod}}"),),
                    "One of each namespace; where none does, nobody looks at releases, which rings.",
                    states=((0, "stands by", PLAIN), (1, "leads", GOOD)),
                ),
                Panel(
                    "Releases by phase",
                    "timeseries",
                    (
                        Query(
                            "max by (namespace, phase) (windlass_operator_releases)",
                            "{{namespace}} {{phase}}",
                        ),
                    ),
                    "Objects, those that are over among them.",
                    low=0,
                ),
                Panel(
                    "Turns: p99, and how late",
                    "timeseries",
                    (
                        Query(_p99("windlass_operator_reconcile_seconds"), "{{namespace}} {{kind}}"),
                        Query(_p99("windlass_operator_late_seconds"), "{{namespace}} {{kind}}, late"),
                    ),
                    "Of a turn for a model or a namespace, with all that it asks of the cluster; late is what it "
                    "waited for a thread.",
                    unit="s",
                    limits=((1.0, WARN),),
                    low=0,
                ),
                Panel(
                    "Turns that failed, and requests to the API",
                    "timeseries",
                    (
                        Query(
                            "sum by (namespace, kind) "
                            "(rate(windlass_operator_reconcile_failures_total[$__rate_interval]))",
                            "{{namespace}} failed: {{kind}}",
                        ),
                        Query(
                            "sum by (namespace, code) (rate(windlass_operator_api_requests_total[$__rate_interval]))",
                            "{{namespace}} API: {{code}}",
                        ),
                    ),
                    "A second. Turns that keep failing for ten minutes ring.",
                    unit="reqps",
                    low=0,
                ),
            ),
        ),
    ),
    since="now-7d",
)
