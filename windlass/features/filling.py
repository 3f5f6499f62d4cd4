"""Filling the online store on a schedule, and remembering when it was: what is served grows old if nobody does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from windlass import atomic
from windlass.clock import Clock
from windlass.contract import Workload
from windlass.errors import UsageError, WindlassError
from windlass.features import partitions
from windlass.settings import Settings


@dataclass(frozen=True)
class Filled:
    """What a materialization left; times are epoch seconds.

    Attributes:
        ended: when it was done.
        since: event time of the oldest row that may be in the online store.
        until: event time up to which rows are there.
        rows: offline rows of each view in that span.
        stale_after: seconds after `ended` from which on the store counts as stale; None where nobody said.
    """

    ended: float
    since: float
    until: float
    rows: Mapping[str, int]
    stale_after: float | None


def fill(
    workload: Workload,
    settings: Settings,
    clock: Clock,
    *,
    until: datetime | None = None,
    since: datetime | None = None,
    stale_after: timedelta | None = None,
) -> Filled:
    """Write the newest row of every key of every view to the online store, and note that it was done.

    Args:
        until: rows up to this time; None for now.
        since: rows from this time on; None for as far back as the longest time to live reaches.

    Raises:
        UsageError: the workload has no views, or the span is empty.
        WindlassError: no view has a row in the span, so that nothing would be fresh; nothing is written.
    """
    from windlass.features.stream import OnlineStream

    if not workload.views:
        raise UsageError(f"workload {workload.name!r} has no feature views; there is nothing to materialize")
    until = clock.now() if until is None else until
    since = until - max(view.ttl for view in workload.views) if since is None else since
    if since >= until:
        raise UsageError(f"--since {since.isoformat()} is not before {until.isoformat()}")
    rows = {view.name: partitions.read(settings, view, since, until).num_rows for view in workload.views}
    if not any(rows.values()):
        raise WindlassError(
            f"workload {workload.name!r}: no feature view has an offline row from {since.isoformat()} to "
            f"{until.isoformat()}, so servers would find nothing that is still valid; bring the source up to date and "
            "run `windlass features build`, or state an older time with --until where the data are historical"
        )
    with contextlib.closing(OnlineStream(workload, settings)) as stream:
        stream.fill(since, until)
    ended = clock.now().timestamp()
    after = None if stale_after is None else stale_after.total_seconds()
    filled = Filled(ended, since.timestamp(), until.timestamp(), rows, after)
    atomic.write_text(_path(settings, workload.name), json.dumps(asdict(filled), indent=1) + "\n")
    return filled


def newest(settings: Settings, workload: str) -> Filled | None:
    """The last materialization of a workload by this home; None where there was none.

    Raises:
        WindlassError: the note is damaged.
    """
    path = _path(settings, workload)
    try:
        found = json.loads(path.read_text())
        after = found["stale_after"]
        return Filled(
            float(found["ended"]),
            float(found["since"]),
            float(found["until"]),
            {str(view): int(count) for view, count in found["rows"].items()},
            None if after is None else float(after),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WindlassError(
            f"{path} cannot be read ({type(error).__name__}: {error}); `windlass features materialize {workload}` "
            "writes it anew"
        ) from error


def workloads(settings: Settings) -> list[str]:
    """Workloads whose features this home has materialized."""
    return sorted(path.stem for path in settings.materialized_dir.glob("*.json"))


def _path(settings: Settings, workload: str) -> Path:
    return settings.materialized_dir / f"{workload}.json"
