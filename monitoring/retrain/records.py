"""The lines of the journal of signals; `history.py` says what each means and reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from monitoring.retrain.clock import Reading
from monitoring.retrain.decision import TriggerDecision
from monitoring.retrain.signals import Signal

Record = dict[str, Any]


def decided(
    workload: str, signal: Signal, decision: TriggerDecision, now: datetime, in_force: str | None
) -> Record:
    """A signal with the decision about it; `in_force` is the champion at that time, where it was known."""
    return {
        "event": "accepted" if decision.accepted else "refused",
        "workload": workload,
        "id": decision.trigger,
        "at": now.isoformat(),
        "kind": signal.kind,
        "cause": signal.cause,
        "champion": signal.champion,
        "in_force": in_force,
        "signal_at": signal.at.isoformat(),
        "detail": dict(signal.detail),
        "override": signal.override,
        "rule": decision.rule,
        "reason": decision.reason,
        "escalate": decision.escalate,
        "held": decision.held,
    }


def followed(workload: str, event: str, trigger: str, now: datetime, detail: Mapping[str, Any]) -> Record:
    """How far a trigger has come: `submitted`, `finished` or `resolved`."""
    return {"event": event, "workload": workload, "id": trigger, "at": now.isoformat(), **detail}


def cleared(
    workload: str,
    kind: str,
    champion: str,
    since: datetime,
    ended: datetime,
    now: datetime,
    fingerprint: str,
) -> Record:
    """An alert has ended; not later than now, whatever its sender's clock says."""
    return {
        "event": "cleared",
        "workload": workload,
        "id": None,
        "at": now.isoformat(),
        "kind": kind,
        "champion": champion,
        "since": since.isoformat(),
        "ended": min(ended, now).isoformat(),
        "fingerprint": fingerprint,
    }


def clock(workload: str, reading: Reading, ahead: timedelta) -> Record:
    """Where the clocks stand, and by how much the wall clock was set."""
    return {
        "event": "clock",
        "workload": workload,
        "id": None,
        "at": reading.at.isoformat(),
        "boot": reading.boot,
        "steady": reading.steady,
        "ahead": ahead.total_seconds(),
    }
