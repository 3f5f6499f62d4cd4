"""What detection remembers from look to look: the statistics of recent days, and the incidents that are on.

An incident is one alarm, however many windows it lasts; without a memory each window would ring anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from windlass.errors import WindlassError

FORMAT = 1


@dataclass(frozen=True)
class DayRecord:
    """The sums of one day, see `monitoring.detection.statistics`.

    Attributes:
        day: UTC day since 1970.
        counts: rows behind the sums: all rows, then those with a value, column by column.
        sums: one for each statistic.
    """

    day: int
    counts: tuple[float, ...]
    sums: tuple[float, ...]


@dataclass(frozen=True)
class DecayState:
    """Where the sequential test of performance stands.

    Attributes:
        through: last UTC day that was consumed; -1 = none.
        log_wealth: of each bet, see `monitoring.detection.decay`.
        days, labels, slopes: number of days and labels, and sum of the daily slopes, since the test was at rest.
    """

    through: int = -1
    log_wealth: tuple[float, ...] = ()
    days: int = 0
    labels: int = 0
    slopes: float = 0.0


@dataclass(frozen=True)
class DetectionState:
    """Carried by the caller from one look to the next; `DetectionState()` at the beginning and for a new version.

    Attributes:
        baseline: digest of the baseline that the days were measured by; days of another one are dropped.
        view: which of its views ("year-ago" or "training") they were measured by; the same holds.
        days: recent days of predictions, oldest first, at most four windows of them.
        label_days: the same of matured labels.
        incidents: by "check/column", the UTC day from which the incident is on.
        quiet: by the same names, at how many looks in a row an incident has been without evidence.
    """

    baseline: str = ""
    view: str = ""
    days: tuple[DayRecord, ...] = ()
    label_days: tuple[DayRecord, ...] = ()
    incidents: Mapping[str, int] = field(default_factory=dict)
    quiet: Mapping[str, int] = field(default_factory=dict)
    decay: DecayState = field(default_factory=DecayState)


def to_json(state: DetectionState) -> dict[str, Any]:
    """The state as JSON values."""
    return {
        "format": FORMAT,
        "baseline": state.baseline,
        "view": state.view,
        "days": [_day_json(d) for d in state.days],
        "label_days": [_day_json(d) for d in state.label_days],
        "incidents": dict(state.incidents),
        "quiet": dict(state.quiet),
        "decay": {**asdict(state.decay), "log_wealth": list(state.decay.log_wealth)},
    }


def from_json(document: Mapping[str, Any]) -> DetectionState:
    """Read what `to_json` gave.

    Raises:
        WindlassError: it is something else.
    """
    try:
        if document["format"] != FORMAT:
            raise WindlassError(
                f"detection state has format {document['format']!r}, this version reads {FORMAT}; "
                "begin with an empty state"
            )
        decay = document["decay"]
        return DetectionState(
            baseline=str(document["baseline"]),
            view=str(document["view"]),
            days=tuple(_day(d) for d in document["days"]),
            label_days=tuple(_day(d) for d in document["label_days"]),
            incidents={str(k): int(v) for k, v in document["incidents"].items()},
            quiet={str(k): int(v) for k, v in document["quiet"].items()},
            decay=DecayState(
                through=int(decay["through"]),
                log_wealth=tuple(map(float, decay["log_wealth"])),
                days=int(decay["days"]),
                labels=int(decay["labels"]),
                slopes=float(decay["slopes"]),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WindlassError(
            f"detection state is damaged ({error!r}); begin with an empty state: weak evidence of past days is lost, "
            "and an incident that is on rings once more"
        ) from error


def _day_json(record: DayRecord) -> dict[str, Any]:
    return {"day": record.day, "counts": list(record.counts), "sums": list(record.sums)}


def _day(document: Mapping[str, Any]) -> DayRecord:
    return DayRecord(
        int(document["day"]),
        tuple(map(float, document["counts"])),
        tuple(map(float, document["sums"])),
    )
