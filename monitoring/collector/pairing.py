"""CloudEvents come in halves: the request and the response of one prediction, in any order and any time apart.

Pure: halves and what is held from before go in, whole predictions and what is to be held come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

Entry = Mapping[str, Any]
REQUEST, RESPONSE = "request", "response"
#: what a row has that is made of one half only: which one
HALF = "half"


@dataclass(frozen=True)
class Paired:
    """Attributes:
    rows: a record for each prediction, in the form of the prediction log.
    held: halves that wait for their other one.
    """

    rows: list[dict[str, Any]]
    held: list[Entry]


def pair(halves: Iterable[Entry], held: Sequence[Entry], *, expired: float, most: int) -> Paired:
    """Join halves by (source, id).

    Args:
        halves: new ones, each (source, type, id) once.
        held: from before.
        expired: halves received before this (epoch seconds) wait no longer: they become rows without the other half.
        most: halves held at most; beyond, the oldest wait no longer.
    """
    waiting: dict[tuple[str, str], Entry] = {}
    rows: list[dict[str, Any]] = []
    for half in (*held, *halves):
        key = (half["source"], half["id"])
        other = waiting.get(key)
        if other is None:
            waiting[key] = half
        elif other["type"] == half["type"]:
            continue  # the same half, from before an index was rebuilt
        else:
            del waiting[key]
            request, response = (half, other) if half["type"] == REQUEST else (other, half)
            rows += whole(request, response)
    left = sorted(waiting.values(), key=lambda half: half["received"])
    surplus = max(0, len(left) - most)
    keep = []
    for position, half in enumerate(left):
        if position < surplus or half["received"] < expired:
            rows += whole(half, None) if half["type"] == REQUEST else whole(None, half)
        else:
            keep.append(half)
    return Paired(rows, keep)


def whole(request: Entry | None, response: Entry | None) -> list[dict[str, Any]]:
    """The predictions of a request and its response, either of which may be missing.

    Rows of a request of several are told apart by their ids, `<id>/<row>`. The model's answer names model and version
    best; the time is that of the request.
    """
    one = request if request is not None else response
    assert one is not None  # noqa: S101 - a pair has a half
    best = response if response is not None else one
    asked = request["rows"] if request is not None else []
    answers = response["scores"] if response is not None else []
    count = max(len(asked), len(answers))
    shared: dict[str, Any] = {
        "model": best["model"] or one["model"],
        "version": best["version"] or one["version"],
        "at": one["at"],
        "received": max(one["received"], best["received"]),
        "mirrored": best.get("mirrored", False),
        "latency_ms": best.get("latency_ms"),
        "source": best.get("feature_source"),
        "answered_by": best.get("answered_by"),
        "route": best.get("route"),
        "unit": best.get("unit"),
    }
    if request is None or response is None:
        shared[HALF] = RESPONSE if request is None else REQUEST
    return [
        {
            **shared,
            "request_id": one["id"] if count == 1 else f"{one['id']}/{row}",
            "entities": (given or {}).get("entities"),
            "request": (given or {}).get("request"),
            "features": (given or {}).get("features"),
            "score": score,
        }
        for row, (given, score) in enumerate(zip_longest(asked, answers))
    ]
