"""The door to the Kubernetes API: objects read, listed, watched, written and deleted; what went wrong said plainly.

Answers are told apart by what a caller can do about them: the API server is not there (`UnreachableError`: try again),
it refused (`RejectedError`: say why), somebody else wrote meanwhile (`ConflictError`: read again), it has forgotten
(`ExpiredError`: list again). `connection.py` has what goes over the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import answers, connection
from serving.release.cluster.answers import PASSING, Change, ConflictError, ExpiredError, Object
from serving.release.cluster.connection import JSON, Connection
from serving.release.cluster.kinds import (
    ENVOY_EXTENSION_POLICY,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    REVISION,
    Kind,
)

__all__ = [
    "APPLY",
    "ENVOY_EXTENSION_POLICY",
    "FIELD_MANAGER",
    "HTTP_ROUTE",
    "INFERENCE_SERVICE",
    "MERGE",
    "ONCE",
    "PAUSES",
    "REVISION",
    "Change",
    "ConflictError",
    "ExpiredError",
    "Kind",
    "KubernetesApi",
    "Listing",
    "Object",
    "difference",
]

#: Who we are in `metadata.managedFields`.
FIELD_MANAGER = "windlass-release"

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"

#: An answer without spec and status, and a list of such; a server that cannot do it sends all.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

#: Pauses before the second and every further try, in seconds; no jitter: one engine writes, not a herd.
PAUSES = (0.2, 0.4, 0.8, 1.6)
#: The pauses of what must not be repeated without a look in between.
ONCE: tuple[float, ...] = ()

#: How often a list is begun again that expired half-way.
_LISTS = 3


@dataclass(frozen=True)
class Listing:
    """Objects of a kind as they were together, and the version to watch from."""

    items: Sequence[Object]
    version: str


class KubernetesApi:
    """One API server.

    Args:
        client: a `kubernetes.client.ApiClient` that knows address and credentials.
        timeout_s: longest wait for a connection, and for its answer.
        sleep: waits so many seconds; tests give one that does not.
    """

    def __init__(
        self, client: Any, *, timeout_s: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._sleep = sleep

    def within(self, timeout_s: float) -> KubernetesApi:
        """The same API server, asked by somebody who waits so long for each answer."""
        return KubernetesApi(self._client, timeout_s=timeout_s, sleep=self._sleep)

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        context: str | None = None,
        timeout_s: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
        connections: int | None = None,
    ) -> KubernetesApi:
        """The cluster that we run in, or that of `kubeconfig` (or of KUBECONFIG and ~/.kube/config outside of one).

        Args:
            connections: most that are kept open between requests: where more threads ask at a time, some of them make
                a new one for each request; None for a few.

        Raises:
            UsageError: neither is there.
        """
        found = connection.client(kubeconfig, context=context, connections=connections)
        return cls(found, timeout_s=timeout_s, sleep=sleep)

    def get(
        self, kind: Kind, namespace: str, name: str, *, pauses: Sequence[float] = PAUSES
    ) -> Object | None:
        """The object, None where there is none (or no such kind).

        Args:
            pauses: between tries while the API server does not answer.

        Raises:
            UnreachableError, RejectedError.
        """
        return self._request("GET", kind, namespace, name, pauses=pauses)

    def all(
        self,
        kind: Kind,
        namespace: str,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 500,
        metadata_only: bool = False,
        kept: Callable[[Object], Object] = lambda found: found,
    ) -> Listing:
        """All objects of a kind, read page by page, as they were at one moment.

        Args:
            labels: a label selector; empty for all.
            fields: a field selector; empty for all.
            limit: objects in one page.
            metadata_only: spec and status stay where they are.
            kept: what is kept of an object; the memory of all pages together is what this makes of it.

        Raises:
            RejectedError: there is no such kind (an empty list would say that there is nothing to do), or no right.
            UnreachableError: no answer, or the pages expired each time.
        """
        accept = METADATA_LIST if metadata_only else JSON
        for _ in range(_LISTS):
            items: list[Object] = []
            query = [("limit", str(limit))] + ([("labelSelector", labels)] if labels else [])
            query += [("fieldSelector", fields)] if fields else []
            try:
                while True:
                    page = self._request("GET", kind, namespace, query=query, accept=accept, expires=True)
                    if page is None:
                        raise _unknown(kind, namespace)
                    items += map(kept, page.get("items") or ())
                    metadata = page["metadata"]
                    if not metadata.get("continue"):
                        return Listing(items, str(metadata["resourceVersion"]))
                    query = [("continue", metadata["continue"])] + [q for q in query if q[0] != "continue"]
            except ExpiredError as error:
                expired = error
        raise UnreachableError(f"{expired} (at each of {_LISTS} tries)")

    def watch(
        self, kind: Kind, namespace: str, version: str, *, timeout_s: float = 300.0, labels: str = ""
    ) -> Iterator[Change]:
        """What happens to objects of a kind after `version`, until the server's time for it is over.

        The caller goes on from the last change's version. The server is told to end the watch after `timeout_s`; a
        connection that died without a word is noticed `KubernetesApi.timeout_s` later.

        Raises:
            ExpiredError: that version is forgotten; list again.
            UnreachableError, RejectedError.
        """
        what = kind.named(namespace)
        query = [
            ("watch", "true"),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(max(1, round(timeout_s)))),
        ]
        path = kind.path(namespace)
        query += [("labelSelector", labels)] if labels else []
        for line in Connection(self._client, self._timeout_s).lines(path, query, timeout_s):
            if isinstance(line, int):
                raise _unknown(kind, namespace)
            yield answers.change(what, line)

    def create(
        self,
        kind: Kind,
        namespace: str,
        content: Mapping[str, Any],
        *,
        pauses: Sequence[float] = ONCE,
        dry_run: bool = False,
    ) -> Object:
        """Create an object; `content` carries its name.

        Not repeated by itself: where an answer was lost, the second try would meet the first one's object.

        Args:
            dry_run: only have it judged, by definitions, rights and webhooks; nothing is written.

        Raises:
            ConflictError: there is one of that name.
            UnreachableError: no answer; it may be there all the same.
            RejectedError.
        """
        name = content["metadata"]["name"]
        metadata = {**content["metadata"], "namespace": namespace}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **content, "metadata": metadata}
        query = [*_BY_US, ("dryRun", "All")] if dry_run else _BY_US
        created = self._request("POST", kind, namespace, body=body, query=query, pauses=pauses, about=name)
        if created is None:
            raise _unknown(kind, namespace, name)
        return created

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        version: str | None = None,
        metadata_only: bool = False,
        pauses: Sequence[float] = ONCE,
    ) -> Object | None:
        """Carry JSON patch operations (RFC 6902) out, all or none; None where there is no such object.

        Args:
            version: the object's resourceVersion that they are meant for; None for whatever is there.
            metadata_only: return no spec and status.
            pauses: between tries; by itself it is tried once, since most operations must not be repeated blindly.

        Raises:
            ConflictError: the object has another version.
            UnreachableError: no answer; it may have happened all the same.
            RejectedError: an operation cannot be carried out, or its outcome is no such object.
        """
        body = list(operations)
        if version is not None:
            # a `test` that fails is refused as any other bad patch is; this is told as the conflict it is
            body.insert(0, {"op": "replace", "path": "/metadata/resourceVersion", "value": version})
        return self._request(
            "PATCH",
            kind,
            namespace,
            name,
            body=body,
            content_type=PATCH,
            accept=METADATA if metadata_only else JSON,
            query=_BY_US,
            pauses=pauses,
        )

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        content: Mapping[str, Any],
        *,
        subresource: str = "",
        pauses: Sequence[float] = PAUSES,
    ) -> Object:
        """Make the fields in `content` (metadata, spec) so, and ours; those that we gave up go, others' stay.

        Server-side apply with force: a field that somebody edited by hand is taken back. Where `content` carries
        `metadata.resourceVersion`, it holds for that version alone.

        Args:
            subresource: `status`, to write that and nothing else of an object that exists.
            pauses: between tries while nobody answers.

        Raises:
            ConflictError: the object has another resourceVersion.
            UnreachableError, RejectedError.
        """
        metadata = {**content.get("metadata", {}), "name": name, "namespace": namespace}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **content, "metadata": metadata}
        applied = self._request(
            "PATCH",
            kind,
            namespace,
            name,
            subresource=subresource,
            body=body,
            content_type=APPLY,
            query=[*_BY_US, ("force", "true")],
            pauses=pauses,
        )
        if applied is None and subresource:
            raise RejectedError(f"{kind.named(namespace, name)}: it is gone, and its {subresource} with it")
        if applied is None:
            raise _unknown(kind, namespace, name)
        return applied

    def update(
        self, kind: Kind, namespace: str, name: str, change: Callable[[Object], Object]
    ) -> Object | None:
        """Read the object, ask `change` what it should be, and write the difference onto what was read only.

        `change` is asked again where somebody wrote meanwhile, and must not touch what it is given. Returns the
        object; None where there is none.

        Raises:
            ConflictError: somebody wrote at every try.
            UnreachableError, RejectedError.
        """
        for pause in (*PAUSES, None):
            live = self.get(kind, namespace, name)
            patch = {} if live is None else difference(live, change(live))
            if live is None or not patch:
                return live
            metadata = {**patch.get("metadata", {}), "resourceVersion": live["metadata"]["resourceVersion"]}
            try:
                return self._request(
                    "PATCH",
                    kind,
                    namespace,
                    name,
                    body={**patch, "metadata": metadata},
                    content_type=MERGE,
                    query=_BY_US,
                )
            except ConflictError:
                if pause is None:
                    raise
                self._sleep(pause)
        raise AssertionError("the last try returns or raises")

    def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete the object; one that is gone already is fine.

        Args:
            uid: of the very object that is meant; another one of the name stays.

        Raises:
            ConflictError: another one has the name.
            UnreachableError, RejectedError.
        """
        body = None if uid is None else {"preconditions": {"uid": uid}}
        self._request("DELETE", kind, namespace, name, body=body)

    def _request(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str = "",
        *,
        subresource: str = "",
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        query: Sequence[tuple[str, str]] = (),
        pauses: Sequence[float] = PAUSES,
        expires: bool = False,
        about: str = "",
    ) -> Object | None:
        what, path = kind.named(namespace, about or name), kind.path(namespace, name, subresource)
        problem = ""
        for pause in (*pauses, None):
            try:
                status, content = self._send(method, path, body, content_type, accept, query)
            except UnreachableError as error:
                problem = str(error)
            else:
                if status < 300 or status == 404:
                    return answers.decoded(what, content) if status < 300 else None
                if status == 409:
                    raise ConflictError(f"{what}: {answers.message(content)}; it is read again")
                if status == 410 and expires:
                    raise ExpiredError(f"{what}: {answers.message(content)}; list again")
                problem = f"the API server answered {status}: {answers.message(content)}"
                if status not in PASSING:
                    raise RejectedError(f"{what}: {problem}{answers.remedy(status)}")
            if pause is not None:
                self._sleep(pause)
        tries = f" (at each of {len(pauses) + 1} tries)" if pauses else ""
        raise UnreachableError(f"{what}: {problem}{tries}")

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        accept: str,
        query: Sequence[tuple[str, str]],
    ) -> tuple[int, bytes]:
        """Status and body of an answer; every request but a watch goes through here.

        Raises:
            UnreachableError: there is none.
        """
        found = Connection(self._client, self._timeout_s)
        return found.send(method, path, query, body=body, content_type=content_type, accept=accept)


_BY_US = (("fieldManager", FIELD_MANAGER),)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The JSON merge patch (RFC 7386) that makes `old` to `new`, for objects without nulls."""
    patch: Object = dict.fromkeys(key for key in old if key not in new)
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            nested = difference(before, value)
            if nested:
                patch[key] = nested
        elif key not in old or before != value:
            patch[key] = value
    return patch


def _unknown(kind: Kind, namespace: str, name: str = "") -> RejectedError:
    return RejectedError(
        f"{kind.named(namespace, name)}: the API server knows no {kind.api_version} {kind.kind} or no such "
        "namespace; install the CRD, or name the namespace of the models"
    )
