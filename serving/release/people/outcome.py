"""What a release came to, in one word and as the exit code by which a pipeline goes on or stops.

A release that was given up for lack of evidence, and one that holds beyond its `inconclusiveAfter` while a person was
alerted, are both inconclusive: whoever waits for them in a pipeline must not wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from serving.release.engine import BACKEND
from serving.release.journal.history import History

Outcome = Literal["promoted", "rolled_back", "inconclusive", "aborted"]

EXIT_CODES: Mapping[Outcome, int] = {"promoted": 0, "rolled_back": 3, "inconclusive": 4, "aborted": 4}
REFUSED = 1
TIMED_OUT = 5

#: How the engine's reasons begin once `inconclusiveAfter` is over.
LATE = "no progress for "


def of(found: History) -> Outcome | None:
    """What it came to; None while it is live."""
    phase, last = found.state.phase, found.last or {}
    if phase == "Promoted":
        return "promoted"
    if phase == "RolledBack":
        return "rolled_back"
    if phase == "Aborted":
        # a person's abort looked at nothing, and a router that refuses is no finding about the candidate
        judged = last.get("verdicts") and last.get("check") != BACKEND
        return "inconclusive" if judged else "aborted"
    return None


def stuck(found: History) -> bool:
    """Whether it holds longer than its document allows, and a person has been alerted."""
    reason = str((found.last or {}).get("reason", ""))
    return found.state.phase == "Progressing" and found.state.alert is not None and reason.startswith(LATE)


def settled(found: History) -> Outcome | None:
    """What whoever waits is told: an outcome that is in force, or that it is stuck."""
    if stuck(found):
        return "inconclusive"
    return of(found) if found.unconfirmed is None else None
