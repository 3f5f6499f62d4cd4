"""The backend `gateway`: one InferenceService for each version, and one HTTPRoute of ours over their Services.

The InferenceServices bear the label `networking.kserve.io/visibility: cluster-local`, so that KServe makes no route.

A change is one server-side apply of the whole route; it is in force when the Gateway's controller has accepted that
very generation, which is found out by repeating the call. If it does not accept it in time, what it had accepted before
is applied again, because a route that a controller refused serves nobody; but a way back that nobody has refused stays
told. The Gateway API tells of the controller, not of the proxies: they follow within moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import conditions, http_route, naming, policy
from serving.release.cluster.api import (
    ENVOY_EXTENSION_POLICY,
    HTTP_ROUTE,
    ConflictError,
    KubernetesApi,
    Object,
)
from serving.release.cluster.script_trial import ScriptTrial
from serving.release.cluster.waiting import Patience, Trial
from serving.release.release import Gateway
from serving.release.traffic import Assignment, Traffic, undivided
from windlass.errors import UsageError, WindlassError

_ACCEPTED = ("Accepted", "ResolvedRefs")
#: How often a write is tried at once where somebody else has just written: a controller has conditions to write.
_TRIES = 3


@dataclass(frozen=True)
class _Before:
    """What is brought back where the controller does not take what it is told.

    Attributes:
        accepted: whether the controller had accepted it: a process that is gone may have told what nobody obeys.
    """

    route: Object | None
    script: Object | None
    accepted: bool


@dataclass
class _Told:
    """What a model's route was told to do, and is not known to do.

    Attributes:
        before: None until it was read.
        applied: whether all of it has been written.
    """

    traffic: Traffic
    trial: Trial
    before: _Before | None
    applied: bool = False


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
        self._script_trial = ScriptTrial(api, namespace, gateway)
        self._told: dict[str, _Told] = {}

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        """Put `traffic` in force, or leave what was before; see `TrafficBackend`. It does not wait."""
        reason = http_route.refusal(traffic, self._gateway)
        if reason is not None:
            raise RejectedError(f"model {model}: {reason}")
        try:
            http_route.manifest(model, self._namespace, traffic, self._gateway)
        except UsageError as error:
            raise RejectedError(str(error)) from error
        told = self._told.get(model)
        if told is None or told.traffic != traffic:
            # what was before a change that nobody confirmed is still what was in force last
            told = self._told[model] = _Told(
                traffic, Trial(self._patience), None if told is None else told.before
            )
        try:
            live = self._route(model)
            before = told.before = told.before or self._before(model, live)
            try:
                problem = told.trial.outcome(*self._answer(model, told, live))
            except RejectedError as error:
                problem = str(error)
        except UnreachableError:
            told.trial.begin()
            raise
        del self._told[model]
        if problem is None:
            return
        if told.applied and not told.trial.refused and undivided(traffic):
            said = "it stays told"  # a way back that is only late must not be undone
        elif told.applied and not before.accepted:
            said = "what was before is not known to be accepted, so this stays told"
        else:
            said = self._restore(model, before)
        raise RejectedError(f"HTTPRoute {self._namespace}/{naming.route(model)}: {problem}; {said}")

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
            if policy.read(script, naming.route(model)) != wanted:
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

    def _before(self, model: str, live: Object | None) -> _Before:
        script = self._policy(model)
        words = [conditions.of_policy(script)] if script is not None else []
        words += [self._word(live)] if live is not None else []
        return _Before(live, script, all(word.accepted for word in words))

    def _answer(self, model: str, told: _Told, live: Object | None) -> tuple[bool | None, str]:
        """Write it, unless that is done; whether it is in force."""
        if told.applied:
            return self._in_force(model, told.traffic, live)
        if told.traffic.assignment is not None:
            word = self._script(model, told.traffic.assignment)
            if word.accepted is not True:
                return word.accepted, word.reason
            # the script first: a bucket that no rule knows goes to the rule for everybody, while a rule for buckets
            # without a script would believe a header that a caller made up
            self._apply_policy(model, told.traffic.assignment)
        places = http_route.shape(live)
        content = http_route.manifest(model, self._namespace, told.traffic, self._gateway, kept=places)
        try:
            live = self._apply(model, content, live)
        except ConflictError as error:
            return None, str(error)
        if told.traffic.assignment is None and self._policy(model) is not None:
            self._api.delete(ENVOY_EXTENSION_POLICY, self._namespace, naming.route(model))
        told.applied = True
        return self._in_force(model, told.traffic, live)

    def _in_force(self, model: str, traffic: Traffic, route: Object | None) -> tuple[bool | None, str]:
        if route is None:
            return False, "somebody deleted it"
        script = self._policy(model)
        if self._read(route, script, model) != traffic:
            return False, "somebody else writes it: what is live is not what was applied; find out who"
        word = self._word(route)
        if word.accepted and script is not None:
            word = _of_script(conditions.of_policy(script))
        return word.accepted, word.reason

    def _script(self, model: str, assignment: Assignment) -> conditions.Word:
        """What the controller says of the script: the one that the route has, else of a trial."""
        live = self._policy(model)
        if policy.read(live, naming.route(model)) == (assignment.unit, assignment.salt) and live is not None:
            word = conditions.of_policy(live)
            if word.accepted:
                return word
        return _of_script(self._script_trial.word(model, assignment))

    def _apply(self, model: str, content: Mapping[str, Any], live: Object | None) -> Object:
        """Apply the route onto the version of it that was read, and no other; the route as it is then.

        Raises:
            ConflictError: somebody else wrote at every try.
            UnreachableError, RejectedError.
        """
        tries = _TRIES
        while True:
            metadata = dict(content["metadata"])
            if live is not None:
                metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
            try:
                return self._api.apply(
                    HTTP_ROUTE, self._namespace, naming.route(model), {**content, "metadata": metadata}
                )
            except ConflictError:
                tries -= 1
                if not tries:
                    raise
                live = self._route(model)

    def _apply_policy(self, model: str, assignment: Assignment) -> None:
        self._api.apply(
            ENVOY_EXTENSION_POLICY,
            self._namespace,
            naming.route(model),
            policy.manifest(model, assignment, naming.route(model)),
        )
        self._script_trial.end(model)

    def _restore(self, model: str, before: _Before) -> str:
        """Bring back what was before; says how that went."""
        name, script = naming.route(model), before.script
        try:
            if script is not None:
                self._api.apply(ENVOY_EXTENSION_POLICY, self._namespace, name, _content(script))
            if before.route is None:
                self._api.delete(HTTP_ROUTE, self._namespace, name)
            else:
                self._apply(model, _content(before.route), self._route(model))
            if script is None and self._gateway.extension is not None:
                self._api.delete(ENVOY_EXTENSION_POLICY, self._namespace, name)
            if self._gateway.extension is not None:
                self._script_trial.end(model)
        except WindlassError as error:
            return f"what was before could not be brought back ({error}): it must be looked at"
        if before.route is None:
            return "there was none before, so it is deleted"
        if not before.accepted:
            return "what was before is told again, and not known to be accepted"
        return "what was before is in force again"


def _of_script(word: conditions.Word) -> conditions.Word:
    if word.accepted is not False:
        return word
    remedy = "Envoy Gateway must be told extensionApis.enableLua: true"
    return conditions.Word(False, f"EnvoyExtensionPolicy: {word.reason}; {remedy}")


def _content(live: Object) -> dict[str, Any]:
    metadata = live["metadata"]
    kept = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
    return {"metadata": kept, "spec": live["spec"]}
