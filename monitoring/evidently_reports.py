"""Evidently's own drift report of a window, as a page and as values.

The only importer of Evidently. Its import takes seconds and a report more than a second, so it is made on demand
and for accepted triggers; the many windows in between are measured by `monitoring.drift`, which gives the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring import drift_statistics
from monitoring.columns import Floats
from monitoring.reference import FeatureReference, Reference
from windlass import telemetry
from windlass.atomic import replacing
from windlass.errors import WindlassError

SCORE = "score"


@dataclass(frozen=True)
class EvidentlyReport:
    """What Evidently says.

    Attributes:
        values: distance by column, the scores under "score".
        document: its whole report as JSON values.
    """

    values: dict[str, float]
    document: dict[str, Any]


def report(
    reference: Reference,
    features: Floats,
    scores: Floats,
    *,
    threshold: float = 0.1,
    html: Path | None = None,
    tests: bool = False,
) -> EvidentlyReport:
    """Run Evidently's drift report on a window; write its page to `html` if one is named, with `tests` its tests too.

    Columns without any value in the window or the reference are left out, Evidently refuses them.

    Raises:
        WindlassError: no column has values on both sides, or Evidently cannot report what they hold.
    """
    telemetry.switch_off()  # before the import: Evidently looks at it then
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    if len(features) and features.shape[1] != len(reference.features):
        raise WindlassError(
            f"the window has {features.shape[1]} inputs and the reference {len(reference.features)}; "
            "they are of two models"
        )
    columns = {f: features[:, i] for i, f in enumerate(reference.features) if len(features)}
    if reference.score is not None:
        columns[reference.score] = np.asarray(scores, dtype=np.float64)
    usable = {f: c for f, c in columns.items() if len(f.values) and np.isfinite(c).any()}
    if not usable:
        raise WindlassError(
            "no column has values in both the window and the reference; widen --from and --to"
        )
    methods = {f.name: _method(f, column) for f, column in usable.items()}
    definition = DataDefinition(
        numerical_columns=[f.name for f in usable if not f.categorical],
        categorical_columns=[f.name for f in usable if f.categorical],
    )
    current = pd.DataFrame({f.name: column for f, column in usable.items()})
    # the kept values are sorted and their nulls are counted elsewhere: distances know no order of rows
    rows = max(len(f.values) for f in usable)
    trained = pd.DataFrame(
        {f.name: np.pad(f.values, (0, rows - len(f.values)), constant_values=np.nan) for f in usable}
    )
    preset = DataDriftPreset(per_column_method=methods, threshold=threshold)
    try:
        snapshot = Report([preset], include_tests=tests).run(
            current_data=Dataset.from_pandas(current, data_definition=definition),
            reference_data=Dataset.from_pandas(trained, data_definition=definition),
        )
        document: dict[str, Any] = snapshot.dict()
    except Exception as error:  # a column that it cannot draw must not cost the analysis that it goes with
        raise WindlassError(f"Evidently makes no report of this window: {error}") from error
    if html is not None:
        with replacing(html) as temporary:
            snapshot.save_html(str(temporary))
    values = {
        m["config"]["column"]: float(m["value"])
        for m in document["metrics"]
        if "column" in m.get("config", {})
    }
    return EvidentlyReport(values, document)


def _method(reference: FeatureReference, column: Floats) -> str:
    # named, because below 1000 rows Evidently would turn to p-values by itself
    finite = np.sort(column[np.isfinite(column)])
    return drift_statistics.method(reference.values, finite, categorical=reference.categorical)
