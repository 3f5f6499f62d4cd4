"""Measuring a candidate for its gates: its scores, the champion's on the same rows, and each view gone missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import cache, delong, evaluate, export, gate
from components.bundle import MANIFEST
from components.dataset import TrainingSet
from components.evaluate import Evaluation
from components.gate import ChampionComparison, Check, SliceComparison
from components.validate import EVENT_TIMESTAMP, LABEL
from windlass.contract import Gates, Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Champion:
    """The version to compare with: where its bundle is, and until when its training rows reached."""

    version: str
    folder: Path
    trained_to: datetime


@dataclass(frozen=True)
class Window:
    """The evaluation rows."""

    inputs: NDArray[np.float32]
    labels: Floats
    times: NDArray[np.datetime64]
    slices: dict[str, list[str]]


def judge(
    workload: Workload, training_set: TrainingSet, artifact: Path, champion: Champion | None, *, seed: int
) -> tuple[Evaluation, tuple[Check, ...]]:
    """Evaluate the exported candidate on the rows it was not trained on, and check its gates."""
    rows = evaluation_rows(workload, training_set)
    session = export.load(artifact)
    scores = export.score(session, rows.inputs)
    measured = evaluate.evaluate(
        rows.labels,
        scores,
        false_negative_cost=workload.false_negative_cost,
        false_positive_cost=workload.false_positive_cost,
        slices=rows.slices,
        seed=seed,
    )
    facts = gate.Facts(
        rows=len(scores),
        auc=measured.auc,
        calibration_error=measured.calibration_error,
        single_row_ms=export.single_row_ms(session, rows.inputs),
        auc_without=auc_without_views(workload, session, rows),
        champion=None if champion is None else compare(workload, workload.gates, rows, scores, champion),
    )
    return measured, gate.judge(workload.gates, facts)


def evaluation_rows(workload: Workload, training_set: TrainingSet) -> Window:
    """Cut the rows that the candidate was not trained on."""
    import pandas as pd

    chosen = (training_set.rows[EVENT_TIMESTAMP] >= pd.Timestamp(training_set.evaluation_start)).to_numpy()
    rows = training_set.rows[chosen]
    return Window(
        training_set.inputs[chosen],
        rows[LABEL].to_numpy(dtype="float64"),
        rows[EVENT_TIMESTAMP].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(),
        {name: rows[f"slice_{name}"].astype(str).tolist() for name in workload.slices},
    )


def auc_without_views(workload: Workload, session: Any, window: Window) -> dict[str, float]:
    """AUC with all features of one view missing, by view."""
    import numpy as np

    out, position = {}, 0
    for view in workload.views:
        blind = window.inputs.copy()
        blind[:, position : position + len(view.features)] = np.nan
        out[view.name] = delong.point(window.labels, export.score(session, blind))
        position += len(view.features)
    return out


def compare(
    workload: Workload, gates: Gates, window: Window, scores: Floats, champion: Champion
) -> ChampionComparison:
    """Score the champion on the same rows and compare.

    Rows on which the champion was trained are left out as long as enough others remain; where they are not, the
    result says so.
    """
    import numpy as np

    document = cache.read_json(champion.folder / MANIFEST)
    inputs, missing = _as_asked(workload, document, window.inputs)
    if missing:
        return ChampionComparison(
            champion.version,
            obstacle=f"its inputs {', '.join(missing)} are not in feature service {workload.feature_service!r}; "
            "release the candidate as an experiment instead",
        )
    theirs = export.score(export.load(champion.folder / document["model_file"]), inputs)
    seen = window.times < np.datetime64(champion.trained_to.replace(tzinfo=None))
    rows, overlap = np.ones(len(seen), dtype=bool), ""
    if seen.any():
        fresh = ~seen
        if fresh.sum() >= gates.slice_minimum_rows and len(set(window.labels[fresh].tolist())) == 2:
            rows = fresh
            overlap = f"{int(seen.sum())} rows that the champion was trained on are left out"
        else:
            overlap = (
                f"{int(seen.sum())} of these rows may be among the champion's training rows (it was trained until "
                f"{champion.trained_to:%Y-%m-%d %H:%M}), which favours it; too few newer ones remain to leave them out"
            )
    labels, ours, theirs = window.labels[rows], scores[rows], theirs[rows]
    difference = delong.compare(labels, ours, theirs, alpha=gates.alpha)
    slices = []
    for column, values in window.slices.items():
        chosen = np.asarray(values)[rows]
        for value in np.unique(chosen):
            part = chosen == value
            mine, other = delong.point(labels[part], ours[part]), delong.point(labels[part], theirs[part])
            if not np.isnan(mine):
                slices.append(SliceComparison(f"{column}={value}", int(part.sum()), mine, other))
    return ChampionComparison(
        champion.version, int(rows.sum()), difference.value, difference.lower, tuple(slices), overlap
    )


def _as_asked(
    workload: Workload, document: dict[str, Any], inputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], list[str]]:
    """Put our inputs into another model's order and category positions; also name those that we lack."""
    import numpy as np

    ours = {name: i for i, name in enumerate(workload.model_inputs)}
    categories = {f.name: f.categories for f in workload.request_fields}
    missing = [i["name"] for i in document["inputs"] if i["name"] not in ours]
    columns = []
    for item in document["inputs"]:
        if missing:
            break
        column = inputs[:, ours[item["name"]]]
        theirs, own = item.get("categories"), categories.get(item["name"], ())
        if theirs and tuple(theirs) != own:
            position = {c: float(k) for k, c in enumerate(theirs)}
            table = np.asarray([position.get(c, np.nan) for c in own] + [np.nan], dtype=np.float32)
            column = table[np.where(np.isnan(column), len(own), column).astype(int)]
        columns.append(column)
    return (np.ascontiguousarray(np.column_stack(columns), dtype=np.float32) if columns else inputs), missing
