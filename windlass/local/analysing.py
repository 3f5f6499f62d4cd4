"""The scheduled analysis of the running platform: the job that a CronJob starts on a cluster, started here by the loop.

A process of its own at the lowest priority, one at a time: the loop never waits for it. What it finds wrong it tells
the platform's retrain trigger itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from monitoring.analysis import store
from windlass.errors import WindlassError
from windlass.local.errand import Errand
from windlass.settings import Settings

LIMIT_S = 1800.0
FIRST_S = 60.0
"""After a start the platform has other things to do."""

Trigger = Callable[[], tuple[str, Path] | None]
"""Where the retrain trigger takes events and the file with its token; None where it does not run."""


class AnalysisTask:
    """Analyses one workload now and then; `turn` is called all the time and never waits.

    Args:
        as_of: where the platform's clock stands; None where it is the present.
        say: told when an analysis failed.
        wall: epoch seconds, for the time of the last attempt, which an earlier platform may have made.
    """

    def __init__(
        self,
        settings: Settings,
        workload: str,
        say: Callable[[str], None],
        *,
        as_of: datetime | None = None,
        trigger: Trigger = lambda: None,
        first_s: float = FIRST_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._say = say
        self._as_of = as_of
        self._trigger = trigger
        self._first_s = first_s
        self._wall = wall
        self._next: float | None = None
        self._errand = Errand(settings, self.log, LIMIT_S)

    @property
    def log(self) -> Path:
        return self._settings.logs_dir / "analysis.log"

    @property
    def pid(self) -> int | None:
        """Process that analyses; None where none does."""
        return self._errand.pid

    def turn(self, now: float) -> None:
        """Look whether an analysis is done or due; `now` is of a clock that nobody sets, in seconds."""
        every = self._settings.analysis_every
        if self._errand.pid is not None:
            if self._errand.ended(now) is False:
                self._say(f"warning: the analysis of {self._workload} failed; {self.log} says why")
        elif every is not None and self._next is None:
            self._next = now + max(self._first_s, self._left(every))
        elif every is not None and self._next is not None and now >= self._next:
            self._next = now + every.total_seconds()
            self._start(now)

    def close(self) -> None:
        """End an analysis that is being made; it left nothing half-written and is made again."""
        self._errand.close()

    def command(self) -> list[str]:
        """What is started."""
        words = [sys.executable, "-m", "monitoring.analysis", self._workload]
        if self._as_of is not None:
            words += ["--end", self._as_of.isoformat()]
        told = self._trigger()
        if told is not None:
            words += ["--signals-to", f"{told[0]}/events", "--token-file", str(told[1])]
        return words

    def _start(self, now: float) -> None:
        self._errand.start(self.command(), now)

    def _left(self, every: timedelta) -> float:
        """Seconds until the next one is due after the last attempt, whoever made it."""
        try:
            attempt = store.status(self._settings, self._workload).attempt
        except (WindlassError, TypeError):
            return 0.0
        # a clock that was set back must not make it wait for longer than the interval
        return (
            0.0
            if attempt is None
            else min(attempt + every.total_seconds() - self._wall(), every.total_seconds())
        )
