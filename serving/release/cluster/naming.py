"""How models and versions are called on a cluster, and back: the names are the only link from a route to a version."""

from __future__ import annotations

import re

from windlass.errors import UsageError

VERSION_ANNOTATION = "windlass.dev/version"
TRAFFIC_ANNOTATION = "windlass.dev/traffic"
MODEL_LABEL = "windlass.dev/model"
MANAGED_BY = {"app.kubernetes.io/managed-by": "windlass"}

_PREDICTOR = "-predictor"
#: A Service's name is a DNS label that begins with a letter.
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST = 63


def inference_service(model: str, version: str) -> str:
    """The InferenceService of one version.

    Raises:
        UsageError: the names cannot be those of a Service.
    """
    return _checked(model, f"{model}-{version}")


def predictor(model: str, version: str) -> str:
    """The Service of one version, which KServe calls so."""
    return inference_service(model, version) + _PREDICTOR


def version_of(model: str, service: str) -> str | None:
    """The version that a Service of `model` serves, None where it is no such Service."""
    if service.startswith(f"{model}-") and service.endswith(_PREDICTOR):
        return service[len(model) + 1 : -len(_PREDICTOR)] or None
    return None


def route(model: str) -> str:
    """Our HTTPRoute (and policy); KServe calls its own like the InferenceService."""
    return _checked(model, f"windlass-{model}")


def trial(model: str) -> str:
    """The HTTPRoute (and policy) on which a script is tried: a dot is in no model's name."""
    return f"{route(model)}.trial"


def canary(version: str) -> str:
    """`predictor.name` of a version within one InferenceService: KServe's Service is `<model>-<name>-predictor`."""
    return f"v{version}"


def _checked(model: str, name: str) -> str:
    if not _LABEL.fullmatch(name) or len(name) + len(_PREDICTOR) > _LONGEST:
        raise UsageError(
            f"model {model}: {name} cannot name a Service on Kubernetes; use lower case letters, digits and dashes, "
            f"{_LONGEST - len(_PREDICTOR)} characters at most with the version"
        )
    return name
