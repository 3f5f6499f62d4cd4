"""The backend `kserve`: the weights of KServe's own canaries, of one InferenceService for all of a model's versions.

`spec.canary[]` is KServe's since 0.20 (Standard mode): each entry a predictor with a name and a percentage, the stable
predictor gets the rest. What it does differs: 0.19 drops the field, 0.20 starts the canary's pods and sends them
nothing, 0.21 writes the weights into the HTTPRoute that is called like the InferenceService. So the HTTPRoute is
read back, and a canary that it does not serve is taken away again.

The stable predictor is replaced as seldom as can be: a promoted version first stays a canary with all the traffic, so
that going back is one percentage, and it becomes the stable one when the next release needs the canary's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import naming
from serving.release.cluster.api import HTTP_ROUTE, INFERENCE_SERVICE, KubernetesApi, Object
from serving.release.cluster.http_route import FOREIGN
from serving.release.cluster.waiting import Patience, Trial
from serving.release.traffic import Traffic, undivided
from windlass.errors import WindlassError

Predictors = Callable[[str, str], Mapping[str, Any]]
"""model, version -> the `predictor` of an InferenceService that serves it (without name and canaryTrafficPercent)."""

Document = dict[str, Any]

_CONTAINER = "kserve-container"
_SCALING = frozenset({"minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"})


@dataclass(frozen=True)
class _Told:
    """What an InferenceService was told, and KServe does not do yet.

    Attributes:
        before: as it was confirmed last; None where that is not known.
        dropped: why KServe will never do it.
    """

    traffic: Traffic
    before: Object | None
    dropped: str | None
    trial: Trial


class KServeBackend:
    """A `TrafficBackend` over `spec.canary[]`; two versions, weights alone.

    Args:
        namespace: of the InferenceServices, which are called like the models.
        predictors: how a version is served.
        patience: for KServe's controller, which starts the canary's pods first.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, predictors: Predictors, *, patience: Patience | None = None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._predictors = predictors
        self._patience = patience or Patience(within_s=120.0)
        self._told: dict[str, _Told] = {}

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        """Put `traffic` in force, or leave what was before; see `TrafficBackend`. It does not wait."""
        weights = two_weights(model, traffic, "KServe's spec.canary")
        told = self._told.get(model)
        if told is None or told.traffic != traffic:
            told = self._told[model] = self._tell(model, traffic, weights, told)
        try:
            problem = told.dropped or told.trial.outcome(*self._in_force(model, Traffic(weights)))
        except UnreachableError:
            told.trial.begin()
            raise
        del self._told[model]
        if problem is not None:
            raise RejectedError(f"{problem}; {self._after(model, told)}")

    def _tell(self, model: str, traffic: Traffic, weights: Mapping[str, int], former: _Told | None) -> _Told:
        before: list[Object] = []

        def change(live: Object) -> Object:
            if live["spec"].get("transformer"):
                raise RejectedError(
                    f"InferenceService {self._namespace}/{model} has a transformer, and KServe's canary weights do not "
                    "reach the predictor behind one; use backend gateway"
                )
            before.append(live)
            return self._changed(model, live, weights)

        written = self._api.update(INFERENCE_SERVICE, self._namespace, model, change)
        if written is None:
            raise RejectedError(
                f"InferenceService {self._namespace}/{model} does not exist; create it with the champion, or use "
                "backend gateway"
            )
        # what was before a change that nobody confirmed is still what was in force last
        kept = self._confirmed(model, before[-1]) if former is None else former.before
        return _Told(traffic, kept, self._dropped(model, written, weights), Trial(self._patience))

    def _confirmed(self, model: str, live: Object) -> Object | None:
        """It, if KServe does what it says: a process that is gone may have told canaries that get nothing."""
        canaries = live["spec"].get("canary")
        if not canaries:
            return live
        shares = {entry["predictor"]["name"]: entry["trafficPercent"] for entry in canaries}
        stable = _stable(live)
        weights = {name.removeprefix("v"): int(share) for name, share in shares.items()}
        weights[str(stable)] = 100 - sum(weights.values())
        route = self._api.get(HTTP_ROUTE, self._namespace, model)
        says = Traffic({version: weight for version, weight in weights.items() if weight})
        return live if route is not None and read_route(route, model, stable) == says else None

    def traffic(self, model: str) -> Traffic | None:
        """What the HTTPRoute does that KServe made; rules that disagree read as no weights at all."""
        route = self._api.get(HTTP_ROUTE, self._namespace, model)
        service = None if route is None else self._api.get(INFERENCE_SERVICE, self._namespace, model)
        if route is None or service is None:
            return None
        return read_route(route, model, _stable(service))

    def _changed(self, model: str, live: Object, weights: Mapping[str, int]) -> Object:
        stable = _stable(live)
        spec = {key: value for key, value in live["spec"].items() if key != "canary"}
        if stable not in weights and len(weights) == 2:
            # the place of the canary is needed: who answers now becomes the stable one, without a restart
            canaries = {entry["predictor"]["name"] for entry in live["spec"].get("canary", ())}
            stable = max(weights, key=lambda version: (naming.canary(version) in canaries, weights[version]))
            spec["predictor"] = {**self._predictors(model, stable), "name": naming.canary(stable)}
        entries = [
            {"predictor": self._canary(model, version), "trafficPercent": weight}
            for version, weight in weights.items()
            if version != stable
        ]
        return {**live, "spec": {**spec, "canary": entries} if entries else spec}

    def _canary(self, model: str, version: str) -> Document:
        """A canary has no scaling of its own: KServe refuses that, and derives its replicas from the percentage."""
        predictor = self._predictors(model, version)
        kept = {key: value for key, value in predictor.items() if key not in _SCALING}
        if "model" in kept:
            # the CRD asks for the container's name here, although not in the stable predictor
            kept["model"] = {"name": _CONTAINER, **kept["model"]}
        return {**kept, "name": naming.canary(version)}

    def _dropped(self, model: str, written: Object, weights: Mapping[str, int]) -> str | None:
        if set(weights) == {_stable(written)} or written["spec"].get("canary"):
            return None
        return (
            f"the API server dropped spec.canary of InferenceService {self._namespace}/{model}: KServe 0.19 or older; "
            "use 0.21 or backend gateway"
        )

    def _in_force(self, model: str, traffic: Traffic) -> tuple[bool | None, str]:
        where = f"HTTPRoute {self._namespace}/{model}"
        found = self.traffic(model)
        if found is None:
            return (
                None,
                f"KServe has made no {where}; it makes one with Gateway API on and without cluster-local",
            )
        if found == traffic:
            return True, ""
        service = self._api.get(INFERENCE_SERVICE, self._namespace, model)
        stable = None if service is None else _stable(service)
        silent = [
            v for v, weight in traffic.weights.items() if weight and v != stable and v not in found.weights
        ]
        if silent and found.weights:
            return None, (
                f"KServe took spec.canary but the {where} sends no traffic to the canary "
                f"(version {', '.join(silent)}): KServe 0.20 does that; use 0.21 or backend gateway"
            )
        return None, f"the {where} says {dict(found.weights)}, not {dict(traffic.weights)}"

    def _after(self, model: str, told: _Told) -> str:
        """Bring back what was before, where that is known and better; says what is told now."""
        if told.dropped is None and undivided(told.traffic):
            # a way back that is only late must not be undone
            return "it stays told"
        if told.before is None:
            return "what was before is not known, so this stays told"
        return self._restore(model, told.before)

    def _restore(self, model: str, before: Object) -> str:
        def back(live: Object) -> Object:
            kept = {key: value for key, value in live["spec"].items() if key not in ("predictor", "canary")}
            told = {key: before["spec"][key] for key in ("predictor", "canary") if key in before["spec"]}
            return {**live, "spec": {**kept, **told}}

        try:
            self._api.update(INFERENCE_SERVICE, self._namespace, model, back)
        except WindlassError as error:
            return f"what was before could not be brought back ({error}): it must be looked at"
        return "what was before is told again"


def two_weights(model: str, traffic: Traffic, what: str) -> Mapping[str, int]:
    """The weights, where they are all there is to say.

    Raises:
        RejectedError: they are not.
    """
    asked = {
        "mirroring": traffic.mirror_to is not None,
        "matches": bool(traffic.matches),
        "assignment": traffic.assignment is not None,
        "segments": traffic.segments is not None,
        "three versions": sum(1 for weight in traffic.weights.values() if weight) > 2,
        f"weights {dict(traffic.weights)}": sum(traffic.weights.values()) != 100,
    }
    wrong = [name for name, is_asked in asked.items() if is_asked]
    if wrong:
        raise RejectedError(f"model {model}: {what} cannot do {', '.join(wrong)}; use backend gateway")
    return {version: weight for version, weight in traffic.weights.items() if weight}


def read_route(route: Object, model: str, stable: str | None) -> Traffic:
    """Weights of a route that KServe made, the same in each of its rules; `FOREIGN` where they are not.

    Args:
        stable: version of the Service `<model>-predictor`, which KServe names after none.
    """
    found: list[dict[str, int]] = []
    for rule in route["spec"].get("rules", ()):
        weights: dict[str, int] = {}
        for ref in rule.get("backendRefs", ()):
            if ref["name"] == f"{model}-predictor":
                version = stable
            else:
                version = (naming.version_of(model, ref["name"]) or "").removeprefix("v") or None
            if version is None:
                return FOREIGN
            weights[version] = weights.get(version, 0) + int(ref.get("weight", 1))
        found.append(weights)
    if not found or any(weights != found[0] for weights in found[1:]):
        return FOREIGN
    total = sum(found[0].values())
    if total == 0 or any(weight * 100 % total for weight in found[0].values()):
        return FOREIGN
    return Traffic({version: weight * 100 // total for version, weight in found[0].items() if weight})


def _stable(service: Object) -> str | None:
    """The version of the stable predictor: its name says it, or an annotation where it has none."""
    name: str | None = service["spec"]["predictor"].get("name")
    if name:
        return name.removeprefix("v")
    version: str | None = service["metadata"].get("annotations", {}).get(naming.VERSION_ANNOTATION)
    return version
