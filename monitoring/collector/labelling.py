"""What becomes of a label: kept and joined, held, counted, or set aside.

| a label comes | outcome | what is stored |
|---|---|---|
| after its prediction | matched | once, in the partition of its prediction |
| longer after it than the horizon | late | the same; it is joined like any other |
| before its prediction | early | held; in the partition of its prediction once that comes |
| again, with the same label and reward | repeated | nothing, it is counted |
| again, with another label or reward | contradicted | beside the kept one, in a partition of its own; the first stays |

A reward without a label is a fact of its own: it neither keeps a label out nor contradicts one.

Pure: it is given what the indexes know, and says what is to be stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: what the name of a request is led by where a reward came without a label; no request id holds it
REWARD = "\x1f"
#: model and UTC day (days since 1970) of a partition
Partition = tuple[str, int]
OUTCOMES = ("matched", "early", "repeated", "contradicted", "late")


@dataclass(frozen=True, slots=True)
class Kept:
    """The label that holds for a request; numbers are NaN where nothing was sent."""

    label: float
    reward: float
    per: float
    covariate: float
    at: float
    received: float

    def agrees(self, label: float, reward: float) -> bool:
        """Whether a label says nothing else; one that leaves the reward out does not."""
        return _same(self.label, label) and (math.isnan(reward) or _same(self.reward, reward))


@dataclass(frozen=True, slots=True)
class Target:
    """A prediction that a label is for."""

    partition: Partition
    at: float


@dataclass
class Labelled:
    """What is to be stored.

    Attributes:
        placed: rows for the partitions of predictions.
        early, contradicted: rows for partitions of their own.
        kept: labels to remember, by their `name`.
        outcomes: how many labels came to what.
    """

    placed: dict[Partition, list[dict[str, Any]]] = field(default_factory=dict)
    early: list[dict[str, Any]] = field(default_factory=list)
    contradicted: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))


def name(request_id: str, label: float | None) -> str:
    """What a label is remembered by: its request, and whether it is a reward alone."""
    return REWARD + request_id if label is None or math.isnan(label) else request_id


def judge(
    labels: Iterable[Mapping[str, Any]],
    arrived: Mapping[str, Sequence[Target]],
    *,
    known: Mapping[str, Kept],
    predicted: Mapping[str, Sequence[Target]],
    late_s: float,
) -> Labelled:
    """Decide about new labels and about new predictions whose label came before.

    Args:
        labels: in the order they came.
        arrived: predictions of this batch, by request id.
        known: labels kept before, by `name`, of requests in `labels` or `arrived`.
        predicted: predictions stored before, of requests in `labels` or `arrived`.
        late_s: longer after its prediction a label is late.
    """
    found = Labelled()
    for label in labels:
        request = label["request_id"]
        value, reward = _number(label.get("label")), _number(label.get("reward"))
        named = name(request, value)
        kept = known.get(named) or found.kept.get(named)
        if kept is not None:
            if kept.agrees(value, reward):
                found.outcomes["repeated"] += 1
            else:
                found.outcomes["contradicted"] += 1
                found.contradicted.append(
                    {**_row(request, _kept(label, value, reward)), "kept_label": kept.label,
                     "kept_reward": kept.reward, "kept_at": kept.at}
                )  # fmt: skip
            continue
        first = found.kept[named] = _kept(label, value, reward)
        targets = (*predicted.get(request, ()), *arrived.get(request, ()))
        if not targets:
            found.outcomes["early"] += 1
            found.early.append(_row(request, first))
            continue
        late = first.at - min(target.at for target in targets) > late_s
        found.outcomes["late" if late else "matched"] += 1
        _place(found, request, first, targets, ())
    for request, new in arrived.items():
        # a label of this batch was placed beside them above
        for named in (request, REWARD + request):
            if (kept := known.get(named)) is not None:
                _place(found, request, kept, new, predicted.get(request, ()))
    return found


def _place(
    found: Labelled, request: str, kept: Kept, targets: Sequence[Target], before: Sequence[Target]
) -> None:
    """Add the label to each partition that has a prediction of its request, once."""
    done = {target.partition for target in before}
    for target in targets:
        if target.partition not in done:
            done.add(target.partition)
            row = {**_row(request, kept), "prediction_at": target.at}
            found.placed.setdefault(target.partition, []).append(row)


def _kept(label: Mapping[str, Any], value: float, reward: float) -> Kept:
    per, covariate = _number(label.get("per")), _number(label.get("covariate"))
    received = label.get("received")
    return Kept(value, reward, per, covariate, label["at"], label["at"] if received is None else received)


def _row(request: str, kept: Kept) -> dict[str, Any]:
    return {
        "request_id": request, "label": kept.label, "reward": kept.reward, "per": kept.per,
        "covariate": kept.covariate, "at": kept.at, "received": kept.received,
    }  # fmt: skip


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
