"""What is promised, and from where on something is too old, too slow or too dear.

Whether a model drifts or decays is judged by the analysis, with its uncertainty; these are the limits of the plain
things. `python -m monitoring.rules --set NAME=VALUE` renders the rules with others.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.runtime.counts import BUCKETS
from windlass.errors import UsageError


@dataclass(frozen=True)
class Objectives:
    """The objectives of a platform; shares are in [0, 1], durations are Prometheus's.

    Attributes:
        availability: share of the requests that must not fail on our side (5xx).
        fast: share of the requests that must be answered within `fast_seconds`.
        fast_seconds: an upper bound of a bucket of windlass_request_seconds (serving/runtime/counts.py).
        analysis_within: the newest successful analysis may be so old; detection looks once a day.
        data_within: the newest prediction event may be so old, also where no analysis says so.
        labels_within: the newest label may be so old.
        judged_within: a check may be INCONCLUSIVE at every look for so long.
        undecided_columns: share of the columns of a kind that may be INCONCLUSIVE all that time.
        label_coverage: share of the matured rows that must have a label.
        store_failures: share of the rows that may miss the online store.
        model_failures: share of the model's runs that may fail.
        shed: share of the requests that may be turned away.
        collector_lag: an acknowledged event may be so old before it is in parquet.
        retrain_within: an accepted trigger may be open so long.
        retrain_hours_a_day: hours of training a day that are no surprise.
    """

    availability: float = 0.993
    fast: float = 0.99
    fast_seconds: str = "0.05"
    analysis_within: str = "2d"
    data_within: str = "3d"
    labels_within: str = "2d"
    label_coverage: float = 0.5
    judged_within: str = "7d"
    undecided_columns: float = 0.5
    store_failures: float = 0.2
    model_failures: float = 0.05
    shed: float = 0.01
    collector_lag: str = "15m"
    retrain_within: str = "6h"
    retrain_hours_a_day: float = 4.0

    def __post_init__(self) -> None:
        # a bound that is no bucket's would match no series, and an alert without series is silent for ever
        if float(self.fast_seconds) not in BUCKETS:
            raise UsageError(
                f"fast_seconds={self.fast_seconds}: windlass_request_seconds has no such bucket; choose one of "
                f"{', '.join(str(bound) for bound in BUCKETS)}"
            )


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> int:
    """Seconds of a duration of one unit, "15m".

    Raises:
        ValueError: it is none.
    """
    number, unit = duration[:-1], duration[-1:]
    if unit not in UNITS or not number.isdigit():
        raise ValueError(f"{duration!r} is no duration; give a whole number and one of s, m, h, d")
    return int(number) * UNITS[unit]
