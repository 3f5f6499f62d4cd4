"""Did the servers see what they should have seen? Logged vectors against a point-in-time recomputation.

The recomputation goes through Feast's offline join, which shares no code with the online path. Requests that were
answered from a cache or from training defaults say so in the log; they are counted, and not compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import prediction_log
from windlass.contract import Workload
from windlass.errors import UsageError, WindlassError
from windlass.features import ondemand, partitions, store
from windlass.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

TOLERANCE = 1e-6

Join = Callable[[Workload, Settings, "pd.DataFrame"], "pd.DataFrame"]
"""Entities and `event_timestamp` -> the same rows with every view's features as they were known then."""


@dataclass(frozen=True)
class Input:
    """An input of a model: from a view, from the request (perhaps a category's position), or made of both."""

    name: str
    view: str | None
    categories: tuple[str, ...] | None
    default: float | None = None
    transformation: str | None = None


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found.

    Attributes:
        checked: vectors compared.
        degraded: vectors left out because they came from a cache or from defaults, and say so.
        mismatched: vectors in which any value differs.
        max_abs_difference: over the values that are numbers on both sides.
        by_feature: how many vectors differ in each feature, of those where any does.
        by_version: how many vectors of each version differ, of those where any does.
    """

    checked: int
    degraded: int
    mismatched: int
    max_abs_difference: float
    by_feature: Mapping[str, int]
    by_version: Mapping[str, int]

    @property
    def parity(self) -> bool:
        """Whether something was compared and nothing differs: no data is no proof."""
        return self.checked > 0 and self.mismatched == 0

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "parity": self.parity}


def check(
    workload: Workload,
    settings: Settings,
    records: Iterable[Mapping[str, Any]],
    join: Join = store.training_frame,
    *,
    hidden: Collection[str] = (),
) -> ParityReport:
    """Recompute the vectors of prediction records and compare.

    Args:
        hidden: inputs that are not compared: the records do not hold what was served.
        join: Feast's own; what is asked every hour takes `windlass.features.asof.lookup`, which is held to it.

    Raises:
        UsageError: a record's vector does not fit the inputs of its version.
    """
    given = [r for r in records if r["model"] == workload.name]
    compared = [r for r in given if r["source"] == "online"]
    degraded = len(given) - len(compared)
    if not compared:
        return ParityReport(0, degraded, 0, 0.0, {}, {})
    expected = join(workload, settings, entity_rows(workload, compared))
    by_feature: Counter[str] = Counter()
    by_version: Counter[str] = Counter()
    largest, mismatched = 0.0, 0
    versions: dict[str, list[int]] = {}
    for position, record in enumerate(compared):
        versions.setdefault(record["version"], []).append(position)
    for version, rows in versions.items():
        inputs = inputs_of(workload, settings, version)
        mine = [compared[i] for i in rows]
        served = _served(mine, inputs, version)
        should = _expected(mine, inputs, expected.iloc[rows], _code_of(workload, settings, version))
        left_out = [place for place, given in enumerate(inputs) if given.name in hidden]
        should[:, left_out] = served[:, left_out]
        differs, distance = differences(served, should)
        by_feature.update({i.name: int(n) for i, n in zip(inputs, differs.sum(axis=0), strict=True) if n})
        if wrong := int(differs.any(axis=1).sum()):
            by_version[version] = wrong
        mismatched += wrong
        largest = max(largest, distance)
    return ParityReport(
        len(compared), degraded, mismatched, largest, dict(by_feature.most_common()), dict(by_version)
    )


def hidden_keys(workload: Workload) -> str | None:
    """Why features cannot be looked up by what the collector stores of a request; None where they can."""
    hidden = [
        f"{name!r} ({workload.privacy[name]})" for name in workload.entities if name in workload.privacy
    ]
    if not hidden or not workload.views:
        return None
    return (
        f"the collector keeps no plain value of {', '.join(hidden)}, by which the features of {workload.name!r} are "
        "looked up (Workload.privacy)"
    )


def total(reports: Sequence[ParityReport]) -> ParityReport:
    """Add up the reports of several workloads."""
    features: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    for report in reports:
        features.update(report.by_feature)
        versions.update(report.by_version)
    return ParityReport(
        checked=sum(r.checked for r in reports),
        degraded=sum(r.degraded for r in reports),
        mismatched=sum(r.mismatched for r in reports),
        max_abs_difference=max((r.max_abs_difference for r in reports), default=0.0),
        by_feature=dict(features.most_common()),
        by_version=dict(versions),
    )


def differences(served: NDArray[np.float64], should: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
    """Mark the values that differ, and give the largest distance.

    Whole numbers (counts) must be equal; others may differ by 1e-6, absolute below 1 and relative above. Missing
    equals missing and nothing else.
    """
    import numpy as np

    missing = np.isnan(served) | np.isnan(should)
    distance = np.where(missing, 0.0, np.abs(served - should))
    whole = should == np.floor(should)
    apart = np.where(whole, distance > 0, distance > TOLERANCE * np.maximum(1.0, np.abs(should)))
    return np.where(missing, np.isnan(served) != np.isnan(should), apart), float(distance.max(initial=0.0))


def entity_rows(workload: Workload, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Entities and event time of prediction records, as the offline joins take them."""
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({e: [r["entities"][e] for r in records] for e in workload.entities})
    # whole microseconds: a float of seconds since 1970 is exact to a quarter of one
    at = np.round(np.array([r["at"] for r in records], dtype="float64") * 1e6).astype("int64")
    frame[partitions.TIME] = pd.DatetimeIndex(at.astype("datetime64[us]")).tz_localize("UTC")
    return frame


def inputs_of(workload: Workload, settings: Settings, version: str) -> tuple[Input, ...]:
    """A version's inputs, from its serving bundle; where that is gone, those the workload states now."""
    path = settings.bundles_dir / workload.name / version / "serving.json"
    if path.is_file():
        stated = json.loads(path.read_text())["inputs"]
        return tuple(
            Input(
                i["name"],
                i["view"],
                tuple(i["categories"]) if i.get("categories") else None,
                i.get("default"),
                i.get("transformation"),
            )
            for i in stated
        )
    of_views = [Input(f, v.name, None) for v in workload.views for f in v.features]
    sent = [Input(f.name, None, f.categories or None) for f in workload.request_fields]
    made = [Input(o, None, None, None, t.name) for t in workload.transformations for o in t.outputs]
    return (*of_views, *sent, *made)


def _code_of(workload: Workload, settings: Settings, version: str) -> list[ondemand.Code]:
    folder = settings.bundles_dir / workload.name / version
    if (folder / "serving.json").is_file():
        document = json.loads((folder / "serving.json").read_text())
        return [ondemand.code_in(entry, folder) for entry in document.get("transformations", [])]
    return [ondemand.code_of(t) for t in workload.transformations]


def records(settings: Settings, log: Path | None = None) -> Iterator[dict[str, Any]]:
    """Yield the logged predictions that answered a caller; mirrored copies are left out.

    Raises:
        UsageError: the log does not exist, or a line of it is no prediction record.
    """
    if log is not None and not log.is_file():
        raise UsageError(f"prediction log {log}: there is no such file; name a file of JSON lines")
    paths = [log] if log is not None else sorted((settings.logs_dir / "predictions").glob("*.jsonl"))
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # still being written
                try:
                    record = json.loads(line)
                    wanted = not record["mirrored"]
                    each = list(prediction_log.rows(record))
                    _ = (
                        record["model"],
                        record["version"],
                        record["at"],
                        record["entities"],
                        record["features"],
                    )
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"{path}, line {number} is no prediction record ({error!r}); name a prediction log with --log"
                    ) from error
                if wanted:
                    yield from map(dict, each)


def spread(items: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` of the records, evenly over all of them and always the same ones."""
    if len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def _served(rows: Sequence[Mapping[str, Any]], inputs: Sequence[Input], version: str) -> NDArray[np.float64]:
    import numpy as np

    for record in rows:
        if len(record["features"]) != len(inputs):
            raise WindlassError(
                f"request {record['request_id']!r} logged {len(record['features'])} features, version {version} has "
                f"{len(inputs)} inputs; the log is of another build of that version, name another log with --log"
            )
    # JSON's null is None, which float64 takes for NaN
    return np.array([record["features"] for record in rows], dtype="float64")


def _expected(
    rows: Sequence[Mapping[str, Any]],
    inputs: Sequence[Input],
    features: pd.DataFrame,
    code: Sequence[ondemand.Code],
) -> NDArray[np.float64]:
    import numpy as np

    columns = []
    given = [item for item in inputs if item.transformation is None]
    for item in given:
        if item.view is not None:
            columns.append(features[item.name].to_numpy(dtype="float64"))
            continue
        sent = [record["request"].get(item.name, record["entities"].get(item.name)) for record in rows]
        if item.default is not None:
            sent = [item.default if value is None else value for value in sent]
        if item.categories is not None:
            position = {category: float(i) for i, category in enumerate(item.categories)}
            # a bundle's default may be a position already
            otherwise = [value if isinstance(value, float) else np.nan for value in sent]
            columns.append(np.array([position.get(v, o) for v, o in zip(sent, otherwise, strict=True)]))
        else:
            columns.append(np.array([np.nan if value is None else float(value) for value in sent]))
    names = [item.name for item in given]
    everything = ondemand.append(code, names, np.column_stack(columns))
    place = {name: i for i, name in enumerate([*names, *(o for c in code for o in c.outputs)])}
    return everything[:, [place[item.name] for item in inputs]]
