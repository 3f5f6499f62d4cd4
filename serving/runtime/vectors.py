"""From the rows of requests to the matrix that a model of rows takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.bundle import Bundle
from serving.runtime.flow.call import Call
from serving.runtime.signature import Signature, doubles

if TYPE_CHECKING:
    from serving.runtime.features.transformations import Transformations


class Vectors:
    """Puts the inputs of a bundle's model together: features, sent values, and what transformations make of both."""

    def __init__(self, bundle: Bundle, signature: Signature) -> None:
        self._signature = signature
        self._transformations = _transformations(bundle)
        self._columns = [f for v in bundle.views for f in v.features] + [f.name for f in signature.fields]

    def matrix(self, calls: Sequence[Call]) -> NDArray[np.float32]:
        """The inputs of all rows of `calls`, [N, F]; leaves with each call its rows before rounding to float32.

        Raises:
            BadRequest: a value is infinite, or missing where that is not allowed.
            Exception: whatever a transformation raises.
        """
        signature = self._signature
        if all(isinstance(c.asked.values, np.ndarray) for c in calls):
            whole = [c.asked.values.reshape(-1, signature.width) for c in calls]  # type: ignore[union-attr]
            return self._checked(whole[0] if len(whole) == 1 else np.concatenate(whole))
        parts: list[bytes] = []
        for call in calls:
            values = call.asked.values
            if values is None:
                call.vectors = self._rows(call)
                parts += [doubles(vector) for vector in call.vectors]
            else:
                parts.append(values if isinstance(values, bytes) else values.astype(np.float64).tobytes())
        with np.errstate(over="ignore"):
            # a stored double beyond float32 is infinite to the model, as it was in training
            matrix = np.frombuffer(b"".join(parts)).astype(np.float32).reshape(-1, signature.width)
        return self._checked(matrix) if signature.plain else matrix

    def _checked(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):  # no finite sum: looked at one by one then
            total = np.add.reduce(matrix, axis=None)
        if not math.isfinite(total):
            self._signature.check(matrix, "inputs")
        return matrix

    def _rows(self, call: Call) -> list[list[float]]:
        rows, features = call.asked.rows or (), call.features
        if features is None:  # nothing is read for this model
            joined = [list(r.values) for r in rows]
        else:
            joined = [f.values + r.values for r, f in zip(rows, features, strict=True)]
        if self._transformations is not None:
            self._transform(joined, self._transformations)
        return [self._signature.vector(values) for values in joined]

    def _transform(self, joined: list[list[float]], transformations: Transformations) -> None:
        """Append to each row what the transformations make of its features and fields."""
        columns: dict[str, list[Any]] = {n: [row[i] for row in joined] for i, n in enumerate(self._columns)}
        made = transformations.apply(columns)
        for i, row in enumerate(joined):
            row.extend(float(made[name][i]) for name in self._signature.transformed)


def _transformations(bundle: Bundle) -> Transformations | None:
    if not bundle.transformations:
        return None
    from serving.runtime.features.transformations import Transformations

    return Transformations(bundle)
