"""The text of a new workload: few lines, each meant to be edited."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from windlass.contract import Column, View, Workload
from windlass.scaffold.profile import Profile
from windlass.scaffold.request import Request

WIDTH = 90
HISTORY = timedelta(days=7)
LAST = 50


def workload(request: Request, profile: Profile, data: Path, project: Path) -> str:
    """`workloads/NAME/workload.py`."""
    name = request.name
    label, time = profile.renamed[request.label], profile.renamed[request.time]
    entities = tuple(profile.renamed[e] for e in request.entities)
    moved = {old: new for old, new in profile.renamed.items() if old != new}
    rename = f".rename(columns={literal(moved)})" if moved else ".copy()"
    place = (
        f"Path(__file__).resolve().parents[2] / {literal(str(data.relative_to(project)))}"
        if data.is_relative_to(project)
        else f"Path({literal(str(data))})"
    )
    key = (
        f"key={literal(profile.key)},"
        if profile.key
        else "key=(),  # no column of the file names a row; state one here and duplicates are refused"
    )
    fields = "\n".join(
        [f"RequestField({literal(field)})," for field in profile.numbers]
        + [f'RequestField({literal(f)}, "string", {literal(v)}),' for f, v in profile.categories.items()]
    )
    columns = "\n".join(_column(c) for c in profile.columns)
    text = (
        TEMPLATE.replace("@NAME@", name).replace("@FILE@", data.name).replace("@LABEL_COLUMN@", request.label)
    )
    for mark, value in {
        "@DATA@": place,
        "@TIME@": literal(time),
        "@LABEL@": literal(label),
        "@POSITIVE@": literal(profile.positive),
        "@DELAY@": _timedelta(request.label_delay),
        "@ENTITIES@": literal(entities),
        "@MEANS@": literal(profile.means),
        "@WINDOW@": _timedelta(HISTORY),
        "@LAST@": str(LAST),
        "@RENAME@": rename,
        "@KEY@": key,
        "@FRESHNESS@": _timedelta(profile.freshness),
        "@EVALUATION@": _timedelta(profile.evaluation_window),
        "@COLUMNS@": textwrap.indent(columns, "    "),
        "@FIELDS@": textwrap.indent(fields, "        "),
    }.items():
        text = text.replace(mark, value)
    return text


def feature_repository(request: Request, workload: Workload) -> str:
    """`feature_repo/NAME.py`: what Feast has to know of the views, taken from the workload itself."""
    entities = "\n".join(
        f"{e} = Entity(name={literal(e)}, value_type=ValueType.STRING)" for e in workload.entities
    )
    views = "\n\n".join(_view(view) for view in workload.views)
    names = ", ".join(view.name for view in workload.views)
    version = workload.feature_service
    service = f"{version} = FeatureService(name={literal(version)}, features=[{names}])"
    text = FEATURES
    for mark, value in {
        "@NAME@": request.name, "@ENTITIES@": entities, "@VIEWS@": views, "@SERVICE@": service,
    }.items():  # fmt: skip
        text = text.replace(mark, value)
    return text


def _view(view: View) -> str:
    fields = [f"Field(name={literal(view.entity)}, dtype=String),"]
    fields += [f"Field(name={literal(name)}, dtype=Float64)," for name in view.features]
    return f"""{view.name} = FeatureView(
    name={literal(view.name)},
    entities=[{view.entity}],
    ttl={_timedelta(view.ttl)},
    schema=[
{textwrap.indent(chr(10).join(fields), " " * 8)}
    ],
    source=pushed({literal(view.name)}),
)"""


def readme(request: Request, profile: Profile) -> str:
    """`workloads/NAME/README.md`."""
    left_out = "\n".join(f"- `{c}`: {reason}" for c, reason in profile.left_out.items()) or "- nothing"
    entities = tuple(profile.renamed[e] for e in request.entities)
    keys = " ".join(f"{e}=…" for e in entities)
    text = README
    for mark, value in {
        "@NAME@": request.name,
        "@FILE@": request.data.name,
        "@ROWS@": str(profile.rows),
        "@FROM@": f"{profile.first:%Y-%m-%d}",
        "@TO@": f"{profile.last:%Y-%m-%d}",
        "@SHARE@": f"{profile.positive_share:.1%}",
        "@LABEL@": request.label,
        "@DELAY@": _words(request.label_delay),
        "@ENTITIES@": ", ".join(f"`{e}`" for e in entities),
        "@KEYS@": keys,
        "@FIELDS@": ", ".join(f"`{f}`" for f in (*profile.numbers, *profile.categories)) or "none",
        "@LEFT_OUT@": left_out,
    }.items():
        text = text.replace(mark, value)
    return text


def literal(value: object) -> str:
    """A value as Python source, in double quotes, wrapped where it is long."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        inside = ", ".join(map(literal, value)) + ("," if len(value) == 1 else "")
        if len(inside) <= WIDTH:
            return f"({inside})"
        lines = "\n".join(f"{literal(item)}," for item in value)
        return "(\n" + textwrap.indent(lines, "    ") + "\n)"
    return repr(value)


def _column(column: Column) -> str:
    parts = [literal(column.name), literal(column.dtype)]
    if column.nullable:
        parts.append("nullable=True")
    if column.minimum is not None:
        parts.append(f"minimum={column.minimum:.6g}")
    if column.maximum is not None:
        parts.append(f"maximum={column.maximum:.6g}")
    if column.nullable:
        parts.append(f"max_null_share={column.max_null_share}")
    return f"Column({', '.join(parts)}),"


def _timedelta(length: timedelta) -> str:
    days, rest = divmod(length, timedelta(days=1))
    if not rest:
        return f"timedelta(days={days})"
    hours, rest = divmod(length, timedelta(hours=1))
    return f"timedelta(hours={hours})" if not rest else f"timedelta(minutes={length // timedelta(minutes=1)})"


def _words(length: timedelta) -> str:
    for unit, size in (
        ("day", timedelta(days=1)),
        ("hour", timedelta(hours=1)),
        ("minute", timedelta(minutes=1)),
    ):
        if not length % size:
            count = length // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return str(length)


TEMPLATE = '''"""Will `@LABEL_COLUMN@` be positive?

Begun by `windlass new @NAME@` from @FILE@; change whatever you know better.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.contract import (
    Column,
    Estimator,
    Gates,
    Label,
    Range,
    RequestField,
    RetrainPolicy,
    Source,
    View,
    Workload,
)
from windlass.features import columns, files, rolling

if TYPE_CHECKING:
    import pandas as pd

DATA = @DATA@
TIME, LABEL, POSITIVE = @TIME@, @LABEL@, @POSITIVE@
LABEL_DELAY = @DELAY@  # so long after its event an outcome is known
ENTITIES = @ENTITIES@
MEANS = @MEANS@  # numbers whose mean over an entity's newest rows is a feature
WINDOW, LAST = @WINDOW@, @LAST@

# types and ranges as found in the file, with as much room again; data outside is refused before training
COLUMNS = (
@COLUMNS@
)


def load(path: Path | None) -> pd.DataFrame:
    return files.read(path or DATA, [c.name for c in COLUMNS])


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows@RENAME@
    frame["event_timestamp"] = columns.utc(frame[TIME])
    frame["label_available_at"] = frame["event_timestamp"] + LABEL_DELAY
    frame[LABEL] = columns.outcome(frame[LABEL], POSITIVE)
    for entity in ENTITIES:
        frame[entity] = columns.key(frame[entity])
    return frame


def history(entity: str) -> View:
    """How busy an entity was, how its newest outcomes went, the means of its newest numbers."""
    names = rolling.feature_names(entity, LABEL, MEANS)

    def compute(frame: pd.DataFrame) -> pd.DataFrame:
        return rolling.entity_history(
            frame,
            entity=entity,
            event_time="event_timestamp",
            label=LABEL,
            label_time="label_available_at",
            names=names,
            window=WINDOW,
            last=LAST,
        )

    return View(f"@NAME@_{entity}_history", entity, tuple(names), timedelta(days=30), compute)


WORKLOAD = Workload(
    name="@NAME@",
    source=Source(
        load=load,
        columns=COLUMNS,
        @KEY@
        event_time="event_timestamp",
        freshness=@FRESHNESS@,
    ),
    prepare=prepare,
    entities=ENTITIES,
    label=Label(column=LABEL, available_at="label_available_at"),
    views=tuple(history(entity) for entity in ENTITIES),
    # what the caller knows and sends; take out whatever is known only after the prediction
    request_fields=(
@FIELDS@
    ),
    feature_service="@NAME@_v1",
    estimators=(
        Estimator(
            "hist_gradient_boosting",
            {"learning_rate": Range(0.03, 0.2, log=True), "max_iter": Range(50, 200, integer=True)},
        ),
        Estimator(
            "xgboost",
            {"learning_rate": Range(0.03, 0.3, log=True), "max_depth": Range(2, 6, integer=True)},
        ),
        Estimator("linear", {"C": Range(0.001, 10.0, log=True)}),
    ),
    # wide, so that a first model gets through; tighten them once you know what is normal here
    gates=Gates(
        minimum_auc=0.5,
        champion_margin=0.02,
        calibration_bound=0.2,
        slice_margin=0.1,
        missing_feature_auc_floor=0.4,
    ),
    decision_metric="brier",
    release={
        "strategy": {
            "type": "canary",
            "mirror": True,
            "steps": [{"weight": 10, "minSamples": 200}, {"weight": 50, "minSamples": 400}],
        },
        "checks": [
            {
                "name": "errors",
                "kind": "guardrail",
                "metric": "errorRate",
                "source": "envoy",
                "relativeToChampion": True,
                "alpha": 0.01,
            },
            {
                "name": "latency",
                "kind": "guardrail",
                "metric": "latencyP99",
                "source": "envoy",
                "bound": "100ms",
                "alpha": 0.01,
            },
            {
                "name": "feature-skew",
                "kind": "guardrail",
                "metric": "featureSkew",
                "source": "predictions",
                "bound": 1,
                "alpha": 0.01,
            },
            {
                "name": "brier",
                "kind": "decision",
                "metric": "brier",
                "source": "feedback",
                "direction": "decrease",
                "margin": 0.01,
                "alpha": 0.05,
            },
        ],
    },
    retrain=RetrainPolicy(cooldown=timedelta(days=7)),
    evaluation_window=@EVALUATION@,
)
'''

FEATURES = '''"""Entities, views and the feature service of the workload `@NAME@`, begun by `windlass new`.

How a value is computed stands in `workloads/@NAME@/workload.py`; names, entities and times to live must be the
same in both, and opening the store says which are not.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float64, String

from windlass.features.paths import offline_rows

@ENTITIES@


def pushed(view: str) -> PushSource:
    """Rows that are pushed online as they come; offline they are one parquet file a month."""
    rows = FileSource(name=f"{view}_rows", path=offline_rows(view), timestamp_field="event_timestamp")
    return PushSource(name=f"{view}_push", batch_source=rows)


@VIEWS@

@SERVICE@
'''

README = """# @NAME@

Begun by `windlass new` from `@FILE@`: @ROWS@ rows from @FROM@ to @TO@, `@LABEL@` positive in @SHARE@ of those that
have an outcome. An outcome counts as known @DELAY@ after its event. Times without a zone are taken to be UTC.

- entity keys of a request: @ENTITIES@
- fields of a request: @FIELDS@

The other inputs come from the online store: for each entity how many rows it had, the mean of its newest outcomes and
of its newest numbers, as known at the full hour before the request.

Not used:

@LEFT_OUT@

An input that is computed from the two at the time of the request is a `Transformation` of the workload: a function of
columns, in a file that imports the standard library and numpy only. The server runs that very file.

```
windlass train @NAME@ --from @FROM@ --to @TO@ --json
windlass up @NAME@ --detach
windlass predict @NAME@ --entity @KEYS@
windlass down
```

Before anything else, go through `request_fields` in `workload.py`: a field that is known only after the prediction
makes a model that looks excellent and is worthless.

`release` in `workload.py` is written for one machine; on a cluster a retrained version is released by what it means
there (docs/retraining.md), unless a RetrainPolicy states another. Name it there in the chart's values: under
`analysis.workloads`, and under `features.workloads`, whose job keeps its features fresh (docs/helm.md).
A Release there takes no model whose name has `_`, since a Service is called by it: begin such a workload without.

No image there has the file that `DATA` names. With `WINDLASS_OBJECT_STORE` as the cluster has it, add the rows as a
data version, and later ones as they come: training and the features' job read the newest (docs/data-versions.md).

```
windlass data add @NAME@ rows.csv
```
"""
