"""The releases of retrained candidates as custom resources: made through the API server, judged by the operator.

A Release is named by the trigger that it is of, so that whoever hands it over again, after whatever crash, finds it.
What is known of a release is its object's status; a person who deletes the object while it is judged takes its outcome
away, and closes the trigger with `--give-up`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitoring.retrain.following import Outcome
from serving.release import on_cluster
from serving.release.cluster.api import ConflictError, KubernetesApi, Object
from serving.release.cluster.kinds import RELEASE
from serving.release.cluster.naming import MODEL_LABEL
from serving.release.reading import SpecError
from serving.release.state import FINISHED

TRIGGER = "windlass.dev/trigger"
"""Label of a Release that a retraining made."""
TRANSLATED = "windlass.dev/translated"
"""Annotation of one whose plan was written for one machine: what is another here, and why."""
REFUSED = "Refused"
OVER: tuple[str, ...] = (*FINISHED, REFUSED)
FRESH_S = 2.0
"""A signal that is held is decided again every second, for each workload: the API server is asked less often."""


class Objects:
    """The Release objects of one namespace, as the API server last gave them; for the triggers of all its workloads."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        *,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self.namespace = namespace
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = threading.Lock()
        self._read: tuple[float, Sequence[Object]] | None = None

    def of(self, model: str) -> list[Object]:
        """Those of a model, the oldest first.

        Raises:
            UnreachableError, RejectedError: it cannot be known now; there may be some.
        """
        with self._lock:
            now = self._clock()
            if self._read is None or now - self._read[0] >= self._fresh_s:
                self._read = (now, self._api.all(RELEASE, self.namespace).items)
            found = [o for o in self._read[1] if (o.get("spec") or {}).get("model") == model]
        return sorted(found, key=lambda o: (o["metadata"]["creationTimestamp"], o["metadata"]["name"]))

    def create(self, document: Mapping[str, Any]) -> bool:
        """Create a Release; whether it was not there before.

        Raises:
            UnreachableError: it may be there all the same: look again.
            RejectedError.
        """
        try:
            self._api.create(RELEASE, self.namespace, document)
            return True
        except ConflictError:
            return False
        finally:
            with self._lock:
                self._read = None


class ClusterReleases:
    """Those of one model in one namespace."""

    def __init__(self, objects: Objects, model: str) -> None:
        self._objects = objects
        self._model = model

    def live(self) -> bool:
        return any(_phase(one) not in OVER for one in self._objects.of(self._model))

    def withdrawn(self) -> set[str]:
        gone: set[str] = set()
        ended = [one for one in self._objects.of(self._model) if _phase(one) in ("Promoted", "RolledBack")]
        for one in sorted(ended, key=lambda o: str(o["status"].get("finishedAt", ""))):
            if _phase(one) == "Promoted":
                gone -= set(_candidates(one))
            else:
                gone |= set(_candidates(one))
                gone.discard(str(one["status"].get("champion", "")))
        return gone

    def hand_over(self, document: dict[str, Any], trigger: str | None) -> dict[str, Any] | str | None:
        name = document["metadata"]["name"] if trigger is None else trigger.replace("_", "-").lower()
        try:
            stated, changes = on_cluster.planned(document)
        except SpecError as error:
            return f"its release cannot be meant on a cluster: {error}"
        labels = {MODEL_LABEL: self._model} | ({} if trigger is None else {TRIGGER: trigger})
        annotations = {"annotations": {TRANSLATED: "; ".join(changes)}} if changes else {}
        if not self._objects.create(
            {"metadata": {"name": name, "labels": labels, **annotations}, "spec": stated}
        ):
            return None
        return {"release": name, "namespace": self._objects.namespace, "backend": stated["backend"]}

    def outcome(self, version: str) -> tuple[bool, Outcome | None]:
        for one in reversed(self._objects.of(self._model)):
            if version not in _candidates(one):
                continue
            phase, status = _phase(one), one.get("status") or {}
            if phase not in OVER:
                return True, None
            weights = status.get("weights") or {}
            won = len(_candidates(one)) == 1 or weights.get(version, 0) > 0
            reason = (status.get("decision") or {}).get("reason") or status.get("message")
            why = f": {reason}" if reason else ""
            said = f"release {one['metadata']['name']}: {phase}{why}"
            return True, Outcome(phase == "Promoted" and won, said)
        return False, None


def told(document: Mapping[str, Any]) -> dict[str, Any]:
    """For who asks what the Release of a plan would be: `spec` without versions and `changes`, or `problem`."""
    try:
        stated, changes = on_cluster.planned(document)
    except SpecError as error:
        return {"problem": str(error)}
    versions = ("model", "candidate", "candidates", "champion")
    return {"spec": {k: v for k, v in stated.items() if k not in versions}, "changes": list(changes)}


def _phase(one: Object) -> str:
    return str((one.get("status") or {}).get("phase", ""))


def _candidates(one: Object) -> tuple[str, ...]:
    stated = one["spec"]
    return tuple(map(str, stated.get("candidates") or [stated.get("candidate")]))
