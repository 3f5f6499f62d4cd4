"""Whether the Gateway's controller takes an experiment's script, found out where nobody's request goes.

Envoy Gateway answers every request of a route by 500 while it refuses a policy of it, so a model's own route is no
place to find that out. The script is attached first to a route that exists for this alone: one path that nobody asks,
and no server behind it. What is left of a trial whose process ended is found by the next one, and goes with it.
"""

from __future__ import annotations

from typing import Any

from serving.release.cluster import conditions, naming, policy
from serving.release.cluster.api import ENVOY_EXTENSION_POLICY, HTTP_ROUTE, KubernetesApi
from serving.release.release import Gateway
from serving.release.traffic import Assignment


class ScriptTrial:
    """Tries scripts on one Gateway.

    Args:
        namespace: of the models' routes.
    """

    def __init__(self, api: KubernetesApi, namespace: str, gateway: Gateway) -> None:
        self._api = api
        self._namespace = namespace
        self._gateway = gateway

    def word(self, model: str, assignment: Assignment) -> conditions.Word:
        """What the controller says of the script; the first call begins the trial.

        Raises:
            UnreachableError, RejectedError.
        """
        name = naming.trial(model)
        live = self._api.get(ENVOY_EXTENSION_POLICY, self._namespace, name)
        if policy.read(live, name) != (assignment.unit, assignment.salt):
            self._api.apply(HTTP_ROUTE, self._namespace, name, self._route(model))
            written = policy.manifest(model, assignment, name)
            live = self._api.apply(ENVOY_EXTENSION_POLICY, self._namespace, name, written)
        assert live is not None  # noqa: S101 - None reads as no script
        return conditions.of_policy(live)

    def end(self, model: str) -> None:
        """Delete what the trial needed; nothing where there is none.

        Raises:
            UnreachableError, RejectedError.
        """
        for kind in (ENVOY_EXTENSION_POLICY, HTTP_ROUTE):
            self._api.delete(kind, self._namespace, naming.trial(model))

    def _route(self, model: str) -> dict[str, Any]:
        gateway = self._gateway
        parent = {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "name": gateway.name,
            "namespace": gateway.namespace or self._namespace,
        }
        path = {"type": "Exact", "value": f"/windlass/trial/{model}"}
        spec: dict[str, Any] = {"parentRefs": [parent], "rules": [{"matches": [{"path": path}]}]}
        if gateway.hostnames:
            spec["hostnames"] = list(gateway.hostnames)
        # no label of the model: it is not the model's route
        return {"metadata": {"labels": dict(naming.MANAGED_BY)}, "spec": spec}
