"""The reference that drift is measured against, the defaults, the bundle's manifest and the release document."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import yaml

from components import bundle, reference, release_request
from components.dataset import TrainingSet
from windlass.contract import Estimator, Gates, Label, Range, RequestField, Source, View, Workload

WORKLOAD = Workload(
    name="w",
    source=Source(load=lambda _: pd.DataFrame(), columns=(), key=(), event_time="at"),
    prepare=lambda f: f,
    entities=("shop",),
    label=Label("late", "known_at"),
    views=(View("delays", "shop", ("mean",), timedelta(hours=36), lambda f: f),),
    request_fields=(RequestField("size"), RequestField("kind", "string", ("red", "blue"))),
    feature_service="w_v1",
    estimators=(Estimator("linear", {"C": Range(0.1, 1)}),),
    gates=Gates(0.5),
    release=MappingProxyType({"strategy": {"type": "canary", "steps": ({"weight": 10},)}, "checks": []}),
)


def test_a_number_is_described_without_its_missing_values() -> None:
    values = np.concatenate([np.arange(1, 1000, dtype=float), [np.nan] * 1001])
    found = reference.numeric(values)
    assert found["null_share"] == pytest.approx(1001 / 2000)
    assert found["mean"] == pytest.approx(500)
    assert found["sd"] == pytest.approx(np.arange(1, 1000).std())
    assert found["quantiles"]["0.5"] == 500
    assert sum(found["histogram"]["counts"]) == 999


def test_one_wild_value_does_not_empty_the_histogram() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=5000), [1e12]])
    counts = reference.numeric(values)["histogram"]["counts"]
    assert min(counts) > 10
    assert sum(counts) == 5001


@pytest.mark.parametrize(
    ("values", "null_share", "counts"),
    [
        pytest.param([np.nan, np.nan], 1.0, None, id="nothing-there"),
        pytest.param([3.0, 3.0, np.nan, 3.0], 0.25, [3], id="constant"),
    ],
)
def test_a_column_without_spread_is_described(
    values: list[float], null_share: float, counts: list[int] | None
) -> None:
    found = reference.numeric(np.array(values))
    assert found["null_share"] == null_share
    assert (found["histogram"] and found["histogram"]["counts"]) == counts


def training_set() -> TrainingSet:
    rng = np.random.default_rng(3)
    count = 9000
    at = pd.date_range("2024-01-01", periods=count, freq="5min", tz="UTC")
    inputs = np.column_stack([rng.normal(5, 2, count), rng.random(count), rng.integers(0, 2, count)]).astype(
        np.float32
    )
    inputs[::10, 2] = np.nan
    rows = pd.DataFrame({"event_timestamp": at, "label": (rng.random(count) < 0.3).astype(float)})
    return TrainingSet(inputs, rows, at[8000].to_pydatetime(), 1, 0)


def test_the_reference_is_of_training_rows_alone(tmp_path: Path) -> None:
    frame = training_set()
    frame.inputs[8000:, 0] = 1e6
    scores = np.linspace(0, 1, 9000)
    document = reference.write(WORKLOAD, frame, scores[:8000], scores[8000:], tmp_path, seed=1)
    assert document == json.loads((tmp_path / "reference.json").read_text())
    assert document["rows"] == {"training": 8000, "evaluation": 1000}
    assert document["inputs"]["mean"]["mean"] == pytest.approx(5, abs=0.1)
    kind = document["inputs"]["kind"]
    assert kind["null_share"] == pytest.approx(0.1, abs=0.001)
    assert sum(kind["frequencies"].values()) == 7200
    assert document["score"]["mean"] == pytest.approx(scores[8000:].mean())
    sample = pd.read_parquet(tmp_path / "reference.parquet")
    assert list(sample.columns) == ["mean", "size", "kind", "event_timestamp", "label", "score"]
    assert len(sample) == reference.SAMPLE_ROWS
    assert sample["event_timestamp"].max() < pd.Timestamp(frame.evaluation_start)
    at = frame.rows["event_timestamp"].searchsorted(sample["event_timestamp"])
    assert np.array_equal(sample["size"].to_numpy(), frame.inputs[at, 1])
    assert np.array_equal(sample["score"].to_numpy(), scores[at])
    judged = pd.read_parquet(tmp_path / "evaluation.parquet")
    assert list(judged.columns) == ["mean", "size", "kind", "event_timestamp", "label", "score"]
    assert np.array_equal(judged["size"].to_numpy(), frame.inputs[8000:, 1])
    assert judged["event_timestamp"].min() == pd.Timestamp(frame.evaluation_start)
    assert np.array_equal(judged["score"].to_numpy(), scores[8000:])
    assert np.array_equal(judged["label"].to_numpy(), frame.rows["label"].to_numpy()[8000:])


def test_the_default_of_a_number_is_its_median_and_of_a_category_nothing() -> None:
    described = reference.statistics(
        np.array([[1, 0], [2, 1], [9, np.nan]], dtype=np.float32), ["size", "kind"], [(), ("red", "blue")]
    )
    assert reference.defaults(described) == {"size": 2.0, "kind": None}


def test_the_manifest_is_what_the_server_reads() -> None:
    found = bundle.manifest(WORKLOAD, {"mean": 4.2, "size": 0.5, "kind": None}, "ab12")
    assert found["views"] == [
        {"name": "delays", "entity": "shop", "ttl_seconds": 129600, "features": ["mean"]}
    ]
    assert found["inputs"] == [
        {"name": "mean", "view": "delays", "default": 4.2},
        {"name": "size", "view": None, "categories": None, "default": 0.5},
        {"name": "kind", "view": None, "categories": ["red", "blue"], "default": None},
    ]
    assert (found["model"], found["feature_service"], found["entities"]) == ("w", "w_v1", ["shop"])
    assert found["sha256"] == {"model.onnx": "ab12"}


def test_a_bundle_is_replaced_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "serving.json").write_text("{}")
    (source / "old").write_text("1")
    bundle.publish(tmp_path / "models", "w", "7", source)
    (source / "old").unlink()
    place = bundle.publish(tmp_path / "models", "w", "7", source)
    assert [p.name for p in place.iterdir()] == ["serving.json"]
    assert [p.name for p in place.parent.iterdir()] == ["7"]


def test_the_release_document_is_the_workloads_plan_with_versions(tmp_path: Path) -> None:
    path = tmp_path / "release.yaml"
    release_request.write(path, release_request.document(replace(WORKLOAD, name="my_model"), "13", "12"))
    assert yaml.safe_load(path.read_text()) == {
        "apiVersion": "windlass.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "my-model-13"},
        "spec": {
            "model": "my_model",
            "candidate": "13",
            "champion": "12",
            "backend": "local",
            "strategy": {"type": "canary", "steps": [{"weight": 10}]},
            "checks": [],
        },
    }
