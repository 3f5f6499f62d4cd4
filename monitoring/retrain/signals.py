"""What may ask for a retraining, and how an incident is named so that it is answered once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

Kind = Literal[
    "featureDrift", "predictionDrift", "performanceDecay", "dataQuality", "newData", "schedule", "manual"
]


@dataclass(frozen=True)
class Signal:
    """One reason to retrain.

    Attributes:
        kind: which sort, named as in a RetrainPolicy.
        cause: names the incident, see `incident`; signals of one cause make at most one run, ever.
        at: when it was measured (aware UTC).
        detail: the evidence, JSON values only; it is journaled.
        override: a person insists: cool-down and escalation do not hold this signal back. Kind "manual" only.
    """

    kind: Kind
    cause: str
    at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)
    override: bool = False


@dataclass(frozen=True)
class PastTrigger:
    """An accepted signal and how far its run has come.

    Attributes:
        at: when it was accepted.
        signal_at: when its signal had been measured.
        submitted: the run was handed over.
        finished: the run has ended, well or not; the next may start.
        helped: what came of it in the end (None while open): True if its candidate was promoted.
    """

    id: str
    kind: str
    cause: str
    at: datetime
    signal_at: datetime
    submitted: bool = False
    finished: bool = False
    helped: bool | None = None


def incident(kind: str, champion: str, history: Iterable[PastTrigger] = ()) -> str:
    """Name what is wrong with `champion`: `featureDrift/3`, or `featureDrift/3#1` after one vain retraining.

    Every alert about one incident gets one name, however often it rings; a new champion, or an attempt that
    left the champion in place, makes what is measured from then on a new incident.
    """
    name = f"{kind}/{champion}"
    failed = sum(1 for t in history if t.helped is False and t.cause.split("#")[0] == name)
    return f"{name}#{failed}" if failed else name


def trigger_id(workload: str, cause: str) -> str:
    """Name the run that answers `cause`: the same in every process and after every restart."""
    return f"retrain-{workload}-{sha256(f'{workload}/{cause}'.encode()).hexdigest()[:12]}"
