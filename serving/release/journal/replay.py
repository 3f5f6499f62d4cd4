"""Deciding a journal's decisions again: the same evidence must give the same decisions, today and in a year.

A replay starts from the document and feeds the engine what each record says it looked at, so it tests the engine
against its own past as much as a past decision against the engine. Journals of the first rules, which held counts
instead of evidence, are read as well (`first_rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from serving.release import engine, spec, state, traffic
from serving.release.decision import Decision
from serving.release.evidence import Evidence
from serving.release.journal import evidence_json, first_rules
from serving.release.journal.store import Record
from serving.release.state import ReleaseState


@dataclass(frozen=True)
class Difference:
    """One field of one decision that came out otherwise."""

    seq: int
    field: str
    recorded: Any
    replayed: Any


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes:
        release: name of the release; None of a journal without its first record.
        decisions: decided again.
        undecidable: decisions of the first rules whose paired values the journal does not hold; all decisions of
            rules that are not known here.
        unknown_rules: what the journal says decided, where no engine of today does.
    """

    release: str | None
    decisions: int
    differences: tuple[Difference, ...]
    undecidable: int = 0
    unknown_rules: str | None = None

    @property
    def same(self) -> bool:
        return not self.differences


def replay(records: Iterable[Record]) -> Replayed:
    """Decide every decision of one release again.

    Raises:
        ValueError: a decision whose record does not say what it came from, or a record that lacks a field.
        WindlassError: a document or a state that is none of this engine's.
    """
    told = list(records)
    differences: list[Difference] = []
    count = undecidable = 0
    first = next((record for record in told if record["kind"] == "release"), None)
    rules = None if first is None else first.get("rules", 1)
    known = rules is None or (isinstance(rules, int) and 1 <= rules <= state.RULES)
    try:
        name = None if first is None else first["document"]["metadata"]["name"]
        if not known:
            undecidable = sum(record["kind"] == "decision" for record in told)
            return Replayed(name, 0, (), undecidable, str(rules))
        for record, decision in decisions(told):
            if decision is None:
                undecidable += 1
                continue
            count += 1
            differences += _compare(record, decision)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"a record is not as an engine writes it ({type(error).__name__}: {error})"
        ) from error
    return Replayed(name, count, tuple(differences), undecidable)


def decisions(records: Iterable[Record]) -> Iterator[tuple[Record, Decision | None]]:
    """Each record of a decision with the decision that the engine takes now; None where nobody can know."""
    told = list(records)
    current: ReleaseState | None = None
    pairs: dict[str, Sequence[float]] = {}
    known = first_rules.pairs(told)
    for record in told:
        if record["kind"] == "release":
            current = state.initial(
                spec.parse(record["document"], strict=False), record["champion"], record.get("rules", 1)
            )
        elif record["kind"] == "repaired" and current is not None:
            current = state.recounted(current)
        elif record["kind"] == "decision" and current is not None:
            decision = (
                first_rules.decide(current, record, known)
                if current.rules == 1
                else _decide(current, record, pairs)
            )
            yield record, decision
            current = (
                state.from_json(record["state"], current.release) if decision is None else decision.state
            )


def _decide(current: ReleaseState, record: Record, pairs: dict[str, Sequence[float]]) -> Decision:
    now = datetime.fromisoformat(record["at"])
    cause = record.get("cause")
    if cause is not None and "command" in cause:
        return engine.obey(current, cause["command"], now, by=cause["by"], to=cause["to"])
    if cause is not None and "refused" in cause:
        return engine.refused(current, cause["refused"], cause["failures"], now)
    if record["evidence"] is not None:
        evidence = evidence_json.from_json(record["evidence"], pairs)
        pairs.update(evidence.paired)
        return engine.next_step(current, evidence, now)
    if current.phase == "Pending":
        return engine.next_step(current, Evidence(now), now)
    raise ValueError(f"decision {record['seq']} ({record['action']}) says neither its evidence nor its cause")


def _compare(record: Record, decision: Decision) -> Iterator[Difference]:
    seq, versions = record["seq"], "traffic" in record
    fields: dict[str, tuple[Any, Any]] = {
        "action": (record["action"], decision.action),
        "check": (record["check"], decision.check),
        "weights": (dict(record["weights"]), dict(decision.weights)),
        "mirror_to": (record["mirror_to"], decision.mirror_to),
        "champion": (record["champion"], decision.champion),
        "verdicts": (
            _outcomes(record["verdicts"], versions),
            _outcomes([asdict(verdict) for verdict in decision.verdicts], versions),
        ),
    }
    if versions:
        fields["traffic"] = (record["traffic"], _plain(traffic.to_json(decision.traffic)))
        fields["reason"] = (record["reason"], decision.reason)
        fields["alert"] = (record["alert"], decision.alert)
    for name, (recorded, replayed) in fields.items():
        if recorded != replayed:
            yield Difference(seq, name, recorded, replayed)


def _outcomes(verdicts: Iterable[Mapping[str, Any]], versions: bool) -> dict[str, tuple[str, int]]:
    # the first rules knew one candidate and did not name it
    found = {}
    for verdict in verdicts:
        name = (
            f"{verdict['check']}@{verdict['version']}"
            if versions and verdict["version"]
            else verdict["check"]
        )
        found[name] = (verdict["outcome"], verdict["n"])
    return found


def _plain(value: Any) -> Any:
    """As JSON brings it back: tuples are lists there."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
