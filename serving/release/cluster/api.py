"""The door to the Kubernetes API: read, apply, patch and delete one custom object, and say plainly what went wrong.

The one importer of `kubernetes`. Of that package we take what is hard (kubeconfig, service accounts, certificates,
exec credentials) and speak the rest ourselves: its `CustomObjectsApi` cannot send a server-side apply, decodes errors
into text, and takes a timeout of 1.5 for none at all. Answers are told apart by what a caller can do about them: the
API server is not there (`UnreachableError`: try again), it refused (`RejectedError`: say why), somebody else wrote
meanwhile (`ConflictError`: read again).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serving.release.backend import RejectedError, UnreachableError
from windlass.errors import UsageError

Object = dict[str, Any]

#: Who we are in `metadata.managedFields`.
FIELD_MANAGER = "windlass-release"

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

#: Pauses before the second and every further try, in seconds; no jitter: one engine writes, not a herd.
PAUSES = (0.2, 0.4, 0.8, 1.6)

#: Answers that another try may change: overload, a leader that is elected anew, a cache that is too old.
_PASSING = frozenset({410, 429, 500, 502, 503, 504})


class ConflictError(UnreachableError):
    """Somebody wrote the object since it was read; read it again, or let the caller try all of it again."""


@dataclass(frozen=True)
class Kind:
    """A kind of object and where the API server keeps it."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    def path(self, namespace: str, name: str) -> str:
        return f"/apis/{self.api_version}/namespaces/{quote(namespace)}/{self.plural}/{quote(name)}"


HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
ENVOY_EXTENSION_POLICY = Kind(
    "gateway.envoyproxy.io", "v1alpha1", "envoyextensionpolicies", "EnvoyExtensionPolicy"
)
INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
REVISION = Kind("serving.knative.dev", "v1", "revisions", "Revision")


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

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        context: str | None = None,
        timeout_s: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> KubernetesApi:
        """The cluster that we run in, or that of `kubeconfig` (or of KUBECONFIG and ~/.kube/config outside of one).

        Raises:
            UsageError: neither is there.
        """
        from kubernetes import client, config

        settings = client.Configuration()
        settings.retries = 0  # tries are counted here, where it is known which of them may be repeated
        try:
            if kubeconfig is None and context is None:
                try:
                    config.load_incluster_config(client_configuration=settings)
                except config.ConfigException:
                    config.load_kube_config(client_configuration=settings)
            else:
                config.load_kube_config(
                    None if kubeconfig is None else str(kubeconfig), context, client_configuration=settings
                )
        except (config.ConfigException, OSError) as error:
            where = (
                "no cluster around us and no kubeconfig" if kubeconfig is None else f"kubeconfig {kubeconfig}"
            )
            raise UsageError(
                f"{where}: {error}; name a kubeconfig that exists, and a context of it"
            ) from error
        return cls(client.ApiClient(settings), timeout_s=timeout_s, sleep=sleep)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, None where there is none (or no such kind).

        Raises:
            UnreachableError, RejectedError.
        """
        return self._request("GET", kind, namespace, name)

    def apply(self, kind: Kind, namespace: str, name: str, content: Mapping[str, Any]) -> Object:
        """Make the fields in `content` (metadata, spec) so, and ours; those that we gave up go, others' stay.

        Server-side apply with force: a field that somebody edited by hand is taken back. Where `content` carries
        `metadata.resourceVersion`, it holds for that version alone.

        Raises:
            ConflictError: the object has another resourceVersion.
            UnreachableError, RejectedError.
        """
        metadata = {**content.get("metadata", {}), "name": name, "namespace": namespace}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **content, "metadata": metadata}
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        applied = self._request("PATCH", kind, namespace, name, body=body, content_type=APPLY, query=query)
        if applied is None:
            raise RejectedError(
                f"{_named(kind, namespace, name)}: the API server knows no {kind.api_version} {kind.kind} or no such "
                "namespace; install the CRD, or name the namespace of the models"
            )
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
                    query=[("fieldManager", FIELD_MANAGER)],
                )
            except ConflictError:
                if pause is None:
                    raise
                self._sleep(pause)
        raise AssertionError("the last try returns or raises")

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete the object; one that is gone already is fine.

        Raises:
            UnreachableError, RejectedError.
        """
        self._request("DELETE", kind, namespace, name)

    def _request(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        query: list[tuple[str, str]] | None = None,
    ) -> Object | None:
        what = _named(kind, namespace, name)
        problem = ""
        for pause in (*PAUSES, None):
            try:
                status, content = self._send(
                    method, kind.path(namespace, name), body, content_type, query or []
                )
            except UnreachableError as error:
                problem = str(error)
            else:
                if status < 300 or status == 404:
                    return _decoded(what, content) if status < 300 else None
                if status == 409:
                    raise ConflictError(f"{what}: {_message(content)}; it is read again")
                problem = f"the API server answered {status}: {_message(content)}"
                if status not in _PASSING:
                    raise RejectedError(f"{what}: {problem}{_remedy(status)}")
            if pause is not None:
                self._sleep(pause)
        raise UnreachableError(f"{what}: {problem} (at each of {len(PAUSES) + 1} tries)")

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        content_type: str,
        query: list[tuple[str, str]],
    ) -> tuple[int, bytes]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer, status, _ = self._client.call_api(
                path,
                method,
                query_params=query,
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(self._timeout_s, self._timeout_s),
            )
            return int(status), bytes(answer.data)
        except ApiException as error:
            if error.status:
                return int(error.status), error.body if isinstance(error.body, bytes) else str(
                    error.body
                ).encode()
            raise UnreachableError(f"{self._client.configuration.host}: {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self._client.configuration.host} does not answer: {error}") from error


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


def _named(kind: Kind, namespace: str, name: str) -> str:
    return f"{kind.kind} {namespace}/{name}"


def _decoded(what: str, content: bytes) -> Object:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # a portal in between that asks for a login answers 200 with a page
        raise UnreachableError(
            f"{what}: what answered is no Kubernetes API ({content[:60]!r}); check the address in the kubeconfig"
        )
    return found


def _message(content: bytes) -> str:
    """What a `Status` says, else the beginning of whatever came."""
    try:
        found = json.loads(content)
        return str(found["message"])
    except (ValueError, KeyError, TypeError):
        return content[:120].decode(errors="replace").strip() or "nothing"


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "; give the engine's service account the rights of the role windlass-release"
    return ""
