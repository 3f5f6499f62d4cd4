"""From the rows of one request to their scores: features up the ladder, vector, model.

The only place where the parts of a prediction meet; whatever protocol a request came by ends here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.runtime.engines.onnx import Model, ModelError
from serving.runtime.features.ladder import RUNGS, Ladder, Source
from serving.runtime.signature import Row, Signature


@dataclass(frozen=True, slots=True)
class Prediction:
    """The scores of a request's rows, and what they rest on.

    Attributes:
        vectors: for each row the model's inputs before rounding to float32.
        sources: for each row the lowest rung of the ladder that a feature came from.
        source: the lowest of `sources`.
    """

    rows: Sequence[Row]
    scores: list[float]
    vectors: list[list[float]]
    sources: list[Source]
    source: Source


class Predictor:
    def __init__(self, signature: Signature, ladder: Ladder, model: Model) -> None:
        self._signature = signature
        self._ladder = ladder
        self._model = model

    def predict(self, rows: Sequence[Row], now: float) -> Prediction:
        """Score `rows` with the features of time `now` (epoch seconds).

        Raises:
            ModelError: the model gave something that is no score.
        """
        vectors, sources = [], []
        for row in rows:
            features = self._ladder.read(row.entities, now)
            vectors.append(self._signature.vector(features.values, row.values))
            sources.append(features.source)
        # a stored double beyond float32 is infinite to the model, as it was in training
        with np.errstate(over="ignore"):
            matrix = np.array(vectors, dtype=np.float32)
        scores: list[float] = self._model.predict(matrix).tolist()
        for score in scores:
            if not math.isfinite(score):
                raise ModelError(f"the model gave {score} as a score")
        source = sources[0] if len(sources) == 1 else max(sources, key=RUNGS.index)
        return Prediction(rows, scores, vectors, sources, source)
