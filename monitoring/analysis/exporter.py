"""The newest analyses as metrics, and when features were last materialized, read from their files at each scrape.

What is unknown has no series: a zero would be a claim. A file that is damaged costs its workload's series and nobody
else's, and shows by `windlass_analysis_last_success_timestamp_seconds` that stands still or is gone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.analysis import store
from monitoring.verdict import Verdict
from windlass import metrics_page
from windlass.errors import WindlassError
from windlass.features import filling
from windlass.settings import Settings

WORST_SLICES = 10
DRIFT_KINDS = {"featureDrift": "feature", "predictionDrift": "prediction", "labelDrift": "label"}

_DRIFT = ("model", "version", "kind", "column")
_PERFORMANCE = ("model", "version", "metric", "kind")
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "windlass_analysis_last_success_timestamp_seconds": ("When an analysis last succeeded", ("model",)),
    "windlass_analysis_last_attempt_timestamp_seconds": ("When an analysis was last begun", ("model",)),
    "windlass_analysis_duration_seconds": ("How long the last success took", ("model",)),
    "windlass_window_rows": ("Live answers in the window", ("model", "version")),
    "windlass_data_age_seconds": ("Age of the newest answer at the end of the window", ("model",)),
    "windlass_volume_ratio": ("Rows of the window over those expected", ("model",)),
    "windlass_drift_score": ("Size of the change of a column", _DRIFT),
    "windlass_drift_lower": ("Lower bound of that size", _DRIFT),
    "windlass_drift_threshold": ("Size from which a change matters", _DRIFT),
    "windlass_drift_alarm": ("Whether an incident is on; none where it is not known", _DRIFT[:3]),
    "windlass_drift_columns": ("Columns by what the last look says of each", (*_DRIFT[:3], "verdict")),
    "windlass_verdict": ("1 for the verdict in force", ("model", "version", "check", "verdict")),
    "windlass_quality_failed": ("1 for a column that is broken", ("model", "version", "column", "check")),
    "windlass_performance": ("A measure of performance", _PERFORMANCE),
    "windlass_performance_lower": ("Lower end of its 95 % interval", _PERFORMANCE),
    "windlass_performance_upper": ("Upper end of its 95 % interval", _PERFORMANCE),
    "windlass_label_coverage": ("Share of the matured rows that have a label", ("model", "version")),
    "windlass_label_age_seconds": ("Time since the newest label at the end of the window", ("model",)),
    "windlass_slice_loss": ("Loss of the worst slices", ("model", "version", "slice")),
    "windlass_skew_mismatch_ratio": ("Share of served vectors that differ", ("model", "version")),
    "windlass_features_materialized_timestamp_seconds": ("When the online store was last filled", ("model",)),
    "windlass_features_stale_after_seconds": ("For how long that is good", ("model",)),
    "windlass_slo_budget_remaining_ratio": ("Share of the error budget that is left", ("model", "slo")),
}
"""Every metric, what it says and its labels."""


class AnalysisCollector(Collector):
    """Gives the series of all workloads of a home; register it with a registry."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from _families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = _families()
        for workload in store.workloads(self._settings):
            # a file that is damaged at its end must not leave half of what it says beside a fresh success
            for name, labels, value in _readable(self._settings, workload):
                families[name].add_metric(labels, value)
        for workload in filling.workloads(self._settings):
            for name, labels, value in _filled(self._settings, workload):
                families[name].add_metric(labels, value)
        yield from families.values()


Put = Callable[..., None]
Series = tuple[str, tuple[str, ...], float]


def _readable(settings: Settings, workload: str) -> list[Series]:
    """Every series of a workload; none where one of its files cannot be read."""
    series: list[Series] = []

    def put(name: str, value: Any, *labels: str) -> None:
        if value is not None and math.isfinite(value):
            series.append((name, labels, float(value)))

    try:
        how = store.status(settings, workload)
        found = store.latest(settings, workload)
        put("windlass_analysis_last_success_timestamp_seconds", how.success, workload)
        put("windlass_analysis_last_attempt_timestamp_seconds", how.attempt, workload)
        put("windlass_analysis_duration_seconds", how.seconds, workload)
        if found is not None:
            _model(put, workload, found)
    except (WindlassError, OSError, KeyError, TypeError, AttributeError):
        return []
    return series


def _filled(settings: Settings, workload: str) -> list[Series]:
    """When the features of a workload were materialized; nothing where the note of it cannot be read."""
    try:
        found = filling.newest(settings, workload)
    except WindlassError:
        return []
    if found is None:
        return []
    series: list[Series] = [("windlass_features_materialized_timestamp_seconds", (workload,), found.ended)]
    if found.stale_after is not None:
        series.append(("windlass_features_stale_after_seconds", (workload,), found.stale_after))
    return series


def _families() -> dict[str, GaugeMetricFamily]:
    return {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in FAMILIES.items()}


def _model(put: Put, model: str, found: dict[str, Any]) -> None:
    checks = {c["name"]: c for c in found["checks"]}
    put("windlass_data_age_seconds", checks["freshness"]["evidence"]["age_seconds"], model)
    put("windlass_volume_ratio", checks["volume"]["evidence"]["ratio"], model)
    for budget in checks["slo"]["evidence"]["budgets"]:
        put("windlass_slo_budget_remaining_ratio", budget["remaining"], model, budget["slo"])
    ages = [v["label_age_seconds"] for v in found["versions"] if v["label_age_seconds"] is not None]
    put("windlass_label_age_seconds", min(ages, default=None), model)
    going_on = {(i["kind"], i["champion"]) for i in found.get("incidents", ()) if i["ended"] is None}
    for version in found["versions"]:
        # what is judged of the model as a whole is said with each version that answers
        verdicts = {c["name"]: c["verdict"] for c in [*found["checks"], *version["checks"]]}
        for name, verdict in verdicts.items():
            # an alert must not end because nobody can tell: the end of one lets go of what is held back by it
            if verdict == "INCONCLUSIVE" and (name, version["version"]) in going_on:
                verdicts[name] = "FAIL"
        _version(put, model, version, verdicts)


def _version(put: Put, model: str, found: dict[str, Any], verdicts: dict[str, str]) -> None:
    version = found["version"]
    put("windlass_window_rows", found["rows"], model, version)
    for name, verdict in verdicts.items():
        put("windlass_verdict", 1, model, version, name, verdict)
    for fault in found["faults"]:
        put("windlass_quality_failed", 1, model, version, fault["column"], fault["check"])
    for figure in found["performance"]:
        labels = (model, version, figure["metric"], figure["kind"])
        put("windlass_performance", figure["value"], *labels)
        put("windlass_performance_lower", figure["lower"], *labels)
        put("windlass_performance_upper", figure["upper"], *labels)
    put("windlass_label_coverage", found["label_coverage"], model, version)
    slices = {s["name"]: s["loss"] for s in found["slices"]["worse"]}
    for other in found["slices"]["highest"]:
        slices.setdefault(other["slice"], other["loss"])
    for name, loss in list(slices.items())[:WORST_SLICES]:
        put("windlass_slice_loss", loss, model, version, name)
    skew = found["skew"]
    if skew is not None and skew["checked"]:
        put("windlass_skew_mismatch_ratio", skew["mismatched"] / skew["checked"], model, version)
    for check, kind in DRIFT_KINDS.items():
        # the analysis may know less than the look: labels that stopped coming make its last word unknown
        verdict = verdicts.get(check, "INCONCLUSIVE")
        if verdict != "INCONCLUSIVE":
            put("windlass_drift_alarm", float(verdict == "FAIL"), model, version, kind)
    if found["detection"] is not None:
        _drift(put, model, version, found["detection"])


def _drift(put: Put, model: str, version: str, detection: dict[str, Any]) -> None:
    verdicts = Counter((column["kind"], column["verdict"]) for column in detection["columns"])
    for kind in dict.fromkeys(column["kind"] for column in detection["columns"]):
        # each from zero on: where no column is undecided, that is known
        for verdict in get_args(Verdict):
            put("windlass_drift_columns", verdicts[kind, verdict], model, version, kind, verdict)
    for column in detection["columns"]:
        labels = (model, version, column["kind"], column["column"])
        effect = column["effect"]
        put("windlass_drift_score", None if effect is None else abs(effect), *labels)
        put("windlass_drift_lower", column["lower"], *labels)
        put("windlass_drift_threshold", column["threshold"] if effect is not None else None, *labels)


def serve(settings: Settings, port: int, address: str = "127.0.0.1") -> Callable[[], None]:
    """Serve the metrics at `http://address:port/metrics` from a thread; the result ends it.

    Raises:
        WindlassError: the port is taken, or none.
    """
    registry = CollectorRegistry()
    registry.register(AnalysisCollector(settings))
    return metrics_page.serve(registry, port, address)
