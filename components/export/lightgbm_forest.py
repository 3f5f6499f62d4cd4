"""LightGBM's trees, read from its own dump. Every one compares `x <= threshold` with a double threshold."""

from __future__ import annotations

import math
from typing import Any

from components.export.forest import Forest, Link, NotExportableError, float32_below

ZERO = 1.0000000180025095e-35
"""kZeroThreshold of LightGBM's meta.h, a float32."""
LOG = ("poisson", "gamma", "tweedie")
IDENTITY = (
    "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg",
)  # fmt: skip


def read(booster: Any) -> Forest:
    """Return the forest of a Booster.

    Raises:
        NotExportableError: its objective or splits are none that a forest of float32 splits can say.
    """
    dump = booster.dump_model()
    columns = dump["num_tree_per_iteration"]
    link, scale = _link(dump.get("objective", ""))
    if dump["average_output"]:  # a random forest: the mean of the iterations, not their sum
        scale /= len(dump["tree_info"]) / columns
    forest = Forest("BRANCH_LEQ", columns, [0.0] * columns, link)
    for n, tree in enumerate(dump["tree_info"]):
        _add(forest, tree["tree_structure"], n % columns, scale)
    return forest


def _link(objective: str) -> tuple[Link, float]:
    """The link function, and what a margin is multiplied with before it."""
    name, *parameters = objective.split()
    if name in ("binary", "cross_entropy"):
        # "binary sigmoid:0.7": 1 / (1 + exp(-0.7 margin))
        stated = [p.removeprefix("sigmoid:") for p in parameters if p.startswith("sigmoid:")]
        return "sigmoid", float(stated[0]) if stated else 1.0
    if name == "multiclass":
        return "softmax", 1.0
    if name in LOG:
        return "exp", 1.0
    if name in IDENTITY and "sqrt" not in parameters:
        return "identity", 1.0
    raise NotExportableError(f"its objective is {objective!r}, whose link function this form does not write")


def _add(forest: Forest, root: dict[str, Any], column: int, scale: float) -> None:
    # numbered as they are met: the dump numbers splits and leaves apart
    waiting, count = [(0, root)], 1
    while waiting:
        number, node = waiting.pop()
        if "leaf_value" in node:
            if "leaf_coeff" in node:
                raise NotExportableError("its leaves hold linear models (linear_tree)")
            forest.leaf(number, {column: scale * node["leaf_value"]})
            continue
        missing_left = _missing_left(node)
        left, right = count, count + 1
        count += 2
        forest.split(number, node["split_feature"], _threshold(node["threshold"]), left, right, missing_left)
        waiting += [(left, node["left_child"]), (right, node["right_child"])]
    forest.end_tree()


def _threshold(stated: float) -> float:
    """The threshold in float32; LightGBM takes a value of at most 1e-35 in size as zero before it compares."""
    if -ZERO <= stated < 0.0:
        return float32_below(math.nextafter(-ZERO, -math.inf))
    return max(ZERO, float32_below(stated)) if stated >= 0.0 else float32_below(stated)


def _missing_left(node: dict[str, Any]) -> bool:
    """Where NaN goes: to the default side, or where zero goes in a model that saw none missing."""
    if node["decision_type"] != "<=":
        raise NotExportableError("it has categorical splits, which compare with a set of values")
    zero_left = bool(node["threshold"] >= 0.0)
    if node["missing_type"] == "None":
        return zero_left
    if node["missing_type"] == "Zero" and node["default_left"] != zero_left:
        raise NotExportableError(
            "it takes zeros as missing (zero_as_missing), on another side than their value"
        )
    return bool(node["default_left"])
