"""How the number of a version's replicas follows its load: annotations and predictor fields of KServe 0.20.

In Standard mode KServe makes a HorizontalPodAutoscaler (`hpa`: CPU or memory) or a ScaledObject of KEDA (`keda`: these,
or the requests in flight as Prometheus saw them), or neither (`none`: a fixed number). In Serverless mode Knative
counts the requests itself, and alone can go to zero: its activator holds the request that finds nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serving.release.cluster.serving_options import ServingOptions
from windlass.errors import UsageError

AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"

#: Percent of what is requested. CPU leaves room for the time that a new replica takes to start; memory is taken for
#: good by a server that holds its model, so it is followed late.
DEFAULT_CPU = 70
DEFAULT_MEMORY = 85

#: Requests in flight per worker process. A queue before one server that is busy for a share u of the time holds
#: u / (1 - u) requests in the mean (M/M/1): 4 at 80 percent.
DEFAULT_CONCURRENCY = 4

#: Each second that a request takes counts once in this sum, so its rate is the mean number in flight over the window
#: (Little's law). The gauge of pending requests is seen at scrapes alone, between two of which a burst comes and goes.
IN_FLIGHT = "sum(rate(windlass_request_seconds_sum{{{labels}}}[1m]))"


@dataclass(frozen=True)
class Autoscaling:
    """What goes into the InferenceService's annotations, and into its predictor."""

    annotations: dict[str, str] = field(default_factory=dict)
    predictor: dict[str, Any] = field(default_factory=dict)


def autoscaling(model: str, version: str, options: ServingOptions, namespace: str | None) -> Autoscaling:
    """How one version's replicas are scaled.

    Args:
        namespace: where they are; None where nobody knows.

    Raises:
        UsageError: their requests could not be told from those of a model of the same name in another namespace.
    """
    scaling = options.scaling
    between = {"minReplicas": scaling.min_replicas, "maxReplicas": scaling.max_replicas}
    if options.mode == "Serverless":
        return Autoscaling(
            predictor={**between, "scaleMetric": "concurrency", "scaleTarget": target(options)}
        )
    scaler = scaling.scaler or "hpa"
    if scaler == "none":
        fixed = {"minReplicas": scaling.min_replicas, "maxReplicas": scaling.min_replicas}
        return Autoscaling({AUTOSCALER_CLASS: "none"}, fixed)
    counted = _metric(options) == "concurrency"
    metric = _external(model, version, options, namespace) if counted else _resource(options)
    return Autoscaling({AUTOSCALER_CLASS: scaler}, {**between, "autoScaling": {"metrics": [metric]}})


def target(options: ServingOptions) -> int:
    """What each replica should have: percent of what it requests, or requests in flight."""
    if options.scaling.target is not None:
        return options.scaling.target
    return {
        "cpu": DEFAULT_CPU,
        "memory": DEFAULT_MEMORY,
        "concurrency": DEFAULT_CONCURRENCY * options.workers,
    }[_metric(options)]


def _metric(options: ServingOptions) -> str:
    return options.scaling.metric or ("concurrency" if options.mode == "Serverless" else "cpu")


def _resource(options: ServingOptions) -> dict[str, Any]:
    wanted = {"type": "Utilization", "averageUtilization": target(options)}
    return {"type": "Resource", "resource": {"name": _metric(options), "target": wanted}}


def _external(model: str, version: str, options: ServingOptions, namespace: str | None) -> dict[str, Any]:
    scaling = options.scaling
    labels = {"model": model, "version": version, "namespace": namespace, **(scaling.labels or {})}
    if labels["namespace"] is None:
        raise UsageError(
            f"scaler keda of model {model}: its query must name the namespace, or a model of the same name in another "
            "one would scale it too; give --namespace, or name it in scaling.labels"
        )
    external: dict[str, Any] = {
        "metric": {
            "backend": "prometheus",
            "serverAddress": scaling.prometheus,
            "query": IN_FLIGHT.format(labels=",".join(f'{name}="{value}"' for name, value in labels.items())),
        },
        # KServe makes KEDA's threshold of it, which KEDA holds against the value per replica
        "target": {"type": "Value", "value": str(target(options))},
    }
    if scaling.authentication is not None:
        external["authenticationRef"] = {
            "authModes": "bearer",
            "authenticationRef": {"name": scaling.authentication},
        }
    return {"type": "External", "external": external}
