"""What a sender says, before it is a signal: which incident began or ended, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from monitoring.retrain.signals import INCIDENTS, KINDS, Kind
from windlass.errors import UsageError


@dataclass(frozen=True)
class Notice:
    """One incident, or another reason to retrain.

    Attributes:
        champion: the version that it is about; None for kinds that are about none.
        cause: what names it; None for an incident, which `signals.incident` names.
        since: when it began (aware UTC).
        ended: when it ended; None while it burns.
        fingerprint: tells alerts of one incident apart, empty where there is one.
        detail: the evidence, JSON values.
        override: a person insists; see `decision.decide`.
    """

    workload: str
    kind: Kind
    champion: str | None
    cause: str | None
    since: datetime
    ended: datetime | None
    fingerprint: str
    detail: Mapping[str, Any]
    override: bool = False


@dataclass(frozen=True)
class Word:
    """What a person says that asks for no retraining.

    Attributes:
        what: the data is in order again, or a trigger is given up.
        by: who says it.
        trigger: the one that is given up; None for the data's.
    """

    workload: str
    what: Literal["dataRepaired", "giveUp"]
    by: str
    trigger: str | None = None


@dataclass(frozen=True)
class RunEnded:
    """A pipeline run that ended, as its exit task tells it.

    Attributes:
        run: the trigger's id where a trigger started it, else Kubeflow's id.
        state: SUCCEEDED, FAILED, CANCELLED, SKIPPED, or UNKNOWN where Kubeflow did not tell it.
    """

    workload: str
    run: str
    state: str
    error: str


def kind(value: Any, path: str, *, incidents: bool = False) -> Kind:
    """A kind of signal.

    Args:
        incidents: only those that say that something is wrong with a champion.

    Raises:
        UsageError: it is none.
    """
    known = INCIDENTS if incidents else KINDS
    if value in known:
        found: Kind = next(k for k in get_args(Kind) if k == value)
        return found
    raise UsageError(f"{path} = {value!r}: use one of {', '.join(known)}")


def moment(value: Any, path: str) -> datetime:
    """A time of RFC 3339, aware, in UTC.

    Raises:
        UsageError: it is none.
    """
    try:
        read = datetime.fromisoformat(value)
        if read.tzinfo is not None:
            return read.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{path} = {value!r}: must be a time like 2026-01-31T12:00:00Z") from None
    raise UsageError(f"{path} = {value!r}: has no time zone; end it with Z")


def text(value: Any, path: str) -> str:
    """A text that is not empty and can be printed: names are made of it.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise UsageError(f"{path} = {value!r}: must be a text that can be printed")
