"""Whether a version's servers answer, read from what KServe, its workload and the pods say; no question is asked here.

KServe's status alone does not tell: its `observedGeneration` is that of the Deployment (of the Knative service) and not
of the InferenceService, so `Ready` may still speak of what was asked for before. What was asked for carries a digest
into the pods' template, and the workload says what became of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.release.cluster.inference_service import RENDERED

#: Reasons of a condition behind which no patience helps: Kubernetes gave up, or refuses the pods.
_GIVEN_UP = frozenset({"ProgressDeadlineExceeded", "FailedCreate", "ReconcileFailed", "ReplicaFailure"})

#: Of a container that waits. Kubernetes goes on trying, and what it lacks may yet come.
_STUCK = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "ErrImageNeverPull": "the image is not on the node and may not be pulled",
    "InvalidImageName": "the image has no valid name",
    "CreateContainerConfigError": "a Secret or a ConfigMap is missing",
    "CreateContainerError": "the container cannot be made",
    "RunContainerError": "the container cannot be started",
    "CrashLoopBackOff": "it ends again and again",
}
_STORAGE = frozenset({"storage-initializer", "modelcar-init"})

_REMEDIES = {
    "RuntimeNotRecognized": "apply manifests/serving, or name a runtime that exists",
    "RuntimeDisabled": "enable the runtime, or name another",
    "NoSupportingRuntime": "name a runtime that supports the format windlass",
}
_LONGEST = 400


@dataclass(frozen=True)
class Readiness:
    """Whether a version can take traffic.

    Attributes:
        ready: None where it is still coming; False where something must change first. A False may heal (an image that
            is pushed late), so who decides lets it stand for a while.
        reason: what is waited for or what is wrong; empty where it is ready.
    """

    ready: bool | None
    reason: str = ""


def of(
    service: Mapping[str, Any], workload: Mapping[str, Any] | None, pods: Iterable[Mapping[str, Any]]
) -> Readiness:
    """Judge one version.

    Args:
        service: its InferenceService.
        workload: its Deployment or Knative service; only looked at where KServe says that it is ready.
        pods: its pods; only looked at where it is not.
    """
    status = service.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    failure = _failure(status.get("modelStatus", {}))
    if failure is not None:
        return Readiness(False, failure)
    ready = conditions.get("Ready")
    if ready is None:
        return Readiness(None, "KServe has not looked at it yet; see whether its controller runs")
    if ready["status"] == "True":
        return _in_force(service, workload)
    stuck = [reason for pod in pods if (reason := _stuck(pod)) is not None]
    given_up = [c for c in conditions.values() if c["status"] == "False" and c.get("reason") in _GIVEN_UP]
    words = "; ".join(sorted(set(stuck))) or _words(conditions)
    return Readiness(False if given_up or any("unschedulable" not in s for s in stuck) else None, words)


def _failure(model: Mapping[str, Any]) -> str | None:
    """KServe's word on the model. Its last failure outlives its cause, so it counts for these two states alone."""
    if model.get("transitionStatus") not in ("BlockedByFailedLoad", "InvalidSpec"):
        return None
    info = model.get("lastFailureInfo", {})
    reason = info.get("reason", model["transitionStatus"])
    code = info.get("exitCode")
    parts = [
        "the bundle was not fetched or not loaded" if reason == "ModelLoadFailed" else reason,
        f"exit code {code}" if code else "",
        " ".join(info.get("message", "").split())[:_LONGEST],
        _REMEDIES.get(reason, ""),
    ]
    return "; ".join(part for part in parts if part)


def _in_force(service: Mapping[str, Any], workload: Mapping[str, Any] | None) -> Readiness:
    wanted = service["spec"]["predictor"].get("annotations", {}).get(RENDERED)
    if workload is None:
        return Readiness(
            None, "KServe says that it is ready and has made nothing that runs; see its controller's log"
        )
    template = workload["spec"]["template"]["metadata"].get("annotations", {})
    if template.get(RENDERED) != wanted:
        return Readiness(None, "KServe has not passed on what was asked for last")
    generation = workload["metadata"].get("generation", 0)
    status = workload.get("status", {})
    if status.get("observedGeneration", 0) < generation:
        return Readiness(
            None, f"Kubernetes has not looked at generation {generation} of the {workload['kind']} yet"
        )
    if "latestCreatedRevisionName" in status:
        created, latest = status["latestCreatedRevisionName"], status.get("latestReadyRevisionName")
        return (
            Readiness(True) if created == latest else Readiness(None, f"revision {created} is not ready yet")
        )
    replicas, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    if updated < replicas:
        return Readiness(
            None, f"{replicas - updated} of {replicas} replicas are of what was asked for before"
        )
    name, wanted_replicas = workload["metadata"]["name"], workload["spec"].get("replicas", 1)
    if wanted_replicas == 0:
        # no autoscaler of ours goes to zero, and none brings it back
        scale = f"kubectl -n {workload['metadata']['namespace']} scale deployment {name} --replicas=1"
        return Readiness(False, f"its Deployment is scaled to 0: {scale}")
    if not status.get("readyReplicas"):
        return Readiness(None, f"none of {wanted_replicas} replicas is ready, whatever KServe says")
    return Readiness(True)


def _words(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    """What KServe says is not there yet: of its conditions the one that says why."""
    for name in ("PredictorReady", "IngressReady", "Ready"):
        condition = conditions.get(name)
        if condition is not None and condition["status"] != "True":
            said = [condition.get("reason", ""), " ".join(condition.get("message", "").split())[:_LONGEST]]
            words = ": ".join(part for part in said if part) or "and KServe does not say why"
            return f"{name} is {condition['status']}, {words}"
    return "KServe says that it is not ready"


def _stuck(pod: Mapping[str, Any]) -> str | None:
    """Why a pod does not come, None where it may."""
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"unschedulable: {' '.join(condition.get('message', '').split())[:_LONGEST]}"
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _STUCK:
            what = "storage, " if container["name"] in _STORAGE else ""
            ended = container.get("lastState", {}).get("terminated", {})
            message = waiting.get("message", "") if not ended.get("message") else ended["message"]
            said = " ".join(message.split())[:_LONGEST]
            return (
                f"{what}container {container['name']}: {_STUCK[waiting['reason']]} ({waiting['reason']})"
                + (f": {said}" if said else "")
            )
    return None
