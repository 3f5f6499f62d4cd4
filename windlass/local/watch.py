"""Evidence of one live release: what each arm answered, how fast, with which features, and how well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monitoring import skew
from monitoring.joined import Joined
from monitoring.predictions import Prediction

if TYPE_CHECKING:
    import pandas as pd

    from serving.release.access_log import Access
    from serving.release.evidence import Evidence

Expected = Callable[[Sequence[Prediction]], "pd.DataFrame"]
"""Point-in-time recomputation of the view features of these predictions, a row each."""

SKEW_BATCH = 40


class ReleaseWatch:
    """Cumulative since the release started; everything it hands out is in a reproducible order.

    Args:
        since: event time (epoch seconds) of the start.
        inputs: `inputs` of the candidate's serving bundle.
    """

    def __init__(
        self,
        model: str,
        champion: str,
        candidate: str,
        since: float,
        inputs: Sequence[Mapping[str, Any]],
        expected: Expected,
    ) -> None:
        self.model, self.champion, self.candidate, self.since = model, champion, candidate, since
        self._inputs = inputs
        self._expected = expected
        self._arms: dict[str, list[tuple[str, bool, float]]] = {champion: [], candidate: []}
        self._unchecked: list[Prediction] = []
        self.skew_checked = 0
        self.skew_mismatched = 0
        self.skew_by_input: Counter[str] = Counter()

    def add_accesses(self, accesses: Sequence[Access]) -> None:
        """Add what Envoy logged of requests that callers waited for."""
        for access in sorted(accesses, key=lambda a: a.request_id):
            if access.version in self._arms and access.model == self.model:
                self._arms[access.version].append((access.request_id, access.failed, access.duration_ms))

    def add_predictions(self, predictions: Sequence[Prediction]) -> None:
        """Add what the servers logged, mirrored or not; the candidate's vectors are checked in batches."""
        self._unchecked += [p for p in predictions if p.version == self.candidate and p.model == self.model]

    def check_skew(self, *, at_least: int = SKEW_BATCH) -> None:
        """Recompute what the candidate was served, once `at_least` vectors wait."""
        if len(self._unchecked) < at_least or not self._unchecked:
            return
        waiting, self._unchecked = sorted(self._unchecked, key=lambda p: (p.at, p.request_id)), []
        found = skew.compare(waiting, self._expected(waiting), self._inputs)
        self.skew_checked += found.checked
        self.skew_mismatched += found.mismatched
        self.skew_by_input.update(found.by_input)

    def requests(self, version: str) -> int:
        return len(self._arms[version])

    def evidence(self, at: Any, joined: Joined) -> Evidence:
        """Everything seen so far, for the engine."""
        from serving.release.evidence import ArmEvidence, Evidence

        arms = {}
        for version, rows in self._arms.items():
            mine = version == self.candidate
            arms[version] = ArmEvidence(
                requests=len(rows),
                errors=sum(failed for _, failed, _ in rows),
                latencies_ms=tuple(duration for _, _, duration in rows),
                skew_checked=self.skew_checked if mine else 0,
                skew_mismatched=self.skew_mismatched if mine else 0,
            )
        pairs = joined.pairs(self.model, self.champion, self.candidate, since=self.since)
        return Evidence(at=at, arms=arms, paired={"brier": pairs.brier_differences()})
