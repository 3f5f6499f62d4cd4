"""Bundles of versions that are judged where nobody mounts them: what analyses and the collector make of the store's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_server
import shop_features

from components import bundle as components_bundle
from components import signing
from components.published import Published
from monitoring.analysis import bundle
from monitoring.collector.names import Names
from monitoring.release_evidence.recomputing import AGAIN_S, Recomputing, Standing
from windlass.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    with s3_server.running() as endpoint:
        s3_server.make_bucket(endpoint, "judged", monkeypatch)
        home = tmp_path / "registering"
        yield Settings(home, tmp_path, object_store=f"s3://judged/{tmp_path.name}", s3_endpoint=endpoint)


def published(settings: Settings, model: str, version: str, inputs: list[str]) -> None:
    source = settings.project / f"{model}-{version}"
    source.mkdir()
    document = {"model": model, "inputs": [{"name": name, "view": None} for name in inputs]}
    (source / "serving.json").write_text(json.dumps(document))
    described = {name: {"kind": "numeric"} for name in inputs}
    (source / "reference.json").write_text(json.dumps({"inputs": described}))
    rows = np.random.default_rng(1).normal(size=(500, len(inputs)))
    columns = {name: rows[:, i] for i, name in enumerate(inputs)} | {"score": rows[:, 0]}
    pq.write_table(pa.table(columns), source / "reference.parquet")
    keys = signing.keys(settings)
    folder = components_bundle.publish(settings.bundles_dir, model, version, source, keys)
    Published(settings).put(model, version, folder, keys.public)


def judging(settings: Settings, home: Path) -> Settings:
    """The home of the collector and the analyses, which know the public key alone."""
    (home / "keys").mkdir(parents=True)
    shutil.copy(signing.keys(settings).public, home / "keys")
    return replace(settings, home=home)


def test_an_analysis_has_the_baseline_of_a_version_that_was_trained_elsewhere(
    settings: Settings, tmp_path: Path
) -> None:
    there = judging(settings, tmp_path / "judging")
    missing = bundle.of_version(there, "m", "1")
    assert missing.baseline is None and missing.problems == (missing.nothing,)
    assert "no bundle of version 1 of m at s3://judged/" in missing.nothing
    published(settings, "m", "1", ["a", "b"])
    found = bundle.of_version(there, "m", "1")
    assert found.problems == () and found.baseline is not None and found.reference is not None
    assert found.reference.rows == 500 and [f.name for f in found.reference.features] == ["a", "b"]


def test_the_collector_s_evidence_finds_a_bundle_that_came_later(settings: Settings, tmp_path: Path) -> None:
    """Verify that a store which has not got it is asked again after a while, and that names come with the bundle."""
    shop = shop_features.make(tmp_path / "shop", 1_700_000_000)
    there = replace(judging(settings, shop.settings.home), project=shop.settings.project)
    names, now = Names(there), [0.0]
    recomputing = Recomputing(there, names, clock=lambda: now[0])
    inputs = list(names.inputs(shop_features.MODEL, "3"))

    def lacking() -> str | None:
        found = recomputing.standing(shop_features.MODEL, ("3",), {}, Standing("built", 1.0))
        return found.lacking.get("3")

    assert "no bundle of version 3" in str(lacking())
    published(settings, shop_features.MODEL, "3", [*inputs, "more"])
    assert "no bundle of version 3" in str(lacking())
    now[0] = AGAIN_S
    assert lacking() is None
    assert names.inputs(shop_features.MODEL, "3") == (*inputs, "more")
