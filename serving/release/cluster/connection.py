"""The way to an API server: who we are to it, and one request and its answer as bytes.

The one importer of `kubernetes`. Of that package we take what is hard (kubeconfig, service accounts, certificates,
exec credentials) and speak the rest ourselves: its `CustomObjectsApi` cannot send a server-side apply, decodes errors
into text, and takes a timeout of 1.5 for none at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serving.release.backend import RejectedError, UnreachableError
from serving.release.cluster import answers
from serving.release.cluster.answers import PASSING, ExpiredError
from windlass.errors import UsageError

JSON = "application/json"


def client(
    kubeconfig: Path | None = None, *, context: str | None = None, connections: int | None = None
) -> Any:
    """A `kubernetes.client.ApiClient`; see `KubernetesApi.connect`.

    Raises:
        UsageError: no cluster is around us, and no kubeconfig is there.
    """
    from kubernetes import client as kubernetes
    from kubernetes import config

    settings = kubernetes.Configuration()
    settings.retries = 0  # tries are counted here, where it is known which of them may be repeated
    if connections is not None:
        settings.connection_pool_maxsize = connections
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
        where = "no cluster around us and no kubeconfig" if kubeconfig is None else f"kubeconfig {kubeconfig}"
        raise UsageError(f"{where}: {error}; name a kubeconfig that exists, and a context of it") from error
    return kubernetes.ApiClient(settings)


class Connection:
    """Requests to one API server; connections are the client's and are kept.

    Args:
        client: see `client`.
        timeout_s: longest wait for a connection, and for its answer.
    """

    def __init__(self, client: Any, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        *,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            UnreachableError: there is none.
        """
        from urllib3.exceptions import HTTPError

        try:
            answer = self._call(method, path, query, body=body, content_type=content_type, accept=accept)
            return int(answer.status), bytes(answer.data)
        except _Answered as error:
            return error.status, error.content
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self._client.configuration.host} does not answer: {error}") from error

    def lines(self, path: str, query: Sequence[tuple[str, str]], timeout_s: float) -> Iterator[bytes | int]:
        """Lines of an answer as they come, for `timeout_s`; the number 404 where there is nothing to answer with.

        Raises:
            ExpiredError: the server has forgotten what is asked for.
            UnreachableError, RejectedError.
        """
        from urllib3.exceptions import HTTPError

        try:
            answer = self._call("GET", path, query, read_timeout_s=timeout_s + self._timeout_s)
        except _Answered as error:
            if error.status == 404:
                yield 404
                return
            problem = f"{path}: the API server answered {error.status}: {answers.message(error.content)}"
            if error.status == 410:
                raise ExpiredError(f"{problem}; list again") from error
            if error.status in PASSING:
                raise UnreachableError(problem) from error
            raise RejectedError(f"{problem}{answers.remedy(error.status)}") from error
        begun = b""
        try:
            for chunk in answer.stream(2**16):
                *lines, begun = (begun + chunk).split(b"\n")
                yield from lines
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self._client.configuration.host}: the watch broke: {error}") from error
        finally:
            # what is still on its way would be the next request's answer
            answer.close()

    def _call(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        *,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        read_timeout_s: float | None = None,
    ) -> Any:
        """The answer, of which nothing but its head has been read."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer, _, _ = self._client.call_api(
                path,
                method,
                query_params=list(query),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(self._timeout_s, read_timeout_s or self._timeout_s),
            )
            return answer
        except ApiException as error:
            if error.status:
                content = error.body if isinstance(error.body, bytes) else str(error.body).encode()
                raise _Answered(int(error.status), content) from error
            raise UnreachableError(f"{self._client.configuration.host}: {error.reason}") from error
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self._client.configuration.host} does not answer: {error}") from error


class _Answered(Exception):  # noqa: N818 - an answer
    """The API server answered, and not with what was asked for."""

    def __init__(self, status: int, content: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.content = content
