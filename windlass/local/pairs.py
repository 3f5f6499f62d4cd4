"""Requests that two versions answered, the caller's answer and its mirrored copy, joined by their id.

What each said of one request is compared at once and kept as numbers in the order in which the second answer came, so
that what has been seen never changes. An answer whose partner does not come is forgotten after a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from monitoring.predictions import Prediction
from serving.release.statistics.histogram import Histogram

#: Answers that wait for their partner at most; the oldest are forgotten first.
MOST_WAITING = 50_000


class ScorePairs:
    """Disagreement and distance of two versions' scores, request by request.

    Args:
        threshold: a score at or above it is a yes.
        edges: of the latency histograms.
    """

    def __init__(
        self, model: str, champion: str, candidate: str, threshold: float, edges: tuple[float, ...]
    ) -> None:
        self._model, self._champion, self._candidate = model, champion, candidate
        self._threshold = threshold
        self._waiting: OrderedDict[str, Prediction] = OrderedDict()
        self.distances: list[float] = []
        self.disagreements: list[float] = []
        self.latencies = {version: Histogram.empty(edges) for version in (champion, candidate)}

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Add what the servers logged, in an order that does not depend on which log was read first."""
        ours = [p for p in predictions if p.model == self._model and p.version in self.latencies]
        for prediction in sorted(ours, key=lambda p: (p.at, p.request_id, p.version)):
            partner = self._waiting.get(prediction.request_id)
            if partner is None:
                self._waiting[prediction.request_id] = prediction
                if len(self._waiting) > MOST_WAITING:
                    self._waiting.popitem(last=False)
            elif partner.version != prediction.version:
                del self._waiting[prediction.request_id]
                self._join(partner, prediction)

    def _join(self, one: Prediction, other: Prediction) -> None:
        self.distances.append(min(1.0, abs(one.score - other.score)))
        said = [prediction.score >= self._threshold for prediction in (one, other)]
        self.disagreements.append(float(said[0] != said[1]))
        for prediction in (one, other):
            if prediction.latency_ms >= 0:
                self.latencies[prediction.version] = self.latencies[prediction.version].plus(
                    [prediction.latency_ms]
                )
