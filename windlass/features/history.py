"""Whether a workload's data goes on today, or ended some time ago.

A platform that serves recorded data (the flights of 2013) cannot run on today's clock: every feature would have
expired years ago. It stands at the end of the data instead.
"""

from __future__ import annotations

from datetime import UTC, datetime

from windlass.contract import Workload
from windlass.features import partitions
from windlass.settings import Settings


def standing_clock(workload: Workload, settings: Settings, now: datetime | None = None) -> datetime | None:
    """Return the time to stand at, or None where the data is recent enough to serve on the clock.

    It is recent while the newest row of any view has not expired. Otherwise the time is that of the newest row of
    the pushed view that ends first: the sources of a workload (flights and weather) need not end on the same day.
    """
    moment = now or datetime.now(UTC)
    ends = [(view, partitions.newest(settings, view)) for view in workload.views]
    if any(end is not None and end + view.ttl >= moment for view, end in ends):
        return None
    known = [(view, end) for view, end in ends if end is not None]
    return min(
        (end for view, end in known if view.stream), default=max((end for _, end in known), default=None)
    )
