"""Requests that two versions answered, the caller's answer and its mirrored copy, joined by their id.

What each said of one request is compared at once and kept as sums. An answer whose partner does not come is forgotten
after a while.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

from monitoring.predictions import Prediction
from serving.release.evidence import DISTANCE_STEPS, Pairs
from serving.release.statistics.histogram import Histogram

#: Answers that wait for their partner at most; the oldest are forgotten first.
MOST_WAITING = 50_000


class ScorePairs:
    """Disagreement and distance of two versions' scores, request by request.

    Args:
        threshold: a score at or above it is a yes.
        edges: of the latency histograms.
        joined: told of every pair: request id, the champion's score, the candidate's; None where nobody asks.
    """

    def __init__(
        self,
        model: str,
        champion: str,
        candidate: str,
        threshold: float,
        edges: tuple[float, ...],
        *,
        joined: Callable[[str, float, float], None] | None = None,
    ) -> None:
        self._model, self._champion = model, champion
        self._threshold = threshold
        self._joined = joined
        # a whole prediction holds its features too: kilobytes for each request that waits
        self._waiting: OrderedDict[str, tuple[str, float, float]] = OrderedDict()
        self._differing = 0
        self._distances: Counter[int] = Counter()
        self.latencies = {version: Histogram.empty(edges) for version in (champion, candidate)}

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Add what the servers logged."""
        ours = [p for p in predictions if p.model == self._model and p.version in self.latencies]
        durations: dict[str, list[float]] = {version: [] for version in self.latencies}
        # partners stand in two files: side by side, none is forgotten however much is read at once
        for prediction in sorted(ours, key=lambda p: (p.at, p.request_id, p.version)):
            name, answer = (
                prediction.request_id,
                (prediction.version, prediction.score, prediction.latency_ms),
            )
            partner = self._waiting.get(name)
            if partner is None:
                self._waiting[name] = answer
                if len(self._waiting) > MOST_WAITING:
                    self._waiting.popitem(last=False)
            elif partner[0] != prediction.version:
                del self._waiting[name]
                self._compare(
                    name, *((partner, answer) if partner[0] == self._champion else (answer, partner))
                )
                for version, _, latency_ms in (partner, answer):
                    if latency_ms >= 0:
                        durations[version].append(latency_ms)
        for version, values in durations.items():
            if values:
                self.latencies[version] = self.latencies[version].plus(values)

    @property
    def held(self) -> int:
        """Answers that wait for their partner."""
        return len(self._waiting)

    def sums(self) -> Pairs:
        return Pairs(self._distances.total(), self._differing, dict(self._distances))

    def _compare(
        self, name: str, champion: tuple[str, float, float], candidate: tuple[str, float, float]
    ) -> None:
        theirs, ours = champion[1], candidate[1]
        self._distances[min(DISTANCE_STEPS, round(DISTANCE_STEPS * abs(ours - theirs)))] += 1
        self._differing += (ours >= self._threshold) != (theirs >= self._threshold)
        if self._joined is not None:
            self._joined(name, theirs, ours)
