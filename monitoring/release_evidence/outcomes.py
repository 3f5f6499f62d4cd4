"""What became of a release's requests: rewards as sums over the observations that are finished.

An observation is a request, or in an experiment a unit with all its requests. It is finished when its time is over
(`outcomeDelay` after the request, or the unit's first one) and counted once, with what was known by then: a late
reward changes nothing, so that no look depends on how long the world was waited for. Where no delay is stated, an
observation is finished by its first reward, and one without stays unknown.

A binary reward that did not come within the stated time is 0: the purchase did not happen. Any other reward that did
not come is unknown and counted nowhere.

A request that failed (5xx) or was not understood (4xx) has no outcome: the first is what error rates are for, the
second its caller's mistake. One whose caller left before the answer has one, that may be what the version did to him.
Rewards are held to the time at which they arrived and not to the one that they state: a batch that is sent late is
late, for a look that has been and for a platform that reads it all again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from monitoring.labels import Label
from monitoring.release_evidence.ended import Ended
from monitoring.release_evidence.times import PRESENT, Times
from serving.release.envoy.access_log import Access
from serving.release.release import Bandit, Check, Experiment, Release
from serving.release.statistics.moments import Moments

#: Observations that may wait for a reward where no end of their time is stated; the oldest are forgotten.
MOST_WAITING = 500_000
#: Seconds for which a reward waits for its request: two logs are not written at the same moment.
EARLY_S = 60.0
#: Units that are over and take as much memory as one request that waits.
OVER_AS_ONE = 32
#: Share of the rewards that may come too late for what was forgotten before that is a loss that must be told.
LOST = 0.05


@dataclass(slots=True)
class _Observation:
    """One request or unit: where and when it began, and what has come of it; hundreds of thousands are open.

    Attributes:
        ids: of a unit's requests, whose rewards are its own.
        rewards: worth and denominator of each.
    """

    version: str
    at: float
    context: str
    requests: int = 0
    ids: list[str] | None = None
    rewards: list[tuple[float, float | None]] | None = None
    covariate: float | None = None


class Outcomes:
    """Rewards of one release, by version and check.

    Args:
        since: epoch seconds of the release's start.

    Attributes:
        enrolled_until: epoch seconds after which no unit begins; a pause of the release shifts it.
        unknown: finished or forgotten observations of which nothing was known.
    """

    def __init__(self, release: Release, champion: str, since: float, times: Times = PRESENT) -> None:
        strategy = release.strategy
        self._times = times
        self._checks = [check for check in release.checks if check.metric == "reward"]
        self._versions = (*release.candidates, champion)
        self._since = since
        delayed = isinstance(strategy, Experiment | Bandit)
        delay: timedelta = strategy.outcome_delay if delayed else timedelta(0)  # type: ignore[union-attr]
        self._delay = delay.total_seconds()
        self._by_unit = isinstance(strategy, Experiment)
        self.enrolled_until = math.inf
        if isinstance(strategy, Experiment):
            self.enrolled_until = since + strategy.max_duration.total_seconds()
        self._period = strategy.period.total_seconds() if isinstance(strategy, Experiment) else None
        self._context = isinstance(strategy, Bandit) and strategy.context is not None
        self._open: dict[str, _Observation] = {}
        self._of_request: dict[str, str] = {}
        self._begun: list[tuple[float, str]] = []
        self._early: dict[str, Label] = {}
        self._heard = False
        self._overdue = self._rewarded = self._forgotten = self._late = 0
        self._over = Ended()
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
        self.unknown = 0

    def add_accesses(self, accesses: Iterable[Access]) -> None:
        """Add answered requests; those that are no evidence, or of a unit that was enrolled elsewhere, are left out."""
        if not self._checks:
            return
        for access in accesses:
            if not access.counted or access.version not in self._versions or not _has_outcome(access):
                continue
            at = self._times.of_access(access)
            key = access.unit if self._by_unit else access.request_id
            if key is None:
                continue
            found = self._open.get(key)
            if found is None:
                if self._by_unit and key in self._over:
                    continue  # its time was over before this request
                if at > self.enrolled_until:
                    continue
                found = self._open[key] = _Observation(access.version, at, access.segment or "")
                self._units[access.version] += 1
                if self._delay:
                    heapq.heappush(self._begun, (at, key))
            elif found.version != access.version:
                continue  # it was enrolled in another version, which keeps it
            found.requests += 1
            if self._by_unit:
                found.ids = found.ids or []
                found.ids.append(access.request_id)
                self._of_request[access.request_id] = key
            early = self._early.pop(access.request_id, None)
            if early is not None:
                self._take(key, early)

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Add what became known; the first reward of a request is kept, as with labels."""
        if not self._checks:
            return
        for label in labels:
            name = label.request_id
            key = self._of_request.pop(name, None) if self._by_unit else name
            if key in self._open:
                self._take(key, label)
            elif self._times.of_label(label) >= self._since:
                # feedback may be in its log before the proxy has flushed the request into its own
                self._early.setdefault(name, label)
        if not self._delay and len(self._open) > MOST_WAITING:
            # many at once: one by one would search the emptied front of the table again and again
            for key in list(islice(self._open, MOST_WAITING // 10)):
                self._forgotten += 1
                self._close(key)

    def finish(self, moment: float) -> None:
        """Count every observation whose time is over at this moment (epoch seconds)."""
        while self._begun and self._begun[0][0] + self._delay <= moment:
            _, key = heapq.heappop(self._begun)
            self._overdue += 1
            self._close(key)
        self._late += self._times.forget(self._early, moment - EARLY_S)

    def silent(self) -> str | None:
        """Why what is known of rewards is not to be relied on; None where it is."""
        if self._overdue and not self._heard:
            return f"no feedback came in time for any of {self._overdue} finished outcomes"
        if self._forgotten and self._late > LOST * (self._late + self._rewarded):
            return (
                f"{self._late} rewards found no request that waits for one: the {self._forgotten} oldest were "
                f"forgotten, as at most {MOST_WAITING} wait where no outcomeDelay is stated"
            )
        return None

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
    def held(self) -> int:
        """Requests, units and rewards in memory, of some 300 bytes each; what is over counts as what it takes."""
        waiting = len(self._open) + len(self._of_request) + len(self._early)
        return waiting + len(self._over) // OVER_AS_ONE

    @property
    def waiting(self) -> int:
        """Observations that are not finished."""
        return len(self._open)

    def _take(self, key: str, label: Label) -> None:
        found = self._open.get(key)
        self._heard = True
        if found is None or label.worth is None or (found.rewards and not self._by_unit):
            return
        if self._delay and self._times.of_label(label) > found.at + self._delay:
            return  # too late: another look has counted, or will count, without it
        self._rewarded += 1
        found.rewards = found.rewards or []
        found.rewards.append((label.worth, label.per))
        if found.covariate is None:
            found.covariate = label.covariate
        if not self._delay:
            self._close(key)

    def _close(self, key: str) -> None:
        found = self._open.pop(key)
        for name in found.ids or ():
            self._of_request.pop(name, None)
        if self._by_unit:
            self._over.add(key)
        counted = False
        for check in self._checks:
            # where no delay is stated, no reward says nothing of any kind of it
            moments = self._moments(check, found) if found.rewards or self._delay else None
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
        rewards = found.rewards or ()
        if check.value_type == "binary":
            value, per = (1.0 if any(worth > 0 for worth, _ in rewards) else 0.0), None
        elif not rewards:
            return None
        else:
            # correctly rounded, so that the order in which they came is not in the sum
            value = math.fsum(worth for worth, _ in rewards)
            parts = [per for _, per in rewards if per is not None]
            per = math.fsum(parts) if parts else float(found.requests)
        denominators = [per] if check.value_type == "ratio" and per is not None else None
        # a user who is new has nothing from before, which is 0 and not unknown
        covariates = [found.covariate or 0.0] if check.covariate else None
        return Moments.of([value], denominators, covariates)


def _has_outcome(access: Access) -> bool:
    return not access.failed and not 400 <= access.code < 500
