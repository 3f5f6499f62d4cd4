"""The reconciler of Releases: what is known of the objects, and one `ModelReleases` for each model with work to do."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from serving.release.cluster import conditions, naming
from serving.release.cluster.kinds import HTTP_ROUTE, RELEASE, Kind
from windlass.operator.model import ModelReleases
from windlass.operator.place import Place
from windlass.operator.reconciler import Key, Object, Watched
from windlass.operator.seen import Seen, newer, of_object

_OURS = ",".join(f"{key}={value}" for key, value in naming.MANAGED_BY.items())


class Objects:
    """The Release objects of all namespaces, as they were last seen; told by watches and by our own writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_model: dict[Key, dict[str, Seen]] = {}
        #: of objects that are gone: an answer to a write of ours may arrive after their end was told
        self._gone: deque[str] = deque(maxlen=1000)

    def learn(self, body: Object) -> Seen | None:
        """Take an object in; what it changes, None where it is nothing that matters, or nothing new."""
        seen = of_object(body)
        with self._lock:
            if seen.uid in self._gone:
                return None
            names = self._by_model.setdefault((seen.namespace, seen.model), {})
            before = names.get(seen.name)
            if before is not None and before.uid == seen.uid and not newer(seen, before):
                return None
            names[seen.name] = seen
            return None if before is not None and before.news == seen.news else seen

    def drop(self, seen: Seen) -> bool:
        """Forget an object that is gone, unless another one has its name; whether there was one."""
        key = (seen.namespace, seen.model)
        with self._lock:
            self._gone.append(seen.uid)
            names = self._by_model.get(key, {})
            if names.get(seen.name) is None or names[seen.name].uid != seen.uid:
                return False
            del names[seen.name]
            if not names:
                del self._by_model[key]
            return True

    def of(self, key: Key) -> list[Seen]:
        """A model's objects, the oldest first."""
        with self._lock:
            found = list(self._by_model.get(key, {}).values())
        return sorted(found, key=lambda seen: (seen.created, seen.name))

    def phases(self) -> dict[str, int]:
        """How many objects are in each phase."""
        with self._lock:
            return dict(
                Counter(
                    seen.phase or "Pending" for names in self._by_model.values() for seen in names.values()
                )
            )


class Releases:
    """A `Reconciler`; its keys are (namespace, model).

    Args:
        places: by namespace.
    """

    name = "release"

    def __init__(self, objects: Objects, places: Mapping[str, Place]) -> None:
        self._objects = objects
        self._places = places
        self._models: dict[Key, ModelReleases] = {}
        #: Models whose journal must be looked at although no object of theirs has work to do.
        self._unfinished: set[Key] = set()

    @property
    def watched(self) -> Sequence[Watched]:
        return (Watched(RELEASE), Watched(HTTP_ROUTE, _OURS, required=False))

    def heard(self, kind: Kind, event: str | None, body: Object) -> Iterable[Key]:
        if kind == HTTP_ROUTE:
            return self._route_changed(body)
        if event == "DELETED":
            seen = of_object(body)
            if seen.namespace in self._places:
                self._places[seen.namespace].teller.forget(seen)
            return [(seen.namespace, seen.model)] if self._objects.drop(seen) else []
        found = self._objects.learn(body)
        return [] if found is None else [(found.namespace, found.model)]

    def unfinished(self) -> Iterable[Key]:
        """The models whose newest release has no object: it may have gone while nobody led, finalizer and all, and its
        candidate would keep its traffic unwatched."""
        for namespace, place in self._places.items():
            newest = place.store.newest()
            if not newest:
                continue
            listed = place.api.all(RELEASE, namespace, metadata_only=True)
            names = {body["metadata"]["name"] for body in listed.items}
            self._unfinished |= {(namespace, model) for model, name in newest.items() if name not in names}
        return sorted(self._unfinished)

    def turn(self, key: Key) -> float | None:
        namespace, model = key
        found = self._models.get(key)
        if found is None:
            found = self._models[key] = ModelReleases(
                self._places[namespace], model, lambda: self._objects.of(key)
            )
        try:
            pause = found.turn(unfinished=key in self._unfinished)
            self._unfinished.discard(key)
            return pause
        finally:
            if found.idle:
                del self._models[key]

    def close(self) -> None:
        for found in list(self._models.values()):
            found.close()
        self._models.clear()
        self._unfinished.clear()
        for place in self._places.values():
            place.forget()

    def _route_changed(self, body: Object) -> Iterable[Key]:
        """Have the wire asked at a model's next look: at once where a controller's word is waited for, and that is soon
        enough for a route that somebody edited."""
        metadata = body["metadata"]
        model = (metadata.get("labels") or {}).get(naming.MODEL_LABEL)
        key = (metadata["namespace"], str(model))
        found = self._models.get(key)
        if found is not None:
            found.forget_the_wire()
            if found.awaits and conditions.spoken(body):
                return [key]
        return []
