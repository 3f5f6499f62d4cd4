"""The journal of one release as values: its document, every decision with what it rested on, what was carried out.

Records, in the order of their writing:

* `release`: the document, the champion and the version of the rules, once, first;
* `decision`: before it is carried out; `seq` counts them, `state` is the state after it, `evidence` what it rested
  on or `command` whose wish it was: enough to decide it again (`replay.py`);
* `confirmed`: decision `seq` is in force, or with `givenUpBy` left to that person, in force or not;
* `failed`: carrying decision `seq` out failed, with the reason; it is tried again;
* `repaired`: the traffic on the wire was not the decided one and is set again; nothing is decided until it is in force.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from serving.release import spec, state, traffic
from serving.release.decision import Decision
from serving.release.evidence import Evidence
from serving.release.journal import evidence_json
from serving.release.journal.store import DiskStore, Entry, Record, entry_of
from serving.release.release import Release
from serving.release.state import ReleaseState
from windlass import journal
from windlass.errors import WindlassError


@dataclass(frozen=True)
class History:
    """What a journal says.

    Attributes:
        unconfirmed: the decision that is not known to be in force; None where all are.
        failures: times that carrying it out was refused.
        noted: whether a failure of carrying it out is in the journal.
        last: the newest decision.
        pairs: paired values up to it.
        repaired: whether the last thing that was done was to repair the route; that may not be in force yet.
        given_up_by: who left the newest act as it was, in force or not; None where nobody did.
    """

    entry: Entry
    state: ReleaseState
    seq: int = 0
    unconfirmed: Record | None = None
    failures: int = 0
    noted: bool = False
    last: Record | None = None
    pairs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    repaired: bool = False
    given_up_by: str | None = None

    @property
    def release(self) -> Release:
        return self.state.release


def of_records(entry: Entry, records: Iterable[Record]) -> History | None:
    """What the records say; None where not even the first was completed."""
    current: ReleaseState | None = None
    seq = failures = 0
    noted = repaired = False
    unconfirmed: Record | None = None
    given_up_by: str | None = None
    last: Record | None = None
    pairs: dict[str, Sequence[float]] = {}
    for record in records:
        if record["kind"] == "release":
            current = state.initial(
                spec.parse(record["document"], strict=False), record["champion"], record.get("rules", 1)
            )
        elif record["kind"] == "decision" and current is not None:
            current = state.from_json(record["state"], current.release)
            seq, last, repaired = record["seq"], record, False
            told = record.get("evidence")
            if current.rules > 1 and told is not None and told.get("paired"):
                pairs.update(evidence_json.from_json(told, pairs).paired)
            if record["acts"]:
                unconfirmed, failures, noted, given_up_by = record, 0, False, None
        elif record["kind"] == "repaired" and current is not None:
            current, repaired = state.recounted(current), True
        elif unconfirmed is not None and record.get("seq") == unconfirmed["seq"]:
            if record["kind"] == "confirmed":
                unconfirmed, given_up_by = None, record.get("givenUpBy")
            elif record["kind"] == "failed":
                failures += record["refused"]
                noted = True
    if current is None:
        return None
    if unconfirmed is None:
        failures, noted = 0, False
    return History(entry, current, seq, unconfirmed, failures, noted, last, pairs, repaired, given_up_by)


def read(path: Path) -> History | None:
    """Read a journal's file; None where not even its first record was completed."""
    return of_records(entry_of(path), records(path))


def records(path: Path) -> list[Record]:
    """All records of a journal's file, a torn last line left out; none of a file that is not there.

    Raises:
        WindlassError: a line is no record; it is named.
    """
    found: list[Record] = []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return found
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise _unreadable(path, number, "is no JSON") from error
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise _unreadable(path, number, "is no record")
        found.append(record)
    return found


def _unreadable(path: Path, number: int, why: str) -> WindlassError:
    return WindlassError(
        f"journal {path} cannot be read: line {number} {why}; restore the file from a copy, or move it away"
    )


def files(directory: Path, model: str) -> list[tuple[int, str, Path]]:
    """Number, name and journal of every release of `model`, oldest first."""
    store = DiskStore(directory)
    return [(entry.number, entry.name, store.path(entry)) for entry in store.entries(model)]


def models(directory: Path) -> list[str]:
    """Models that ever had a release."""
    return DiskStore(directory).models()


def newest(directory: Path, model: str) -> History | None:
    """The journal of the model's newest release."""
    store = DiskStore(directory)
    for entry in reversed(store.entries(model)):
        found = read(store.path(entry))
        if found is not None:
            return found
    return None


def decisions(path: Path) -> Iterator[dict[str, Any]]:
    """The decision records of a journal, oldest first."""
    return (record for record in journal.read(path) if record["kind"] == "decision")


# --- records


def release_record(release: Release, champion: str, now: datetime) -> dict[str, Any]:
    return {
        "kind": "release",
        "at": now.isoformat(),
        "champion": champion,
        "rules": state.RULES,
        "document": spec.document(release),
    }


def decision_record(
    decision: Decision,
    seq: int,
    pairs: Mapping[str, Sequence[float]],
    cause: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of a decision.

    Args:
        pairs: paired values up to the record before.
        cause: what it came from where that was no evidence: a person's command, or a router that refused.
    """
    evidence: Evidence | None = decision.evidence
    return {
        "kind": "decision",
        "seq": seq,
        "at": decision.at.isoformat(),
        "action": decision.action,
        "acts": decision.acts,
        "check": decision.check,
        "reason": decision.reason,
        "weights": dict(decision.weights),
        "mirror_to": decision.mirror_to,
        "traffic": traffic.to_json(decision.traffic),
        "champion": decision.champion,
        "requests": decision.requests,
        "alert": decision.alert,
        "verdicts": [asdict(verdict) for verdict in decision.verdicts],
        "cause": cause,
        "evidence": None if evidence is None else evidence_json.to_json(evidence, pairs),
        "state": state.to_json(decision.state),
    }
