"""Evidence of one live release: what each version answered, how fast, with which features, and how well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitoring import skew
from monitoring.predictions import Prediction
from monitoring.release_evidence.times import PRESENT, REPLAY
from windlass.errors import WindlassError

if TYPE_CHECKING:
    import pandas as pd

    from monitoring.labels import Label
    from serving.release.envoy.access_log import Access
    from serving.release.evidence import ArmEvidence, Evidence, Smoke
    from serving.release.release import Release
    from windlass.local.copies import Copies
    from windlass.local.scraped import ScrapedAnswers

Expected = Callable[[Sequence[Prediction]], "pd.DataFrame"]
"""Point-in-time recomputation of the view features of these predictions, a row each."""

Inputs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Version -> `inputs` of its serving bundle."""

SKEW_BATCH = 40

#: What arrived longer ago than this has been read from the logs: what is not in them then did not come in time.
READ_WITHIN = timedelta(seconds=2)


class ReleaseWatch:
    """Cumulative since the release started; everything it hands out is in a reproducible order.

    Args:
        since: epoch seconds of the start, in event time where `replay` is.
        copies: what became of the copies sent to a shadow; None where there is none.
        answers: who counts the answers instead of the access log; None where that does.
        counted: what Envoy itself counts of the versions' answers, for a log that stopped; None where nobody asks.
        threshold: score from which a decision is a yes.
        replay: whether requests and labels are dated by the events that are replayed, and not by their arrival.
    """

    def __init__(
        self,
        release: Release,
        champion: str,
        since: float,
        inputs: Inputs,
        expected: Expected,
        *,
        copies: Copies | None = None,
        answers: ScrapedAnswers | None = None,
        counted: Callable[[], int] | None = None,
        threshold: float = 0.5,
        replay: bool = False,
    ) -> None:
        from monitoring.release_evidence.losses import Losses
        from monitoring.release_evidence.outcomes import Outcomes
        from monitoring.release_evidence.pairs import ScorePairs
        from serving.release.metrics import METRICS
        from serving.release.release import Canary, Shadow
        from serving.release.statistics.histogram import Histogram, with_edges
        from windlass.local.stalled import Stalled

        self.release, self.champion, self.since = release, champion, since
        self.model, self.candidate = release.model, release.candidate
        self._inputs, self._expected = inputs, expected
        self._copies, self._answers = copies, answers
        self._stalled = None if counted is None else Stalled(counted)
        self._lines = 0
        self._replay, self._times = replay, REPLAY if replay else PRESENT
        self._shadow = isinstance(release.strategy, Shadow)
        bounds = [
            c.bound for c in release.checks if METRICS[c.metric].unit == "latency" and c.bound is not None
        ]
        edges = with_edges(*bounds)
        versions = (champion, *release.candidates)
        self._requests = dict.fromkeys(versions, 0)
        self._errors = dict.fromkeys(versions, 0)
        self._latencies = {version: Histogram.empty(edges) for version in versions}
        self._outcomes = Outcomes(release, champion, since, self._times)
        mirrored = self._shadow or (isinstance(release.strategy, Canary) and release.strategy.mirror)
        asks_losses = mirrored and any(check.metric == "brier" for check in release.checks)
        self._losses = Losses(since, self._times) if asks_losses else None
        joined = None if self._losses is None else self._losses.add_pair
        self._pairs = None
        if mirrored:
            self._pairs = ScorePairs(self.model, champion, self.candidate, threshold, edges, joined=joined)
        # recomputing features costs more than all the rest: only where somebody asks
        asked = release.candidates if any(c.metric == "featureSkew" for c in release.checks) else ()
        self._unchecked: dict[str, list[Prediction]] = {version: [] for version in asked}
        self._skew = {version: [0, 0] for version in release.candidates}
        self.skew_by_input: Counter[str] = Counter()
        self.smoke: Smoke | None = None

    def add_accesses(self, accesses: Sequence[Access]) -> None:
        """Add what Envoy logged of requests that callers waited for; those from before the release are left out."""
        ours = [a for a in accesses if a.model == self.model and a.version in self._requests]
        self._lines += len(ours)
        mine = [a for a in ours if a.counted and self._times.of_access(a) >= self.since]
        durations: dict[str, list[float]] = {}
        for access in mine:
            self._requests[access.version] += 1
            self._errors[access.version] += access.failed
            durations.setdefault(access.version, []).append(access.duration_ms)
        for version, values in durations.items():
            self._latencies[version] = self._latencies[version].plus(values)
        self._outcomes.add_accesses(sorted(mine, key=lambda a: (a.at, a.request_id)))

    def add_predictions(self, predictions: Sequence[Prediction]) -> None:
        """Add what the servers logged since the release began, mirrored or not.

        The caller knows where in the logs that was: the time of a prediction is that of its event, which lies before
        every release where the platform's clock stands. The candidates' vectors are checked in batches.
        """
        for prediction in predictions:
            if prediction.model == self.model and prediction.version in self._unchecked:
                self._unchecked[prediction.version].append(prediction)
        if self._pairs is not None:
            self._pairs.add(predictions)

    def add_labels(self, labels: Sequence[Label]) -> None:
        """Add what became known of answers."""
        self._outcomes.add_labels(labels)
        if self._losses is not None:
            self._losses.add_labels(labels)

    def enrol_until(self, moment: float) -> None:
        """Enrol units up to this time (epoch seconds): a pause shifts an experiment's end."""
        self._outcomes.enrolled_until = moment

    def check_skew(self, *, at_least: int = SKEW_BATCH) -> None:
        """Recompute what the candidates were served, once `at_least` vectors of one wait."""
        for version, unchecked in self._unchecked.items():
            if len(unchecked) < at_least or not unchecked:
                continue
            waiting, self._unchecked[version] = sorted(unchecked, key=lambda p: (p.at, p.request_id)), []
            found = skew.compare(waiting, self._expected(waiting), self._inputs[version])
            self._skew[version][0] += found.checked
            self._skew[version][1] += found.mismatched
            self.skew_by_input.update(found.by_input)

    def requests(self, version: str) -> int:
        return self._requests[version]

    def evidence(self, at: datetime) -> Evidence:
        """Everything seen so far, for the engine."""
        from serving.release.evidence import Evidence

        self._outcomes.finish((at if self._replay else at - READ_WITHIN).timestamp())
        silent: dict[str, str] = {}
        arms = {version: self._arm(version) for version in self._requests}
        faults: dict[str, str] = {}
        if self._answers is not None:
            found = self._answers.evidence(at)
            silent |= found.silent
            faults |= found.faults
            arms = {version: _counted(arm, found.arms.get(version)) for version, arm in arms.items()}
        if self._shadow:
            self._add_copies(arms, silent)
        stalled = None if self._stalled is None else self._stalled.reason(at.timestamp(), self._lines)
        if stalled is not None:
            silent["envoy"] = stalled
        unheard = self._outcomes.silent()
        if unheard is not None:
            silent["feedback"] = unheard
        return Evidence(
            at=at,
            arms=arms,
            paired={} if self._losses is None else {"brier": self._losses.differences()},
            pairs=None if self._pairs is None else self._pairs.sums(),
            silent=silent,
            faults=faults,
            smoke=self.smoke,
        )

    def _arm(self, version: str) -> ArmEvidence:
        from serving.release.evidence import ArmEvidence

        checked, mismatched = self._skew.get(version, (0, 0))
        return ArmEvidence(
            requests=self._requests[version],
            errors=self._errors[version],
            latencies=self._latencies[version],
            skew_checked=checked,
            skew_mismatched=mismatched,
            units=self._outcomes.units(version),
            outcomes=self._outcomes.totals(version),
            periods=self._outcomes.periods(version),
            contexts=self._outcomes.contexts(version),
        )

    def _add_copies(self, arms: dict[str, ArmEvidence], silent: dict[str, str]) -> None:
        """Nobody waits for a copy: what became of it is the proxy's and the servers' to say."""
        from dataclasses import replace

        assert self._pairs is not None  # noqa: S101 - a shadow is mirrored
        for version, latencies in self._pairs.latencies.items():
            arms[version] = replace(arms[version], latencies=latencies)
        if self._copies is None:
            return
        try:
            sent = self._copies.sent()
        except WindlassError as error:
            silent["predictions"] = f"the proxy does not say what became of the copies: {error}"
            return
        arms[self.candidate] = replace(arms[self.candidate], requests=sent.total, errors=sent.failed)


def _counted(arm: ArmEvidence, told: ArmEvidence | None) -> ArmEvidence:
    """An arm with the answers that somebody else counted; of a version that he never heard of there are none.

    The split stays judged by the access log: what Prometheus knows of two servers is of two moments.
    """
    from dataclasses import replace

    units = arm.requests if arm.units is None else arm.units
    if told is None:
        return replace(arm, requests=0, errors=0, latencies=None, units=units)
    return replace(arm, requests=told.requests, errors=told.errors, latencies=told.latencies, units=units)
