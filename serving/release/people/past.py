"""What is known of a model's traffic before a release: its rate now, and what earlier releases measured.

A plan is worth what its assumptions are worth, so each figure says where it comes from, and what nobody measured stays
unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.release.envoy import access_log
from serving.release.envoy.access_log import Access
from serving.release.evidence import ArmEvidence
from serving.release.journal.store import DiskStore
from serving.release.people import account
from serving.release.release import Check
from serving.release.statistics.moments import Moments
from windlass.errors import WindlassError

#: Seconds of traffic that a rate is measured over, and the part of a log that is read for it.
WINDOW_S = 600.0
TAIL_BYTES = 16_000_000

#: Outcomes below which an earlier release says nothing about a baseline.
ENOUGH = 100


@dataclass(frozen=True)
class Baseline:
    """A metric before the release.

    Attributes:
        mean: rate, mean or ratio of the champion; of a paired metric the mean difference.
        deviation: of one observation.
        source: where it comes from, in words.
    """

    mean: float
    deviation: float | None
    source: str


@dataclass(frozen=True)
class Known:
    """All that is known; None and absent where nothing is.

    Attributes:
        per_second: requests to the model.
        baselines: by check; "errorRate" is the model's own.
    """

    per_second: float | None = None
    rate_source: str = "no request in the access log of late; give --traffic REQUESTS_PER_SECOND"
    baselines: Mapping[str, Baseline] = field(default_factory=dict)


def measured(path: Path, model: str, now: float) -> Known:
    """The rate of a model's requests, and how many fail, in the last ten minutes of an access log.

    Args:
        now: epoch seconds.
    """
    recent = [access for access in _tail(path) if access.model == model and now - access.at <= WINDOW_S]
    if not recent:
        return Known()
    # a platform that began a minute ago has a minute's worth, not ten
    lasted = max(min(now - recent[0].at, WINDOW_S), 1.0)
    per_second = len(recent) / lasted
    failed = sum(access.failed for access in recent)
    source = f"access log, the last {lasted:.0f} s"
    baselines = {"errorRate": Baseline(failed / len(recent), None, source)} if failed else {}
    return Known(per_second, source, baselines)


def baseline(directory: Path, model: str, check: Check) -> Baseline | None:
    """What the newest earlier release measured of a check's metric, on its champion (of pairs: on both)."""
    store = DiskStore(directory)
    for entry in reversed(store.entries(model)):
        try:
            told = account.read(store.path(entry))
        except WindlassError:
            continue  # a journal that cannot be read has measured nothing
        if told is None:
            continue
        if (values := told.history.pairs.get(check.metric)) and len(values) >= ENOUGH:
            mean = math.fsum(values) / len(values)
            spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
            return Baseline(mean, spread, f"release {entry.name}")
        last = told.newest_evidence()
        if last is None:
            continue
        moments = last.arms.get(told.state.champion, ArmEvidence()).outcomes.get(check.name)
        if moments is not None and moments.n >= ENOUGH:
            return of_moments(check, moments, f"release {entry.name}")
    return None


def of_moments(check: Check, moments: Moments, source: str) -> Baseline | None:
    """The baseline that sums over outcomes give; of a ratio by the delta method (see `planning.Traffic`)."""
    n = moments.n
    if check.value_type != "ratio":
        mean = moments.y / n
        return Baseline(mean, math.sqrt(max(moments.yy / n - mean * mean, 0.0)) or None, source)
    if moments.z <= 0:
        return None
    ratio = moments.y / moments.z
    residual = moments.yy - 2 * ratio * moments.yz + ratio * ratio * moments.zz
    return Baseline(ratio, math.sqrt(max(residual / n, 0.0)) / (moments.z / n) or None, source)


def _tail(path: Path) -> Iterable[Access]:
    try:
        with path.open("rb") as file:
            start = max(file.seek(0, 2) - TAIL_BYTES, 0)
            file.seek(start)
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines[1:] if start else lines:
        try:
            found = access_log.parse(json.loads(line))
        except (KeyError, TypeError, ValueError):
            continue  # the line that is being written, or none of this log
        if found is not None:
            yield found
