"""The point-in-time training set: for each row, the inputs as they were known when its prediction was made.

Features come from the offline store in monthly chunks, each kept by content: a window that grows by a month joins
one month. The newest labelled rows are set aside for judging the candidate.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import cache
from components.validate import AVAILABLE_AT, EVENT_TIMESTAMP, LABEL
from components.window import Window
from windlass.contract import Workload
from windlass.errors import DataError, WindlassError
from windlass.features import ondemand, partitions
from windlass.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MINIMUM_EVALUATION_ROWS = 50
KEPT_CHUNKS = 60
CHECKED_ROWS = 300

Join = Callable[["pd.DataFrame"], "pd.DataFrame"]
"""Entity keys and `event_timestamp` -> the same rows with every view's features."""


@dataclass(frozen=True)
class TrainingSet:
    """Labelled rows, oldest first.

    Attributes:
        inputs: float32 [N, F] in the order of `workload.model_inputs`; NaN is missing.
        rows: `event_timestamp`, `label`, `label_available_at`, and the slice columns as text (`slice_<name>`).
        evaluation_start: rows from here on are for evaluation; older ones whose label was known here are for training.
    """

    inputs: NDArray[np.float32]
    rows: pd.DataFrame
    evaluation_start: datetime
    chunks: int
    chunks_reused: int


def build(
    workload: Workload, settings: Settings, rows: pd.DataFrame, window: Window, join: Join | None
) -> TrainingSet:
    """Join features to the validated rows and split off the evaluation window.

    Args:
        join: not needed where the workload has no view.

    Raises:
        WindlassError: the store returned other rows than it was asked for.
        DataError: too few labelled rows in either part.
    """
    import numpy as np
    import pandas as pd

    parts, reused, count = [], 0, 0
    if workload.views:
        assert join is not None  # noqa: S101 - the caller opens the store where there are views
        for month, chunk in partitions.by_month(rows):
            features, hit = _joined(workload, settings, month, chunk, join)
            parts.append(features)
            reused += hit
            count += 1
    columns = [np.concatenate(parts)] if parts else []
    columns += [_request_field(workload, rows, f.name)[:, None] for f in workload.request_fields]
    code = [ondemand.code_of(t) for t in workload.transformations]
    everything = ondemand.append(code, workload.given_inputs, np.hstack(columns))
    with np.errstate(over="ignore"):
        inputs = np.ascontiguousarray(everything, dtype=np.float32)
    kept = rows[[EVENT_TIMESTAMP, LABEL, AVAILABLE_AT]].copy()
    for name in workload.slices:
        kept[f"slice_{name}"] = _slice_values(rows[f"in_{name}"])
    start = window.end - workload.evaluation_window
    labelled = rows[LABEL].notna().to_numpy()
    newest = (rows[EVENT_TIMESTAMP] >= start).to_numpy()
    # a row before the cut whose outcome came after it would not have been there to train on
    known = (rows[AVAILABLE_AT] <= start).to_numpy()
    used = labelled & (newest | known)
    kept = kept[used].reset_index(drop=True)
    evaluation = kept[EVENT_TIMESTAMP] >= pd.Timestamp(start)
    _check_part(
        kept[LABEL][~evaluation], workload.source.minimum_rows, f"training before {start:%Y-%m-%d %H:%M}"
    )
    _check_part(
        kept[LABEL][evaluation], MINIMUM_EVALUATION_ROWS, f"evaluation from {start:%Y-%m-%d %H:%M} on"
    )
    return TrainingSet(inputs[used], kept, start, count, reused)


def feature_service_join(workload: Workload, settings: Settings, offline: str) -> Join:
    """The join of the feature service's views.

    Feast's own DuckDB join takes fifteen times as long as an ASOF join over the same files. So rows are joined by
    the latter, and before it is trusted with these files (`offline` names their content) some hundred rows of a day
    go through Feast's feature service and must come out the same.
    """
    from windlass.features import asof

    def join(entity_rows: pd.DataFrame) -> pd.DataFrame:
        joined: pd.DataFrame = asof.lookup(workload, settings, entity_rows)
        code = cache.code_version(
            ["windlass.features.asof", "windlass.features.partitions", "windlass.features.store"],
            ["duckdb", "feast"],
        )
        key = cache.digest(workload.name, workload.feature_service, offline, code)
        cache.once(
            "feast-checked", settings.cache_dir, key, lambda: hold_to_feast(workload, settings, joined)
        )
        return joined

    return join


def hold_to_feast(workload: Workload, settings: Settings, joined: pd.DataFrame) -> None:
    """Compare rows of one day with what Feast's feature service gives for them.

    Raises:
        WindlassError: a value differs.
    """
    import numpy as np

    from windlass.features import store

    day = joined[EVENT_TIMESTAMP].dt.floor("D")
    chosen = joined[day == day.iloc[len(joined) // 2]]
    chosen = chosen.sample(min(CHECKED_ROWS, len(chosen)), random_state=1)
    names = [f for v in workload.views for f in v.features]
    theirs = store.training_frame(workload, settings, chosen[[*workload.entities, EVENT_TIMESTAMP]])
    for name in names:
        ours = chosen[name].to_numpy(dtype=np.float64)
        differ = ~np.isclose(ours, theirs[name].to_numpy(dtype=np.float64), rtol=0, atol=0, equal_nan=True)
        if differ.any():
            at = int(differ.argmax())
            raise WindlassError(
                f"feature {name!r} of {chosen.iloc[at][list(workload.entities)].to_dict()} at "
                f"{chosen[EVENT_TIMESTAMP].iloc[at]} is {ours[at]} by the ASOF join and {theirs[name].iloc[at]} by "
                f"feature service {workload.feature_service!r}; nothing was trained, run `windlass features check`"
            )


def category_counts(workload: Workload) -> tuple[int, ...]:
    """Per model input the number of its categories, 0 where it is a number."""
    features = sum(len(v.features) for v in workload.views)
    made = sum(len(t.outputs) for t in workload.transformations)
    return (0,) * features + tuple(len(f.categories) for f in workload.request_fields) + (0,) * made


def write(training_set: TrainingSet, names: Sequence[str], folder: Path) -> None:
    """Write a training set as a step's output."""
    import pandas as pd

    pd.DataFrame(training_set.inputs, columns=list(names)).to_parquet(folder / "inputs.parquet", index=False)
    training_set.rows.to_parquet(folder / "rows.parquet", index=False)
    cache.write_json(folder / "split.json", {"evaluation_start": training_set.evaluation_start.isoformat()})
    report = {"chunks": training_set.chunks, "chunks_reused": training_set.chunks_reused}
    cache.write_json(folder / cache.REPORT, report)


def read(folder: Path) -> TrainingSet:
    """Read what `write` wrote."""
    import numpy as np
    import pandas as pd

    report = cache.read_json(folder / cache.REPORT)
    return TrainingSet(
        np.ascontiguousarray(pd.read_parquet(folder / "inputs.parquet").to_numpy(dtype=np.float32)),
        pd.read_parquet(folder / "rows.parquet"),
        datetime.fromisoformat(cache.read_json(folder / "split.json")["evaluation_start"]),
        report["chunks"],
        report["chunks_reused"],
    )


def _joined(
    workload: Workload, settings: Settings, month: str, chunk: pd.DataFrame, join: Join
) -> tuple[NDArray[np.float64], bool]:
    """Return the features of one month's rows, and whether they came from the cache."""
    import numpy as np
    import pandas as pd

    entity_rows = pd.DataFrame({e: chunk[f"in_{e}"] for e in workload.entities}).reset_index(drop=True)
    entity_rows[EVENT_TIMESTAMP] = chunk[EVENT_TIMESTAMP].reset_index(drop=True)
    shelf = settings.cache_dir / "chunks" / workload.name
    path = shelf / f"{month}-{_chunk_key(workload, settings, month, entity_rows)}.npy"
    if path.is_file():
        os.utime(path)
        kept: NDArray[np.float64] = np.load(path)
        return kept, True
    joined = join(entity_rows)
    same = len(joined) == len(entity_rows) and all(
        np.array_equal(joined[c].to_numpy(), entity_rows[c].to_numpy()) for c in workload.entities
    )
    if not same:
        raise WindlassError(
            f"the offline store returned {len(joined)} rows in another order for {len(entity_rows)} rows of {month} "
            f"asked for feature service {workload.feature_service!r}; nothing was trained, run `windlass doctor`"
        )
    names = [f for v in workload.views for f in v.features]
    values: NDArray[np.float64] = joined[names].to_numpy(dtype=np.float64)
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=shelf, prefix=".making-", suffix=".npy", delete=False) as file:
        np.save(file, values)
    Path(file.name).replace(path)
    for old in sorted(shelf.glob("[!.]*.npy"), key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_CHUNKS:]:
        old.unlink(missing_ok=True)
    return values, False


def _chunk_key(workload: Workload, settings: Settings, month: str, entity_rows: pd.DataFrame) -> str:
    import hashlib

    import pandas as pd

    views: list[Any] = []
    for view in workload.views:
        first = (pd.Timestamp(month, tz="UTC") - view.ttl).strftime("%Y-%m")
        files = sorted((settings.offline_dir / view.name).glob("*.parquet"))
        reached = [(p.stem, cache.file_digest(p)) for p in files if first <= p.stem <= month]
        views.append((view.name, view.entity, view.features, view.ttl / timedelta(seconds=1), reached))
    asked = hashlib.sha256(
        pd.util.hash_pandas_object(entity_rows, index=False).to_numpy().tobytes()
    ).hexdigest()
    return cache.digest(cache.code_version(["components.dataset"]), workload.feature_service, views, asked)


def _request_field(workload: Workload, rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    import numpy as np
    import pandas as pd

    field = next(f for f in workload.request_fields if f.name == name)
    values = rows[f"in_{name}"]
    if field.dtype == "float":
        numbers: NDArray[np.float64] = pd.to_numeric(values).to_numpy(dtype=np.float64)
        return numbers
    positions = {category: float(i) for i, category in enumerate(field.categories)}
    return np.asarray(values.map(positions), dtype=np.float64)


def _slice_values(values: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(values) and values.nunique() > 12:
        values = pd.qcut(values, 4, duplicates="drop")
    return values.astype(str).astype(object)


def _check_part(labels: pd.Series[float], least: int, what: str) -> None:
    if len(labels) < least or labels.nunique() < 2:
        raise DataError(
            f"{len(labels)} labelled rows for {what}, of which {int(labels.sum())} positive; "
            f"at least {least} rows with both outcomes are needed: ask for a longer window"
        )
