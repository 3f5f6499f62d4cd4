"""The control: the candidate's own estimator, trained on as much data as the first model had, but the newest.

Each is fitted in a process of its own beside the replay; nobody is served by it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windlass import settings as settings_module
from windlass.errors import WindlassError
from windlass.local import processes
from windlass.settings import Settings


class Controls:
    """Control models of one demo.

    Args:
        window: how much data each may see.
    """

    def __init__(
        self, home: Settings, workload: str, window: timedelta, environment: Mapping[str, str]
    ) -> None:
        self._home = home
        self._workload = workload
        self._window = window
        self._environment = {**environment, "OMP_NUM_THREADS": "1"}
        self._jobs: list[tuple[datetime, Path, processes.Child]] = []

    def start(self, estimator: Mapping[str, Any], end: datetime, since: datetime) -> None:
        """Fit a control on the window that ends at `end`; it stands from `since` on."""
        out = self._home.home / "controls" / f"{len(self._jobs) + 1}.onnx"
        job = {
            "workload": self._workload,
            "family": estimator["family"],
            "parameters": estimator["parameters"],
            "start": (end - self._window).isoformat(),
            "end": end.isoformat(),
            "out": str(out),
        }
        command = [sys.executable, "-m", "windlass.demo.controls", json.dumps(job)]
        child = processes.start("a control", command, out.with_suffix(".log"), self._environment)
        self._jobs.append((since, out, child))

    def finish(self) -> list[tuple[float, Path]]:
        """Wait for all; (event time from which it stands, model file) of each.

        Raises:
            WindlassError: one could not be fitted.
        """
        for _, _, child in self._jobs:
            if child.process.wait() != 0:
                raise WindlassError(
                    f"{child.name} ended with code {child.process.returncode}: {child.tail()}"
                )
        return [(since.timestamp(), out) for since, out, _ in self._jobs]


def fit(home: Settings, job: Mapping[str, Any]) -> None:
    """Train on the labelled rows of [start, end) and write the model as ONNX to `out`."""
    import numpy as np
    import pandas as pd

    from components import dataset, estimator, export
    from windlass import catalog
    from windlass.demo.vectors import Vectors

    workload = catalog.load(job["workload"], home.project)
    frame = workload.prepare(workload.source.load(None))
    start, end = (pd.Timestamp(datetime.fromisoformat(job[k])) for k in ("start", "end"))
    time, label = workload.source.event_time, workload.label
    inside = (frame[time] >= start) & (frame[time] < end)
    known = frame[label.column].notna() & (frame[label.available_at] <= end)
    rows = (
        frame[inside & known].sort_values([time, *workload.source.key], kind="stable").reset_index(drop=True)
    )
    vectors = Vectors(workload, home, rows, [str(i) for i in range(len(rows))])
    model = estimator.fit(
        job["family"],
        job["parameters"],
        vectors.matrix(),
        rows[label.column].to_numpy(dtype=np.float64),
        categories=dataset.category_counts(workload),
        seed=0,
        threads=1,
    )
    Path(job["out"]).write_bytes(export.export(model, len(workload.model_inputs)).SerializeToString())


if __name__ == "__main__":
    fit(settings_module.load(), json.loads(sys.argv[1]))
