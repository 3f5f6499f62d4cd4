"""One measurement in a process of its own: `python -m benchmarks.drift.contender`, the job as JSON on stdin.

Prints one JSON object: seconds and CPU seconds from the files to the distances (imports are not counted), the
process's peak memory, and the distances. A process of its own, because memory that was once used is not given back.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Values = dict[str, Any]
MEMORY_EXIT = 3
"""Exit status of a process whose cap on memory was too small for it."""


def windlass(job: Job) -> Callable[[], Values]:
    """Ours; `exact_values` and `methods` say how much is kept and what is compared."""
    from monitoring.sketches.distances import compare
    from monitoring.sketches.limits import LIMITS, Limits
    from monitoring.sketches.stream import profile

    limits = LIMITS if job["exact_values"] is None else Limits(values=job["exact_values"])
    # what the first call would import; pandas by pyarrow
    import pandas  # noqa: F401
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    import scipy.special  # noqa: F401

    def run() -> Values:
        reference = profile([job["reference"]], threads=job["threads"])
        window = profile(job["window"], reference=reference, limits=limits, threads=job["threads"])
        found = {}
        for name, column in window.items():
            methods = job["methods"] or [None]
            if job["methods"]:
                methods = LABELS if column.categorical else NUMBERS
            for method in methods:
                distance = compare(reference[name], column, method)
                key = name if method is None else f"{name} {method}"
                found[key] = [distance.value, distance.lower, distance.upper, distance.exact]
        return found

    return run


NUMBERS = ("wasserstein", "ks", "jensenshannon", "psi")
LABELS = ("jensenshannon", "psi", "chisquare")


def evidently(job: Job) -> Callable[[], Values]:
    """Evidently's DataDriftPreset with its defaults, or single metrics of the methods that it would choose."""
    from windlass import telemetry

    telemetry.switch_off()
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(
        numerical_columns=[c for c in job["columns"] if c not in job["labels"]],
        categorical_columns=job["labels"],
    )

    def run() -> Values:
        sides = [
            Dataset.from_pandas(_frame(pd, paths), data_definition=definition)
            for paths in (job["window"], [job["reference"]])
        ]
        parts: list[Any] = [DataDriftPreset()]
        if job["forced"]:
            methods = {c: "jensenshannon" if c in job["labels"] else "wasserstein" for c in job["columns"]}
            parts = [ValueDrift(column=column, method=method) for column, method in methods.items()]
        found = Report(parts).run(current_data=sides[0], reference_data=sides[1]).dict()
        return {
            m["config"]["column"]: float(m["value"])
            for m in found["metrics"]
            if m["config"]["type"].endswith("ValueDrift")
        }

    return run


def scipy(job: Job) -> Callable[[], Values]:
    """scipy's distances, a column at a time, beside numpy's counts of labels."""
    import numpy as np
    import pandas as pd
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    def run() -> Values:
        found = {}
        for name in job["columns"]:
            sides = [_column(pd, paths, name) for paths in ([job["reference"]], job["window"])]
            if name in job["labels"]:
                shares = pd.concat([side.value_counts(normalize=True) for side in sides], axis=1).fillna(0.0)
                found[name] = float(jensenshannon(shares.iloc[:, 0], shares.iloc[:, 1]))
            else:
                norm = max(float(np.std(sides[0])), 0.001)
                found[name] = float(wasserstein_distance(sides[0], sides[1])) / norm
        return found

    return run


def theirs(job: Job) -> Callable[[], Values]:
    """Every statistic by Evidently's and scipy's own functions, to hold ours to; not timed against anything."""
    from windlass import telemetry

    telemetry.switch_off()
    import pandas as pd
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType
    from scipy.stats import ks_2samp

    def run() -> Values:
        found = {}
        for name in job["columns"]:
            sides = [_column(pd, paths, name) for paths in ([job["reference"]], job["window"])]
            kind = ColumnType.Categorical if name in job["labels"] else ColumnType.Numerical
            for method in LABELS if name in job["labels"] else NUMBERS:
                if method == "ks":
                    value = ks_2samp(sides[0], sides[1], method="asymp").statistic
                else:
                    test = get_stattest(sides[0], sides[1], kind, method)
                    value = test(sides[0], sides[1], kind, None).drift_score
                found[f"{name} {method}"] = float(value)
        return found

    return run


def _frame(pd: Any, paths: list[str], columns: list[str] | None = None) -> Any:
    frame = pd.concat([pd.read_parquet(path, columns=columns) for path in paths], ignore_index=True)
    # single precision would be kept in the norm and the bins: the statistics are those of the values as doubles
    narrow = [c for c in frame.columns if frame[c].dtype == "float32"]
    return frame.astype(dict.fromkeys(narrow, "float64"))


def _column(pd: Any, paths: list[str], name: str) -> Any:
    side = _frame(pd, paths, [name])[name]
    if side.dtype == "float64":
        side = side.replace([float("inf"), float("-inf")], float("nan"))
    return side.dropna()


CONTENDERS = {"windlass": windlass, "evidently": evidently, "scipy": scipy, "theirs": theirs}


def peak_bytes() -> int:
    """The largest memory that this process has had resident; not what its parent had when it was forked."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Run the job of stdin."""
    job = json.load(sys.stdin)
    limit = int(job["memory"])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        run = CONTENDERS[job["contender"]](job)
        before = peak_bytes()
        begun, cpu = time.perf_counter(), time.process_time()
        values = run()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    except MemoryError:
        return MEMORY_EXIT
    json.dump(
        {"seconds": seconds, "cpu": cpu, "peak": peak_bytes(), "imported": before, "values": values},
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
