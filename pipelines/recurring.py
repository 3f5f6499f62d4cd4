"""Recurring runs by name on Kubeflow Pipelines: stated, and made so; stated again they are found.

Its API can create, enable, disable and delete them, not change them, and keeps several of one name apart by their ids.
So what was stated stands as a digest in the description; another one replaces it: the old one is switched off, the new
one made, the old one deleted. Where the new one is refused the old one is switched on again; whoever is killed in
between leaves what the next call puts in order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.kfp_api import Address, KfpApi
from windlass.errors import UsageError, WindlassError

_FIELD = re.compile(r"[0-9A-Za-z*?/,#LW-]+")


@dataclass(frozen=True)
class Recurring:
    """A recurring run as it is meant to be.

    Attributes:
        cron: six fields, seconds first, as Kubeflow takes them; its times are the deployment's, UTC by default.
        arguments: of the pipeline, the same at every time.
        concurrency: most of its runs at a time.
    """

    name: str
    cron: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 1


@dataclass(frozen=True)
class Known:
    """A recurring run that there is."""

    id: str
    name: str
    cron: str
    enabled: bool
    description: str


def cron(text: str) -> str:
    """A cron expression with the seconds that Kubeflow wants; five fields are a crontab's, at second 0.

    Raises:
        UsageError: it is none.
    """
    parts = text.split()
    if text.startswith("@") or len(parts) not in (5, 6) or not all(map(_FIELD.fullmatch, parts)):
        raise UsageError(
            f"--cron {text!r} is no schedule; give five fields (minute, hour, day, month, weekday), like '0 3 * * 1' "
            "for Mondays at 03:00, or six with seconds before them"
        )
    return " ".join(parts if len(parts) == 6 else ["0", *parts])


class RecurringRuns:
    """The recurring runs of one deployment.

    Raises:
        WindlassError: of every method: Kubeflow Pipelines does not answer, or refuses.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._api = KfpApi(address)

    def ensure(self, wanted: Recurring) -> tuple[Known, str]:
        """Make it so, switched on.

        Returns:
            What there is now, and what was done: "created", "replaced", "enabled" or "unchanged".
        """
        import kfp_server_api  # type: ignore[import-untyped]

        with self._api.asking(f"recurring run {wanted.name} cannot be stated"):
            mark = self._mark(wanted)
            there = self._named(wanted.name)
            same = next((one for one in there if mark in one.description), None)
            others = [one for one in there if one is not same]
            for one in others:
                self._api.client.disable_recurring_run(one.id)
            if same is None:
                try:
                    made, done = self._create(wanted, mark), "replaced" if others else "created"
                except kfp_server_api.ApiException as error:
                    # of any other failure it is not known whether there is a new one, and two must not be on
                    if 400 <= (error.status or 0) < 500:
                        self._switch_on(one for one in others if one.enabled)
                    raise
            elif not same.enabled:
                self._api.client.enable_recurring_run(same.id)
                made, done = self._again(same), "enabled"
            else:
                made, done = same, "replaced" if others else "unchanged"
            for one in others:
                self._api.client.delete_recurring_run(one.id)
            return made, done

    def all(self) -> tuple[Known, ...]:
        """Those of the experiment, in the order of creation."""
        with self._api.asking("recurring runs cannot be listed"):
            return self._named("")

    def switch(self, name: str, *, on: bool) -> bool:
        """Switch it on or off; whether it was the other way.

        Raises:
            WindlassError: there is none of this name.
        """
        with self._api.asking(f"recurring run {name} cannot be switched"):
            there = self._named(name)
            turned = [one for one in there if one.enabled is not on]
            for one in turned:
                change = (
                    self._api.client.enable_recurring_run if on else self._api.client.disable_recurring_run
                )
                change(one.id)
        if not there:
            raise WindlassError(
                f"{self._address.host} has no recurring run {name} in experiment {self._address.experiment!r}; "
                "`windlass pipeline schedule --list` shows those that there are"
            )
        return bool(turned)

    def delete(self, name: str) -> bool:
        """Delete it; whether there was one. Runs that it started go on."""
        with self._api.asking(f"recurring run {name} cannot be deleted"):
            there = self._named(name)
            for one in there:
                self._api.client.delete_recurring_run(one.id)
        return bool(there)

    def _switch_on(self, those: Iterable[Known]) -> None:
        """As it was before a change that failed, whose error is what is told."""
        for one in those:
            with contextlib.suppress(Exception):
                self._api.client.enable_recurring_run(one.id)

    def _named(self, name: str) -> tuple[Known, ...]:
        experiment = self._api.known_experiment()
        if experiment is None:
            return ()
        found = self._api.pages(
            self._api.client.list_recurring_runs, "recurring_runs", named=name, experiment_id=experiment
        )
        return tuple(_known(one) for one in found if not name or one.display_name == name)

    def _create(self, wanted: Recurring, mark: str) -> Known:
        made = self._api.client.create_recurring_run(
            self._api.experiment(),
            wanted.name,
            description=f"Stated by windlass pipeline schedule. {mark}",
            cron_expression=wanted.cron,
            max_concurrency=wanted.concurrency,
            # after a pause the newest is enough: each trains on all that there is
            no_catchup=True,
            params=dict(wanted.arguments),
            pipeline_package_path=str(self._address.package),
            service_account=self._address.service_account,
        )
        return _known(made)

    def _again(self, known: Known) -> Known:
        return _known(self._api.client.get_recurring_run(known.id))

    def _mark(self, wanted: Recurring) -> str:
        stated = (
            wanted.cron, dict(wanted.arguments), wanted.concurrency, self._address.service_account,
            self._address.package.read_text(),
        )  # fmt: skip
        text = json.dumps(stated, sort_keys=True)
        return f"[windlass {hashlib.sha256(text.encode()).hexdigest()[:16]}]"


def _known(found: Any) -> Known:
    schedule = found.trigger.cron_schedule if found.trigger is not None else None
    state = str(found.status)
    if state not in ("ENABLED", "DISABLED"):  # older deployments tell only what was asked for
        state = f"{found.mode}D"
    return Known(
        str(found.recurring_run_id),
        str(found.display_name),
        "" if schedule is None else str(schedule.cron),
        state == "ENABLED",
        str(found.description or ""),
    )
