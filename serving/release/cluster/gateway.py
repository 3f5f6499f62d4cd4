"""The backend `gateway`: one InferenceService for each version, and one HTTPRoute of ours over their Services.

The InferenceServices bear the label `networking.kserve.io/visibility: cluster-local`, so that KServe makes no route.

A change is one server-side apply of the whole route; it is in force when the Gateway's controller has accepted that
very generation. If it does not, what was before is applied again, because a route that a controller refused serves
nobody. The Gateway API tells of the controller, not of the proxies: they follow within moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.release.backend import RejectedError
from serving.release.cluster import conditions, http_route, naming, policy
from serving.release.cluster.api import (
    ENVOY_EXTENSION_POLICY,
    HTTP_ROUTE,
    PAUSES,
    ConflictError,
    KubernetesApi,
    Object,
)
from serving.release.cluster.waiting import Patience
from serving.release.release import Gateway
from serving.release.traffic import Assignment, Traffic
from windlass.errors import UsageError, WindlassError

_ACCEPTED = ("Accepted", "ResolvedRefs")


class GatewayBackend:
    """A `TrafficBackend` over the Gateway API.

    Args:
        namespace: of the InferenceServices and of the route.
        gateway: whose routes are changed.
        patience: for the Gateway's controller.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, gateway: Gateway, *, patience: Patience | None = None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._gateway = gateway
        self._patience = patience or Patience()

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        """Put `traffic` in force, or leave what was before; see `TrafficBackend`."""
        reason = http_route.refusal(traffic, self._gateway)
        if reason is not None:
            raise RejectedError(f"model {model}: {reason}")
        try:
            content = http_route.manifest(model, self._namespace, traffic, self._gateway)
        except UsageError as error:
            raise RejectedError(str(error)) from error
        before, script_before = self._route(model), self._policy(model)
        try:
            # the script first: a bucket that no rule knows goes to the rule for everybody, while a rule for buckets
            # without a script would believe a header that a caller made up
            if traffic.assignment is not None:
                self._apply_policy(model, traffic.assignment)
            self._apply(model, content)
            if traffic.assignment is None and script_before is not None:
                self._api.delete(ENVOY_EXTENSION_POLICY, self._namespace, naming.route(model))
            problem = self._patience.until(lambda: self._in_force(model, traffic))
        except RejectedError as error:
            problem = str(error)
        if problem is not None:
            raise RejectedError(
                f"HTTPRoute {self._namespace}/{naming.route(model)}: {problem}; "
                f"{self._restore(model, before, script_before)}"
            )

    def traffic(self, model: str) -> Traffic | None:
        """What the live route does; a route that its controller refused, or that somebody edited into something
        that we never write, reads as no weights at all."""
        route = self._route(model)
        if route is None:
            return None
        script = self._policy(model)
        words = (self._word(route), conditions.of_policy(script) if script is not None else None)
        if any(word is not None and word.accepted is False for word in words):
            return http_route.FOREIGN
        return self._read(route, script, model)

    def _read(self, route: Object, script: Object | None, model: str) -> Traffic:
        found = http_route.read(route, model, self._gateway)
        if found.assignment is not None:
            wanted = (found.assignment.unit, found.assignment.salt)
            if policy.read(script, model) != wanted:
                return http_route.FOREIGN
        return found

    def _route(self, model: str) -> Object | None:
        return self._api.get(HTTP_ROUTE, self._namespace, naming.route(model))

    def _policy(self, model: str) -> Object | None:
        if self._gateway.extension is None:
            return None
        return self._api.get(ENVOY_EXTENSION_POLICY, self._namespace, naming.route(model))

    def _word(self, route: Object) -> conditions.Word:
        namespace = self._gateway.namespace or self._namespace
        return conditions.of_route(route, self._gateway.name, namespace, wanted=_ACCEPTED)

    def _in_force(self, model: str, traffic: Traffic) -> tuple[bool | None, str]:
        route = self._route(model)
        if route is None:
            return False, "somebody deleted it"
        script = self._policy(model)
        if self._read(route, script, model) != traffic:
            return False, "somebody else writes it: what is live is not what was applied; find out who"
        word = self._word(route)
        if word.accepted and script is not None:
            word = conditions.of_policy(script)
            if word.accepted is False:
                return False, (
                    f"EnvoyExtensionPolicy: {word.reason}; Envoy Gateway must be told extensionApis.enableLua: true"
                )
        return word.accepted, word.reason

    def _apply(self, model: str, content: Mapping[str, Any]) -> None:
        """Apply the route onto the version of it that is live now, and no other."""
        for pause in (*PAUSES, None):
            live = self._route(model)
            metadata = dict(content["metadata"])
            if live is not None:
                metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
            try:
                self._api.apply(
                    HTTP_ROUTE, self._namespace, naming.route(model), {**content, "metadata": metadata}
                )
                return
            except ConflictError:
                # a controller writes its conditions there too
                if pause is None:
                    raise
                self._patience.sleep(pause)

    def _apply_policy(self, model: str, assignment: Assignment) -> None:
        self._api.apply(
            ENVOY_EXTENSION_POLICY, self._namespace, naming.route(model), policy.manifest(model, assignment)
        )

    def _restore(self, model: str, before: Object | None, script: Object | None) -> str:
        """Bring back what was before; says how that went."""
        name = naming.route(model)
        try:
            if script is not None:
                self._api.apply(ENVOY_EXTENSION_POLICY, self._namespace, name, _content(script))
            if before is None:
                self._api.delete(HTTP_ROUTE, self._namespace, name)
            else:
                self._apply(model, _content(before))
            if script is None and self._gateway.extension is not None:
                self._api.delete(ENVOY_EXTENSION_POLICY, self._namespace, name)
        except WindlassError as error:
            return f"what was before could not be brought back ({error}): it must be looked at"
        return (
            "there was none before, so it is deleted"
            if before is None
            else "what was before is in force again"
        )


def _content(live: Object) -> dict[str, Any]:
    metadata = live["metadata"]
    kept = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
    return {"metadata": kept, "spec": live["spec"]}
