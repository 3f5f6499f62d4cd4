"""The online store of the running platform is filled again on a schedule, as a CronJob does on a cluster.

What is served is as old as the last filling, and after a view's time to live a default. Offline rows are computed
first, then the newest of every key are written; both by processes of their own at the lowest priority, which the loop
never waits for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from windlass.local.errand import Errand
from windlass.settings import Settings

LIMIT_S = 1800.0
FIRST_S = 120.0
STEPS = ("build", "materialize")


class RefillingTask:
    """Fills one workload's features now and then; `turn` is called all the time and never waits.

    Args:
        say: told when it fails where it did not before, and when it does no more.
        filled: whether the platform has just filled the store itself.
    """

    def __init__(
        self,
        settings: Settings,
        workload: str,
        say: Callable[[str], None],
        *,
        filled: bool,
        first_s: float = FIRST_S,
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._say = say
        self._filled = filled
        self._first_s = first_s
        self._next: float | None = None
        self._left: list[str] = []
        self._fails = False
        self._errand = Errand(settings, self.log, LIMIT_S)

    @property
    def log(self) -> Path:
        return self._settings.logs_dir / "features.log"

    @property
    def pid(self) -> int | None:
        """Process that fills; None where none does."""
        return self._errand.pid

    def turn(self, now: float) -> None:
        """Look whether a step is done or due; `now` is of a clock that nobody sets, in seconds."""
        every = self._settings.features_every
        if self._errand.pid is not None:
            well = self._errand.ended(now)
            if well is False:
                self._left = []
            if well is not None and not self._left:
                self._tell(well)
        if self._errand.pid is not None or every is None:
            return
        if self._left:
            self._start(self._left.pop(0), now)
        elif self._next is None:
            self._next = now + (every.total_seconds() if self._filled else self._first_s)
        elif now >= self._next:
            self._next = now + every.total_seconds()
            first, *self._left = STEPS
            self._start(first, now)

    def close(self) -> None:
        """End what is under way; it left nothing half-written and is made again."""
        self._errand.close()

    def command(self, step: str) -> list[str]:
        """What is started for a step."""
        return [sys.executable, "-m", "windlass", "features", step, self._workload]

    def _start(self, step: str, now: float) -> None:
        self._errand.start(self.command(step), now)

    def _tell(self, well: bool) -> None:
        if not well and not self._fails:
            self._say(f"warning: the features of {self._workload} are not filled again; {self.log} says why")
        elif well and self._fails:
            self._say(f"the features of {self._workload} are filled again")
        self._fails = not well
