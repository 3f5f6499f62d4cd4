"""Journals of the first rules, read so that they can be decided again.

They hold counts by check and arm instead of evidence, and of paired values a number and a hash, in full only where
more than holding was decided; since values only ever grew at their end, an earlier look's are the first of those. A
person's command is told by its action and reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from serving.release import engine
from serving.release.decision import Decision
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.journal.store import Record
from serving.release.metrics import METRICS
from serving.release.state import ReleaseState
from serving.release.statistics.histogram import Histogram

Pairs = Mapping[str, tuple[float, ...]]

_BY = re.compile(r"(?:paused|resumed|aborted|promoted|rolled back to version \S+) by (.+?)(?:, without .*)?")
_COMMANDS = {
    "pause": "pause",
    "resume": "resume",
    "abort": "abort",
    "promote": "promote",
    "roll_back": "rollback",
}


def pairs(records: Iterable[Record]) -> Pairs:
    """By check, the longest list of paired values that the journal holds."""
    longest: dict[str, tuple[float, ...]] = {}
    for record in records:
        if record["kind"] == "release" and record.get("rules", 1) != 1:
            return {}  # today's pairs are counts
        for name, told in ((record.get("evidence") or {}).get("pairs") or {}).items():
            values = tuple(told.get("values", ()))
            if len(values) > len(longest.get(name, ())):
                longest[name] = values
    return longest


def decide(current: ReleaseState, record: Record, known: Pairs) -> Decision | None:
    """What the engine decides now on what this record says was seen; None where its paired values are lost.

    They are where a person ended the release before a look that did more than hold.
    """
    now = datetime.fromisoformat(record["at"])
    if record["evidence"] is not None:
        evidence = _evidence(current, record, known, now)
        return None if evidence is None else engine.next_step(current, evidence, now)
    if current.phase == "Pending":
        return engine.next_step(current, Evidence(now), now)
    command: Any = _COMMANDS[record["action"]]
    by = _BY.fullmatch(record["reason"])
    to = next(iter(record["weights"])) if command == "rollback" else None
    return engine.obey(current, command, now, by=by[1] if by else "a person", to=to)


def _evidence(current: ReleaseState, record: Record, known: Pairs, now: datetime) -> Evidence | None:
    seen = record["evidence"]
    release = current.release
    versions = {"candidate": release.candidate, "champion": current.champion}
    arms: dict[str, dict[str, Any]] = {
        version: {"requests": seen["requests"][arm]["n"], "errors": seen["requests"][arm]["events"]}
        for arm, version in versions.items()
    }
    paired, faults = {}, {}
    for check in release.checks:
        if check.name in seen["faults"]:
            faults[check.metric] = seen["faults"][check.name]
            continue
        if METRICS[check.metric].paired:
            values = _values(seen["pairs"][check.name], known.get(check.name, ()))
            if values is None:
                return None
            paired[check.metric] = values
            continue
        for arm, version in versions.items():
            counts = seen["counts"][check.name][arm]
            if check.metric == "featureSkew":
                arms[version] |= {"skew_checked": counts["n"], "skew_mismatched": counts["events"]}
            elif METRICS[check.metric].unit == "latency" and check.bound is not None:
                quick = counts["n"] - counts["events"]
                arms[version]["latencies"] = Histogram((check.bound,), (quick, counts["events"]))
    return Evidence(
        now, {version: ArmEvidence(**arm) for version, arm in arms.items()}, paired, faults=faults
    )


def _values(told: Mapping[str, Any], known: tuple[float, ...]) -> tuple[float, ...] | None:
    values = tuple(told["values"]) if "values" in told else known[: told["n"]]
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    return values if digest == told["sha256"] else None
