"""A tree ensemble as numbers: what every library's model is read into, and what the ONNX graph is written from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from windlass.errors import WindlassError

Mode = Literal["BRANCH_LEQ", "BRANCH_LT"]
Link = Literal["identity", "sigmoid", "softmax", "exp"]

NODE = (
    "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true",
)  # fmt: skip
TARGET = ("treeids", "nodeids", "ids", "weights")


class NotExportableError(WindlassError):
    """A form does not apply to a model; the text says why."""


@dataclass
class Forest:
    """Trees whose leaves are summed by column, then taken through a link function.

    A split sends a row to `true` where `value <= threshold` (BRANCH_LEQ) or `value < threshold` (BRANCH_LT), in
    float32; a missing value goes where the split says.

    Attributes:
        columns: numbers that a row gives: 1, or one for each class.
        base: what each column's sum starts at.
        nodes, targets: the attribute lists of ONNX's TreeEnsembleRegressor, without their prefixes.
    """

    mode: Mode
    columns: int = 1
    base: Sequence[float] = (0.0,)
    link: Link = "identity"
    trees: int = 0
    nodes: dict[str, list[Any]] = field(default_factory=lambda: {k: [] for k in NODE})
    targets: dict[str, list[Any]] = field(default_factory=lambda: {k: [] for k in TARGET})

    def split(
        self, node: int, feature: int, threshold: float, true: int, false: int, missing_true: bool
    ) -> None:
        """Add a split of the tree under way; its nodes are numbered from its root, 0."""
        row = (self.trees, node, feature, threshold, self.mode, true, false, int(missing_true))
        for values, value in zip(self.nodes.values(), row, strict=True):
            values.append(value)

    def leaf(self, node: int, weights: Mapping[int, float]) -> None:
        """Add a leaf of the tree under way, with what it adds to each column."""
        row = (self.trees, node, 0, 0.0, "LEAF", 0, 0, 0)
        for values, value in zip(self.nodes.values(), row, strict=True):
            values.append(value)
        for column, weight in weights.items():
            target = (self.trees, node, column, weight)
            for values, value in zip(self.targets.values(), target, strict=True):
                values.append(value)

    def end_tree(self) -> None:
        self.trees += 1

    def thresholds(self) -> list[tuple[int, float]]:
        """Feature and threshold of every split."""
        return [
            (feature, value)
            for feature, value, mode in zip(
                self.nodes["featureids"], self.nodes["values"], self.nodes["modes"], strict=True
            )
            if mode != "LEAF"
        ]

    def attributes(self) -> dict[str, Any]:
        """The attributes of a TreeEnsembleRegressor."""
        attributes: dict[str, Any] = {f"nodes_{k}": v for k, v in self.nodes.items()}
        attributes |= {f"target_{k}": v for k, v in self.targets.items()}
        return attributes | {
            "n_targets": self.columns,
            "base_values": list(self.base),
            "aggregate_function": "SUM",
        }


def float32_below(threshold: float) -> float:
    """Return the largest float32 not above `threshold`: `x <= t` keeps its meaning for every float32 x."""
    import numpy as np

    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    if float(near) > threshold:
        near = np.nextafter(near, np.float32(-math.inf))
    return float(near)
