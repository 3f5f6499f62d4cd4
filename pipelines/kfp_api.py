"""The door to Kubeflow Pipelines' API: who we are there, answers page by page, and what went wrong said plainly.

Two kinds of deployment speak it. A single-user one has no namespaces and asks for no token; in a multi-user one every
experiment belongs to a namespace, and who may use it follows from the token. Mixed up, either answers something that
does not say so: the remedy here does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.compile import COMPILED, FILE
from windlass.errors import UsageError, WindlassError

PATIENCE_S = (10, 120)
"""How long to wait for a connection, and for an answer: a creation that is given up must not be carried out later."""
PAGE = 100


@dataclass(frozen=True)
class Address:
    """Where Kubeflow Pipelines is.

    Attributes:
        host: of its API, for example http://ml-pipeline.kubeflow:8888.
        namespace: of a multi-user deployment; None in a single-user one.
        token_file: bearer token, read for every connection: a service account's is renewed hourly.
        experiment: that the runs belong to; it is created where it is missing.
        package: the compiled pipeline.
        service_account: that the run's pods get; None for the deployment's own.
        authority: certificates that the host's is judged by; None for the system's.
    """

    host: str
    namespace: str | None = None
    token_file: Path | None = None
    experiment: str = "windlass-retrain"
    package: Path = field(default=COMPILED / FILE)
    service_account: str | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        if not self.host.startswith(("http://", "https://")):
            raise UsageError(f"{self.host!r} is no address; use for example http://ml-pipeline.kubeflow:8888")


class KfpApi:
    """One deployment, for one experiment's runs.

    Raises:
        WindlassError: of every method: it does not answer, or refuses.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connected: tuple[str | None, Any] | None = None
        self._experiment: str | None = None

    @property
    def client(self) -> Any:
        """The client, made anew where the token is another one; use it inside `asking`."""
        token = self._token()
        if self._connected is None or self._connected[0] != token:
            with warnings.catch_warnings():
                # it says at every start which backends it is for
                warnings.simplefilter("ignore", FutureWarning)
                import kfp

                # without one the client asks the deployment, five times over half a minute, who we are
                namespace = self.address.namespace or "default"
                authority = None if self.address.authority is None else str(self.address.authority)
                with _limited():
                    client = kfp.Client(
                        host=self.address.host.rstrip("/"),
                        existing_token=token,
                        namespace=namespace,
                        ssl_ca_cert=authority,
                    )
                # a namespace that a person's notebook once wrote into HOME is not ours
                client._context_setting["namespace"] = self.address.namespace
            self._connected = (token, client)
        return self._connected[1]

    def experiment(self) -> str:
        """The experiment's id; it is created where it is missing."""
        if self._experiment is None:
            self._experiment = self.known_experiment()
        if self._experiment is None:
            made = self.client.create_experiment(self.address.experiment, namespace=self.address.namespace)
            self._experiment = str(made.experiment_id)
        return self._experiment

    def known_experiment(self) -> str | None:
        """The experiment's id, None where there is none."""
        wanted = self.address.experiment
        found = self.pages(
            self.client.list_experiments, "experiments", named=wanted, namespace=self.address.namespace
        )
        return next((str(one.experiment_id) for one in found if one.display_name == wanted), None)

    def pages(self, ask: Callable[..., Any], what: str, *, named: str, **options: Any) -> Iterator[Any]:
        """All objects of this display name, page by page; a deployment that ignores the filter gives all there are."""
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": named}
        options["filter"] = json.dumps({"predicates": [predicate]}) if named else None
        token = ""
        while True:
            answer = ask(page_token=token, page_size=PAGE, sort_by="created_at asc", **options)
            yield from getattr(answer, what) or ()
            token = answer.next_page_token or ""
            if not token:
                return

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Turn whatever its client raises into one sentence that begins with `what`, with a remedy."""
        import kfp_server_api  # type: ignore[import-untyped]
        import urllib3

        try:
            # it prints links for a notebook
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except kfp_server_api.ApiException as error:
            said = f"{what}: {self.address.host} answers {error.status} {error.reason}; {_said(error.body)}"
            raise WindlassError(said + self._remedy(error.status)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise WindlassError(f"{what}: {self.address.host} does not answer ({_said(error)})") from error
        except (AttributeError, TypeError, ValueError) as error:
            # a portal in front that asks a person to log in answers 200 with a page, of which the client makes nothing
            raise WindlassError(
                f"{what}: what {self.address.host} answers is no Kubeflow Pipelines API ({_said(error)}); name the "
                "API's own address, or a token that passes the portal before it"
            ) from error

    def _remedy(self, status: int) -> str:
        namespace = self.address.namespace
        if status == 401:
            return (
                "; give a token that it takes (--token-file, WINDLASS_KFP_TOKEN_FILE): on a cluster a service "
                "account's, projected for the audience pipelines.kubeflow.org"
            )
        if status not in (400, 403, 404):
            return ""
        multi_user = self._multi_user()
        if multi_user and namespace is None:
            return "; this deployment is a multi-user one: name a namespace (--namespace, WINDLASS_KFP_NAMESPACE)"
        if multi_user is False and namespace is not None:
            return f"; this deployment is a single-user one, which has no namespaces: leave {namespace!r} out"
        if status == 403:
            where = f" in namespace {namespace!r}" if namespace else ""
            return f"; bind this account to the role kubeflow-edit{where}"
        return ""

    def _multi_user(self) -> bool | None:
        """Whether it is a multi-user deployment; None where it does not say."""
        try:
            return bool(self.client._healthz_api.healthz_service_get_healthz().multi_user)
        except Exception:  # there is an error to tell already
            return None

    def _token(self) -> str | None:
        path = self.address.token_file
        if path is None:
            return None
        try:
            found = path.read_text().strip()
        except OSError as error:
            raise WindlassError(
                f"token file {path} of Kubeflow Pipelines: {error.strerror}; mount it, or name none "
                "(--token-file, WINDLASS_KFP_TOKEN_FILE)"
            ) from error
        if not found:
            raise WindlassError(f"token file {path} of Kubeflow Pipelines is empty; write the token into it")
        return found


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Have clients that are made meanwhile give up, and take JSON alone.

    By themselves they wait for ever, and there is no setting.
    """
    from kfp_server_api import rest

    class Limited(rest.RESTClientObject):  # type: ignore[misc]
        def request(self, *arguments: Any, _request_timeout: Any = None, **options: Any) -> Any:
            patience = _request_timeout or PATIENCE_S
            answer = super().request(*arguments, _request_timeout=patience, **options)
            kind = answer.getheader("content-type") or ""
            if "json" not in kind:
                # the client would make an object of it in which every field is None, and call that a run
                raise ValueError(f"{kind or 'nothing'} instead of JSON")
            return answer

    original, rest.RESTClientObject = rest.RESTClientObject, Limited
    try:
        yield
    finally:
        rest.RESTClientObject = original


def _said(error: object) -> str:
    """What an answer's body says in its own words, else how it begins."""
    text = error.decode(errors="replace") if isinstance(error, bytes) else str(error)
    try:
        found = json.loads(text)
        text = str(found.get("message") or found.get("error") or text)
    except (ValueError, AttributeError):
        pass
    return text.partition("\n")[0][:300]
