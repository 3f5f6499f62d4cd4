"""What became of a release's requests: rewards as sums over the observations that are finished.

An observation is a request, or in an experiment a unit with all its requests. It is finished when its time is over
(`outcomeDelay` after the request, or the unit's first one) and counted once, with what was known by then: a late
reward changes nothing, so that no look depends on how long the world was waited for. Where no delay is stated, an
observation is finished by its first reward, and one without stays unknown.

A binary reward that did not come within the stated time is 0: the purchase did not happen. Any other reward that did
not come is unknown and counted nowhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from monitoring.labels import Label
from serving.release.access_log import Access
from serving.release.release import Bandit, Check, Experiment, Release
from serving.release.statistics.moments import Moments

#: Observations without a stated end, and rewards without a request, that are remembered; the oldest are forgotten.
MOST_WAITING = 200_000


@dataclass
class _Observation:
    """One request or unit: where and when it began, and what has come of it."""

    version: str
    at: float
    context: str
    requests: int = 0
    rewards: list[tuple[float, float, float | None]] = field(default_factory=list)
    covariate: float | None = None


class Outcomes:
    """Rewards of one release, by version and check.

    Args:
        since: epoch seconds of the release's start.
    """

    def __init__(self, release: Release, champion: str, since: float) -> None:
        strategy = release.strategy
        self._checks = [check for check in release.checks if check.metric == "reward"]
        self._versions = (*release.candidates, champion)
        self._since = since
        delayed = isinstance(strategy, Experiment | Bandit)
        self._delay: timedelta = strategy.outcome_delay if delayed else timedelta(0)  # type: ignore[union-attr]
        self._by_unit = isinstance(strategy, Experiment)
        self._until = (
            strategy.max_duration.total_seconds() if isinstance(strategy, Experiment) else float("inf")
        )
        self._period = strategy.period.total_seconds() if isinstance(strategy, Experiment) else None
        self._context = isinstance(strategy, Bandit) and strategy.context is not None
        self._open: dict[str, _Observation] = {}
        self._of_request: dict[str, str] = {}
        self._due: list[tuple[float, str]] = []
        self._early: dict[str, Label] = {}
        self._heard = False
        self._overdue = 0
        self._rewarded: set[str] = set()
        self._units = dict.fromkeys(self._versions, 0)
        self._totals = {
            version: {check.name: Moments() for check in self._checks} for version in self._versions
        }
        self._periods: dict[str, dict[str, dict[int, Moments]]] = {
            version: {check.name: {} for check in self._checks} for version in self._versions
        }
        self._contexts: dict[str, dict[str, dict[str, Moments]]] = {
            version: {check.name: {} for check in self._checks} for version in self._versions
        }
        #: finished observations of which nothing was known
        self.unknown = 0

    def add_accesses(self, accesses: Iterable[Access]) -> None:
        """Add answered requests; those that are no evidence, or of a unit that was enrolled elsewhere, are left out."""
        if not self._checks:
            return
        for access in accesses:
            if not access.counted or access.version not in self._versions or access.failed:
                continue
            at = access.event_at if access.event_at is not None else access.at
            key = access.unit if self._by_unit else access.request_id
            if key is None:
                continue
            found = self._open.get(key)
            if found is None:
                if self._by_unit and key in self._rewarded:
                    continue  # its time was over before this request
                if at - self._since > self._until:
                    continue  # enrolment has ended
                found = self._open[key] = _Observation(access.version, at, access.segment or "")
                self._units[access.version] += 1
                heapq.heappush(self._due, (at + self._delay.total_seconds(), key))
            elif found.version != access.version:
                continue  # it was enrolled in another version, which keeps it
            found.requests += 1
            self._of_request[access.request_id] = key
            early = self._early.pop(access.request_id, None)
            if early is not None:
                self._take(key, early)

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Add what became known; the first reward of a request is kept, as with labels."""
        if not self._checks:
            return
        for label in labels:
            key = self._of_request.pop(label.request_id, None)
            if key is not None:
                self._take(key, label)
            elif label.at >= self._since:
                # feedback may be in its log before the proxy has flushed the request into its own
                self._early.setdefault(label.request_id, label)
        _forget_oldest(self._early)
        _forget_oldest(self._of_request)
        if not self._delay:
            _forget_oldest(self._open)

    def finish(self, now: datetime) -> None:
        """Count every observation whose time is over."""
        moment = now.timestamp()
        while self._due and self._due[0][0] <= moment:
            _, key = heapq.heappop(self._due)
            found = self._open.get(key)
            if found is None:
                continue
            if self._delay == timedelta(0) and not found.rewards:
                # no delay is stated: whatever comes later still counts, once
                continue
            self._overdue += 1
            self._close(key, found)

    def units(self, version: str) -> int | None:
        """Units enrolled in a version; None where requests are the observations."""
        return self._units[version] if self._by_unit else None

    def totals(self, version: str) -> Mapping[str, Moments]:
        return dict(self._totals[version])

    def periods(self, version: str) -> Mapping[str, tuple[Moments, ...]]:
        """By check, the sums by period of first exposure, oldest first, empty periods included."""
        found = {}
        for check, periods in self._periods[version].items():
            if periods:
                found[check] = tuple(periods.get(index, Moments()) for index in range(max(periods) + 1))
        return found

    def contexts(self, version: str) -> Mapping[str, Mapping[str, Moments]]:
        return {check: dict(cells) for check, cells in self._contexts[version].items() if cells}

    @property
    def waiting(self) -> int:
        """Observations that are not finished."""
        return len(self._open)

    @property
    def overdue(self) -> int:
        """Observations that were finished by time, not by a reward."""
        return self._overdue

    @property
    def heard(self) -> bool:
        """Whether any reward came at all."""
        return self._heard

    def _take(self, key: str, label: Label) -> None:
        found = self._open.get(key)
        self._heard = True
        if found is None or label.worth is None:
            return
        if self._delay and label.at > found.at + self._delay.total_seconds():
            return  # too late: another look has counted, or will count, without it
        found.rewards.append((label.at, label.worth, label.per))
        if found.covariate is None:
            found.covariate = label.covariate
        if not self._delay:
            self._close(key, found)

    def _close(self, key: str, found: _Observation) -> None:
        del self._open[key]
        if self._by_unit:
            self._rewarded.add(key)
        counted = False
        for check in self._checks:
            moments = self._moments(check, found)
            if moments is None:
                continue
            counted = True
            totals = self._totals[found.version]
            totals[check.name] = totals[check.name] + moments
            if self._period is not None:
                periods = self._periods[found.version][check.name]
                index = max(0, int((found.at - self._since) // self._period))
                periods[index] = periods.get(index, Moments()) + moments
            if self._context and found.context:
                cells = self._contexts[found.version][check.name]
                cells[found.context] = cells.get(found.context, Moments()) + moments
        self.unknown += not counted

    def _moments(self, check: Check, found: _Observation) -> Moments | None:
        """One observation as sums; None where nothing is known of it."""
        if check.value_type == "binary":
            value, per = (1.0 if any(worth > 0 for _, worth, _ in found.rewards) else 0.0), None
        elif not found.rewards:
            return None
        else:
            value = sum(worth for _, worth, _ in sorted(found.rewards))
            parts = [per for _, _, per in found.rewards if per is not None]
            per = sum(parts) if parts else float(found.requests)
        denominators = [per] if check.value_type == "ratio" and per is not None else None
        # a user who is new has nothing from before, which is 0 and not unknown
        covariates = [found.covariate or 0.0] if check.covariate else None
        return Moments.of([value], denominators, covariates)


def _forget_oldest(waiting: dict[str, Any]) -> None:
    while len(waiting) > MOST_WAITING:
        del waiting[next(iter(waiting))]
