"""Runs by name on Kubeflow Pipelines: looked up before they are created, for its API knows no idempotency key.

Whoever was killed after the creation, and before it wrote it down, finds the run by its name. Two processes that create
at the same moment could both find nothing: one process submits, by the trigger's lock and its single replica.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.kfp_api import Address, KfpApi
from pipelines.submit_local import Finished
from windlass.errors import WindlassError

__all__ = ["Address", "KfpRuns", "Submitted"]

SUCCEEDED = "SUCCEEDED"
FAILED = ("FAILED", "CANCELED", "CANCELLED", "SKIPPED")
WAIT_EVERY_S = 10.0


@dataclass(frozen=True)
class Submitted:
    """A run that there is: its id, the state it was seen in, and whether it was there before it was asked for."""

    id: str
    state: str
    found: bool


class KfpRuns:
    """The runs of one experiment."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._api = KfpApi(address)

    def submit(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Create the run, or find it; its id.

        Args:
            arguments: of the pipeline.

        Raises:
            WindlassError: Kubeflow Pipelines does not answer, or refuses.
        """
        return self.ensure(name, arguments).id

    def ensure(self, name: str, arguments: Mapping[str, Any]) -> Submitted:
        """As `submit`, and say what was found."""
        with self._api.asking(f"run {name} cannot be submitted"):
            found = self._look(name)
            if found is not None:
                return Submitted(str(found.run_id), str(found.state or "PENDING"), True)
            made = self._api.client.create_run_from_pipeline_package(
                str(self._address.package),
                arguments=dict(arguments),
                run_name=name,
                experiment_id=self._api.experiment(),
                namespace=self._address.namespace,
                service_account=self._address.service_account,
            )
            return Submitted(str(made.run_id), "PENDING", False)

    def find(self, name: str) -> Finished | None:
        """How the run ended, None while it goes on; its result lies in the registry, not here.

        Raises:
            WindlassError: there is no such run, or nobody answers.
        """
        with self._api.asking(f"run {name} cannot be looked up"):
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

    def wait(
        self,
        name: str,
        progress: Callable[[str], None],
        *,
        within_s: float,
        every_s: float = WAIT_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Finished:
        """Wait until the run has ended; each new state is told. A question that fails is asked again.

        Raises:
            WindlassError: the run goes on, or cannot be asked for, when the time is over.
        """
        began, told, problem = clock(), "", ""
        while True:
            try:
                ended = self.find(name)
                if ended is not None:
                    return ended
                said, problem = f"run {name} goes on", ""
            except WindlassError as error:
                said = problem = str(error)
            if said != told:
                progress(told := said)
            if clock() - began >= within_s:
                raise WindlassError(
                    problem or f"run {name} has not ended within {within_s:g} s; it goes on, ask for it again"
                )
            sleep(every_s)

    def _look(self, name: str) -> Any:
        """The oldest run of this name, None where there is none."""
        found = self._api.pages(
            self._api.client.list_runs,
            "runs",
            named=name,
            experiment_id=self._api.experiment(),
            namespace=self._address.namespace,
        )
        # a deployment that did not know the filter must not give us another's run
        return next((run for run in found if run.display_name == name), None)


def _seconds(began: datetime | None, ended: datetime | None) -> float:
    return (ended - began).total_seconds() if began is not None and ended is not None else 0.0
