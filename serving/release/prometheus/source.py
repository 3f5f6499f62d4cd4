"""The metrics source `prometheus`: what each version of a model answered since its release began, look by look.

Every way of saying nothing is told apart from saying zero: Prometheus is down, answers in part, knows no such series,
or knows only old samples of a version: then the source is silent at this look, and what it counted before stands. What
cannot be true (a NaN, buckets that fall) is a fault of the metrics made of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from serving.release.evidence import ArmEvidence, Evidence
from serving.release.metrics import METRICS
from serving.release.prometheus.client import NonsenseError, Prometheus, Series, SilentError
from serving.release.prometheus.counting import Counted, Labels, by_scrape, count
from serving.release.prometheus.templates import (
    OF_A_TARGET,
    RUNTIME,
    Queries,
    Query,
    listening,
    scraping,
    scraping_pods,
)
from serving.release.statistics.histogram import Histogram

ERRORS = ("errorRate",)
LATENCIES = tuple(name for name, metric in METRICS.items() if metric.unit == "latency")

#: Samples older than this are not asked for: a source that was away for longer misses restarts in between.
LONGEST_WINDOW_S = 6 * 3600.0


class PrometheusSource:
    """Counts of one release.

    Args:
        since: when the release began; requests are counted from there, however late the first look.
        queries: which metrics are asked, see `templates.py`.
        more: further matchers for every query, for example {"namespace": "prod"}.
        scrape_interval_s: how often the targets are scraped; samples older than `late_after` intervals are late.
        durations: whether latencies are asked for.
        state: what `state` gave, so that a source in a new process goes on where the old one was.
        name: of the source in checks.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        model: str,
        since: datetime,
        *,
        queries: Queries = RUNTIME,
        more: Mapping[str, str] | None = None,
        scrape_interval_s: float = 15.0,
        late_after: float = 4.0,
        durations: bool = True,
        state: Mapping[str, Any] | None = None,
        name: str = "prometheus",
    ) -> None:
        self._prometheus = prometheus
        self._model = model
        self._start = since
        self._since = since.timestamp()
        self._queries = queries
        self._more = dict(more or {})
        self._late_s = scrape_interval_s * late_after
        self._durations = durations
        self._name = name
        self._asked_at = self._since if state is None else float(state["at"])
        self._begun = state is not None
        self._responses = Counted() if state is None else Counted.from_json(state["responses"])
        self._buckets = Counted() if state is None else Counted.from_json(state["durations"])
        self._heard: list[Series] = []

    def state(self) -> dict[str, Any]:
        """All that is to be kept, as plain values."""
        return {
            "at": self._asked_at,
            "responses": self._responses.to_json(),
            "durations": self._buckets.to_json(),
        }

    def evidence(self, versions: Sequence[str], at: datetime) -> Evidence:
        """What `versions` answered up to `at`, cumulative since the release began; never less than before.

        Ask for the same versions at every look. One that was never heard of has no arm; where the source is silent,
        arms are as they were last known.
        """
        silent: dict[str, str] = {}
        faults: dict[str, str] = {}
        try:
            if not self._begun:
                self._begin()
            self._responses = self._ask(
                self._queries.responses, self._responses, versions, at, ERRORS, faults
            )
            if self._durations:
                self._buckets = self._ask(
                    self._queries.durations, self._buckets, versions, at, LATENCIES, faults
                )
            if not faults:  # what was left out is asked for again: a restart in it must be seen
                self._asked_at = max(self._asked_at, at.timestamp())
            self._check(versions, at, faults)
        except SilentError as error:
            silent[self._name] = str(error)
        except NonsenseError as error:
            faults.update(dict.fromkeys((*ERRORS, *LATENCIES), str(error)))
        arms = {version: arm for version in versions if (arm := self._arm(version, faults)) is not None}
        return Evidence(at, arms, silent=silent, faults=faults)

    def scraped(self, versions: Sequence[str]) -> dict[str, dict[Labels, dict[float, int]]]:
        """What the newest look found, scrape by scrape: version -> target -> time -> responses of its process.

        Raises:
            NonsenseError: a sample is no count at all.
        """
        return self._by_target(versions, self._heard)

    def scraped_before(
        self, versions: Sequence[str], at: datetime, window_s: float
    ) -> dict[str, dict[Labels, dict[float, int]]]:
        """The same of all scrapes of the last `window_s` seconds.

        Raises:
            SilentError, NonsenseError.
        """
        values = self._called(versions)
        promql = self._queries.responses.render(self._model, values, self._more, window_s)
        return self._by_target(versions, self._prometheus.samples(promql, at))

    def up(
        self, targets: Collection[Labels], at: datetime, window_s: float
    ) -> dict[Labels, dict[float, bool]]:
        """Target -> time of a scrape of the last `window_s` seconds -> whether it succeeded.

        There are none of a target that Prometheus does not know, or that bears no label by which its `up` is found.

        Raises:
            SilentError, NonsenseError.
        """
        named = {target: labels for target in targets if (labels := _of_a_target(dict(target)))}
        if not named:
            return {}
        said: dict[Labels, dict[float, bool]] = {}
        for series in self._prometheus.samples(scraping(list(named.values()), window_s), at):
            for target, labels in named.items():
                if labels.items() <= series.labels.items():
                    said.setdefault(target, {}).update(
                        {moment: value == 1 for moment, value in series.samples}
                    )
        return said

    def fails_at(self, pods: Collection[str], at: datetime) -> bool:
        """Whether every scrape of a pod failed lately; of a pod whose name begins with one of `pods`, and of a job that
        the newest look heard of: what else is scraped of a pod is no matter.

        Raises:
            SilentError, NonsenseError.
        """
        jobs = {series.labels.get("job") for series in self._heard}
        tried = self._prometheus.samples(scraping_pods(pods, self._more, self._late_s), at)
        return any(
            not any(value for _, value in series.samples)
            for series in tried
            if series.labels.get("job") in jobs
        )

    def _called(self, versions: Sequence[str]) -> tuple[str, ...]:
        return tuple(value for version in versions for value in self._queries.values(self._model, version))

    def _by_target(
        self, versions: Sequence[str], series: Sequence[Series]
    ) -> dict[str, dict[Labels, dict[float, int]]]:
        query = self._queries.responses
        found: dict[str, dict[Labels, dict[float, int]]] = {}
        for target, by_time in by_scrape(series, frozenset(query.labels)).items():
            for at, counts in by_time.items():
                for version in versions:
                    values = self._queries.values(self._model, version)
                    ours = [n for labels, n in counts.items() if _value(labels, query.version) in values]
                    if ours:
                        found.setdefault(version, {}).setdefault(target, {})[at] = sum(ours)
        return found

    def _begin(self) -> None:
        """Ask whether Prometheus listened when the release began: then what appears later is new, not merely late."""
        heard = self._prometheus.has(listening(self._late_s), self._start)
        self._responses, self._buckets = Counted(heard=heard), Counted(heard=heard)
        self._begun = True

    def _ask(
        self,
        query: Query,
        before: Counted,
        versions: Sequence[str],
        at: datetime,
        metrics: Sequence[str],
        faults: dict[str, str],
    ) -> Counted:
        values = self._called(versions)
        if not values:
            raise SilentError(
                f"no series for versions {', '.join(versions)} ({query.name}): nothing is called after them"
            )
        # what was scraped before the last look may have been stored after it
        window = min(at.timestamp() - self._asked_at + self._late_s, LONGEST_WINDOW_S)
        promql = query.render(self._model, values, self._more, max(window, self._late_s))
        try:
            series = self._prometheus.samples(promql, at)
            if query is self._queries.responses:
                self._heard = series
            after, fault = count(before, series, frozenset(query.labels), self._since)
        except NonsenseError as error:
            after, fault = before, str(error)
        if fault is not None:
            faults.update(dict.fromkeys(metrics, f"{query.name}: {fault}"))
        return after

    def _check(self, versions: Sequence[str], at: datetime, faults: Mapping[str, str]) -> None:
        """Raise SilentError where a version is not heard of, or was not lately, in metrics that are not at fault."""
        asked = [] if ERRORS[0] in faults else [(self._queries.responses, self._responses)]
        if self._durations and LATENCIES[0] not in faults:
            asked.append((self._queries.durations, self._buckets))
        for version in versions:
            values = self._queries.values(self._model, version)
            for query, counted in asked:
                newest = _newest(counted, query.version, values)
                if newest is None:
                    if self._excused(query, version):
                        continue
                    raise SilentError(
                        f"no series of {query.metric} for version {version} ({query.name}: {query.version} is "
                        f"{' or '.join(values) or 'nothing'}); check that its servers are scraped, and that the label "
                        f"{query.version} is theirs (honorLabels)"
                    )
                age = at.timestamp() - newest
                if age > self._late_s:
                    raise SilentError(
                        f"late: the newest sample of version {version} ({query.name}) is {age:.0f} s old, the limit is "
                        f"{self._late_s:g} s; check that its servers are up and scraped"
                    )

    def _excused(self, query: Query, version: str) -> bool:
        """Whether a version rightly has no series: no responses where its histogram is there and empty; no durations
        (of Envoy) where no request of it ever reached a server."""
        if query is self._queries.responses:
            values, label = self._queries.values(self._model, version), self._queries.durations.version
            found = [n for labels, n in self._buckets.totals.items() if _value(labels, label) in values]
            return bool(found) and not any(found)
        outcomes = self._outcomes(version)
        return bool(outcomes) and all(map(self._queries.is_failure, outcomes))

    def _seen(self, version: str) -> bool:
        values = self._queries.values(self._model, version)
        return any(
            dict(labels).get(self._queries.durations.version) in values for labels in self._buckets.totals
        )

    def _outcomes(self, version: str) -> dict[str, int]:
        """Outcome -> requests."""
        values = self._queries.values(self._model, version)
        found: dict[str, int] = {}
        for labels, number in self._responses.totals.items():
            if _value(labels, self._queries.responses.version) in values:
                outcome = _value(labels, self._queries.outcome) or ""
                found[outcome] = found.get(outcome, 0) + number
        return found

    def _arm(self, version: str, faults: dict[str, str]) -> ArmEvidence | None:
        outcomes = self._outcomes(version)
        if not outcomes and not self._seen(version):
            return None
        return ArmEvidence(
            requests=sum(outcomes.values()),
            errors=sum(number for outcome, number in outcomes.items() if self._queries.is_failure(outcome)),
            latencies=self._latencies(version, faults) if self._seen(version) else None,
        )

    def _latencies(self, version: str, faults: dict[str, str]) -> Histogram | None:
        try:
            return Histogram.of_cumulative(self._cumulative(version))
        except ValueError as error:
            for metric in LATENCIES:
                faults.setdefault(metric, f"{self._queries.durations.name}: version {version}: {error}")
            return None

    def _cumulative(self, version: str) -> dict[float, float]:
        """Bound in milliseconds -> answers at or below it.

        Raises:
            ValueError: its servers have different buckets, so that their sums mean nothing.
        """
        label = self._queries.durations.version
        values = self._queries.values(self._model, version)
        of_targets = {
            frozenset(_value(labels, "le") for labels in series if _value(labels, label) in values)
            for series in self._buckets.values.values()
        } - {frozenset()}
        if len(of_targets) > 1:
            raise ValueError(
                "its servers have different buckets; run one build of the server for one version"
            )
        found: dict[float, float] = {}
        for labels, number in self._buckets.totals.items():
            if _value(labels, label) in values:
                bound = float(_value(labels, "le") or "nan")
                # 0.0001 s are 0.1 ms, not 0.09999999999999999
                bound = bound if math.isinf(bound) else float(f"{bound * self._queries.to_ms:.9g}")
                found[bound] = found.get(bound, 0) + number
        return found


def _newest(counted: Counted, label: str, values: Sequence[str]) -> float | None:
    """Time of the newest scrape of a target that has one of the label's `values`."""
    found = [
        counted.last[target]
        for target, series in counted.values.items()
        if any(_value(labels, label) in values for labels in series)
    ]
    return max(found, default=None)


def _value(labels: Labels, name: str) -> str | None:
    return next((value for key, value in labels if key == name), None)


def _of_a_target(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of its `up`; empty where it has none of those that tell targets apart."""
    own = {name: labels[name] for name in OF_A_TARGET if labels.get(name)}
    return own and {"__name__": "up", **own}
