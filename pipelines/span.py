"""What a training run trains on: as it was asked, else from where the champion began up to the newest row there is.

A run's `data` argument is a file's path, `data-version:ID`, or nothing for the workload's own source. A path holds
where all steps see it; a data version is fetched by every step that reads it, so it holds on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import window
from components.registry import Registry
from monitoring.data_versions.signal import data
from monitoring.data_versions.store import DataVersions
from windlass import catalog, settings
from windlass.contract import Workload
from windlass.settings import Settings

VERSION = "data-version:"


@dataclass(frozen=True)
class Span:
    """What is trained on.

    Attributes:
        start, end: ISO dates, as the pipeline takes them.
        data: the file to read; None for the workload's built-in source.
        data_version: the version in that file; None where the workload's data has none.
    """

    start: str
    end: str
    data: str | None = None
    data_version: str | None = None


@dataclass(frozen=True)
class Asked:
    """The arguments of the steps after the first, none of them empty but `data` of a workload's own source."""

    start: str
    end: str
    data: str


def of(configured: Settings, workload: Workload, detail: Mapping[str, Any], file: Path | None = None) -> Span:
    """What a run trains on.

    Args:
        detail: of the signal; `from`, `to` and `data_version` are taken as they are.
        file: that a person named; it is no version then.

    Raises:
        UsageError: the ends are no dates, or reversed.
        WindlassError: the data version cannot be had.
    """
    named = detail.get("data_version")
    start, end = detail.get("from"), detail.get("to")
    if file is None and named is None and (start is None or end is None):
        # where partitions are tracked, on whichever machine, what they hold is the newest data
        newest = DataVersions(configured, workload).newest()
        named = newest.id if newest is not None else None
    path = file or data(configured, workload, {"data_version": named})
    if start is None:
        registry = Registry(configured)
        champion = registry.champion(workload.name)
        if champion is not None:
            # what was registered by hand may not say
            start = registry.info(workload.name, champion).trained_from or None
    if start is None or end is None:
        rows = workload.prepare(workload.source.load(path))
        times = rows[workload.source.event_time]
        start = start or f"{times.min():%Y-%m-%d}"
        end = end or f"{times.max():%Y-%m-%d}"
    window.parse(start, end)
    return Span(start, end, None if path is None else str(path), named)


def arguments(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Of a pipeline's run, for a signal's detail: what it leaves out is left out, and found by the first step.

    Raises:
        UsageError: the ends are no dates, or reversed.
    """
    start, end, version = (detail.get(name) for name in ("from", "to", "data_version"))
    if start is not None and end is not None:
        window.parse(start, end)
    found = {
        "start": start,
        "end": end,
        "data": None if version is None else VERSION + version,
        "trials": detail.get("trials"),
    }
    return {name: value for name, value in found.items() if value}


def asked(workload: str, start: str, end: str, source: str) -> Asked:
    """The arguments of a run, with what was left out found on this machine.

    Raises:
        UsageError, WindlassError: as `of`.
    """
    if start and end:
        window.parse(start, end)
        return Asked(start, end, source)
    configured = settings.load()
    detail = {"from": start or None, "to": end or None}
    file = None
    if source.startswith(VERSION):
        detail["data_version"] = source.removeprefix(VERSION)
    elif source:
        file = Path(source)
    found = of(configured, catalog.load(workload, configured.project), detail, file)
    if found.data_version is not None:
        source = VERSION + found.data_version
    return Asked(found.start, found.end, source)


def file_of(workload: str, source: str) -> str:
    """The path of a run's `data` on this machine; empty for the workload's own source.

    Raises:
        WindlassError: the data version cannot be had.
    """
    if not source.startswith(VERSION):
        return source
    configured = settings.load()
    found = data(
        configured,
        catalog.load(workload, configured.project),
        {"data_version": source.removeprefix(VERSION)},
    )
    return str(found)
