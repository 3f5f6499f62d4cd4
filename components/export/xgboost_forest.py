"""XGBoost's trees, read from its own JSON. Every one compares `x < threshold` in float32, and NaN has a side."""

from __future__ import annotations

import json
import math
from typing import Any

from components.export.forest import Forest, Link, NotExportableError

LOGISTIC = ("binary:logistic", "reg:logistic")
LOG = ("count:poisson", "reg:gamma", "reg:tweedie")
IDENTITY = (
    "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:squaredlogerror", "rank:pairwise",
    "rank:ndcg", "rank:map", "binary:logitraw",
)  # fmt: skip


def read(booster: Any) -> Forest:
    """Return the forest of a Booster.

    Raises:
        NotExportableError: its booster, objective or splits are none that a forest of float32 splits can say.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    kind = learner["gradient_booster"]["name"]
    if kind != "gbtree":
        raise NotExportableError(f"its booster is {kind!r}; this form writes 'gbtree'")
    model = learner["gradient_booster"]["model"]
    # written as "[4.38E-1]", one number a class, since 3.1 and as "4.38E-1" before
    stated = [float(b) for b in learner["learner_model_param"]["base_score"].strip("[]").split(",")]
    link, base = _link(objective, stated, max(1, int(learner["learner_model_param"]["num_class"])))
    forest = Forest("BRANCH_LT", len(base), base, link)
    for tree, column in zip(model["trees"], model["tree_info"], strict=True):
        _add(forest, tree, column)
    return forest


def _link(objective: str, base: list[float], classes: int) -> tuple[Link, list[float]]:
    """The link function, and the base scores as margins: they are stated as predictions."""
    if objective in ("multi:softprob", "multi:softmax"):
        return "softmax", base if len(base) == classes else base * classes
    if objective in LOGISTIC:
        return "sigmoid", [math.log(b / (1 - b)) for b in base]
    if objective in LOG:
        return "exp", [math.log(b) for b in base]
    if objective in IDENTITY:
        return "identity", base
    raise NotExportableError(f"its objective is {objective!r}, whose link function this form does not write")


def _add(forest: Forest, tree: dict[str, Any], column: int) -> None:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise NotExportableError("its leaves hold vectors (multi_strategy 'multi_output_tree')")
    if any(tree["split_type"]):
        raise NotExportableError("it has categorical splits, which compare with a set of values")
    for i, left in enumerate(tree["left_children"]):
        value = float(tree["split_conditions"][i])
        if left == -1:
            forest.leaf(i, {column: value})
        else:
            forest.split(
                i,
                tree["split_indices"][i],
                value,
                left,
                tree["right_children"][i],
                bool(tree["default_left"][i]),
            )
    forest.end_tree()
