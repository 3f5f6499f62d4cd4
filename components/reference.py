"""What the training rows looked like: the reference that drift is measured against, and the fallback defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import cache
from components.dataset import TrainingSet
from components.validate import EVENT_TIMESTAMP, LABEL
from windlass.contract import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_ROWS = 5000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 20
STATISTICS = "reference.json"
SAMPLE = "reference.parquet"
EVALUATION = "evaluation.parquet"


def statistics(
    inputs: NDArray[np.float32], names: Sequence[str], categories: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """Describe each input: numbers by moments, quantiles and a histogram, categories by their frequencies."""
    out: dict[str, Any] = {}
    for column, (name, values) in enumerate(zip(names, categories, strict=True)):
        out[name] = _categorical(inputs[:, column], values) if values else numeric(inputs[:, column])
    return out


def numeric(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Describe one numeric column; every figure but the null share is null where no value is present."""
    import numpy as np

    present = values[np.isfinite(values)].astype(np.float64)
    share = 1.0 - len(present) / max(1, len(values))
    if not len(present):
        empty = {"mean": None, "sd": None, "quantiles": None, "histogram": None}
        return {"kind": "numeric", "rows": len(values), "null_share": share, **empty}
    quantiles = np.quantile(present, QUANTILES)
    # equal-width bins between the outer quantiles: a few extreme values must not empty all other bins
    low, high = float(quantiles[0]), float(quantiles[-1])
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts, _ = np.histogram(np.clip(present, edges[0], edges[-1]), edges)
    return {
        "kind": "numeric",
        "rows": len(values),
        "null_share": share,
        "mean": float(present.mean()),
        "sd": float(present.std()),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _categorical(values: NDArray[np.float32], categories: tuple[str, ...]) -> dict[str, Any]:
    import numpy as np

    present = values[np.isfinite(values)].astype(int)
    counts = np.bincount(present, minlength=len(categories))
    share = 1.0 - len(present) / max(1, len(values))
    frequencies = {c: int(n) for c, n in zip(categories, counts, strict=True)}
    return {"kind": "categorical", "rows": len(values), "null_share": share, "frequencies": frequencies}


def defaults(described: dict[str, Any]) -> dict[str, float | None]:
    """Fallback of each input where the store fails: the median of a number, missing for a category."""
    return {
        name: d["quantiles"]["0.5"] if d["kind"] == "numeric" and d["quantiles"] is not None else None
        for name, d in described.items()
    }


def write(
    workload: Workload,
    training_set: TrainingSet,
    train_scores: NDArray[np.float64],
    evaluation_scores: NDArray[np.float64],
    folder: Path,
    *,
    seed: int,
) -> dict[str, Any]:
    """Write statistics and a sample of the training rows; return the former.

    The sample holds the inputs, `event_timestamp`, `label` and `score`; beside it lie the same columns of every
    evaluation row, and those columns by which metrics are also given that are no input (`slice_<name>`).
    """
    import numpy as np
    import pandas as pd

    names = list(workload.model_inputs)
    train = (training_set.rows[EVENT_TIMESTAMP] < pd.Timestamp(training_set.evaluation_start)).to_numpy()
    inputs = training_set.inputs[train]
    of_fields = {f.name: f.categories for f in workload.request_fields}
    categories = [of_fields.get(name, ()) for name in names]
    described = statistics(inputs, names, categories)
    labels = training_set.rows[LABEL].to_numpy()
    document = {
        "inputs": described,
        # of rows that the model was not trained on: scores of its own training rows are too sure of themselves
        "score": numeric(evaluation_scores),
        "label_rate": {"training": float(labels[train].mean()), "evaluation": float(labels[~train].mean())},
        "rows": {"training": int(train.sum()), "evaluation": int((~train).sum())},
    }
    cache.write_json(folder / STATISTICS, document)
    count = min(SAMPLE_ROWS, len(inputs))
    chosen = np.sort(np.random.default_rng(seed).choice(len(inputs), count, replace=False))
    sample = pd.DataFrame(inputs[chosen], columns=names)
    kept = training_set.rows[train].iloc[chosen]
    sample[EVENT_TIMESTAMP] = kept[EVENT_TIMESTAMP].to_numpy()
    sample[EVENT_TIMESTAMP] = pd.to_datetime(sample[EVENT_TIMESTAMP], utc=True)
    sample["label"] = kept[LABEL].to_numpy()
    sample["score"] = train_scores[chosen]
    sample.to_parquet(folder / SAMPLE, index=False)
    # what live performance is compared with later, over all and slice by slice: rows that the model was judged on
    # and had not seen
    judged = pd.DataFrame(training_set.inputs[~train], columns=names)
    judged_rows = training_set.rows[~train].reset_index(drop=True)
    judged[EVENT_TIMESTAMP] = judged_rows[EVENT_TIMESTAMP]
    for column in (f"slice_{name}" for name in workload.slices if name not in names):
        judged[column] = judged_rows[column]
    judged["label"], judged["score"] = labels[~train], evaluation_scores
    judged.to_parquet(folder / EVALUATION, index=False)
    return document
