"""Predictions joined with their labels by request id, whichever of the two comes first.

One request may have several predictions: the answer that the caller got and the mirrored copies. Its label
holds for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monitoring.columns import Arm, Floats
from monitoring.labels import Label, LabelBook, Recorded
from monitoring.predictions import Prediction


@dataclass(frozen=True)
class JoinCounts:
    """What came in and what became of it.

    Attributes:
        predictions: kept; a second one of the same request, version and kind is counted as repeated.
        labels: kept, the first of each request.
        contradicted_labels: differed from the kept one and were set aside.
        awaiting_label: predictions without a label so far.
        awaiting_prediction: kept labels whose prediction was not seen so far.
    """

    predictions: int
    repeated_predictions: int
    labels: int
    repeated_labels: int
    contradicted_labels: int
    awaiting_label: int
    awaiting_prediction: int


@dataclass(frozen=True, eq=False)
class Window:
    """Predictions of one model in a stretch of time, a row each.

    Attributes:
        at, label_at: epoch seconds; `label_at` and `labels` are NaN where no label is known.
        features: one column for each model input.
    """

    request_ids: tuple[str, ...]
    at: Floats
    scores: Floats
    labels: Floats
    label_at: Floats
    latency_ms: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.request_ids)

    def matured(self) -> tuple[Floats, Floats]:
        """Return (labels, scores) of the rows whose label is known."""
        known = ~np.isnan(self.labels)
        return self.labels[known], self.scores[known]


class Joined:
    """Everything that was predicted and labelled so far, joined as it comes in."""

    def __init__(self) -> None:
        self._arms: dict[tuple[str, str, bool], Arm] = {}
        self._rows: dict[str, list[tuple[Arm, int]]] = {}
        self._book = LabelBook()
        self._predictions = 0
        self._repeated = 0
        self._matured = 0
        self._early = 0

    def add_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Add predictions; those whose label is already known are labelled at once."""
        for prediction in predictions:
            self._add_prediction(prediction)

    def _add_prediction(self, prediction: Prediction) -> None:
        key = (prediction.model, prediction.version, prediction.mirrored)
        arm = self._arms.get(key)
        if arm is None:
            arm = self._arms[key] = Arm(len(prediction.features))
        rows = self._rows.get(prediction.request_id)
        if rows is None:
            rows = self._rows[prediction.request_id] = []
        elif any(other is arm for other, _ in rows):
            self._repeated += 1  # a retried request: the first answer counts
            return
        label = self._book.get(prediction.request_id)
        if label is not None and not rows:
            self._early -= 1
        rows.append((arm, len(arm)))
        arm.request_ids.append(prediction.request_id)
        arm.at.append(prediction.at)
        arm.score.append(prediction.score)
        arm.latency_ms.append(prediction.latency_ms)
        arm.features.append(prediction.features)
        arm.label.append(np.nan if label is None or label.label is None else label.label)
        arm.label_at.append(np.nan if label is None else label.at)
        self._predictions += 1
        self._matured += label is not None

    def add_labels(self, labels: Iterable[Label]) -> None:
        """Add labels; the first of a request is kept, see `monitoring.labels`."""
        for label in labels:
            if label.label is None or self._book.record(label) is not Recorded.KEPT:
                continue
            rows = self._rows.get(label.request_id)
            if rows is None:
                self._early += 1
                continue
            for arm, row in rows:
                arm.label[row] = label.label
                arm.label_at[row] = label.at
            self._matured += len(rows)

    @property
    def counts(self) -> JoinCounts:
        return JoinCounts(
            predictions=self._predictions,
            repeated_predictions=self._repeated,
            labels=len(self._book),
            repeated_labels=self._book.repeated,
            contradicted_labels=self._book.contradicted,
            awaiting_label=self._predictions - self._matured,
            awaiting_prediction=self._early,
        )

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of `model` that predicted anything, in the order they first did."""
        return tuple(dict.fromkeys(version for name, version, _ in self._arms if name == model))

    def window(
        self,
        model: str,
        *,
        since: float = -np.inf,
        until: float = np.inf,
        versions: Iterable[str] | None = None,
        mirrored: bool = False,
    ) -> Window:
        """Return the predictions with `since` <= at < `until`, of the versions given (default: all).

        Versions whose number of inputs differs from the newest one's are left out of an unrestricted window.
        """
        wanted = self.versions(model) if versions is None else tuple(versions)
        arms = [arm for v in wanted if (arm := self._arms.get((model, v, mirrored))) is not None]
        arms = [arm for arm in arms if arm.width == arms[-1].width]
        chosen = [(arm, np.flatnonzero((arm.at.values >= since) & (arm.at.values < until))) for arm in arms]

        def gather(field: str) -> Floats:
            parts = [getattr(arm, field).values[rows] for arm, rows in chosen]
            return np.concatenate(parts) if parts else np.empty(0)

        return Window(
            request_ids=tuple(arm.request_ids[row] for arm, rows in chosen for row in rows),
            at=gather("at"),
            scores=gather("score"),
            labels=gather("label"),
            label_at=gather("label_at"),
            latency_ms=gather("latency_ms"),
            features=gather("features") if chosen else np.empty((0, 0)),
        )
