"""Where a check's numbers are read, so that whoever doubts a verdict can ask for them again."""

from __future__ import annotations

from serving.release.metrics import METRICS
from serving.release.release import Check, Release

_COUNTED = "requests whose route is weights, segment or arm (not a match, not a preview)"


def query(release: Release, check: Check, version: str) -> str:
    """What is asked of a check's source about one version; the champion is asked about alike."""
    who = f"model {release.model} version {version}"
    if check.source == "prometheus":
        return _promql(release, check, version)
    if check.source == "envoy":
        if METRICS[check.metric].unit == "latency":
            return f"Envoy's access log, {who}: duration_us of {_COUNTED}"
        return f"Envoy's access log, {who}: code 5xx, or no answer while the caller waited, among {_COUNTED}"
    if check.source == "predictions":
        if check.metric == "featureSkew":
            return f"prediction log, {who}: logged features against their point-in-time recomputation"
        return f"prediction log, {who}: joined with the champion's by request_id"
    joined = "unit" if check.metric == "reward" else "request_id"
    return f"prediction and feedback logs, {who}: outcomes joined by {joined}, matured ones only"


#: Seconds between two looks, for which a counter's growth is asked.
_WINDOW_S = 60.0


def _promql(release: Release, check: Check, version: str) -> str:
    from serving.release.prometheus import templates

    of, model = templates.runtime(release.backend), release.model
    asked = of.durations if METRICS[check.metric].unit == "latency" else of.responses
    return asked.render(model, of.values(model, version), {}, _WINDOW_S)
