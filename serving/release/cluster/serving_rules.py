"""What the fields of serving options mean for each other, and texts that Kubernetes would refuse later, unseen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from serving.release.reading import Reader

if TYPE_CHECKING:
    from serving.release.cluster.serving_options import ServingOptions

#: What KServe 0.20 fetches or mounts; `oci+native` is an image volume (Kubernetes 1.35, or 1.33 behind a gate).
SCHEMES = ("s3", "gs", "pvc", "oci", "oci+native", "hdfs", "webhdfs", "https", "http")

_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_VALUE = re.compile(r"[-\w./:]*")


def check(options: ServingOptions, reader: Reader) -> None:
    """Report what contradicts itself or what Kubernetes would refuse."""
    scheme, separator, rest = options.storage.partition("://")
    missing = [part for part in ("{model}", "{version}") if part not in options.storage]
    left = rest.replace("{model}", "").replace("{version}", "")
    if not separator or scheme not in SCHEMES or missing or "{" in left or "}" in left:
        reader.report(
            "storage",
            options.storage,
            f"give an address that begins with one of {', '.join(f'{s}://' for s in SCHEMES)} "
            "and holds {model} and {version}",
        )
    _check_scaling(options, reader)
    _check_quantities(options, reader)
    for name, value in (
        ("serviceAccount", options.service_account),
        ("runtime", options.runtime),
        ("priorityClass", options.priority_class),
        ("storageContainer", options.storage_container),
    ):
        if value is not None and not _NAME.fullmatch(value):
            reader.report(
                name, value, "is no name of a Kubernetes object; use lower case letters, digits and dashes"
            )
    if options.verify_key.config_map is not None and options.verify_key.secret is not None:
        reader.report("verifyKey", options.verify_key.secret, "name a configMap or a secret, not both")
    if options.image is not None and (
        ":" not in options.image.rpartition("/")[2] or options.image.endswith(":latest")
    ):
        reader.report("image", options.image, "pin it: NAME@sha256:… or NAME:TAG, and no :latest")
    if options.payload is not None and not options.payload.url.startswith(("http://", "https://")):
        reader.report("payload.url", options.payload.url, "give http://HOST:PORT/ or https://…")
    for variable in options.environment:
        if (variable.value is None) == (variable.secret is None):
            reader.report("environment", variable.name, "give each variable a value or a secret")
    if options.node_selector is not None and not isinstance(options.node_selector, Mapping):
        reader.report("nodeSelector", options.node_selector, "give a mapping of node labels")
    if options.tolerations is not None and not isinstance(options.tolerations, list):
        reader.report("tolerations", options.tolerations, "give a list of tolerations")


def _check_scaling(options: ServingOptions, reader: Reader) -> None:
    scaling = options.scaling
    serverless = options.mode == "Serverless"
    if scaling.min_replicas > scaling.max_replicas:
        reader.report(
            "scaling.minReplicas", scaling.min_replicas, f"is above maxReplicas ({scaling.max_replicas})"
        )
    if serverless:
        if scaling.scaler is not None:
            reader.report(
                "scaling.scaler", scaling.scaler, "leave it out: in Serverless mode it is Knative that scales"
            )
        if scaling.metric not in (None, "concurrency"):
            reader.report("scaling.metric", scaling.metric, "use concurrency, which is what Knative follows")
        return
    if scaling.min_replicas == 0:
        reader.report(
            "scaling.minReplicas", 0, "give 1 or more: a request finds nobody at 0, but in mode Serverless"
        )
    if scaling.metric == "concurrency" and scaling.scaler != "keda":
        reader.report(
            "scaling.metric", scaling.metric, "set scaler: keda, or use cpu or memory: an HPA knows no more"
        )
    if scaling.labels is not None and not (
        isinstance(scaling.labels, Mapping)
        and all(_LABEL.fullmatch(str(k)) and _VALUE.fullmatch(str(v)) for k, v in scaling.labels.items())
    ):
        reader.report(
            "scaling.labels",
            scaling.labels,
            "give a mapping of Prometheus' labels to values, cluster: east",
        )
    if scaling.scaler == "keda" and scaling.metric == "concurrency" and scaling.prometheus is None:
        reader.report(
            "scaling.prometheus", None, "give the URL of the Prometheus that scrapes the model servers"
        )
    if scaling.metric != "concurrency" and scaling.target is not None and scaling.target > 100:
        reader.report("scaling.target", scaling.target, "is a percentage of what is requested; give 1 to 100")


def _check_quantities(options: ServingOptions, reader: Reader) -> None:
    resources = options.resources
    for name, value in (
        ("resources.cpu", resources.cpu),
        ("resources.memory", resources.memory),
        ("resources.cpuLimit", resources.cpu_limit),
        ("resources.memoryLimit", resources.memory_limit),
        ("tmp", options.tmp),
    ):
        if value is not None and not _QUANTITY.fullmatch(value):
            reader.report(name, value, "give a quantity like 500m, 2, 512Mi or 1Gi")
