"""Delays by carrier, airport and destination: what was known of them at each full hour.

A departure delay is known once the flight has left, an arrival delay once it has landed; a cancelled flight does
neither. Nothing looks at the schedule of later flights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workloads.flights.grid import mean
from workloads.flights.table import Flights, Keyed

if TYPE_CHECKING:
    import pandas as pd

CARRIER = (
    "carrier_arr_delay_3h", "carrier_dep_delay_2h", "carrier_added_delay_3h", "carrier_late_share_24h",
    "carrier_arrivals_24h_count",
)  # fmt: skip
ORIGIN = (
    "origin_dep_delay_1h", "origin_dep_delay_3h", "origin_dep_late_share_3h", "origin_added_delay_3h",
    "origin_departures_24h_count", "origin_overdue_count", "origin_overdue_hours",
)  # fmt: skip
DEST = (
    "dest_arr_delay_6h", "dest_added_delay_6h", "dest_dep_delay_3h", "dest_late_share_24h", "dest_arrivals_6h_count",
)  # fmt: skip
DEST_HISTORY = ("dest_late_share_7d", "dest_late_share_28d")

HISTORY_DAYS = 28


def carrier_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """How late each carrier's flights leave and land of late."""
    flights = Flights(frame)
    by = Keyed(flights, "carrier")
    landed, left = by.sums(flights.arrived), by.sums(flights.departed)
    return by.rows(
        CARRIER,
        [
            mean(by.sums(flights.arrived, flights.arr_delay).window(3), landed.window(3)),
            mean(by.sums(flights.departed, flights.dep_delay).window(2), left.window(2)),
            mean(by.sums(flights.arrived, flights.added_delay).window(3), landed.window(3)),
            mean(by.sums(flights.arrived, flights.late).window(24), landed.window(24)),
            landed.window(24),
        ],
    )


def origin_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """How each New York airport runs: departure delays, minutes lost on the way, and who still waits."""
    flights = Flights(frame)
    by = Keyed(flights, "origin")
    left, landed = by.sums(flights.departed), by.sums(flights.arrived)
    delay = by.sums(flights.departed, flights.dep_delay)
    return by.rows(
        ORIGIN,
        [
            mean(delay.window(1), left.window(1)),
            mean(delay.window(3), left.window(3)),
            mean(by.sums(flights.departed, flights.left_late).window(3), left.window(3)),
            mean(by.sums(flights.arrived, flights.added_delay).window(3), landed.window(3)),
            left.window(24),
            *by.overdue(),
        ],
    )


def dest_delays(frame: pd.DataFrame) -> pd.DataFrame:
    """How flights to each destination fare: landed ones, and those held at home before leaving for it."""
    flights = Flights(frame)
    by = Keyed(flights, "dest")
    left, landed = by.sums(flights.departed), by.sums(flights.arrived)
    return by.rows(
        DEST,
        [
            mean(by.sums(flights.arrived, flights.arr_delay).window(6), landed.window(6)),
            mean(by.sums(flights.arrived, flights.added_delay).window(6), landed.window(6)),
            mean(by.sums(flights.departed, flights.dep_delay).window(3), left.window(3)),
            mean(by.sums(flights.arrived, flights.late).window(24), landed.window(24)),
            landed.window(6),
        ],
    )


def dest_history(frame: pd.DataFrame) -> pd.DataFrame:
    """Long-run late shares of each destination, computed once a week, on Monday at 00:00 UTC."""
    flights = Flights(frame)
    by = Keyed(flights, "dest")
    landed, late = by.sums(flights.arrived), by.sums(flights.arrived, flights.late)
    hours = np.arange(flights.axis.count) + flights.axis.first
    mondays = np.flatnonzero((hours - 4 * 24) % (7 * 24) == 0)  # the epoch began on a Thursday
    shares = [mean(late.window(24 * days), landed.window(24 * days)) for days in (7, HISTORY_DAYS)]
    return by.rows(DEST_HISTORY, shares, mondays)
