"""Several models of one output, combined: each takes its inputs by name out of the ensemble's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from serving.runtime.bundle import Bundle
from serving.runtime.engines.engine import Array, Engine, TensorSpec

Combination = Callable[[Array, Array], Array]

COMBINE: dict[str, Combination] = {
    "mean": lambda answers, weights: np.tensordot(weights / weights.sum(), answers, 1),
    "sum": lambda answers, weights: np.tensordot(weights, answers, 1),
    "median": lambda answers, _: np.median(answers, axis=0),
    "max": lambda answers, _: np.max(answers, axis=0),
    "min": lambda answers, _: np.min(answers, axis=0),
}


class EnsembleEngine:
    """The members' answers, stacked to [members, N, …] and combined over the first axis.

    Args:
        members: an engine for each of `bundle.members`, in their order.
    """

    format = "ensemble"

    def __init__(self, members: Sequence[Engine], bundle: Bundle) -> None:
        self.inputs: tuple[TensorSpec, ...] = bundle.tensor_inputs
        self.outputs: tuple[TensorSpec, ...] = bundle.tensor_outputs
        position = {i.name: n for n, i in enumerate(bundle.inputs)}
        self._members = [
            (engine, [position[i.name] for i in m.bundle.inputs])
            for engine, m in zip(members, bundle.members, strict=True)
        ]
        self._weights = np.array([m.weight for m in bundle.members], dtype=np.float32)
        self._combine = COMBINE[bundle.combine]

    def run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """See `Engine.run`; a member that fails fails the ensemble."""
        (rows,) = arrays
        answers = np.stack([engine.run([rows[:, columns]])[0] for engine, columns in self._members])
        return [self._combine(answers, self._weights).astype(np.float32, copy=False)]
