"""The evidence of one release out of what the collector stored, second by second.

What is handed out depends on the rows alone: neither on when somebody asked, nor on how much was read at once, nor on
whether it was read before. That holds because a second is handed in whole and seconds in their order, and because what
is over by a second is counted before anything later is looked at.

A prediction in the store is an answered request: of one that failed there is none. What only the proxy or Prometheus
knows (requests, errors, latencies) is not said here. A request with several rows is as many observations here, each
with a reward of its own, since that is what a label names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from monitoring.labels import Label
from monitoring.predictions import Prediction
from monitoring.release_evidence.losses import Losses
from monitoring.release_evidence.outcomes import LOST, Outcomes
from monitoring.release_evidence.pairs import ScorePairs
from monitoring.release_evidence.question import Question
from monitoring.release_evidence.recomputing import Recomputing
from monitoring.release_evidence.skew import FeatureSkew
from monitoring.release_evidence.times import PRESENT
from monitoring.release_evidence.vectors import Vector
from serving.release import route_header
from serving.release.envoy.access_log import Access
from serving.release.evidence import ArmEvidence, Evidence
from serving.release.release import Bandit, Canary, Experiment, Release, Shadow
from windlass.errors import UsageError


@dataclass(frozen=True, slots=True)
class Answer:
    """One stored prediction.

    Attributes:
        received: when it came, epoch seconds: the only time of it that no caller can state.
        score: None of an answer that is not one number.
        route, unit: what the router said of the request; None where no router of ours did.
    """

    request_id: str
    version: str
    mirrored: bool
    received: float
    score: float | None
    route: str | None = None
    unit: str | None = None


class Cumulative:
    """Evidence since a release began; what came before its beginning is for the caller to leave out.

    Args:
        threshold: score from which a decision is a yes.
        recomputing: says what features should have been; None where nobody can, and a release that asks for it is
            refused.

    Attributes:
        skew: counts of vectors that differ; None where no check asks for them.

    Raises:
        UsageError: nobody recomputes features here, and the release asks for it.
    """

    def __init__(
        self, question: Question, *, threshold: float = 0.5, recomputing: Recomputing | None = None
    ) -> None:
        self.question = question
        release, strategy = question.release, question.release.strategy
        self._outcomes = Outcomes(release, question.champion, question.since, PRESENT)
        if question.enrolled_until is not None:
            self._outcomes.enrolled_until = question.enrolled_until
        self._assigns = isinstance(strategy, Experiment)
        #: KServe's and Knative's own routes set no header: what comes in it is their caller's word
        self._routed = release.backend not in ("kserve", "knative")
        self._told_by_route = _told_by_route(release)
        mirrored = isinstance(strategy, Shadow) or (isinstance(strategy, Canary) and strategy.mirror)
        asks_losses = mirrored and any(check.metric == "brier" for check in release.checks)
        self._losses = Losses(question.since, PRESENT) if asks_losses else None
        joined = None if self._losses is None else self._losses.add_pair
        self._pairs = None
        if mirrored:
            self._pairs = ScorePairs(
                release.model, question.champion, release.candidate, threshold, (), joined=joined
            )
        self.skew: FeatureSkew | None = None
        if any(check.metric == "featureSkew" for check in release.checks):
            if recomputing is None:
                raise UsageError(
                    f"nobody recomputes the features of {release.model} here; leave featureSkew out"
                )
            self.skew = FeatureSkew(release.model, question.versions, recomputing)
        self._answered = dict.fromkeys(question.versions, 0)
        self._untold = dict.fromkeys(question.versions, 0)

    @property
    def enrolled_until(self) -> float:
        """Epoch seconds; infinite where no units are enrolled."""
        return self._outcomes.enrolled_until

    def enrol_until(self, moment: float) -> None:
        """Enrol units up to this time, epoch seconds; of a time that has not been handed in yet."""
        self._outcomes.enrolled_until = moment

    @property
    def held(self) -> int:
        """Requests, units, pairs and labels in memory, of some 300 bytes each."""
        joined = 0 if self._pairs is None else self._pairs.held
        vectors = 0 if self.skew is None else self.skew.held
        return self._outcomes.held + joined + vectors + (0 if self._losses is None else self._losses.held)

    def add(
        self,
        second: int,
        answers: Sequence[Answer],
        labels: Sequence[Label],
        vectors: Sequence[Vector] = (),
    ) -> None:
        """Take all that became known within (second - 1, second], epoch seconds."""
        self._outcomes.finish(float(second - 1))
        if self._losses is not None:
            self._losses.forget(float(second - 1))
        if answers:
            waited_for = [answer for answer in answers if not answer.mirrored]
            accesses = [self._access(answer) for answer in waited_for]
            self._outcomes.add_accesses(sorted(accesses, key=lambda a: (a.at, a.request_id, a.version)))
            if self._pairs is not None:
                self._pairs.add([self._prediction(a, a.score) for a in answers if a.score is not None])
        if labels:
            # a label before a reward alone: of one moment the order in which they came is not known any more
            in_order = sorted(
                labels, key=lambda label: (label.received, label.request_id, label.label is None)
            )
            self._outcomes.add_labels(in_order)
            if self._losses is not None:
                self._losses.add_labels(in_order)
        if self._losses is not None:
            self._losses.settle()
        if self.skew is not None:
            self.skew.add(vectors)

    def evidence(self, at: int) -> Evidence:
        """Everything up to `at`, epoch seconds, all of which was handed in."""
        self._outcomes.finish(float(at))
        silent = {}
        reason = self._untold_reason() or self._outcomes.silent()
        if reason is not None:
            silent["feedback"] = reason
        return Evidence(
            at=datetime.fromtimestamp(at, UTC),
            arms={version: self._arm(version, float(at)) for version in self.question.versions},
            paired={} if self._losses is None else {"brier": self._losses.differences()},
            pairs=None if self._pairs is None else self._pairs.sums(),
            silent=silent,
        )

    def _arm(self, version: str, at: float) -> ArmEvidence:
        arm = ArmEvidence(
            units=self._outcomes.units(version),
            outcomes=self._outcomes.totals(version),
            periods=self._outcomes.periods(version),
            contexts=self._outcomes.contexts(version),
        )
        if self.skew is None:
            return arm
        checked, mismatched = self.skew.counts(version)
        reason = self.skew.silent(version, at)
        return replace(
            arm,
            skew_checked=checked,
            skew_mismatched=mismatched,
            skew_by_input=self.skew.by_input(version),
            silent={} if reason is None else {"featureSkew": reason},
        )

    def _access(self, answer: Answer) -> Access:
        told = route_header.read(answer.route) if self._routed and answer.route is not None else None
        if answer.version in self._answered:
            self._answered[answer.version] += 1
            self._untold[answer.version] += told is None
        kind, segment = told or ("weights", None)
        if self._assigns and told is None:
            kind = "unassigned"
        unit = answer.unit if kind == "arm" else None
        return Access(
            request_id=answer.request_id,
            model=self.question.release.model,
            version=answer.version,
            at=answer.received,
            code=200,
            duration_ms=0.0,
            upstream_ms=None,
            flags="",
            event_at=None,
            route=kind,
            segment=segment,
            unit=unit,
        )

    def _prediction(self, answer: Answer, score: float) -> Prediction:
        return Prediction(
            request_id=answer.request_id,
            model=self.question.release.model,
            version=answer.version,
            at=answer.received,
            entities={},
            request={},
            features=(),
            score=score,
            latency_ms=math.nan,
            source="",
            mirrored=answer.mirrored,
        )

    def _untold_reason(self) -> str | None:
        """Why units, contexts or callers' choices are not known; None where they are, or nobody needs them."""
        if self._told_by_route is None:
            return None
        silent = [
            f"{self._untold[version]} of {answered} predictions of version {version}"
            for version, answered in self._answered.items()
            if self._untold[version] > LOST * answered
        ]
        if not silent:
            return None
        return (
            f"{' and '.join(silent)} do not say {self._told_by_route}; let the model servers send them (payload "
            "sender: runtime, and an image no older than the collector's) and the model's HTTPRoute be the operator's: "
            "KServe's own logger leaves it out"
        )


def _told_by_route(release: Release) -> str | None:
    """What of a request the route alone can say, and its outcome is counted by; None where that is nothing."""
    strategy = release.strategy
    if isinstance(strategy, Experiment):
        return "which unit it is of"
    if isinstance(strategy, Bandit) and strategy.context is not None:
        return "which context it is of"
    chosen = isinstance(strategy, Canary) and strategy.match is not None
    if chosen and any(check.metric == "reward" for check in release.checks):
        return "whether its caller chose the version"
    return None
