"""The page at the platform's report_url, made anew when there is something new to show.

A process of its own makes it: it reads all logs and asks the registry, which takes seconds that the loop does not have.
There is at most one at a time, at the lowest priority, and not more often than now and then; whoever loads the page
meanwhile sees the last one whole. What is watched are the results, not the requests: a page a request would be no use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitoring.analysis import store
from monitoring.retrain import journal
from windlass.local.errand import Errand
from windlass.settings import Settings

EVERY_S = 30.0
#: A page that takes longer than this is not made: something is wrong, and its log says what.
LIMIT_S = 600.0

Fingerprint = frozenset[tuple[str, int, int]]
"""(name, time of change in ns, size) of each file that the page shows."""


class ReportKeeper:
    """Keeps the page of one workload; `turn` is called all the time and never waits.

    Args:
        say: told when a page could not be made.
        command: makes the page.
    """

    def __init__(
        self,
        settings: Settings,
        workload: str,
        say: Callable[[str], None],
        *,
        command: Sequence[str] | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._settings = settings
        self._workload = workload
        self._say = say
        self._command = list(command or (sys.executable, "-m", "windlass", "report", workload))
        self._every_s = every_s
        self._shown: Fingerprint = frozenset()
        self._next = 0.0
        self._errand = Errand(settings, self.log, LIMIT_S)

    @property
    def log(self) -> Path:
        return self._settings.logs_dir / "report.log"

    @property
    def pid(self) -> int | None:
        """Process that makes a page; None where none is being made."""
        return self._errand.pid

    def turn(self, now: float) -> None:
        """Look whether a page is done or due; `now` is of a clock that nobody sets, in seconds."""
        if self.pid is not None:
            if self._errand.ended(now) is False:
                self._say(
                    f"warning: the report page could not be made and is an old one; {self.log} says why"
                )
            return
        if now < self._next:
            return
        self._next = now + self._every_s
        found = fingerprint(self._settings, self._workload)
        if not found or found == self._shown:
            return
        # before it is made: what comes in meanwhile is of the next page
        self._shown = found
        self._errand.start(self._command, now)

    def close(self) -> None:
        """End a page that is being made; the last one stays."""
        self._errand.close()


def fingerprint(settings: Settings, workload: str) -> Fingerprint:
    """What the page's results look like from outside; empty where there are none."""
    files = [
        store.folder(settings, workload) / store.LATEST,
        store.folder(settings, workload) / store.STATUS,
        journal.path(settings),
        *sorted((settings.journal_dir / "releases").glob("**/*.jsonl")),
    ]
    found: set[tuple[str, int, int]] = set()
    for path in files:
        try:
            seen = path.stat()
        except FileNotFoundError:
            continue
        found.add((str(path), seen.st_mtime_ns, seen.st_size))
    return frozenset(found)
