"""What becomes of a label: kept and joined, held, counted, or set aside.

| a label comes | outcome | what is stored |
|---|---|---|
| after its prediction | matched | once, in the partition of its prediction |
| longer after it than the horizon | late | the same; it is joined like any other |
| before its prediction | early | held; in the partition of its prediction once that comes |
| again, with the same label and reward | repeated | nothing, it is counted |
| again, with another label or reward | contradicted | beside the kept one, in a partition of its own; the first stays |

Pure: it is given what the indexes know, and says what is to be stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        return _same(self.label, label) and _same(self.reward, reward)


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
        kept: labels to remember, by request id.
        outcomes: how many labels came to what.
    """

    placed: dict[Partition, list[dict[str, Any]]] = field(default_factory=dict)
    early: list[dict[str, Any]] = field(default_factory=list)
    contradicted: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))


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
        known: labels kept before, of requests in `labels` or `arrived`.
        predicted: predictions stored before, of requests in `labels` or `arrived`.
        late_s: longer after its prediction a label is late.
    """
    found = Labelled()
    for label in labels:
        name = label["request_id"]
        value = _number(label.get("label"))
        reward = _number(label.get("reward"))
        kept = known.get(name) or found.kept.get(name)
        if kept is not None:
            if kept.agrees(value, reward):
                found.outcomes["repeated"] += 1
            else:
                found.outcomes["contradicted"] += 1
                found.contradicted.append(
                    {**_row(name, _kept(label, value, reward)), "kept_label": kept.label,
                     "kept_reward": kept.reward, "kept_at": kept.at}
                )  # fmt: skip
            continue
        first = found.kept[name] = _kept(label, value, reward)
        targets = (*predicted.get(name, ()), *arrived.get(name, ()))
        if not targets:
            found.outcomes["early"] += 1
            found.early.append(_row(name, first))
            continue
        late = first.at - min(target.at for target in targets) > late_s
        found.outcomes["late" if late else "matched"] += 1
        _place(found, name, first, targets, ())
    for name, new in arrived.items():
        # a label of this batch was placed beside them above
        if (kept := known.get(name)) is not None:
            _place(found, name, kept, new, predicted.get(name, ()))
    return found


def _place(
    found: Labelled, name: str, kept: Kept, targets: Sequence[Target], before: Sequence[Target]
) -> None:
    """Add the label to each partition that has a prediction of its request, once."""
    done = {target.partition for target in before}
    for target in targets:
        if target.partition not in done:
            done.add(target.partition)
            row = {**_row(name, kept), "prediction_at": target.at}
            found.placed.setdefault(target.partition, []).append(row)


def _kept(label: Mapping[str, Any], value: float, reward: float) -> Kept:
    per, covariate = _number(label.get("per")), _number(label.get("covariate"))
    received = label.get("received")
    return Kept(value, reward, per, covariate, label["at"], label["at"] if received is None else received)


def _row(name: str, kept: Kept) -> dict[str, Any]:
    return {
        "request_id": name, "label": kept.label, "reward": kept.reward, "per": kept.per,
        "covariate": kept.covariate, "at": kept.at, "received": kept.received,
    }  # fmt: skip


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
