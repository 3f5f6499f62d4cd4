"""Drift, decay, quality and freshness: what the analysis found, and what it means when it finds nothing.

The analysis judges, with its uncertainty and its control of false alarms; a rule passes its verdict on and judges
nothing again. Where the verdict is INCONCLUSIVE nothing rings at once: that the analysis, its data or its labels are
missing has alerts of its own, and so has a check that nobody could judge for a week.
"""

from __future__ import annotations

from monitoring.rules.objectives import Objectives, seconds
from monitoring.rules.rule import MODEL, VERSION, Alert, Group

#: The verdict itself is a window old already.
_WAIT = "2m"
#: Broken data looks like drift and decay. The trigger has to hear of it first, or it would start a run that it is to
#: hold back: groups of rules are evaluated up to an interval apart, and Alertmanager keeps each alert for some seconds.
_QUALITY_WAIT = "1m"
#: The trigger is told of the end of a signal and lets go of what is held back by it. A scrape that fails takes every
#: series of its page at once; that, or a page that is started anew, is no end.
_KEEP = "15m"
#: Analyses are made once an hour: a model that has just begun to answer waits for its first one for so long.
_FIRST = "70m"
#: What has to be judged sooner or later of every model. Not skew, which a model without online features never has, nor
#: volume, which knows nothing for its first weeks.
_JUDGED = "featureDrift|predictionDrift|labelDrift|dataQuality|performanceDecay"
#: Who schedules a run says how long it is good for.
_STALE_AFTER = "windlass_features_stale_after_seconds"
#: A verdict holds for an hour, until the next analysis: so often a week is looked at, and not at each scrape of it.
_STEP = "1h"


def groups(objectives: Objectives) -> tuple[Group, ...]:
    return (
        Group("windlass-drift", (*_drift(), _decay(), _estimated())),
        Group("windlass-data", _data(objectives)),
        Group("windlass-analysis", (_absent(objectives),)),
        # a week of each series is read
        Group("windlass-inconclusive", (_inconclusive(objectives),), interval="5m"),
    )


def _alarm(kind: str) -> str:
    return f'max by (namespace, model, version) (windlass_drift_alarm{{kind="{kind}"}}) == 1'


def _fails(check: str) -> str:
    return f'max by (namespace, model, version) (windlass_verdict{{check="{check}",verdict="FAIL"}}) == 1'


def _drift() -> tuple[Alert, ...]:
    look = "Next: `windlass drift {{ $labels.model }}`."
    return (
        Alert(
            "WindlassFeatureDrift",
            _alarm("feature"),
            _WAIT,
            "info",
            f"{VERSION}: features have moved away from what it was trained on",
            "At least one feature lies beyond its threshold with its whole confidence interval. The retrain trigger "
            f"is told and decides under the policy. {look}",
            signal="featureDrift",
            keep=_KEEP,
        ),
        Alert(
            "WindlassPredictionDrift",
            _alarm("prediction"),
            _WAIT,
            "info",
            f"{VERSION}: its predictions have moved away from those of its evaluation",
            "The scores lie beyond their threshold with the whole confidence interval. The retrain trigger is told and "
            f"decides under the policy. {look}",
            signal="predictionDrift",
            keep=_KEEP,
        ),
        Alert(
            "WindlassLabelDrift",
            _alarm("label"),
            _WAIT,
            "info",
            f"{VERSION}: the rate of positives is not that of its training",
            "The outcomes themselves have moved. A season does that too, so it starts nothing by itself; look at the "
            f"performance. {look}",
        ),
    )


def _decay() -> Alert:
    return Alert(
        "WindlassPerformanceDecay",
        _fails("performanceDecay"),
        _WAIT,
        "ticket",
        f"{VERSION}: measurably worse than at its evaluation",
        "Matured labels show a loss beyond the tolerated one with the whole confidence interval. The retrain trigger "
        "is told. Next: `windlass report {{ $labels.model }}` for the slices that got worse.",
        signal="performanceDecay",
        keep=_KEEP,
    )


def _estimated() -> Alert:
    return Alert(
        "WindlassEstimatedDecay",
        _fails("estimatedDecay"),
        _WAIT,
        "ticket",
        f"{VERSION}: probably worse than at its evaluation, labels are yet to come",
        "The performance estimated from its scores is below the tolerated one. It is an estimate: it starts nothing "
        "until labels confirm it. Next: `windlass drift {{ $labels.model }}`.",
    )


def _data(objectives: Objectives) -> tuple[Alert, ...]:
    return (
        Alert(
            "WindlassDataQuality",
            _fails("dataQuality"),
            _QUALITY_WAIT,
            "ticket",
            f"{VERSION}: what it is asked with fails validation",
            "Nulls, ranges, categories or the schema of the logged requests are not those of its training. Retraining "
            "on such data is refused: repair the source. Next: `windlass drift {{ $labels.model }}`.",
            signal="dataQuality",
            keep=_KEEP,
        ),
        Alert(
            "WindlassSkew",
            _fails("skew"),
            _WAIT,
            "ticket",
            f"{VERSION}: it is served other feature values than it would be trained on",
            "Logged online vectors differ from their point-in-time recomputation beyond the tolerated share. Next: "
            "`windlass features check {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassFeaturesStale",
            # too old; or shown today and no longer
            "time() - max by (namespace, model) (windlass_features_materialized_timestamp_seconds) "
            f"> max by (namespace, model) ({_STALE_AFTER})\n"
            f"or max by (namespace, model) (max_over_time({_STALE_AFTER}[1d])) "
            f"unless on (namespace, model) {_STALE_AFTER}",
            "15m",
            "ticket",
            MODEL + ": its online features are no longer kept fresh",
            "No run has filled the online store for as long as its last one is good. It is served what was known then, "
            "and what outlives its time to live is missing. Next: `windlass features materialize {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassDataStale",
            'max by (namespace, model) (windlass_verdict{check="freshness",verdict="FAIL"}) == 1\n'
            f"or max by (namespace, model) (windlass_data_age_seconds) > {seconds(objectives.data_within)}",
            "10m",
            "ticket",
            MODEL + ": no new predictions have been collected",
            "Nothing about the model is known since then. Either nobody asks it, or what it answers does not arrive. "
            "Next: `windlass status`.",
        ),
        Alert(
            "WindlassVolumeAnomaly",
            'max by (namespace, model) (windlass_verdict{check="volume",verdict="FAIL"}) == 1',
            _WAIT,
            "ticket",
            MODEL + ": far more or fewer predictions than expected",
            "The number of rows in the window is not that of comparable windows. Next: "
            "`windlass drift {{ $labels.model }}`.",
        ),
        Alert(
            "WindlassLabelsMissing",
            f"max by (namespace, model) (windlass_label_age_seconds) > {seconds(objectives.labels_within)}\n"
            f"or min by (namespace, model) (windlass_label_coverage) < {objectives.label_coverage}\n"
            # or none since a model began to answer, or since another version of it did
            f"or max by (namespace, model) (max_over_time(windlass_window_rows[1h] offset {objectives.labels_within})) "
            f"unless on (namespace, model) max_over_time(windlass_label_age_seconds[{objectives.labels_within}])",
            "1h",
            "ticket",
            MODEL + ": labels do not arrive",
            "Without them decay is only estimated, and no retrained candidate can be judged. Next: "
            "`windlass drift {{ $labels.model }}`, then ask whoever sends the feedback.",
        ),
    )


def _absent(objectives: Objectives) -> Alert:
    succeeded = "windlass_analysis_last_success_timestamp_seconds"
    return Alert(
        "WindlassAnalysisAbsent",
        # too old; or never made of a model that answers; or shown today and no longer
        f"time() - max by (namespace, model) ({succeeded}) > {seconds(objectives.analysis_within)}\n"
        'or max by (namespace, model) (windlass_requests_total{model!=""}) '
        f"unless on (namespace, model) {succeeded}\n"
        f"or max by (namespace, model) (max_over_time({succeeded}[1d])) unless on (namespace, model) {succeeded}",
        _FIRST,
        "ticket",
        MODEL + ": nobody is watching it, no analysis has succeeded",
        "No drift, decay or quality alert can ring meanwhile: silence means nothing. Next: "
        "`windlass drift {{ $labels.model }}` runs it now and says what is in the way.",
    )


def _inconclusive(objectives: Objectives) -> Alert:
    within, most = objectives.judged_within, objectives.undecided_columns
    unsure = f'windlass_verdict{{check=~"{_JUDGED}",verdict="INCONCLUSIVE"}}'
    known = f'windlass_verdict{{check=~"{_JUDGED}",verdict=~"PASS|FAIL"}}'
    undecided = 'sum by (namespace, model, kind) (windlass_drift_columns{verdict="INCONCLUSIVE"})'
    share = f"{undecided} / (sum by (namespace, model, kind) (windlass_drift_columns) > 0)"
    return Alert(
        "WindlassInconclusive",
        # now, when the time began, and at no look in between anything else, of whatever version
        f"max by (namespace, model, check) ({unsure}) == 1\n"
        f"and on (namespace, model, check) max_over_time({unsure}[1d] offset {within}) == 1\n"
        f"unless on (namespace, model, check) max_over_time({known}[{within}:{_STEP}]) == 1\n"
        # a check that PASSes on few columns says nothing of the others
        f"or min_over_time(({share})[{within}:{_STEP}]) > {most}\n"
        f"and on (namespace, model, kind) max_over_time(windlass_drift_columns[1d] offset {within})",
        "1h",
        "ticket",
        MODEL
        + ": {{ with $labels.kind }}most columns of kind {{ . }}{{ end }}{{ $labels.check }} could not be judged "
        f"for {within}",
        "It was INCONCLUSIVE all the time, so that no alert about it could ring: silence means nothing. Next: "
        "`windlass drift {{ $labels.model }}` says what is missing.",
    )
