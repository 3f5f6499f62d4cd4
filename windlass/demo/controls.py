"""The control: the candidate's own estimator, trained on as much data as the first model had, but the newest.

Runs in a process of its own beside the replay; nobody is served by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from windlass.settings import Settings


def fit(
    settings: Settings, workload_name: str, family: str, parameters: Mapping[str, float], start: datetime, end: datetime, out: Path
) -> Path:
    """Train on the labelled rows of [start, end) and write the model as ONNX to `out`."""
    import numpy as np
    import onnx
    import pandas as pd
    from components import dataset, estimator, export

    from windlass import catalog
    from windlass.demo.vectors import Vectors

    workload = catalog.load(workload_name, settings.project)
    frame = workload.prepare(workload.source.load(None))
    time, label = workload.source.event_time, workload.label
    inside = (frame[time] >= pd.Timestamp(start)) & (frame[time] < pd.Timestamp(end))
    known = frame[label.column].notna() & (frame[label.available_at] <= pd.Timestamp(end))
    rows = frame[inside & known].sort_values([time, *workload.source.key], kind="stable").reset_index(drop=True)
    vectors = Vectors(workload, settings, rows, [str(i) for i in range(len(rows))])
    model: Any = estimator.fit(
        family,  # type: ignore[arg-type]
        parameters,
        vectors.matrix(),
        rows[label.column].to_numpy(dtype=np.float64),
        categories=dataset.category_counts(workload),
        seed=0,
        threads=1,
    )
    out.write_bytes(export.export(model, len(workload.model_inputs)).SerializeToString())
    onnx.load_from_string(out.read_bytes())
    return out
