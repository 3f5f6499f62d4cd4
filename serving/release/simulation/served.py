"""How a release's requests were split and answered, tick by tick: which look was fair to both versions."""

from __future__ import annotations

from dataclasses import dataclass

from serving.release.journal.store import Record


@dataclass(frozen=True)
class Tick:
    """One tick's requests.

    Attributes:
        total: requests of all versions up to and with them.
        drifted: they were split by weights that nobody decided.
        outage: most of them failed, whoever answered.
    """

    total: int
    drifted: bool
    outage: bool


def unfair(ticks: list[Tick], before: Record, after: Record) -> bool:
    """Whether the look between two decisions counted an outage's beginning or end, and wrong weights meanwhile.

    The versions were not asked at the same times then: the one that was asked more in the outage looks worse. Such a
    look is judged all the same, since a bad version would go on for as long as somebody moves the weights.
    """
    counted = [tick for tick in ticks if _requests(before) < tick.total <= _requests(after)]
    return any(tick.drifted for tick in counted) and len({tick.outage for tick in counted}) == 2


def _requests(record: Record) -> int:
    return sum(int(counts["n"]) for counts in record["state"]["requests"].values())
