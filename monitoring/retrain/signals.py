"""What may ask for a retraining, and how an incident is named so that it is answered once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, get_args

Kind = Literal[
    "featureDrift", "predictionDrift", "performanceDecay", "dataQuality", "newData", "schedule", "manual"
]
KINDS: tuple[str, ...] = get_args(Kind)
INCIDENTS: tuple[str, ...] = ("featureDrift", "predictionDrift", "performanceDecay", "dataQuality")
"""Kinds that say that something is wrong with a champion: they are named by `incident`."""


@dataclass(frozen=True)
class Signal:
    """One reason to retrain.

    Attributes:
        kind: which sort, named as in a RetrainPolicy.
        cause: names the incident, see `incident`; signals of one cause make at most one run, ever.
        at: when it was measured, or began (aware UTC).
        detail: the evidence, JSON values only; it is journaled.
        override: a person insists: cool-down and escalation do not hold this signal back. Kind "manual" only.
        champion: the version that it is about; None where it is about none.
    """

    kind: Kind
    cause: str
    at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)
    override: bool = False
    champion: str | None = None


@dataclass(frozen=True)
class PastTrigger:
    """An accepted signal and how far its run has come.

    Attributes:
        at: when it was accepted.
        signal_at: when its signal had been measured.
        submitted: the run was handed over.
        finished: the run has ended, well or not; the next may start.
        helped: what came of it in the end (None while open): True if its candidate was promoted.
        version: what the run registered.
        lead: by how much the wall clock was set forward since; that time has not passed.
        champion: the version in force when it was accepted; None where that was not known.
    """

    id: str
    kind: str
    cause: str
    at: datetime
    signal_at: datetime
    submitted: bool = False
    finished: bool = False
    helped: bool | None = None
    version: str | None = None
    lead: timedelta = timedelta(0)
    champion: str | None = None

    def elapsed(self, now: datetime) -> timedelta:
        """Time since it was accepted: by the wall clock, less what the clock was set forward."""
        return now - self.at - self.lead


def incident(kind: str, champion: str, history: Iterable[PastTrigger] = ()) -> str:
    """Name what is wrong with `champion`: `featureDrift/3`, or `featureDrift/3#1` after one vain retraining.

    Every alert about one incident gets one name, however often it rings; a new champion, or an attempt that
    left the champion in place, makes what is measured from then on a new incident.
    """
    name = f"{kind}/{champion}"
    failed = sum(1 for t in history if t.helped is False and base(t.cause) == name)
    return f"{name}#{failed}" if failed else name


def base(cause: str) -> str:
    """The incident without the count of what was tried in vain: `featureDrift/3#1` -> `featureDrift/3`."""
    return cause.partition("#")[0]


def trigger_id(workload: str, cause: str) -> str:
    """Name the run that answers `cause`: the same in every process and after every restart."""
    return f"retrain-{workload}-{sha256(f'{workload}/{cause}'.encode()).hexdigest()[:12]}"
