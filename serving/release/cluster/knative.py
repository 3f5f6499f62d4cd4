"""The backend `knative`: `canaryTrafficPercent` on one InferenceService in Knative (Serverless) mode.

KServe splits between the latest revision and the one that was last rolled out to everybody, and no others. A version is
put into the InferenceService with an annotation that says which; Knative copies it into the revision, so that a
revision on the wire says what it serves, and the split is read back by revision.

A new version starts with 0 percent and gets its share when its revision is ready: until then KServe's percentage
belongs to the *former* latest revision, which may be the bad one of an aborted release. So no percentage is written
before the version in the spec is the latest one that is ready, whoever put it there and whenever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import naming
from serving.release.cluster.api import INFERENCE_SERVICE, REVISION, KubernetesApi, Object
from serving.release.cluster.http_route import FOREIGN
from serving.release.cluster.kserve import Predictors, two_weights
from serving.release.cluster.waiting import Patience, Trial
from serving.release.traffic import Traffic, undivided

_MODE = "serving.kserve.io/deploymentMode"
_PERCENT = "canaryTrafficPercent"


@dataclass(frozen=True)
class Revisions:
    """Which versions KServe can split between.

    Attributes:
        latest: version in the spec.
        rolled_out: version that last had everything; it gets what the latest does not.
        previous: the one before, which KServe goes back to when the latest is the rolled-out one and loses traffic.
    """

    latest: str | None
    rolled_out: str | None
    previous: str | None

    @property
    def other(self) -> str | None:
        """Who gets what the latest does not."""
        return self.previous if self.rolled_out == self.latest else self.rolled_out


@dataclass(frozen=True)
class Plan:
    """How weights are reached.

    Attributes:
        replace: version to put into the spec first, without traffic; None where the latest one stays.
        percent: of the latest revision, in the end.
    """

    replace: str | None
    percent: int


@dataclass(frozen=True)
class _Before:
    """The percentage of the latest revision; None where the field is not there."""

    percent: int | None


@dataclass
class _Told:
    """What an InferenceService was told, and Knative does not do yet.

    Attributes:
        latest: version in the spec, whose percentage it is.
        before: the percentage as it was last in force; None where that is not known.
        given: whether it has its new percentage; before that, its revision gets ready.
        problem: why Knative does not do it; the percentage is then to be put back.
    """

    traffic: Traffic
    plan: Plan
    latest: str | None
    before: _Before | None
    trial: Trial
    given: bool = False
    problem: str | None = None


class KnativeBackend:
    """A `TrafficBackend` over `canaryTrafficPercent`; two versions, weights alone.

    Args:
        namespace: of the InferenceServices, which are called like the models.
        predictors: how a version is served.
        patience: for Knative, which starts a revision's pods first.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, predictors: Predictors, *, patience: Patience | None = None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._predictors = predictors
        self._patience = patience or Patience(within_s=300.0)
        self._versions: dict[str, str | None] = {}  # a revision never changes
        self._told: dict[str, _Told] = {}

    def set_traffic(self, model: str, traffic: Traffic) -> None:
        """Put `traffic` in force; see `TrafficBackend`. It does not wait. A new revision that does not come up keeps 0
        percent."""
        weights = two_weights(model, traffic, _PERCENT)
        told = self._told.get(model)
        if told is None or told.traffic != traffic:
            told = self._told[model] = self._begin(model, traffic, weights, told)
        try:
            self._go_on(model, told, Traffic(weights))
        except UnreachableError:
            told.trial.begin()
            raise
        except RejectedError:
            del self._told[model]
            raise
        del self._told[model]

    def _begin(self, model: str, traffic: Traffic, weights: Mapping[str, int], former: _Told | None) -> _Told:
        """Put a new version into the spec where one is needed."""
        live = self._service(model)
        if live is None:
            raise RejectedError(
                f"InferenceService {self._namespace}/{model} does not exist; create it with the champion"
            )
        mode = (
            live["metadata"].get("annotations", {}).get(_MODE, live.get("status", {}).get("deploymentMode"))
        )
        if mode not in (None, "Serverless", "Knative"):
            raise RejectedError(
                f"InferenceService {self._namespace}/{model} runs in {mode} mode, where KServe ignores {_PERCENT}; "
                "use backend gateway"
            )
        revisions = self._revisions(live)
        decided = plan(model, revisions, weights)
        if decided.replace is not None:
            self._replace(model, decided.replace)
            before: _Before | None = _Before(0)
        elif former is not None:  # and not confirmed: what it was before that one
            before = former.before
        else:
            before = self._before(model, live, revisions)
        return _Told(traffic, decided, decided.replace or revisions.latest, before, Trial(self._patience))

    def _before(self, model: str, live: Object, revisions: Revisions) -> _Before | None:
        """The percentage that is there, if Knative does it: a process that is gone may have told what nobody obeys."""
        percent = live["spec"]["predictor"].get(_PERCENT)
        found = self.traffic(model)
        share = None if found is None else found.weights.get(str(revisions.latest), 0)
        return _Before(percent) if share == (100 if percent is None else percent) else None

    def _go_on(self, model: str, told: _Told, wanted: Traffic) -> None:
        """As far as it gets without waiting.

        Raises:
            UnconfirmedError: not to the end.
            RejectedError: Knative does not do it; its percentage is put back.
        """
        where = f"InferenceService {self._namespace}/{model}"
        if told.problem is None:
            if not told.given:
                if told.plan.percent:
                    problem = told.trial.outcome(*self._ready(model, str(told.latest)))
                    if problem is not None:
                        raise RejectedError(f"{where}: {problem}; it is given no traffic")
                self._give(model, told.plan.percent)
                told.given = True
                told.trial.begin()
            told.problem = told.trial.outcome(*self._in_force(model, wanted))
        if told.problem is not None:
            raise RejectedError(f"{where}: {told.problem}; {self._put_back(model, told)}")

    def _put_back(self, model: str, told: _Told) -> str:
        """Bring back the percentage as it was; says what is told now."""
        if undivided(told.traffic):
            # a way back that is only late must not be undone
            return "it stays told"
        if told.before is None:
            return "what was before is not known, so it stays told"
        self._give(model, told.before.percent)
        return "its percentage is put back"

    def traffic(self, model: str) -> Traffic | None:
        """What Knative does (`status.components.predictor.traffic`); a revision without our annotation stands under
        its own name."""
        live = self._service(model)
        targets = [] if live is None else _status(live).get("traffic") or []
        if not targets:
            return None
        weights: dict[str, int] = {}
        for target in targets:
            if not target.get("percent"):
                continue
            revision = target["revisionName"]
            version = self._version(revision) or revision
            weights[version] = weights.get(version, 0) + int(target["percent"])
        return Traffic(weights) if sum(weights.values()) == 100 else FOREIGN

    def _replace(self, model: str, version: str) -> None:
        """Put `version` into the spec without traffic."""

        def change(live: Object) -> Object:
            annotations = {**live["metadata"].get("annotations", {}), naming.VERSION_ANNOTATION: version}
            predictor = {**self._predictors(model, version), _PERCENT: 0}
            return {
                **live,
                "metadata": {**live["metadata"], "annotations": annotations},
                "spec": {**live["spec"], "predictor": predictor},
            }

        self._api.update(INFERENCE_SERVICE, self._namespace, model, change)

    def _ready(self, model: str, version: str) -> tuple[bool | None, str]:
        live = self._service(model)
        revision = None if live is None else _status(live).get("latestReadyRevision")
        if revision is not None and self._version(revision) == version:
            return True, ""
        return None, f"the revision of version {version} is not ready (the latest ready one is {revision})"

    def _give(self, model: str, percent: int | None) -> None:
        """Set the percentage of the latest revision; None takes the field away."""

        def change(live: Object) -> Object:
            predictor = {key: value for key, value in live["spec"]["predictor"].items() if key != _PERCENT}
            if percent is not None:
                predictor[_PERCENT] = percent
            return {**live, "spec": {**live["spec"], "predictor": predictor}}

        self._api.update(INFERENCE_SERVICE, self._namespace, model, change)

    def _in_force(self, model: str, traffic: Traffic) -> tuple[bool | None, str]:
        found = self.traffic(model)
        if found == traffic:
            return True, ""
        said = "nothing" if found is None else dict(found.weights)
        return None, f"Knative says {said}, not {dict(traffic.weights)}"

    def _service(self, model: str) -> Object | None:
        return self._api.get(INFERENCE_SERVICE, self._namespace, model)

    def _revisions(self, live: Object) -> Revisions:
        status = _status(live)
        return Revisions(
            latest=live["metadata"].get("annotations", {}).get(naming.VERSION_ANNOTATION),
            rolled_out=self._version(status.get("latestRolledoutRevision")),
            previous=self._version(status.get("previousRolledoutRevision")),
        )

    def _version(self, revision: str | None) -> str | None:
        if not revision:
            return None
        if revision not in self._versions:
            found = self._api.get(REVISION, self._namespace, revision)
            if found is None:
                return None
            self._versions[revision] = found["metadata"].get("annotations", {}).get(naming.VERSION_ANNOTATION)
        return self._versions[revision]


def plan(model: str, revisions: Revisions, weights: Mapping[str, int]) -> Plan:
    """How to get to `weights` (one or two versions, summing to 100) from the revisions that there are.

    Raises:
        RejectedError: KServe cannot split so.
    """
    latest, other = revisions.latest, revisions.other
    if set(weights) <= {latest, other}:
        return Plan(None, weights.get(str(latest), 0))
    kept = revisions.rolled_out
    new = [version for version in weights if version != kept]
    if len(new) == 1 and new[0] != latest:
        return Plan(new[0], weights[new[0]])
    raise RejectedError(
        f"model {model}: KServe splits between the latest revision (version {latest}) and the last that had "
        f"everything (version {kept}), not {dict(weights)}; give one of them everything first, or use backend gateway"
    )


def _status(live: Object) -> Object:
    found: Object = live.get("status", {}).get("components", {}).get("predictor", {})
    return found
