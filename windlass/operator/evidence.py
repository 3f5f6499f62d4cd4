"""What a live release's versions answered, look by look, out of Prometheus' counters; nothing is kept on a disk.

Counts are cumulative since the release began. Whoever takes over, or starts again, goes on from the evidence of the
newest decision in the journal and counts what came after it: Prometheus is asked for the time since then, not for
weeks. What is scraped at that very moment may be stored a moment later; then one scrape's worth of answers is not
counted, and nothing is counted twice.

Envoy Gateway calls its clusters after places in the route. When those change, counting begins anew in the same way:
what was counted under the old names stands, and what comes is counted under the new ones.

What the collector knows beside it (`collected.py`) is merged with these counts into one evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from serving.release.evidence import ArmEvidence, Evidence
from serving.release.journal import evidence_json
from serving.release.journal.store import Record
from serving.release.prometheus.client import NonsenseError, Prometheus, SilentError
from serving.release.prometheus.shares import Shares
from serving.release.prometheus.source import PrometheusSource
from serving.release.prometheus.templates import RUNTIME, Queries
from serving.release.statistics.histogram import Histogram

#: Scrape intervals after which a sample is late.
LATE_AFTER = 4.0

#: Targets that were scraped within this time before the first look are known to it.
KNOWN_FOR_S = 900.0

#: Cluster names by version; None where they are called after model and version.
Places = Mapping[str, tuple[str, ...]]


class ReleaseEvidence:
    """Evidence of one release.

    Args:
        versions: the champion and the candidates.
        since: when counting begins.
        base: what was counted up to `since`; None of a release that has just begun.
        queries: the set that is asked, for the places that its versions have now.
        places: where the versions are in the route now; asked at every look.
        more: further matchers of every query.
        durations: whether a check needs latencies.
        shares: whether the split of the requests is judged by these counts.
        pods: how the names of the versions' pods begin, where it is these that are scraped.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        model: str,
        versions: Sequence[str],
        since: datetime,
        base: Evidence | None,
        *,
        queries: Callable[[Places | None], Queries] = lambda places: RUNTIME,
        places: Callable[[], Places | None] = lambda: None,
        more: Mapping[str, str] | None = None,
        scrape_interval_s: float = 15.0,
        durations: bool = True,
        shares: bool = False,
        pods: Sequence[str] = (),
    ) -> None:
        self._prometheus = prometheus
        self._model = model
        self._versions = tuple(versions)
        self._base = base
        self._queries_of = queries
        self._places = places
        self._more = dict(more or {})
        self._scrape_interval_s = scrape_interval_s
        self._durations = durations
        self._at_places: Places | None = None
        self._since = since
        self._source: PrometheusSource | None = None
        self._shares = None
        self._met = False
        self._pods = tuple(pods)
        if shares:
            arms = {} if base is None else base.arms
            before = {v: arm.requests if arm.units is None else arm.units for v, arm in arms.items()}
            late_s = LATE_AFTER * scrape_interval_s
            self._shares = Shares(before, since.timestamp(), interval_s=scrape_interval_s, late_s=late_s)

    def look(self, at: datetime, *, anew: bool = False) -> Evidence:
        """Everything counted up to `at`.

        Args:
            anew: whether the split of the requests is judged anew from here on.

        Raises:
            WindlassError: where the versions are in the route cannot be asked.
        """
        places = self._places()
        if self._source is not None and places != self._at_places:
            # what the old names counted up to now; it is asked a last time
            self._base = self._total(self._source.evidence(self._versions, at))
            self._source, self._since, anew = None, at, True
        if anew and self._shares is not None:
            self._shares.begin(at.timestamp())
        if self._source is None:
            self._at_places = places
            self._source = PrometheusSource(
                self._prometheus,
                self._model,
                self._since,
                queries=self._queries_of(places),
                more=self._more,
                scrape_interval_s=self._scrape_interval_s,
                late_after=LATE_AFTER,
                durations=self._durations,
            )
        return self._shared(self._source, self._total(self._source.evidence(self._versions, at)), at)

    def _shared(self, source: PrometheusSource, found: Evidence, at: datetime) -> Evidence:
        """With the requests by which the split is judged: those of one span of time for all versions."""
        if self._shares is None:
            return found
        if not found.silent and not found.faults:
            self._add(source, self._shares, at)
        arms = {
            version: replace(arm, units=self._shares.count(version)) for version, arm in found.arms.items()
        }
        return replace(found, arms=arms)

    def _add(self, source: PrometheusSource, shares: Shares, at: datetime) -> None:
        """Add this look to the shares; where Prometheus falls silent over it, the next one makes up for it."""
        try:
            if self._met:
                scraped = source.scraped(self._versions)
            else:
                # a target that could be scraped once, and cannot now, is waited for
                scraped = source.scraped_before(self._versions, at, KNOWN_FOR_S)
            if self._pods and source.fails_at(self._pods, at):
                # it may well answer, also where it never was scraped
                shares.begin(at.timestamp())
            window_s = 2 * LATE_AFTER * self._scrape_interval_s
            shares.add(scraped, at.timestamp(), lambda targets: source.up(targets, at, window_s))
            self._met = True
        except (SilentError, NonsenseError):
            return

    def _total(self, found: Evidence) -> Evidence:
        if self._base is None:
            return found
        arms = dict(found.arms)
        for version, before in self._base.arms.items():
            arms[version] = _sum(before, arms.get(version))
        return replace(found, arms=arms)


def newest(records: Iterable[Record]) -> Evidence | None:
    """The newest evidence of a journal with what Prometheus counted; None where it never did.

    Of looks at which it was silent, and nothing came, the one before is told: counting goes on from there, and what
    was answered meanwhile is counted once it is asked for.
    """
    found: Record | None = None
    for record in records:
        if record["kind"] != "decision" or not record.get("evidence"):
            continue
        told = record["evidence"]
        if found is None or not _silent(told) or _counts(told) != _counts(found):
            found = told
    if found is None or (_silent(found) and not any(map(any, _counts(found).values()))):
        return None
    # paired values are of no use here, and whole only with those of the records before
    return evidence_json.from_json({**found, "paired": {}}, {})


def _silent(told: Record) -> bool:
    return "prometheus" in told.get("silent", {})


def _counts(told: Record) -> dict[str, tuple[int, int]]:
    return {version: (arm["requests"], arm["errors"]) for version, arm in told["arms"].items()}


def merged(counted: Evidence, collected: Evidence) -> Evidence:
    """What Prometheus counted (requests, errors, latencies) with what the collector joined (all else)."""
    arms: dict[str, ArmEvidence] = {}
    for version in dict.fromkeys((*counted.arms, *collected.arms)):
        ours, theirs = counted.arms.get(version, ArmEvidence()), collected.arms.get(version, ArmEvidence())
        arms[version] = replace(
            theirs,
            requests=ours.requests,
            errors=ours.errors,
            latencies=ours.latencies,
            units=ours.units if theirs.units is None else theirs.units,
        )
    return replace(
        counted,
        arms=arms,
        paired=collected.paired,
        pairs=collected.pairs,
        silent=_joined(counted.silent, collected.silent),
        faults=_joined(counted.faults, collected.faults),
        reached=collected.reached,
    )


def _joined(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    return {
        name: "; ".join(said[name] for said in (one, other) if name in said)
        for name in dict.fromkeys((*one, *other))
    }


def _sum(before: ArmEvidence, new: ArmEvidence | None) -> ArmEvidence:
    if new is None:
        return before
    return replace(
        new,
        requests=before.requests + new.requests,
        errors=before.errors + new.errors,
        latencies=_both(before.latencies, new.latencies),
    )


def _both(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other
