"""Evidence as JSON's values, exactly and without repeating itself: what makes a decision repeatable from its journal.

Sums are small and written whole. Paired values only ever grow at their end, so a record holds what came since the
one before; where they did not, it holds them all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from serving.release.evidence import ArmEvidence, Evidence, Pairs, Smoke
from serving.release.statistics.histogram import Histogram
from serving.release.statistics.moments import Moments

Values = Mapping[str, Sequence[float]]


def to_json(evidence: Evidence, before: Values) -> dict[str, Any]:
    """Plain values; `before` are the paired values up to the record before this one."""
    plain: dict[str, Any] = {"at": evidence.at.isoformat()}
    plain["arms"] = {version: _arm(arm) for version, arm in evidence.arms.items()}
    paired = {name: _since(values, before.get(name, ())) for name, values in evidence.paired.items()}
    for name, value in (("paired", paired), ("silent", evidence.silent), ("faults", evidence.faults)):
        if value:
            plain[name] = dict(value)
    if evidence.reached:
        plain["reached"] = {source: moment.isoformat() for source, moment in evidence.reached.items()}
    if evidence.pairs is not None:
        pairs = evidence.pairs
        distances = {str(step): count for step, count in sorted(pairs.distances.items())}
        plain["pairs"] = {"n": pairs.n, "differing": pairs.differing, "distances": distances}
    if evidence.smoke is not None:
        plain["smoke"] = asdict(evidence.smoke)
    return plain


def from_json(plain: Mapping[str, Any], before: Values) -> Evidence:
    """The inverse of `to_json`, given the same `before`."""
    smoke, pairs = plain.get("smoke"), plain.get("pairs")
    return Evidence(
        at=datetime.fromisoformat(plain["at"]),
        arms={version: _read_arm(arm) for version, arm in plain["arms"].items()},
        paired={
            name: (*before.get(name, ())[: told["from"]], *map(_read_number, told["values"]))
            for name, told in plain.get("paired", {}).items()
        },
        pairs=None
        if pairs is None
        else Pairs(pairs["n"], pairs["differing"], {int(s): c for s, c in pairs["distances"].items()}),
        silent=dict(plain.get("silent", {})),
        faults=dict(plain.get("faults", {})),
        reached={source: datetime.fromisoformat(at) for source, at in plain.get("reached", {}).items()},
        smoke=None if smoke is None else Smoke(**smoke),
    )


def _since(values: Sequence[float], before: Sequence[float]) -> dict[str, Any]:
    start = len(before) if tuple(values[: len(before)]) == tuple(before) else 0
    return {"from": start, "values": [_number(value) for value in values[start:]]}


def _arm(arm: ArmEvidence) -> dict[str, Any]:
    plain: dict[str, Any] = {"requests": arm.requests, "errors": arm.errors}
    if arm.latencies is not None:
        plain["latencies"] = arm.latencies.to_json()
    if arm.skew_checked or arm.skew_mismatched:
        plain["skew"] = [arm.skew_checked, arm.skew_mismatched]
    if arm.skew_by_input:
        plain["skewByInput"] = dict(arm.skew_by_input)
    if arm.units is not None:
        plain["units"] = arm.units
    if arm.outcomes:
        plain["outcomes"] = {name: _moments(moments) for name, moments in arm.outcomes.items()}
    if arm.periods:
        plain["periods"] = {name: [_moments(m) for m in periods] for name, periods in arm.periods.items()}
    if arm.contexts:
        plain["contexts"] = {
            name: {value: _moments(m) for value, m in cells.items()} for name, cells in arm.contexts.items()
        }
    if arm.silent:
        plain["silent"] = dict(arm.silent)
    if arm.down:
        plain["down"] = arm.down
    return plain


def _read_arm(plain: Mapping[str, Any]) -> ArmEvidence:
    latencies = plain.get("latencies")
    checked, mismatched = plain.get("skew", (0, 0))
    return ArmEvidence(
        requests=plain["requests"],
        errors=plain["errors"],
        latencies=None if latencies is None else Histogram.from_json(latencies),
        skew_checked=checked,
        skew_mismatched=mismatched,
        skew_by_input=dict(plain.get("skewByInput", {})),
        units=plain.get("units"),
        outcomes={name: _read_moments(m) for name, m in plain.get("outcomes", {}).items()},
        periods={
            name: tuple(_read_moments(m) for m in periods)
            for name, periods in plain.get("periods", {}).items()
        },
        contexts={
            name: {value: _read_moments(m) for value, m in cells.items()}
            for name, cells in plain.get("contexts", {}).items()
        },
        silent=dict(plain.get("silent", {})),
        down=plain.get("down", ""),
    )


def _moments(moments: Moments) -> dict[str, Any]:
    return {name: _number(value) for name, value in asdict(moments).items() if value != 0}


def _read_moments(plain: Mapping[str, Any]) -> Moments:
    told: dict[str, Any] = {name: _read_number(value) for name, value in plain.items()}
    return Moments(**told)


def _number(value: float) -> float | str:
    # NaN and infinity are faults of the evidence and have no place in JSON; as a text they still replay
    return value if math.isfinite(value) else repr(value)


def _read_number(value: float | str) -> float:
    return float(value) if isinstance(value, str) else value
