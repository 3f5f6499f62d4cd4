"""Runs by name on Kubeflow Pipelines: looked up before they are created, for its API knows no idempotency key.

Whoever was killed after the creation, and before it wrote it down, finds the run by its name. Two processes that create
at the same moment could both find nothing: one process submits, by the trigger's lock and its single replica.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.compile import COMPILED, FILE
from pipelines.submit_local import Finished
from windlass.errors import WindlassError

SUCCEEDED = "SUCCEEDED"
FAILED = ("FAILED", "CANCELED", "SKIPPED")
PATIENCE_S = (10, 120)
"""How long to wait for a connection, and for an answer: a creation that is given up must not be carried out later."""


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
    """

    host: str
    namespace: str | None = None
    token_file: Path | None = None
    experiment: str = "windlass-retrain"
    package: Path = field(default=COMPILED / FILE)
    service_account: str | None = None


class KfpRuns:
    """The runs of one experiment."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connected: tuple[str | None, Any] | None = None
        self._experiment: str | None = None

    def submit(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Create the run, or find it; its id.

        Args:
            arguments: of the pipeline.

        Raises:
            WindlassError: Kubeflow Pipelines does not answer, or refuses.
        """
        with self._asking(f"run {name} cannot be submitted"):
            found = self._look(name)
            if found is not None:
                return str(found.run_id)
            made = self._client().create_run_from_pipeline_package(
                str(self._address.package),
                arguments=dict(arguments),
                run_name=name,
                experiment_id=self._experiment_id(),
                namespace=self._address.namespace,
                service_account=self._address.service_account,
            )
            return str(made.run_id)

    def find(self, name: str) -> Finished | None:
        """How the run ended, None while it goes on; its result lies in the registry, not here.

        Raises:
            WindlassError: there is no such run, or nobody answers.
        """
        with self._asking(f"run {name} cannot be looked up"):
            found = self._look(name)
        if found is None:
            raise WindlassError(
                f"{self._address.host} has no run {name} in experiment {self._address.experiment!r}; was it deleted?"
            )
        seconds = _seconds(found.created_at, found.finished_at)
        if found.state == SUCCEEDED:
            return Finished({}, None, seconds)
        if found.state in FAILED:
            message = getattr(found.error, "message", None)
            said = f": {message}" if message else ""
            return Finished(
                None, f"Kubeflow Pipelines says {found.state}{said} (run {found.run_id})", seconds
            )
        return None

    def _look(self, name: str) -> Any:
        """The oldest run of this name, None where there is none."""
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        answer = self._client().list_runs(
            page_size=2,
            sort_by="created_at asc",
            experiment_id=self._experiment_id(),
            namespace=self._address.namespace,
            filter=json.dumps({"predicates": [predicate]}),
        )
        # a deployment that did not know the filter must not give us another's run
        return next((run for run in answer.runs or () if run.display_name == name), None)

    def _experiment_id(self) -> str:
        if self._experiment is None:
            made = self._client().create_experiment(
                self._address.experiment, namespace=self._address.namespace
            )
            self._experiment = str(made.experiment_id)
        return self._experiment

    def _client(self) -> Any:
        token = self._token()
        if self._connected is None or self._connected[0] != token:
            with warnings.catch_warnings():
                # it says at every start which backends it is for
                warnings.simplefilter("ignore", FutureWarning)
                import kfp

                options = {} if self._address.namespace is None else {"namespace": self._address.namespace}
                with _limited():
                    client = kfp.Client(host=self._address.host, existing_token=token, **options)
            self._connected = (token, client)
        return self._connected[1]

    def _token(self) -> str | None:
        if self._address.token_file is None:
            return None
        try:
            return self._address.token_file.read_text().strip()
        except OSError as error:
            raise WindlassError(
                f"token file {self._address.token_file} of Kubeflow Pipelines: {error.strerror}; mount it, or "
                "leave WINDLASS_KFP_TOKEN_FILE out"
            ) from error

    @contextlib.contextmanager
    def _asking(self, what: str) -> Any:
        import kfp_server_api  # type: ignore[import-untyped]
        import urllib3

        try:
            # it prints links for a notebook
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except kfp_server_api.ApiException as error:
            raise WindlassError(
                f"{what}: {self._address.host} answers {error.status} {error.reason}; {_first(error.body)}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise WindlassError(f"{what}: {self._address.host} does not answer ({_first(error)})") from error


@contextlib.contextmanager
def _limited() -> Any:
    """Have clients that are made meanwhile give up: by themselves they wait for ever, and there is no setting."""
    from kfp_server_api import rest

    class Limited(rest.RESTClientObject):  # type: ignore[misc]
        def request(self, *arguments: Any, _request_timeout: Any = None, **options: Any) -> Any:
            return super().request(*arguments, _request_timeout=_request_timeout or PATIENCE_S, **options)

    original, rest.RESTClientObject = rest.RESTClientObject, Limited
    try:
        yield
    finally:
        rest.RESTClientObject = original


def _seconds(began: datetime | None, ended: datetime | None) -> float:
    return (ended - began).total_seconds() if began is not None and ended is not None else 0.0


def _first(error: object) -> str:
    return str(error).partition("\n")[0][:300]
