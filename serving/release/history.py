"""The journal of one release: its document, every decision with what it rested on, and what was carried out.

Records, one JSON line each, in `journal/releases/<model>/<number>-<name>.jsonl`:

* `release`: the document and the champion, once, first;
* `decision`: before it is carried out; `seq` counts them, `state` is the state after it, `evidence` the counts it
  rested on (of paired differences their number and hash; in full where more than holding was decided);
* `confirmed`: decision `seq` is in force;
* `repaired`: the weights on the wire were not the decided ones and were set again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from serving.release import spec, state
from serving.release.engine import Decision
from serving.release.release import Release
from serving.release.state import ReleaseState
from serving.release.tally import Tally
from windlass import journal

_FILE = re.compile(r"(\d{4,})-(.+)\.jsonl")


@dataclass(frozen=True)
class History:
    """What a journal says: the newest state, and the decision that is not confirmed yet, if any."""

    path: Path
    state: ReleaseState
    seq: int
    unconfirmed: Mapping[str, Any] | None
    last: Mapping[str, Any] | None

    @property
    def release(self) -> Release:
        return self.state.release


def files(directory: Path, model: str) -> list[tuple[int, str, Path]]:
    """Number, name and journal of every release of `model`, oldest first."""
    found = []
    for path in (directory / model).glob("*.jsonl"):
        match = _FILE.fullmatch(path.name)
        if match:
            found.append((int(match[1]), match[2], path))
    return sorted(found)


def models(directory: Path) -> list[str]:
    """Models that ever had a release."""
    return sorted(path.name for path in directory.glob("*") if path.is_dir()) if directory.is_dir() else []


def read(path: Path) -> History | None:
    """Read a journal; None where not even its first record was completed."""
    current: ReleaseState | None = None
    seq = 0
    unconfirmed: Mapping[str, Any] | None = None
    last: Mapping[str, Any] | None = None
    for record in journal.read(path):
        if record["kind"] == "release":
            current = state.initial(spec.parse(record["document"]), record["champion"])
        elif record["kind"] == "decision" and current is not None:
            current = state.from_json(record["state"], current.release)
            seq = record["seq"]
            last = record
            if record["acts"]:
                unconfirmed = record
        elif (
            record["kind"] == "confirmed" and unconfirmed is not None and record["seq"] == unconfirmed["seq"]
        ):
            unconfirmed = None
    return None if current is None else History(path, current, seq, unconfirmed, last)


def newest(directory: Path, model: str) -> History | None:
    """The journal of the model's newest release."""
    for _, _, path in reversed(files(directory, model)):
        found = read(path)
        if found is not None:
            return found
    return None


def decisions(path: Path) -> Iterator[dict[str, Any]]:
    """The decision records of a journal, oldest first."""
    return (record for record in journal.read(path) if record["kind"] == "decision")


def release_record(release: Release, champion: str, now: datetime) -> dict[str, Any]:
    return {
        "kind": "release",
        "at": now.isoformat(),
        "champion": champion,
        "document": spec.document(release),
    }


def decision_record(decision: Decision, seq: int) -> dict[str, Any]:
    return {
        "kind": "decision",
        "seq": seq,
        "at": decision.at.isoformat(),
        "action": decision.action,
        "acts": decision.action in ("start", "advance", "promote", "roll_back", "abort"),
        "check": decision.check,
        "reason": decision.reason,
        "weights": dict(decision.weights),
        "mirror_to": decision.mirror_to,
        "champion": decision.champion,
        "requests": decision.requests,
        "alert": decision.alert,
        "verdicts": [asdict(verdict) for verdict in decision.verdicts],
        "evidence": None if decision.tally is None else _evidence(decision.tally, decision.action != "hold"),
        "state": state.to_json(decision.state),
    }


def _evidence(tally: Tally, in_full: bool) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for name, values in tally.pairs.items():
        digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
        pairs[name] = {"n": len(values), "sha256": digest}
        # NaN is a fault of the evidence and has no place in JSON
        if in_full and name not in tally.faults:
            pairs[name]["values"] = list(values)
    return {
        "requests": asdict(tally.requests),
        "counts": {name: asdict(counts) for name, counts in tally.counts.items()},
        "pairs": pairs,
        "faults": dict(tally.faults),
    }
