"""The same Python in training, in Feast and in the server; and nothing else than the bytes that were registered."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.runtime.bundle import Bundle
from serving.runtime.features.transformations import Transformations
from windlass.contract import (
    Estimator,
    Gates,
    Label,
    RequestField,
    Source,
    Transformation,
    View,
    Workload,
    check,
)
from windlass.errors import UsageError, WindlassError
from windlass.features import feast_import, ondemand

from .conftest import DAY, NOW, VIEWS

FILE = Path(__file__).with_name("ratios.py")
MakeBundle = Callable[..., Bundle]


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RATIOS = Transformation(
    "ratios",
    module_of(FILE).ratios,
    inputs=("delay_1h", "departures", "distance"),
    outputs=("delay_ratio", "far"),
)
WORKLOAD = Workload(
    name="flights",
    source=Source(load=lambda _: pd.DataFrame(), columns=(), key=(), event_time="at"),
    prepare=lambda frame: frame,
    entities=("carrier", "origin"),
    label=Label("late", "known_at"),
    views=tuple(
        View(v["name"], v["entity"], tuple(v["features"]), timedelta(days=1), lambda frame: frame)  # type: ignore[call-overload, arg-type]
        for v in VIEWS
    ),
    request_fields=(RequestField("distance"),),
    feature_service="flights_v1",
    estimators=(Estimator("linear", {}),),
    gates=Gates(0.5),
    transformations=(RATIOS,),
)


def registered(make_bundle: MakeBundle, *codes: ondemand.Code) -> Bundle:
    """A bundle that carries transformations as registration writes them."""
    inputs = [{"name": f, "view": v["name"]} for v in VIEWS for f in v["features"]]  # type: ignore[attr-defined]
    inputs.append({"name": "distance", "view": None})
    inputs += [{"name": o, "view": None, "transformation": c.name} for c in codes for o in c.outputs]
    files = {c.file: c.content for c in codes}
    return make_bundle(inputs=inputs, transformations=[c.entry() for c in codes], files=files)


def code(source: str, outputs: tuple[str, ...] = ("out",), function: str = "make") -> ondemand.Code:
    return ondemand.Code("made", "made.py", function, ("distance",), outputs, source.encode())


def test_model_inputs_end_with_what_is_made() -> None:
    assert WORKLOAD.model_inputs == (
        "delay_1h",
        "late_share",
        "departures",
        "distance",
        "delay_ratio",
        "far",
    )
    assert check(WORKLOAD) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"inputs": ("carrier",)}, "takes 'carrier', which is neither", id="an-entity"),
        pytest.param({"inputs": ("far",)}, "takes 'far', which is neither", id="its-own-output"),
        pytest.param({"outputs": ("distance",)}, "'distance' is stated twice", id="the-name-of-another"),
        pytest.param({"outputs": ()}, "has no output", id="no-output"),
        pytest.param({"name": "../ratios"}, "must be named like a variable", id="a-path"),
    ],
)
def test_a_workload_that_contradicts_itself_is_told(change: dict[str, Any], problem: str) -> None:
    wrong = replace(WORKLOAD, transformations=(replace(RATIOS, **change),))
    assert any(problem in p for p in check(wrong)), check(wrong)


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS), min_size=1, max_size=8))
def test_a_batch_gives_what_its_rows_give_alone(rows: list[tuple[float, float, float]]) -> None:
    made = ondemand.OnDemand(ondemand.code_of(RATIOS))
    columns = {name: [row[i] for row in rows] for i, name in enumerate(RATIOS.inputs)}
    together = made.apply(columns)
    for i in range(len(rows)):
        alone = made.apply({name: values[i : i + 1] for name, values in columns.items()})
        np.testing.assert_array_equal(
            [together[o][i] for o in RATIOS.outputs], [alone[o][0] for o in RATIOS.outputs]
        )


def test_training_and_server_make_the_same_of_the_same_rows(make_bundle: MakeBundle) -> None:
    given = np.random.default_rng(0).normal(50.0, 80.0, (500, 4))
    given[::7, 0] = np.nan
    given[::11, 2] = 0.0
    trained = ondemand.append([ondemand.code_of(RATIOS)], WORKLOAD.given_inputs, given)
    assert trained.shape == (500, 6)
    np.testing.assert_array_equal(trained[:, :4], given)
    assert np.isnan(trained[:, 4]).any() and not np.isnan(trained[:, 4]).all()
    server = Transformations(registered(make_bundle, ondemand.code_of(RATIOS)))
    for row in range(0, 500, 50):
        made = server.apply({name: [given[row, i]] for i, name in enumerate(WORKLOAD.given_inputs)})
        np.testing.assert_array_equal([made["delay_ratio"][0], made["far"][0]], trained[row, 4:])


def test_the_server_runs_the_registered_bytes_whatever_the_project_holds_now(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    path = tmp_path / "changing.py"
    path.write_text("def make(columns):\n    return {'out': [1.0 for _ in columns['distance']]}\n")
    own = Transformation("made", module_of(path).make, ("distance",), ("out",))
    bundle = registered(make_bundle, ondemand.code_of(own))
    path.write_text("def make(columns):\n    return {'out': [2.0 for _ in columns['distance']]}\n")
    assert Transformations(bundle).apply({"distance": [0.0, 0.0]}) == {"out": [1.0, 1.0]}
    (bundle.folder / "made.py").write_text("def make(columns):\n    return {'out': [3.0]}\n")
    with pytest.raises(UsageError, match=r"'made\.py' has SHA-256 .* changed after registration"):
        Transformations(bundle)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("import pandas\ndef make(c): ...", "line 1 imports 'pandas', which", id="package"),
        pytest.param("def make(c):\n    from workloads import flights", "line 2 imports 'workloads'", id="the-project"),
        pytest.param("from . import tails\ndef make(c): ...", r"line 1 imports '\.'", id="relative"),
        pytest.param("def make(c:\n", "is no Python", id="no-python"),
        pytest.param("1 / 0\ndef make(c): ...", "cannot be executed: ZeroDivisionError", id="fails-at-once"),
        pytest.param("def other(c): ...", "has no function 'make'", id="no-function"),
        pytest.param("make = 3", "has no function 'make'", id="no-function-but-a-name"),
    ],
)  # fmt: skip
def test_a_file_that_a_server_cannot_run_is_refused(
    make_bundle: MakeBundle, source: str, message: str
) -> None:
    with pytest.raises(UsageError, match=f"transformation 'made': made.py .*{message}"):
        Transformations(registered(make_bundle, code(source)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("raise KeyError('x')", "failed: KeyError: 'x'", id="raises"),
        pytest.param("return None", r"gave NoneType, expected the columns \['out'\]", id="nothing"),
        pytest.param("return {'out': [1.0, 2.0], 'more': [1.0, 2.0]}", r"gave \['more', 'out'\]", id="more"),
        pytest.param("return {'out': [1.0]}", "gave 1 values of 'out' for 2 rows", id="too-few"),
        pytest.param("return {'out': ['a', 'b']}", "gave for 'out' what is no list of numbers", id="text"),
        pytest.param("return {'out': 3}", "gave for 'out' what is no list of numbers", id="one-number"),
    ],
)
def test_a_function_that_fails_is_one_failure_that_names_it(
    make_bundle: MakeBundle, body: str, message: str
) -> None:
    made = Transformations(registered(make_bundle, code(f"def make(columns):\n    {body}\n")))
    with pytest.raises(WindlassError, match=f"transformation 'made' {message}.*; correct its function make"):
        made.apply({"distance": [1.0, 2.0]})


def test_none_is_missing_and_whole_numbers_are_numbers(make_bundle: MakeBundle) -> None:
    made = Transformations(
        registered(make_bundle, code("def make(c):\n    return {'out': [None, 3, True]}\n"))
    )
    out = made.apply({"distance": [0.0, 0.0, 0.0]})["out"]
    assert math.isnan(out[0])
    assert out[1:] == [3.0, 1.0]


def test_a_function_that_mixes_rows_is_refused_in_training() -> None:
    body = "all = c['distance']\n    return {'out': [sum(all) / len(all) for _ in all]}"
    mixing = code(f"def make(c):\n    {body}\n")
    with pytest.raises(WindlassError, match=r"gives 1\.0 for 'out' of row 0 alone and 2\.0 among others"):
        ondemand.append([mixing], ["distance"], np.array([[1.0], [3.0]]))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda columns: columns, id="lambda"),
        pytest.param(Path.exists, id="method"),
        pytest.param(len, id="builtin"),
    ],
)
def test_a_function_that_has_no_place_in_a_file_is_refused(function: Any) -> None:
    with pytest.raises(UsageError, match=r"transformation 'made': .*(top level|no source file)"):
        ondemand.code_of(Transformation("made", function, (), ("out",)))


def test_a_feast_view_of_the_same_function_gives_the_same(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Verify against Feast's own on-demand view in python mode, read online with request-time data."""
    feast_import.load()
    import feast
    from feast.transformation.python_transformation import PythonTransformation
    from feast.types import Float64, String

    source = feast.FileSource(path=str(tmp_path / "rows.parquet"), timestamp_field="event_timestamp")
    stamp = pd.to_datetime([NOW], unit="s", utc=True).as_unit("us")
    pd.DataFrame({"origin": ["JFK"], "event_timestamp": stamp}).to_parquet(tmp_path / "rows.parquet")
    origin = feast.Entity(name="origin", value_type=feast.ValueType.STRING)
    load = feast.FeatureView(
        name="origin_load",
        entities=[origin],
        ttl=timedelta(seconds=DAY),
        schema=[feast.Field(name="origin", dtype=String)]
        + [feast.Field(name=f, dtype=Float64) for f in ("departures", "delay_1h")],
        source=source,
    )
    asked = feast.RequestSource(name="asked", schema=[feast.Field(name="distance", dtype=Float64)])
    view = feast.OnDemandFeatureView(
        name=RATIOS.name,
        sources=[load, asked],
        schema=[feast.Field(name=o, dtype=Float64) for o in RATIOS.outputs],
        feature_transformation=PythonTransformation(RATIOS.function, FILE.read_text()),
        mode="python",
    )
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="windlass",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )
    store.apply([origin, load, view])
    rows = pd.DataFrame(
        {"origin": ["JFK", "LGA", "EWR"], "departures": [31.0, 4.0, 0.0], "delay_1h": [11.5, -3.0, 7.0]}
    )
    rows["event_timestamp"] = stamp[0]
    store.write_to_online_store("origin_load", rows)
    distances = [900.0, 0.5, -1.0]
    keys = [{"origin": o, "distance": d} for o, d in zip(rows["origin"], distances, strict=True)]
    theirs = store.get_online_features([f"ratios:{o}" for o in RATIOS.outputs], keys).to_dict()
    server = Transformations(registered(make_bundle, ondemand.code_of(RATIOS)))
    columns = {
        "departures": rows["departures"].tolist(),
        "delay_1h": rows["delay_1h"].tolist(),
        "distance": distances,
    }
    ours = server.apply(columns)
    for name in RATIOS.outputs:
        np.testing.assert_array_equal(np.array(theirs[name], dtype=float), ours[name])
    assert ours["delay_ratio"][0] == 11.5 / 31.0


def test_a_bundles_entry_reads_back_as_it_was_written(make_bundle: MakeBundle) -> None:
    written = ondemand.code_of(RATIOS)
    bundle = registered(make_bundle, written)
    [entry] = json.loads((bundle.folder / "serving.json").read_text())["transformations"]
    assert ondemand.code_in(entry, bundle.folder) == written
