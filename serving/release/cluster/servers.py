"""The servers of a model's versions on KServe: made so, watched until they answer, and taken away.

`inference_service.py` says what they are and `readiness.py` what their state means; here is what is asked and written.
Nothing is remembered: whoever calls twice, or in another process, finds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.release.backend import RejectedError
from serving.release.cluster import inference_service, naming, readiness
from serving.release.cluster.api import (
    FIELD_MANAGER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    ONCE,
    Kind,
    KubernetesApi,
    Object,
)
from serving.release.cluster.inference_service import POD_DISRUPTION_BUDGET, POD_LABEL
from serving.release.cluster.readiness import Readiness
from serving.release.cluster.serving_options import ServingOptions

DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
KNATIVE_SERVICE = Kind("serving.knative.dev", "v1", "services", "Service")
POD = Kind("", "v1", "pods", "Pod")

#: On servers that were made for a release which had not begun: which. It stays for as long as they do, since KServe
#: copies annotations to pods, and one that came or went would start them anew.
MADE_FOR = "windlass.dev/made-for"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Servers:
    """The servers of all models in one namespace.

    Args:
        namespace: where the InferenceServices are.
        options: how versions are served.
    """

    def __init__(self, api: KubernetesApi, namespace: str, options: ServingOptions) -> None:
        self._api = api
        self._namespace = namespace
        self._options = options

    def ensure(self, model: str, version: str, *, made_for: str | None = None) -> Readiness:
        """Make the version's servers what the options say, where they are not, and tell how far they are.

        What stands as it should is only read. The change of a running version is a rolling one.

        Args:
            made_for: for whom they are made where there are none yet; see `retire_made`.

        Raises:
            UsageError: the names cannot be those of a Service.
            RejectedError: there is an InferenceService of that name which is not ours, or Kubernetes refuses.
            UnreachableError: the API server does not answer.
        """
        wanted, *others = inference_service.render(model, version, self._options, namespace=self._namespace)
        live = self._live(model, version)
        if live is not None and "deletionTimestamp" in live["metadata"]:
            return Readiness(None, "the former servers of this version are still being deleted")
        if live is None or not holds(wanted, live):
            live = self._apply(INFERENCE_SERVICE, _marked(wanted, live, made_for))
            if not others:
                self._api.delete(POD_DISRUPTION_BUDGET, self._namespace, wanted["metadata"]["name"])
        for other in others:
            self._ensure_budget(other, live)
        return self._readiness(live, model, version)

    def standing(self, model: str, version: str) -> Readiness:
        """Tell whether the version's servers answer as they are; only where they do not they are made as `ensure` does.

        Who goes back wants the servers that were kept: a rolling change to today's options comes later, or never.

        Raises:
            UsageError, RejectedError, UnreachableError: see `ensure`.
        """
        live = self._live(model, version)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return self.ensure(model, version)
        # KServe's word outlives the pods, and a Deployment that is scaled to zero is well
        if _is_ready(live) and self._answers(live, model, version):
            return Readiness(True)
        return self.ensure(model, version)

    def keep(self, model: str, version: str) -> Readiness:
        """Do as `ensure`, but leave servers of which any answers as they were made, where what pods are made from
        would be other today: an operator that is upgraded, or new options, start none of a live release anew.

        Raises:
            UsageError, RejectedError, UnreachableError: see `ensure`.
        """
        live = self._live(model, version)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return self.ensure(model, version)
        wanted, *_ = inference_service.render(model, version, self._options, namespace=self._namespace)
        if _rendered(live) in (None, _rendered(wanted)):
            return self.ensure(model, version)  # what differs is somebody's edit, or starts no pods
        if not self._answers(live, model, version):
            return self.ensure(model, version)
        return self._readiness(live, model, version)

    def readiness(self, model: str, version: str) -> Readiness:
        """Tell how far the version's servers are, and change nothing.

        Raises:
            UsageError, RejectedError, UnreachableError: see `ensure`.
        """
        live = self._live(model, version)
        if live is None:
            return Readiness(False, f"there is no InferenceService {self._name(model, version)}")
        if "deletionTimestamp" in live["metadata"]:
            return Readiness(False, f"InferenceService {self._name(model, version)} is being deleted")
        return self._readiness(live, model, version)

    def answering(self, model: str, version: str) -> bool | None:
        """Whether any pod of the version is ready; None where none is wanted, as of one that is scaled to zero.

        KServe calls a version not ready where one of two pods is missing: that is no outage.

        Raises:
            UsageError, UnreachableError: see `ensure`.
        """
        if self._serverless(model):
            return None
        workload = self._api.get(DEPLOYMENT, self._namespace, naming.predictor(model, version))
        if workload is None:
            return False
        if workload.get("spec", {}).get("replicas", 1) == 0:
            return None
        return bool(workload.get("status", {}).get("readyReplicas"))

    def retire(self, model: str, version: str) -> None:
        """Take the version's servers away; fine where there are none.

        Raises:
            RejectedError: an HTTPRoute of the namespace still names them, whatever the weight: it would be refused as a
                whole when its Service goes. Or the InferenceService is not ours, or Kubernetes refuses.
            UsageError, UnreachableError: see `ensure`.
        """
        live = self._live(model, version)
        if live is None:
            return
        service = naming.predictor(model, version)
        routes = [
            r
            for r in self._api.all(HTTP_ROUTE, self._namespace).items
            if service in services(r, self._namespace)
        ]
        if routes:
            names = ", ".join(sorted(route["metadata"]["name"] for route in routes))
            raise RejectedError(
                f"InferenceService {self._name(model, version)}: HTTPRoute {names} still names its Service; move the "
                "traffic away first"
            )
        name = naming.inference_service(model, version)
        self._api.delete(INFERENCE_SERVICE, self._namespace, name, uid=live["metadata"]["uid"])
        self._api.delete(POD_DISRUPTION_BUDGET, self._namespace, name)

    def retire_made(self, model: str, version: str, of: Callable[[str], bool]) -> None:
        """Take the version's servers away if they were made for a release that had not begun, and for nobody else.

        What stood before any release asked for it may answer to people who never heard of releases; so may what
        somebody else declares as well, by another apply over ours.

        Args:
            of: whether those are meant that were made for whom it is told (`ensure`).

        Raises:
            UsageError, RejectedError, UnreachableError: see `retire`.
        """
        live = self._live(model, version)
        mark = None if live is None or _declared_by_others(live) else _mark(live)
        if mark is not None and of(mark):
            self.retire(model, version)

    def known(self, model: str) -> tuple[str, ...]:
        """The versions of which there are servers of their own, of whatever state.

        The one InferenceService that KServe's own backends have for all versions bears the model's label too, and no
        version's: it is none of them.

        Raises:
            RejectedError, UnreachableError: see `ensure`.
        """
        found = self._api.all(
            INFERENCE_SERVICE, self._namespace, labels=f"{naming.MODEL_LABEL}={model}", metadata_only=True
        )
        versions = (item["metadata"]["labels"].get(naming.VERSION_ANNOTATION) for item in found.items)
        return tuple(sorted(version for version in versions if version))

    def _live(self, model: str, version: str) -> Object | None:
        name = naming.inference_service(model, version)
        live = self._api.get(INFERENCE_SERVICE, self._namespace, name)
        if live is None:
            return None
        found = live["metadata"].get("labels", {})
        if {key: found.get(key) for key in (naming.MODEL_LABEL, naming.VERSION_ANNOTATION)} != {
            naming.MODEL_LABEL: model,
            naming.VERSION_ANNOTATION: version,
        }:
            raise RejectedError(
                f"InferenceService {self._name(model, version)} is not ours: its labels do not say {model} version "
                f"{version}; delete it or label it {naming.MODEL_LABEL}={model},{naming.VERSION_ANNOTATION}={version}"
            )
        return live

    def _ensure_budget(self, wanted: Object, owner: Object) -> None:
        """The budget goes with the InferenceService, whoever deletes that."""
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
        wanted = {**wanted, "metadata": {**wanted["metadata"], "ownerReferences": [reference]}}
        live = self._api.get(POD_DISRUPTION_BUDGET, self._namespace, wanted["metadata"]["name"])
        if live is None or not holds(wanted, live):
            self._apply(POD_DISRUPTION_BUDGET, wanted)

    def _apply(self, kind: Kind, wanted: Object) -> Object:
        content = {key: wanted[key] for key in ("metadata", "spec")}
        # once: a webhook that hangs would hold a turn for a minute, and the next one comes in seconds
        return self._api.apply(kind, self._namespace, wanted["metadata"]["name"], content, pauses=ONCE)

    def _serverless(self, model: str) -> bool:
        return self._options.of(model).mode == "Serverless"

    def _answers(self, live: Object, model: str, version: str) -> bool:
        """Whether anything of the version answers; of what Knative scales to zero KServe's word is all there is."""
        return _is_ready(live) if self._serverless(model) else bool(self.answering(model, version))

    def _readiness(self, live: Object, model: str, version: str) -> Readiness:
        name = naming.inference_service(model, version)
        conditions = live.get("status", {}).get("conditions", ())
        if _is_ready(live):
            kind = KNATIVE_SERVICE if self._serverless(model) else DEPLOYMENT
            workload = self._api.get(kind, self._namespace, naming.predictor(model, version))
            return readiness.of(live, workload, ())
        pods: Sequence[Object] = ()
        if conditions:
            pods = self._api.all(POD, self._namespace, labels=f"{POD_LABEL}={name}").items
        return readiness.of(live, None, pods)

    def _name(self, model: str, version: str) -> str:
        return f"{self._namespace}/{naming.inference_service(model, version)}"


def _is_ready(live: Object) -> bool:
    """KServe's word."""
    conditions = live.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _rendered(document: Object) -> str | None:
    """The digest of what its pods were made from."""
    annotations = document["spec"]["predictor"].get("annotations") or {}
    return annotations.get(inference_service.RENDERED)


def _marked(wanted: Object, live: Object | None, made_for: str | None) -> Object:
    mark = made_for if live is None else _mark(live)
    if mark is None:
        return wanted
    metadata = wanted["metadata"]
    return {
        **wanted,
        "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), MADE_FOR: mark}},
    }


def _mark(live: Object) -> str | None:
    return (live["metadata"].get("annotations") or {}).get(MADE_FOR)


def _declared_by_others(live: Object) -> bool:
    """Whether somebody else applies the object: by server-side apply, or as kubectl does without it."""
    metadata = live["metadata"]
    appliers = {
        each.get("manager")
        for each in metadata.get("managedFields") or ()
        if each.get("operation") == "Apply" and not each.get("subresource")
    }
    return bool(appliers - {FIELD_MANAGER}) or _LAST_APPLIED in (metadata.get("annotations") or {})


def holds(wanted: Any, live: Any) -> bool:
    """Whether what is live has all of what is wanted; fields that others added, and defaults, are no difference."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and holds(value, live[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(holds, wanted, live))
    return bool(wanted == live)


def services(route: Object, namespace: str) -> set[str]:
    """The Services of `namespace` that an HTTPRoute names: those that get traffic, that have weight 0, and mirrors."""
    found = set()
    for rule in route.get("spec", {}).get("rules", ()):
        filters = [
            *rule.get("filters", ()),
            *(f for ref in rule.get("backendRefs", ()) for f in ref.get("filters", ())),
        ]
        mirrors = [f["requestMirror"]["backendRef"] for f in filters if "requestMirror" in f]
        for ref in (*rule.get("backendRefs", ()), *mirrors):
            if ref.get("kind", "Service") == "Service" and ref.get("namespace", namespace) == namespace:
                found.add(ref["name"])
    return found
