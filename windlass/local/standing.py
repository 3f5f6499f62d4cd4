"""A clock for historical data: where every feature row has long expired, "now" is the end of what was learned.

Without it a platform on the flights of 2013 would find no feature that is still valid and answer from nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from windlass.contract import Workload


def standing_clock(workload: Workload, trained_to: datetime, now: datetime) -> datetime | None:
    """The time at which the platform's clock stands, None where it is the present.

    Args:
        trained_to: end of the champion's training rows; its evaluation window, whose labels are known, follows.
    """
    end = trained_to + workload.evaluation_window
    longest = max((v.ttl for v in workload.views), default=timedelta(0))
    return end if workload.views and end + longest < now else None
