"""What the operator cannot carry out, and why: asked before a release starts. Pure.

`serving.release.rules` refuses what no cluster can do. Here is what is missing on this one: an address, or evidence
that only a log has. Such a release would wait for ever for a check that nobody can decide, so it is refused.
"""

from __future__ import annotations

from serving.release.metrics import METRICS
from serving.release.release import Bandit, BlueGreen, Check, Experiment, Release, Shadow
from serving.runtime.counts import BUCKETS
from windlass.operator.settings import Settings

#: The metrics that Prometheus answers.
COUNTED = ("errorRate", *(name for name, metric in METRICS.items() if metric.unit == "latency"))

_LOGS = "the operator counts by Prometheus and reads no logs"


def fault(release: Release, settings: Settings) -> str | None:
    """Why this operator cannot carry `release` out, with what to do instead; None where it can."""
    if release.backend == "local":
        return (
            "spec.backend = 'local' is carried out by `windlass up` on one machine; "
            "use gateway, kserve or knative on a cluster"
        )
    for reason in (_strategy(release), *(_check(check, settings) for check in release.checks)):
        if reason is not None:
            return reason
    return None


def _strategy(release: Release) -> str | None:
    strategy = release.strategy
    if isinstance(strategy, Shadow):
        return (
            "spec.strategy.type = 'shadow' compares two versions' answers by request, which are in the prediction "
            f"logs; {_LOGS}: use canary, or shadow with `windlass up`"
        )
    if isinstance(strategy, Experiment | Bandit):
        kind = "experiment" if isinstance(strategy, Experiment) else "bandit"
        return (
            f"spec.strategy.type = {kind!r} is decided by rewards of units or requests, which are in the logs; "
            f"{_LOGS}: use canary or blueGreen"
        )
    if isinstance(strategy, BlueGreen):
        bodies = [request.body for request in strategy.smoke if request.body is not None]
        if (strategy.smoke or strategy.warm_up) and not bodies:
            return (
                "spec.strategy.smoke states no body, and the operator has seen no request that it could send; "
                "state smoke: [{body: {instances: [...]}}], or warmUp: 0 and no smoke"
            )
    return None


def _check(check: Check, settings: Settings) -> str | None:
    if check.source != "prometheus" or check.metric not in COUNTED:
        return (
            f"check {check.name}: {check.metric} from {check.source} is in the logs, and {_LOGS}; "
            f"use one of {', '.join(COUNTED)} with source: prometheus"
        )
    if settings.prometheus_url is None:
        return (
            f"check {check.name} asks Prometheus and the operator was not told where it is; set "
            "WINDLASS_PROMETHEUS_URL (the chart: prometheus.url)"
        )
    latency = METRICS[check.metric].unit == "latency" and check.bound is not None
    if latency and settings.evidence == "runtime" and not _is_edge(check.bound or 0.0):
        edges = ", ".join(f"{edge * 1000:g}ms" for edge in BUCKETS)
        return (
            f"check {check.name}: how many answers are slower than {check.bound:g} ms is in no histogram of the model "
            f"servers; use a bound of theirs ({edges}), or relativeToChampion: true"
        )
    return None


def _is_edge(bound_ms: float) -> bool:
    return any(abs(edge * 1000 - bound_ms) < 1e-9 for edge in BUCKETS)
