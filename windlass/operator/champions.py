"""The champion of a model: MLflow's alias where there is an MLflow, and always a mark on the model's route.

MLflow is spoken to over its REST API: its package would take more memory than all of the operator.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from serving.release.backend import TrafficBackend
from serving.release.cluster import naming
from serving.release.cluster.api import Object
from serving.release.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, Kind
from windlass.errors import UsageError, WindlassError
from windlass.operator.fenced_api import FencedApi
from windlass.operator.marks import CHAMPION

ALIAS = "champion"
_PATH = "api/2.0/mlflow/registered-models/alias"
_VERSIONS = "api/2.0/mlflow/model-versions/get"


class Alias:
    """The champion's alias in an MLflow server.

    Args:
        url: the server's address.
        headers: for example an Authorization.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        # a proxy for the outside world is never the way to it
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, model: str) -> str | None:
        """The version that holds the alias, None where none does.

        Raises:
            WindlassError: MLflow does not answer, or not as MLflow does.
        """
        query = urllib.parse.urlencode({"name": model, "alias": ALIAS})
        found = self._ask("GET", f"{_PATH}?{query}", None)
        try:
            return None if found is None else str(found["model_version"]["version"])
        except (KeyError, TypeError) as error:
            raise WindlassError(
                f"what answers at {self._url} is no MLflow; check MLFLOW_TRACKING_URI"
            ) from error

    def set(self, model: str, version: str) -> None:
        """Move the alias; may be repeated.

        Raises:
            UsageError: MLflow knows no such version.
            WindlassError: it does not answer.
        """
        if self._ask("POST", _PATH, {"name": model, "alias": ALIAS, "version": version}) is None:
            raise UsageError(f"MLflow at {self._url} knows no version {version} of model {model}")

    def require(self, model: str, version: str) -> None:
        """Check that the alias could be moved to a version.

        Raises:
            UsageError: MLflow knows no such version.
            WindlassError: it does not answer, or somebody else does, who knows nothing of versions.
        """
        query = urllib.parse.urlencode({"name": model, "version": version})
        if self._ask("GET", f"{_VERSIONS}?{query}", None) is None:
            raise UsageError(
                f"MLflow at {self._url} knows no version {version} of model {model}, so that it could never become the "
                "champion; register it, or run the operator without MLFLOW_TRACKING_URI"
            )

    def _ask(self, method: str, path: str, body: Any) -> Any:
        """The answer; None where there is no such thing."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self._headers}
        request = urllib.request.Request(f"{self._url}/{path}", data, headers, method=method)  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2000)
            if _is_missing(error.code, said):
                return None
            text = said[:200].decode(errors="replace")
            raise WindlassError(f"MLflow at {self._url} answered {error.code}: {text}") from error
        except ValueError as error:
            raise WindlassError(
                f"what answers at {self._url} is no MLflow; check MLFLOW_TRACKING_URI"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise WindlassError(f"MLflow at {self._url} does not answer: {reason}") from error


class Champions:
    """The champions of the models of one namespace.

    Args:
        alias: None where the cluster alone knows.
    """

    def __init__(self, api: FencedApi, namespace: str, alias: Alias | None) -> None:
        self._api = api
        self._namespace = namespace
        self._alias = alias

    def of(self, model: str, backend: TrafficBackend) -> str | None:
        """The champion: the registry's, else the one that is marked, else the only version with traffic.

        Raises:
            WindlassError: somebody who would know cannot be asked.
        """
        if self._alias is not None and (found := self._alias.get(model)) is not None:
            return found
        for kind, name in _places(model):
            live = self._api.get(kind, self._namespace, name)
            marked = None if live is None else (live["metadata"].get("annotations") or {}).get(CHAMPION)
            if marked:
                return str(marked)
        traffic = backend.traffic(model)
        weights = {} if traffic is None else {v: weight for v, weight in traffic.weights.items() if weight}
        return next(iter(weights)) if len(weights) == 1 else None

    def require(self, model: str, versions: Iterable[str]) -> None:
        """Check that each of the versions could become the champion.

        Raises:
            UsageError: the registry does not know one.
            WindlassError: it does not answer.
        """
        if self._alias is not None:
            for version in versions:
                self._alias.require(model, version)

    def set(self, model: str, version: str) -> None:
        """Move the alias and the mark; may be repeated.

        Raises:
            DeposedError: this process leads no more.
            WindlassError: one of them did not move.
        """

        def mark(live: Object) -> Object:
            annotations = {**(live["metadata"].get("annotations") or {}), CHAMPION: version}
            return {**live, "metadata": {**live["metadata"], "annotations": annotations}}

        for kind, name in _places(model):
            if self._api.update(kind, self._namespace, name, mark) is not None:
                break
        if self._alias is not None:
            # a process that stood still since may have been deposed, and the one after it may have rolled back
            self._api.check()
            self._alias.set(model, version)


def authorization(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The header that MLflow's own variables ask for."""
    env = os.environ if environ is None else environ
    token, user = env.get("MLFLOW_TRACKING_TOKEN"), env.get("MLFLOW_TRACKING_USERNAME")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if not user:
        return {}
    plain = f"{user}:{env.get('MLFLOW_TRACKING_PASSWORD', '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(plain).decode()}"}


def _places(model: str) -> tuple[tuple[Kind, str], ...]:
    """What a model has on a cluster: our route, or the one InferenceService of KServe's own ways."""
    return ((HTTP_ROUTE, naming.route(model)), (INFERENCE_SERVICE, model))


def _is_missing(code: int, body: bytes) -> bool:
    if code == 404:
        # an ingress without a backend, or a path of an address that is wrong, answers 404 as well, and knows nothing
        return b"RESOURCE_DOES_NOT_EXIST" in body
    # MLflow answers 400 for an alias that nobody holds, and for a version that is no number
    unheld = b"alias" in body and b"not found" in body
    return code == 400 and (b"RESOURCE_DOES_NOT_EXIST" in body or unheld or b"must be an integer" in body)
