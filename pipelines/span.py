"""What a retraining trains on: as its signal says, else from where the champion began up to the newest row there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import window
from components.registry import Registry
from monitoring.data_versions.signal import data
from monitoring.data_versions.store import DataVersions
from windlass.contract import Workload
from windlass.settings import Settings


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


def of(settings: Settings, workload: Workload, detail: Mapping[str, Any]) -> Span:
    """What a run trains on.

    Args:
        detail: of the signal; `from`, `to` and `data_version` are taken as they are.

    Raises:
        UsageError: the ends are no dates, or reversed.
        WindlassError: the data version cannot be had.
    """
    named = detail.get("data_version")
    start, end = detail.get("from"), detail.get("to")
    if named is None and (start is None or end is None):
        # where partitions are tracked, on whichever machine, what they hold is the newest data
        known = DataVersions(settings, workload).known()
        named = known[-1].id if known else None
    path = data(settings, workload, {"data_version": named})
    if start is None:
        registry = Registry(settings)
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
