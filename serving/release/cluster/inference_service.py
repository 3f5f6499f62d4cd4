"""One version of a model as Kubernetes serves it: KServe's InferenceService of its own, and what goes with it.

Every version has its own, so that a release changes weights and never a running server. It bears the label
`networking.kserve.io/visibility: cluster-local`: KServe makes no route for it, `gateway.py` makes one for all versions.

What every server of ours has in common is in the ClusterServingRuntime (`serving_runtime.py`). KServe takes of it the
containers, volumes and what places a pod; whatever else belongs to the pod (its security context, its grace period,
how replicas are spread) must stand here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, Literal

from serving.release.cluster import naming, serving_runtime
from serving.release.cluster.api import INFERENCE_SERVICE, Kind
from serving.release.cluster.autoscaling import autoscaling
from serving.release.cluster.serving_options import VERIFY_KEY, VERIFY_KEY_FILE, ServingOptions

Document = dict[str, Any]

POD_DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
#: In the pods' template too: what runs can be told from what was asked for.
RENDERED = "windlass.dev/rendered"
#: What KServe puts onto every pod of an InferenceService.
POD_LABEL = "serving.kserve.io/inferenceservice"

_VISIBILITY = {
    "Standard": "networking.kserve.io/visibility",
    "Serverless": "networking.knative.dev/visibility",
}
#: KServe's own names since 0.16; it refuses an update that says the older one.
_MODES = {"Standard": "Standard", "Serverless": "Knative"}
_ONLINE = "WINDLASS_ONLINE_STORE"
#: Fields of a predictor whose change needs no new pods.
_SCALING = frozenset({"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "autoScaling"})
#: After the pre-stop pause: the server's own linger and its longest wait for requests in flight, and some room.
_DRAIN_SECONDS = 20

#: Each process may hold 256 MiB of requests that have not arrived completely (`most_held_bytes` of its options)
#: beside its own; and something for the first one, which opens the models.
_MEMORY_MI = 128
_MEMORY_WORKER_MI = 384
_CPU_WORKER_M = 500


def render(
    model: str, version: str, options: ServingOptions, *, namespace: str | None = None
) -> list[Document]:
    """The objects of one version, without a namespace: the InferenceService, and a PodDisruptionBudget of its pods.

    Args:
        namespace: where they will be; needed where replicas follow what Prometheus counted.

    Raises:
        UsageError: model and version cannot name a Service; see also `autoscaling`.
    """
    options = options.of(model)
    documents = [_inference_service(model, version, options, namespace)]
    budget = _disruption_budget(naming.inference_service(model, version), labels(model, version), options)
    return documents if budget is None else [*documents, budget]


def predictor(
    model: str,
    version: str,
    options: ServingOptions,
    mode: Literal["Standard", "Serverless"] | None = None,
    *,
    namespace: str | None = None,
) -> Document:
    """The `predictor` alone, for one InferenceService that has all versions and is called like the model.

    Args:
        mode: of that InferenceService, `Standard` for the backend `kserve`, `Serverless` for `knative`; None takes the
            options'. Where it is another than theirs, replicas follow that mode's default.
        namespace: see `render`.

    Raises:
        UsageError: see `autoscaling`.
    """
    options = _in_mode(options.of(model), mode)
    scaled = autoscaling(model, version, options, namespace)
    return {**scaled.predictor, **_predictor(model, model, version, options)}


def for_all_versions(
    model: str,
    champion: str,
    options: ServingOptions,
    backend: Literal["kserve", "knative"],
    *,
    namespace: str | None = None,
) -> list[Document]:
    """The objects that a model has before its first release by KServe's own backends, which change the InferenceService
    later; KServe makes the route.

    Args:
        namespace: see `render`.

    Raises:
        UsageError: model and version cannot name a Service; see also `autoscaling`.
    """
    naming.inference_service(model, champion)
    mode: Literal["Standard", "Serverless"] = "Standard" if backend == "kserve" else "Serverless"
    options = _in_mode(options.of(model), mode)
    named = {"name": naming.canary(champion)} if backend == "kserve" else {}
    version = {naming.VERSION_ANNOTATION: champion}
    document = {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": model,
            "labels": {**naming.MANAGED_BY, naming.MODEL_LABEL: model},
            "annotations": {
                DEPLOYMENT_MODE: _MODES[mode],
                **version,
                **autoscaling(model, champion, options, namespace).annotations,
            },
        },
        "spec": {"predictor": {**named, **predictor(model, champion, options, namespace=namespace)}},
    }
    budget = _disruption_budget(model, {**naming.MANAGED_BY, naming.MODEL_LABEL: model}, options)
    return [document] if budget is None else [document, budget]


def _in_mode(options: ServingOptions, mode: Literal["Standard", "Serverless"] | None) -> ServingOptions:
    if mode is None or mode == options.mode:
        return options
    scaling = replace(options.scaling, scaler=None, metric=None, target=None)
    if mode == "Standard":
        scaling = replace(scaling, min_replicas=max(1, scaling.min_replicas))
    return replace(options, mode=mode, scaling=scaling)


def digest(document: Document) -> str:
    """What the pods of an InferenceService are made from, as 12 hexadecimal digits; scaling is not part of it."""
    pods = {key: value for key, value in document["spec"]["predictor"].items() if key not in _SCALING}
    text = json.dumps([document["metadata"]["labels"], pods], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def labels(model: str, version: str) -> dict[str, str]:
    """Who made an object, for which model and version."""
    return {**naming.MANAGED_BY, naming.MODEL_LABEL: model, naming.VERSION_ANNOTATION: version}


def _inference_service(model: str, version: str, options: ServingOptions, namespace: str | None) -> Document:
    name = naming.inference_service(model, version)
    scaled = autoscaling(model, version, options, namespace)
    document: Document = {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": name,
            "labels": {**labels(model, version), _VISIBILITY[options.mode]: "cluster-local"},
            "annotations": {DEPLOYMENT_MODE: _MODES[options.mode], **scaled.annotations},
        },
        "spec": {"predictor": {**scaled.predictor, **_predictor(name, model, version, options)}},
    }
    document["spec"]["predictor"]["annotations"] = {RENDERED: digest(document)}
    return document


def _predictor(name: str, model: str, version: str, options: ServingOptions) -> Document:
    made: Document = {
        "model": _server(model, version, options),
        # no server of ours asks the API anything
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    if options.mode == "Standard":
        made |= _pod(name, options)
    if options.service_account is not None:
        made["serviceAccountName"] = options.service_account
    if options.storage_container is not None:
        made["storageContainerName"] = options.storage_container
    if options.image_pull_secrets:
        made["imagePullSecrets"] = [{"name": secret} for secret in options.image_pull_secrets]
    if options.priority_class is not None:
        made["priorityClassName"] = options.priority_class
    if options.node_selector is not None:
        made["nodeSelector"] = dict(options.node_selector)
    if options.tolerations is not None:
        made["tolerations"] = options.tolerations
    if options.payload is not None and options.payload.sender == "kserve":
        made["logger"] = {"mode": options.payload.mode, "url": options.payload.url}
    volumes = [*_tmp(options), *_key_volumes(options)]
    if volumes:
        made["volumes"] = volumes
    return made


def _pod(name: str, options: ServingOptions) -> Document:
    """What Knative does not take of us, or has in its own way."""
    made: Document = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": serving_runtime.USER,
            "runAsGroup": serving_runtime.USER,
            "fsGroup": serving_runtime.USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": options.stop_seconds + _DRAIN_SECONDS,
        # no old replica goes before a new one answers
        "deploymentStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
    }
    if options.spread:
        made["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                # a cluster of one node, or one that lost a zone, serves all the same
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {POD_LABEL: name}},
            }
            for key in options.spread
        ]
    return made


def _server(model: str, version: str, options: ServingOptions) -> Document:
    made: Document = {
        "modelFormat": {"name": serving_runtime.MODEL_FORMAT},
        "runtime": options.runtime or serving_runtime.NAMES[options.mode],
        "protocolVersion": "v2",
        "storageUri": options.storage_uri(model, version),
        "resources": _resources(options),
    }
    if options.image is not None:
        made["image"] = options.image
    arguments = _arguments(options)
    if arguments:
        made["args"] = arguments  # KServe appends them to the runtime's
    environment = _environment(options)
    if environment:
        made["env"] = environment
    if _key_volumes(options):
        # by its path: it takes the place of the runtime's
        made["volumeMounts"] = [
            {"name": "own-verify-key", "mountPath": serving_runtime.KEY_FOLDER, "readOnly": True}
        ]
    if options.mode == "Standard" and options.stop_seconds != serving_runtime.STOP_SECONDS:
        made["lifecycle"] = {"preStop": {"sleep": {"seconds": options.stop_seconds}}}
    if options.start_seconds != serving_runtime.START_SECONDS:
        made["startupProbe"] = {"failureThreshold": serving_runtime.attempts(options.start_seconds)}
    return made


def _arguments(options: ServingOptions) -> list[str]:
    made: list[str] = []
    if options.workers > 1:
        made += ["--workers", str(options.workers)]
    if options.online is not None:
        made += ["--online", f"$({_ONLINE})"]
    if options.payload is not None and options.payload.sender == "runtime":
        mode = "" if options.payload.mode == "all" else f"&mode={options.payload.mode}"
        made += ["--log", f"{options.payload.url}#batch={options.payload.batch}{mode}"]
    if options.verify_key.key != VERIFY_KEY_FILE:
        made += ["--verify-key", f"{serving_runtime.KEY_FOLDER}/{options.verify_key.key}"]
    return [*made, *options.arguments]


def _environment(options: ServingOptions) -> list[Document]:
    found = [(variable.name, variable.value, variable.secret) for variable in options.environment]
    if options.online is not None:
        found.insert(0, (_ONLINE, None, options.online))
    made: list[Document] = []
    for name, value, secret in found:
        if secret is None:
            made.append({"name": name, "value": value})
        else:
            reference = {"name": secret.secret, "key": secret.key}
            made.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return made


def _resources(options: ServingOptions) -> Document:
    stated = options.resources
    memory = stated.memory or f"{_MEMORY_MI + _MEMORY_WORKER_MI * options.workers}Mi"
    limits = {"memory": stated.memory_limit or memory}
    if stated.cpu_limit is not None:
        limits["cpu"] = stated.cpu_limit
    requests = {"cpu": stated.cpu or f"{_CPU_WORKER_M * options.workers}m", "memory": memory}
    return {"requests": requests, "limits": limits}


def _tmp(options: ServingOptions) -> list[Document]:
    if options.tmp == serving_runtime.TMP_SIZE:
        return []
    return [{"name": serving_runtime.TMP, "emptyDir": {"sizeLimit": options.tmp}}]


def _key_volumes(options: ServingOptions) -> list[Document]:
    """A volume of another name than the runtime's: KServe would merge two sources into one volume."""
    key = options.verify_key
    if key.secret is not None:
        return [{"name": "own-verify-key", "secret": {"secretName": key.secret}}]
    if key.config_map is not None and key.config_map != VERIFY_KEY:
        return [{"name": "own-verify-key", "configMap": {"name": key.config_map}}]
    return []


def _disruption_budget(name: str, labels: dict[str, str], options: ServingOptions) -> Document | None:
    """One replica at a time may be evicted, where there are two or more at all times; none for a single one, whose
    node could never be drained."""
    if not options.disruption_budget or options.mode != "Standard" or options.scaling.min_replicas < 2:
        return None
    return {
        "apiVersion": POD_DISRUPTION_BUDGET.api_version,
        "kind": POD_DISRUPTION_BUDGET.kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {
            # not minAvailable: at ten replicas it would let eight go at once
            "maxUnavailable": 1,
            "selector": {"matchLabels": {POD_LABEL: name}},
            # a replica that is not ready serves nobody, and must not hold up a drain
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
