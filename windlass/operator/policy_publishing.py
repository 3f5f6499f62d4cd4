"""RetrainPolicies from the API server to the trigger, and the trigger's word back into their status.

The trigger decides, with its journal on its disk; it need not speak to the API server to know its policies. So the
operator writes those that are accepted into one ConfigMap of the namespace, `windlass-retrain-policies`, which the
trigger mounts, and asks the trigger which of them is in force. The ConfigMap is owned by the policies that are in it:
where the last one is deleted while no operator runs, it goes with it.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from serving.release.cluster import serving_options
from serving.release.cluster.api import KubernetesApi
from serving.release.cluster.kinds import RETRAIN_POLICY, Kind
from serving.release.release import Release
from windlass.clock import Clock, SystemClock
from windlass.errors import UsageError
from windlass.operator import able
from windlass.operator.composition import Context
from windlass.operator.policies import Fault, Judged, Word, content, judge, no_fault, status_of
from windlass.operator.reconciler import Key, Object, Watched

CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
NAME = "windlass-retrain-policies"
LABELS = {"app.kubernetes.io/managed-by": "windlass", "app.kubernetes.io/part-of": "windlass"}
URL = "WINDLASS_RETRAIN_URL"
"""The trigger's address; `{namespace}` stands for the policies' namespace."""
LOOK_S = 30.0
"""How often the trigger is asked, while there are policies."""
ASK_S = 5.0


def publish(
    api: KubernetesApi, namespace: str, objects: Sequence[Object], fault: Fault = no_fault
) -> list[Judged]:
    """Judge the policies of a namespace and have the ConfigMap say what is accepted; written where it says another.

    Raises:
        UnreachableError, RejectedError.
    """
    live = api.get(CONFIG_MAP, namespace, NAME)
    published = dict((live or {}).get("data") or {})
    judged = judge(objects, published, fault)
    data = content(objects, judged, published)
    owners = _owners(objects, data)
    known = sorted((live or {}).get("metadata", {}).get("ownerReferences") or (), key=lambda o: str(o["uid"]))
    if (live is None and not data) or (live is not None and data == published and owners == known):
        return judged
    metadata = {"labels": LABELS, "ownerReferences": owners}
    api.apply(CONFIG_MAP, namespace, NAME, {"metadata": metadata, "data": data})
    return judged


def _owners(objects: Sequence[Object], data: Mapping[str, str]) -> list[dict[str, Any]]:
    owners = [
        {
            "apiVersion": RETRAIN_POLICY.api_version,
            "kind": RETRAIN_POLICY.kind,
            "name": body["metadata"]["name"],
            "uid": body["metadata"]["uid"],
        }
        for body in objects
        if f"{body['metadata']['name']}.yaml" in data
    ]
    return sorted(owners, key=lambda owner: owner["uid"])


def ask(url: str, *, timeout_s: float = ASK_S) -> Word | None:
    """The trigger's word, None where it does not answer, or not as the trigger does."""
    # a proxy for the outside world is never the way to it
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/policies", timeout=timeout_s) as answer:
            found = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return found if isinstance(found, dict) else None


class Policies:
    """A `Reconciler`; its keys are (namespace,).

    Args:
        word: asks the trigger of a namespace.
        fault: of what a retrained version's Release would be.
    """

    name = "policy"

    def __init__(
        self,
        api: KubernetesApi,
        word: Callable[[str], Word | None],
        clock: Clock | None = None,
        fault: Fault = no_fault,
    ) -> None:
        self._api = api
        self._word = word
        self._fault = fault
        self._clock = clock or SystemClock()
        self._known: dict[tuple[str, str], tuple[Any, ...]] = {}

    @property
    def watched(self) -> Sequence[Watched]:
        # a namespace that retrains nothing may lack the definition
        return (Watched(RETRAIN_POLICY, required=False),)

    def heard(self, kind: Kind, event: str | None, body: Object) -> Iterable[Key]:
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if event == "DELETED":
            self._known.pop((namespace, name), None)
            return [(namespace,)]
        # our own word about it, which a watch brings back, is no news
        news = (metadata["uid"], metadata.get("generation"), "deletionTimestamp" in metadata)
        before = self._known.get((namespace, name))
        self._known[namespace, name] = news
        return [] if news == before else [(namespace,)]

    def unfinished(self) -> Iterable[Key]:
        return ()  # of an object that is gone nothing is left

    def turn(self, key: Key) -> float | None:
        (namespace,) = key
        listed = self._api.all(RETRAIN_POLICY, namespace).items
        objects = [body for body in listed if "deletionTimestamp" not in body["metadata"]]
        judged = {one.name: one for one in publish(self._api, namespace, objects, self._fault)}
        if not objects:
            return None
        word, now = self._word(namespace), self._clock.now()
        for body in objects:
            name = body["metadata"]["name"]
            status = status_of(body, judged[name], word, now, self._fault)
            if status != body.get("status"):
                self._api.apply(RETRAIN_POLICY, namespace, name, {"status": status}, subresource="status")
        return LOOK_S

    def close(self) -> None:
        """Nothing is remembered: each turn reads everything anew."""


def policies(context: Context) -> Policies:
    """The reconciler of RetrainPolicies."""
    url = os.environ.get(URL, "")
    if url and not url.startswith(("http://", "https://")):
        raise UsageError(
            f"{URL}={url!r} is not an address; use for example http://windlass-retrain.{{namespace}}:8080"
        )
    settings = context.settings
    # `composition.releases` refuses an operator that has none
    options = None if settings.serving_options is None else serving_options.load(settings.serving_options)

    def fault(release: Release) -> str | None:
        payload = None if options is None else options.of(release.model).payload
        return able.fault(release, settings, logs=None if payload is None else payload.sender)

    return Policies(
        context.api,
        lambda namespace: ask(url.replace("{namespace}", namespace)) if url else None,
        fault=fault,
    )
