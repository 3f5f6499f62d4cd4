"""What a version of the training data is, and the journal that says which there are.

One journal for all workloads, `journal/data.jsonl`: a partition that was taken (`added`, with the whole version), one
that was not (`refused`, with the reasons), and one that was there already when the one before was refused (`repeated`).
The newest `added` of a workload is its head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from windlass import journal
from windlass.errors import UsageError
from windlass.settings import Settings

ADDED, REFUSED, REPEATED = "added", "refused", "repeated"
SHORT = 12
SHORTEST = 4


@dataclass(frozen=True)
class Partition:
    """Rows that came together.

    Attributes:
        name: the days it spans: `2013-07-04`, `2013-07` (a whole month), `2013-07-01..2013-07-20`.
        file: its name in `data/<workload>/`.
        md5: of the file, as DVC names it.
        content: SHA-256 of the values; the same rows in another file have the same.
        start, end: event time of its oldest and newest row, ISO 8601, UTC.
    """

    name: str
    file: str
    md5: str
    content: str
    rows: int
    start: str
    end: str


@dataclass(frozen=True)
class Version:
    """All training data of a workload at one time.

    Attributes:
        id: the MD5 by which DVC knows the folder of its partitions: the same partitions are the same version.
        at: when it was made, ISO 8601, UTC.
        parent: the version before it; None for the first.
        added: the partition that makes it differ from its parent.
        partitions: in the order of time.
    """

    workload: str
    id: str
    at: str
    parent: str | None
    added: str
    partitions: tuple[Partition, ...]

    @property
    def rows(self) -> int:
        return sum(p.rows for p in self.partitions)

    @property
    def start(self) -> str:
        return min(p.start for p in self.partitions)

    @property
    def end(self) -> str:
        return max(p.end for p in self.partitions)

    @property
    def new_rows(self) -> int:
        """Rows of the partition that it added."""
        return sum(p.rows for p in self.partitions if p.name == self.added)


@dataclass(frozen=True)
class Refusal:
    """A partition that did not pass, and stayed outside."""

    workload: str
    at: str
    file: str
    reason: str


def path(settings: Settings) -> Path:
    """The journal."""
    return settings.journal_dir / "data.jsonl"


def versions(settings: Settings, workload: str) -> tuple[Version, ...]:
    """All versions, the head last."""
    found: dict[str, Version] = {}
    for record in journal.read(path(settings)):
        if record["event"] == ADDED and record["workload"] == workload:
            version = of_record(record)
            # what was taken back by a replacement is the head again
            found.pop(version.id, None)
            found[version.id] = version
    return tuple(found.values())


def head(settings: Settings, workload: str) -> Version | None:
    """The newest version; None where there is none."""
    known = versions(settings, workload)
    return known[-1] if known else None


def refusal(settings: Settings, workload: str) -> Refusal | None:
    """The refusal of the newest partition that was offered; None where that one was taken."""
    # asked at every decision and scrape; each record of a version names all of its partitions
    newest = next((r for r in journal.read_backwards(path(settings)) if r["workload"] == workload), None)
    if newest is None or newest["event"] != REFUSED:
        return None
    return Refusal(workload, newest["at"], newest["file"], newest["reason"])


def find(settings: Settings, workload: str, name: str | None) -> Version:
    """The version of this id, or of an id that begins with it; the head where none is named.

    Raises:
        UsageError: there is none, or several begin alike.
    """
    known = versions(settings, workload)
    if not known:
        raise UsageError(
            f"workload {workload!r} has no data version yet; `windlass data add` makes the first"
        )
    if name is None:
        return known[-1]
    fitting = [v for v in known if v.id.startswith(name)] if len(name) >= SHORTEST else []
    if len(fitting) == 1:
        return fitting[0]
    ids = ", ".join(v.id[:SHORT] for v in (fitting or known[-5:]))
    if fitting:
        raise UsageError(f"data version {name!r} of {workload!r} may be any of {ids}; write more of it")
    raise UsageError(
        f"{workload!r} has no data version {name!r}; the newest are {ids}; "
        f"`windlass data list {workload}` shows all"
    )


def record_of(version: Version) -> dict[str, Any]:
    """As it stands in the journal."""
    return {"event": ADDED, **asdict(version)}


def of_record(record: Mapping[str, Any]) -> Version:
    """Read what `record_of` wrote."""
    return Version(
        record["workload"],
        record["id"],
        record["at"],
        record["parent"],
        record["added"],
        tuple(Partition(**p) for p in record["partitions"]),
    )


def partition_name(oldest: datetime, newest: datetime) -> str:
    """Name a partition by the days of its oldest and its newest row (UTC)."""
    from calendar import monthrange

    first, last = oldest.date(), newest.date()
    if first == last:
        return first.isoformat()
    whole = first.day == 1 and last == first.replace(day=monthrange(first.year, first.month)[1])
    return f"{first:%Y-%m}" if whole else f"{first}..{last}"
