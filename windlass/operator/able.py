"""What the operator cannot carry out, and why: asked before a release starts. Pure.

`serving.release.rules` refuses what no cluster can do. Here is what is missing on this one: an address, or evidence
that nobody here has. Such a release would wait for ever for a check that nobody can decide, so it is refused.
"""

from __future__ import annotations

from serving.release.metrics import METRICS
from serving.release.release import Bandit, BlueGreen, Canary, Check, Experiment, Release, strategy_name
from serving.runtime.counts import BUCKETS
from windlass.operator import collected
from windlass.operator.settings import Settings


def fault(release: Release, settings: Settings, *, logs: str | None = "runtime") -> str | None:
    """Why this operator cannot carry `release` out, with what to do instead; None where it can.

    Args:
        logs: who sends what the model's servers answer to a collector, "runtime" or "kserve"; None where nobody does.
    """
    if release.backend == "local":
        return (
            "spec.backend = 'local' is carried out by `windlass up` on one machine; "
            "use gateway, kserve or knative on a cluster"
        )
    for reason in (
        _addresses(release, settings, logs),
        _strategy(release),
        *(_check(check, settings) for check in release.checks),
    ):
        if reason is not None:
            return reason
    return None


def _addresses(release: Release, settings: Settings, logs: str | None) -> str | None:
    if settings.prometheus_url is None:
        return (
            "Prometheus counts what each version answers and the operator was not told where it is; set "
            "WINDLASS_PROMETHEUS_URL (the chart: prometheus.url)"
        )
    if not collected.is_needed(release):
        return None
    asking = next((check for check in release.checks if collected.is_asked(check)), None)
    what = (
        f"spec.strategy.type = {strategy_name(release.strategy)!r}"
        if asking is None
        else f"check {asking.name} ({asking.metric})"
    )
    if settings.collector_url is None:
        return (
            f"{what} rests on predictions and feedback, which the collector has, and the operator was not told where "
            "it is; set WINDLASS_COLLECTOR_URL (the chart: collector.enabled, or operator.collectorUrl)"
        )
    if logs is None:
        return (
            f"{what} rests on predictions, and the servers of {release.model!r} send none; state payload.url in "
            "WINDLASS_SERVING_OPTIONS (the chart: operator.serving.payload), and have its versions served anew"
        )
    strategy = release.strategy
    told = isinstance(strategy, Experiment) or (isinstance(strategy, Bandit) and strategy.context is not None)
    chosen = isinstance(strategy, Canary) and strategy.match is not None
    chosen = chosen and any(check.metric == "reward" for check in release.checks)
    if (told or chosen) and logs != "runtime":
        how = "counts by unit or context" if told else "leaves out the rewards of its match"
        return (
            f"spec.strategy.type = {strategy_name(strategy)!r} {how}, which KServe's logger does not send; state "
            "payload.sender: runtime in WINDLASS_SERVING_OPTIONS (the chart: operator.serving.payload)"
        )
    skewed = next((check for check in release.checks if check.metric == collected.SKEW), None)
    if skewed is not None and logs != "runtime":
        return (
            f"check {skewed.name} ({skewed.metric}) compares the feature vectors of the online store, and KServe's "
            "logger does not send where a vector comes from; state payload.sender: runtime in "
            "WINDLASS_SERVING_OPTIONS (the chart: operator.serving.payload), or leave the check out"
        )
    return None


def _strategy(release: Release) -> str | None:
    strategy = release.strategy
    if not isinstance(strategy, BlueGreen) or not (strategy.smoke or strategy.warm_up):
        return None
    if not any(request.body is not None and request.status == 200 for request in strategy.smoke):
        return (
            "spec.strategy.smoke states no body that is to be answered by 200, and the operator has seen no request "
            "that it could send; state smoke: [{body: {instances: [...]}}], or warmUp: 0 and no smoke"
        )
    return None


def _check(check: Check, settings: Settings) -> str | None:
    latency = METRICS[check.metric].unit == "latency" and check.bound is not None
    by_servers = settings.evidence == "runtime" or check.source == "predictions"
    if latency and by_servers and not _is_edge(check.bound or 0.0):
        edges = ", ".join(f"{edge * 1000:g}ms" for edge in BUCKETS)
        return (
            f"check {check.name}: how many answers are slower than {check.bound:g} ms is in no histogram of the model "
            f"servers; use a bound of theirs ({edges}), or relativeToChampion: true"
        )
    return None


def _is_edge(bound_ms: float) -> bool:
    return any(abs(edge * 1000 - bound_ms) < 1e-9 for edge in BUCKETS)
