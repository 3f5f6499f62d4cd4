"""One release told from its journal: what status, explain, watch, wait and the report all read.

The journal's own meaning is in `history.py`; here are its records beside the state they lead to, and how a person's
model and name find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from serving.release.evidence import Evidence
from serving.release.journal import evidence_json, history
from serving.release.journal.history import History
from serving.release.journal.store import DiskStore, Entry, Record, entry_of
from serving.release.release import BlueGreen, Canary, Release
from serving.release.state import ReleaseState
from windlass.errors import UsageError


@dataclass(frozen=True)
class Account:
    """A release's journal.

    Attributes:
        records: all of them, in the order of their writing.
    """

    history: History
    records: tuple[Record, ...]

    @property
    def entry(self) -> Entry:
        return self.history.entry

    @property
    def release(self) -> Release:
        return self.history.release

    @property
    def state(self) -> ReleaseState:
        return self.history.state

    @property
    def decisions(self) -> list[Record]:
        return [record for record in self.records if record["kind"] == "decision"]

    @property
    def turns(self) -> list[Record]:
        """Decisions that did something."""
        return [record for record in self.decisions if record["action"] != "hold"]

    @property
    def last(self) -> Record | None:
        return self.history.last

    @property
    def began(self) -> datetime:
        return datetime.fromisoformat(self.records[0]["at"])

    @property
    def told(self) -> datetime:
        """The time of the newest record that has one."""
        times = [record["at"] for record in self.records if "at" in record]
        return datetime.fromisoformat(times[-1])

    @property
    def verdicts(self) -> list[Record]:
        """Of the newest look at the evidence: a person's command looks at none."""
        found = (record["verdicts"] for record in reversed(self.decisions) if record["verdicts"])
        return list(next(found, []))

    def looks(self) -> Iterator[tuple[Record, Evidence]]:
        """Decisions with the evidence they rested on; journals of the first rules hold counts only, and have none."""
        if self.state.rules == 1:
            return
        pairs: dict[str, Any] = {}
        for record in self.decisions:
            if record.get("evidence"):
                evidence = evidence_json.from_json(record["evidence"], pairs)
                pairs |= evidence.paired
                yield record, evidence

    def newest_evidence(self) -> Evidence | None:
        """The evidence of the newest look."""
        if self.state.rules == 1:
            return None
        for record in reversed(self.decisions):
            if record.get("evidence"):
                # the paired values are known already, and all of them
                return evidence_json.from_json(record["evidence"], self.history.pairs)
        return None

    def verdict(self, check: str, version: str | None = None) -> dict[str, Any] | None:
        """The newest look's verdict of a check, of one version or of the one that looks worst."""
        found = [v for v in self.verdicts if v["check"] == check]
        if version is not None:
            found = [v for v in found if v.get("version") in (None, version)]
        ranked = sorted(found, key=lambda v: ("FAIL", "ERROR", "PASS", "INCONCLUSIVE").index(v["outcome"]))
        return dict(ranked[0]) if ranked else None


def of_records(entry: Entry, records: Iterable[Record]) -> Account | None:
    """The account of a journal; None where not even its first record was completed."""
    kept = tuple(records)
    found = history.of_records(entry, kept)
    return None if found is None else Account(found, kept)


def read(path: Path) -> Account | None:
    """The account of a journal's file."""
    return of_records(entry_of(path), history.records(path))


def find(directory: Path, model: str, name: str | None = None) -> Account:
    """The model's release of that name, its newest without one.

    Args:
        directory: `settings.journal_dir / "releases"`.

    Raises:
        UsageError: there is none.
    """
    store = DiskStore(directory)
    entries = store.entries(model)
    for entry in reversed(entries):
        if name is None or entry.name == name:
            found = read(store.path(entry))
            if found is not None:
                return found
    if name is None:
        known = ", ".join(store.models()) or "none"
        raise UsageError(
            f"model {model!r} has no release (models that have: {known}); `windlass release apply -f FILE`"
        )
    names = ", ".join(entry.name for entry in entries) or "none"
    raise UsageError(f"model {model!r} has no release {name!r}; known: {names}")


def steps(release: Release) -> int:
    """How many steps its strategy has."""
    strategy = release.strategy
    if isinstance(strategy, Canary):
        return len(strategy.steps)
    return 2 if isinstance(strategy, BlueGreen) else 1
