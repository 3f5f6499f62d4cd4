"""New data as a reason to retrain: a version is the cause, so it makes at most one run, and the run trains on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from monitoring.data_versions import version
from monitoring.data_versions.store import DataVersions
from monitoring.data_versions.version import Version
from monitoring.retrain.signals import Signal
from windlass.contract import Workload
from windlass.settings import Settings


def signal(made: Version, now: datetime) -> Signal:
    """The `newData` signal of a version; its detail says what the run trains on: the days from first to last."""
    return Signal(
        "newData",
        f"newData/{made.id}",
        now,
        {
            "data_version": made.id,
            "partition": made.added,
            "new_rows": made.new_rows,
            "rows": made.rows,
            "from": made.start[:10],
            "to": made.end[:10],
        },
    )


def data(settings: Settings, workload: Workload, detail: Mapping[str, Any]) -> Path | None:
    """The file that the run of a signal trains on; None where its detail names no data version.

    Raises:
        WindlassError: the version is named and cannot be had.
    """
    named = detail.get("data_version")
    if named is None:
        return None
    store = DataVersions(settings, workload)
    store.known()  # it may have been made on another machine
    return store.checkout(version.find(settings, workload.name, str(named)))
