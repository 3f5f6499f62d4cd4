"""Whether the wall clock was set: it is compared with one that nobody can set.

A cool-down by a wall clock that jumps forward ends too soon. `CLOCK_BOOTTIME` counts the seconds since the machine
started, also while it sleeps; together with the boot's id it tells how much time passed between two readings, also
across a restart of the process. Across a restart of the machine nothing can tell it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

LEAST_S = 30.0
"""A difference below this is no jump: NTP may step by less, and two clocks cannot be read at once."""
SLEW = 0.001
"""By this share of the time passed the clocks may differ otherwise: the kernel slews by 500 ppm at the most."""


@dataclass(frozen=True)
class Reading:
    """Both clocks at one moment: `at` aware UTC, `steady` in seconds since the start `boot`."""

    at: datetime
    boot: str
    steady: float


def read() -> Reading:
    """Read both clocks (Linux)."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Reading(datetime.now(UTC), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


def jump(before: Reading, now: Reading) -> timedelta:
    """By how much the wall clock was set between two readings: forward is positive, zero where it was not.

    Zero also where the machine was started anew in between: then nobody knows.
    """
    if before.boot != now.boot:
        return timedelta(0)
    passed = now.steady - before.steady
    ahead = (now.at - before.at).total_seconds() - passed
    return timedelta(seconds=ahead) if abs(ahead) > max(LEAST_S, SLEW * passed) else timedelta(0)
