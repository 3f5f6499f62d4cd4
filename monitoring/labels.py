"""Outcomes that became known: their validation, and what is kept when they disagree.

The first label of a request is kept for good. The same label again changes nothing (a feedback client may
retry); a different one is counted as a contradiction and changes nothing either, because verdicts may already
rest on the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from monitoring.tail import RecordTail
from windlass.errors import UsageError
from windlass.settings import Settings

FIELDS = ("request_id", "label", "reward", "per", "covariate", "at")
NUMBERS = ("reward", "per", "covariate")
LONGEST_REQUEST_ID = 256


@dataclass(frozen=True, slots=True)
class Label:
    """What became known of one request at `at` (epoch seconds).

    Attributes:
        at: the caller's word; a batch may be sent long after it.
        label: the outcome, 0 or 1; None where only a reward came.
        reward: what the answer was worth, in the workload's own unit; None stands for the label.
        per: denominator of a ratio metric (items shown, minutes watched).
        covariate: something of the user from before the release, for variance reduction.
        received: when it arrived here, epoch seconds; None of one that was kept before this was noted.
    """

    request_id: str
    label: int | None
    at: float
    reward: float | None = None
    per: float | None = None
    covariate: float | None = None
    received: float | None = None

    @property
    def worth(self) -> float | None:
        """The reward, or the label where none was sent."""
        return self.reward if self.reward is not None else self.label


class Recorded(Enum):
    """What became of a label that came in."""

    KEPT = "kept"
    REPEATED = "repeated"
    CONTRADICTED = "contradicted"


def validate(record: object, *, now: float, place: str = "") -> Label:
    """Turn a decoded feedback record into a label.

    Args:
        now: when it arrived, which also stands for a missing `at`.
        place: how to name the record in an error, for example "[3].".

    Raises:
        UsageError: a field is missing, unknown or wrong; the message names it and its value.
    """
    if not isinstance(record, Mapping):
        where = place.rstrip(".") or "the body"
        raise UsageError(
            f'{where} is {_shown(record)}; send an object such as {{"request_id": "…", "label": 1}}'
        )
    unknown = [name for name in record if name not in FIELDS]
    if unknown:
        raise UsageError(f"field '{place}{unknown[0]}' is not known; use {', '.join(FIELDS)}")
    missing = "request_id" if "request_id" not in record else "label"
    if missing == "request_id" or ("label" not in record and record.get("reward") is None):
        raise UsageError(f"field '{place}{missing}' is missing; send request_id and label")
    request_id, label, at = record["request_id"], record.get("label"), record.get("at")
    if (
        not isinstance(request_id, str)
        or not 0 < len(request_id) <= LONGEST_REQUEST_ID
        or not request_id.isprintable()
    ):
        raise UsageError(
            f"field '{place}request_id' is {_shown(request_id)}; "
            f"send the x-request-id of the prediction, 1 to {LONGEST_REQUEST_ID} characters, printable ones"
        )
    if "label" in record and (isinstance(label, str) or label not in (0, 1)):
        raise UsageError(f"field '{place}label' is {_shown(label)}; send 0 or 1")
    numbers = {name: _number(record.get(name), f"{place}{name}") for name in NUMBERS}
    moment = now if at is None else _time(at, f"{place}at")
    return Label(request_id, None if label is None else int(label), moment, **numbers, received=now)


def _number(value: object, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise UsageError(f"field '{name}' is {_shown(value)}; send a number, or leave it out")


def _time(value: object, name: str) -> float:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return moment.timestamp()
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise UsageError(
        f"field '{name}' is {_shown(value)}; send epoch seconds or a time with its zone: 2013-02-01T06:00:00Z"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


class LabelBook:
    """The kept label of every request that has one."""

    def __init__(self) -> None:
        self._labels: dict[str, Label] = {}
        self.repeated = 0
        self.contradicted = 0

    def record(self, label: Label) -> Recorded:
        """Keep the label if it is the first of its request; count it otherwise."""
        kept = self._labels.setdefault(label.request_id, label)
        if kept is label:
            return Recorded.KEPT
        if kept.label == label.label:
            self.repeated += 1
            return Recorded.REPEATED
        self.contradicted += 1
        return Recorded.CONTRADICTED

    def get(self, request_id: str) -> Label | None:
        return self._labels.get(request_id)

    def __len__(self) -> int:
        return len(self._labels)


def path(settings: Settings) -> Path:
    """The feedback log: one acknowledged label a line."""
    return settings.logs_dir / "feedback.jsonl"


def parse(record: Mapping[str, Any]) -> Label:
    """Turn one decoded line of the feedback log into a label.

    Raises:
        KeyError, TypeError, ValueError: it is not a label.
    """
    request_id, label = record["request_id"], record.get("label")
    kept = (*NUMBERS, "received")
    numbers = {name: None if record.get(name) is None else float(record[name]) for name in kept}
    if not isinstance(request_id, str) or (label not in (0, 1) and numbers["reward"] is None):
        raise ValueError(f"not a label: {record!r}")
    return Label(request_id, None if label is None else int(label), float(record["at"]), **numbers)


def plain(label: Label) -> dict[str, Any]:
    """The record that `parse` reads back; what was not sent is left out."""
    found = {name: getattr(label, name) for name in ("request_id", "label", *NUMBERS, "at", "received")}
    return {name: value for name, value in found.items() if value is not None}


def sent(label: Label) -> dict[str, Any]:
    """The record that a caller sends, which `validate` takes: when it arrives is not the caller's to say."""
    return {name: value for name, value in plain(label).items() if name in FIELDS}


class LabelTail(RecordTail[Label]):
    """The labels that appeared in the feedback log since the last poll.

    Args:
        log: usually `path(settings)`.
        offsets: what `offsets` gave before a restart.
    """

    def __init__(self, log: Path, *, offsets: Mapping[str, int] | None = None) -> None:
        super().__init__(log.parent, log.name, parse, offsets=offsets)
