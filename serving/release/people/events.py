"""Events of a release, as `kubectl describe` shows them: derived from its journal, never stored beside it.

The journal already has each transition with its reason, durably and in order; a second file could only disagree with
it. The local platform shows these events in `windlass release explain`, and a cluster's controller can post the same
values as Kubernetes Events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from serving.release.journal.store import Record


@dataclass(frozen=True)
class Event:
    """One thing that happened to a release.

    Attributes:
        at: ISO time; of a confirmation none is written down, so it is no event.
        type: "Warning" where a person may have to look.
        reason: one word for machines.
    """

    at: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


_REASONS: Mapping[str, str] = {
    "start": "Started",
    "advance": "Advanced",
    "update": "WeightsUpdated",
    "drop": "CandidateDropped",
    "promote": "Promoted",
    "roll_back": "RolledBack",
    "pause": "Paused",
    "resume": "Resumed",
    "abort": "Aborted",
}


def of_record(record: Record) -> Event | None:
    """The event that a record stands for; None of a hold without news, and of what is no transition."""
    kind = record["kind"]
    if kind == "repaired":
        # the first version of the engine noted weights alone
        found = record.get("found")
        shown = dict(found.get("weights", found)) if isinstance(found, Mapping) else found
        message = f"the router showed {shown}, decided was {record.get('weights')}: set again"
        return Event(record["at"], "Warning", "TrafficRepaired", message)
    if kind == "failed":
        reason = "TrafficRefused" if record["refused"] else "ActFailed"
        message = f"decision {record['seq']} is not in force, it is tried again: {record['reason']}"
        return Event(record["at"], "Warning", reason, message)
    if kind != "decision":
        return None
    warned = record.get("alert") is not None
    if record["action"] == "hold":
        return Event(record["at"], "Warning", "Held", record["reason"]) if warned else None
    type_: Literal["Normal", "Warning"] = "Warning" if warned else "Normal"
    return Event(record["at"], type_, _REASONS[record["action"]], record["reason"])


def of_records(records: Iterable[Record]) -> Iterator[Event]:
    """The events of a journal, in its order."""
    for record in records:
        found = of_record(record)
        if found is not None:
            yield found
