"""The parts that serve, collect, retrain and release, and whether their metrics arrive at all."""

from __future__ import annotations

from monitoring.rules import slo
from monitoring.rules.objectives import Objectives, seconds
from monitoring.rules.rule import IN, MODEL, TEAM, VERSION, Alert, Group, Recording

_STATUS = "Next: `windlass status`."

FALLBACK = "model_version:windlass_feature_rows_not_online:ratio_rate5m"
SHED = "model_version:windlass_shed:ratio_rate5m"
FAILURES = "model_version:windlass_model_failures:ratio_rate5m"


def groups(objectives: Objectives) -> tuple[Group, ...]:
    return (
        Group("windlass-metrics", (_metrics_absent(),)),
        Group("windlass-serving", (*_recordings(), *_serving(objectives))),
        Group("windlass-collector", _collector(objectives)),
        Group("windlass-retrain", _retrain(objectives)),
        Group("windlass-release", (_release(),)),
        Group("windlass-operator", _operator()),
    )


def _metrics_absent() -> Alert:
    answers = 'windlass_requests_total{model!=""}'
    # (not model servers: they come and go with versions, and are watched by model)
    single = 'up{job=~"windlass-(analysis|collector|release|retrain)"}'
    return Alert(
        "WindlassMetricsAbsent",
        # a target that does not answer; or no target is known at all; or a job that had one today has none (a cluster
        # forgets the target of a pod that is not there); or a model that had series today has none
        'max by (namespace, job, instance) (up{job=~"windlass.*"}) == 0\n'
        'or absent(up{job=~"windlass.*"})\n'
        f"or max by (namespace, job) (max_over_time({single}[1d])) unless on (namespace, job) {single}\n"
        # (asked of the recorded series: one a model, where the counters may be thousands)
        f"or max_over_time({slo.RATE}[1d]) unless on (namespace, model) {answers}",
        "5m",
        "page",
        IN + "{{ or $labels.model $labels.instance $labels.job `windlass` }}: its metrics have vanished",
        "Either it is down or Prometheus does not reach it; no other alert about it can ring meanwhile. "
        + _STATUS,
    )


def _ratio(part: str, whole: str) -> str:
    # no failure yet is a counter that does not exist, a true zero; nothing to divide by gives no series
    by = "sum by (namespace, model, version)"
    every = f"{by} (rate({whole}[5m]))"
    return f"({by} (rate({part}[5m])) or 0 * {every}) / ({every} > 0)"


def _recordings() -> tuple[Recording, ...]:
    return (
        Recording(
            FALLBACK, _ratio('windlass_feature_rows_total{source!="online"}', "windlass_feature_rows_total")
        ),
        Recording(SHED, _ratio("windlass_shed_total", 'windlass_requests_total{model!=""}')),
        Recording(FAILURES, _ratio("windlass_model_failures_total", "windlass_model_runs_total")),
    )


def _open(of: str) -> str:
    # workers of one server are summed, and a breaker that tries again is not closed for good
    opened = f'max_over_time(windlass_breaker_state{{of="{of}",state="open"}}[2m])'
    return f"max by (namespace, model, version) ({opened}) > 0"


def _serving(objectives: Objectives) -> tuple[Alert, ...]:
    by = "sum by (namespace, model, version)"
    # (where none has failed there is no share to ring for)
    missed, rows = (f"{by} (rate(windlass_feature_{name}_total[5m]))" for name in ("store_failures", "rows"))
    return (
        Alert(
            "WindlassFeatureStoreDown",
            f"{_open('store')}\nor {missed} / ({rows} > 0) > {objectives.store_failures}",
            "1m",
            "page",
            f"{VERSION}: its online features cannot be read",
            "It answers with cached or default values: requests succeed, predictions are worse. "
            "Next: `windlass doctor`.",
        ),
        Alert(
            "WindlassModelFailing",
            f"{_open('model')}\nor {FAILURES} > {objectives.model_failures}",
            "1m",
            "page",
            f"{VERSION}: the model itself fails to run",
            "Requests are answered statically or refused. If a release is live it is rolled back by its guardrails. "
            "Next: `windlass release status {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassQueueFull",
            f"{SHED} > {objectives.shed}",
            "5m",
            "ticket",
            f"{VERSION}: requests are turned away, its lane is full",
            "{{ $value | humanizePercentage }} of its requests were shed: more load than it can run in time. "
            + _STATUS,
        ),
    )


def _collector(objectives: Objectives) -> tuple[Alert, ...]:
    def refused(reason: str) -> str:
        return (
            f'sum by (namespace, model) (rate(windlass_collector_refused_total{{reason="{reason}"}}[5m])) > 0'
        )

    return (
        Alert(
            "WindlassCollectorStorage",
            f"min by (namespace, model, instance) (windlass_collector_storage_ok) == 0\nor {refused('storage')}",
            "1m",
            "page",
            IN
            + "{{ with $labels.instance }}{{ . }}: {{ end }}the collector cannot write and acknowledges nothing",
            "What was acknowledged is safe; senders must keep the rest and try again. Free or grow the disk. "
            "Next: `windlass doctor`.",
        ),
        Alert(
            "WindlassCollectorBackpressure",
            f"{refused('full')}\nor max by (namespace, model, instance) (windlass_collector_lag_seconds) > "
            f"{seconds(objectives.collector_lag)}",
            "5m",
            "ticket",
            TEAM + "the collector does not keep up{{ with $labels.model }} with {{ . }}{{ end }}",
            "Senders are told to wait, or events lie in the journal and not yet in parquet; none is lost. "
            + _STATUS,
        ),
    )


def _retrain(objectives: Objectives) -> tuple[Alert, ...]:
    cost = objectives.retrain_hours_a_day
    return (
        Alert(
            "WindlassClockJump",
            "sum by (namespace, instance) (increase(windlass_retrain_clock_jumps_total[1h])) > 0",
            "0m",
            "ticket",
            TEAM + "{{ with $labels.instance }}{{ . }}: {{ end }}the retrain trigger saw its clock jump",
            "Cool-down and budget hold until the clock has caught up, so a retraining may come late, never twice. "
            "Next: `timedatectl`, then `windlass status`.",
        ),
        Alert(
            "WindlassTrainingDataRefused",
            "max by (namespace, model) (windlass_retrain_data_refused) == 1",
            "0m",
            "ticket",
            MODEL + ": the newest training data fails validation",
            "Nothing is trained on it, and no signal starts a run, until it is repaired. "
            "Next: `windlass lineage {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassRetrainEscalated",
            "max by (namespace, model) (windlass_retrain_escalated) == 1",
            "0m",
            "ticket",
            MODEL + ": retraining did not help, a person has to decide",
            "The last retrainings made no better model, so no signal starts another. Next: "
            "`windlass lineage {{ $labels.model }}`; `windlass retrain {{ $labels.model }} --override` goes on.",
        ),
        Alert(
            "WindlassRetrainStuck",
            f"max by (namespace, model) (windlass_retrain_queue_age_seconds) > {seconds(objectives.retrain_within)}",
            "5m",
            "ticket",
            MODEL + ": a retraining was accepted and does not end",
            "It is {{ $value | humanizeDuration }} old; while it is open no other starts. "
            "Next: `windlass lineage {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassPipelineFailed",
            'sum by (namespace, model) (increase(windlass_retrain_runs_ended_total{state="FAILED"}[1d])) > 0',
            "0m",
            "ticket",
            MODEL + ": a run of its pipeline failed",
            '{{ $value | printf "%.0f" }} failed within a day, scheduled and submitted ones among them; no version '
            "came of it. "
            "Next: `windlass lineage {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassRetrainCost",
            f"sum by (namespace, model) (increase(windlass_retrain_run_seconds_total[1d])) / 3600 > {cost:g}",
            "0m",
            "ticket",
            MODEL + ": retraining costs more than it should",
            f'{{{{ $value | printf "%.1f" }}}} hours of runs in a day, {cost:g} are expected. '
            "Next: `windlass lineage {{ $labels.model }}`.",
        ),
    )


def _release() -> Alert:
    return Alert(
        "WindlassReleaseWaits",
        "max by (namespace, model) (windlass_release_alert) == 1",
        "1m",
        "ticket",
        MODEL + ": its release waits for a person",
        "The evidence does not decide it; the traffic stays as it is. "
        "Next: `windlass release explain {{ $labels.model }}`.",
    )


def _operator() -> tuple[Alert, ...]:
    """Of a cluster: elsewhere nobody shows these series."""
    return (
        Alert(
            "WindlassOperatorIdle",
            # (that no replica is there at all is the absence of its metrics)
            "max by (namespace) (windlass_operator_leader) == 0",
            "2m",
            "page",
            TEAM + "replicas of the operator run and none leads",
            "The traffic stays as it is: a bad candidate keeps its share, and nothing is rolled back. "
            "Next: `windlass doctor`.",
        ),
        Alert(
            "WindlassOperatorFailing",
            "sum by (namespace, kind) (rate(windlass_operator_reconcile_failures_total[5m])) > 0",
            "10m",
            "ticket",
            TEAM + "the operator's turns of kind {{ $labels.kind }} keep failing",
            "Each is tried again every half minute; the releases or policies concerned do not move meanwhile. "
            "Next: `windlass doctor`.",
        ),
    )
