"""Bundles of versions that are judged where nobody mounts them: what analyses and the collector make of the store's."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
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
from monitoring import bundles
from monitoring.analysis import bundle
from monitoring.collector.names import Names
from monitoring.release_evidence import bringing
from monitoring.release_evidence.bringing import AGAIN_S, Bringing
from monitoring.release_evidence.recomputing import Recomputing, Standing
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


def settled(lacking: Callable[[], str | None]) -> str | None:
    """What is said of a bundle once nobody brings it any more."""
    for _ in range(300):
        if "is being brought" not in str(said := lacking()):
            return said
        time.sleep(0.1)
    raise AssertionError(said)


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
        return settled(
            lambda: recomputing.standing(shop_features.MODEL, ("3",), {}, Standing("built", 1.0)).lacking.get(
                "3"
            )
        )

    assert "no bundle of version 3" in str(lacking())
    published(settings, shop_features.MODEL, "3", [*inputs, "more"])
    assert "no bundle of version 3" in str(lacking())
    now[0] = AGAIN_S
    assert lacking() is None
    assert names.inputs(shop_features.MODEL, "3") == (*inputs, "more")


def test_a_store_that_says_nothing_holds_up_no_question(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify that it is said which bundle is waited for, of the others that they wait for it, and that one which is
    here already is not held up; and that nothing of that is for ever."""
    there = judging(settings, tmp_path / "judging")
    (there.bundles_dir / "m" / "0").mkdir(parents=True)
    (there.bundles_dir / "m" / "0" / "serving.json").write_text("{}")
    published(settings, "m", "1", ["a"])
    monkeypatch.setattr(bringing, "PATIENCE_S", 0.1)
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as silent:  # it accepts, as its backlog does, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hung = Bringing(replace(there, s3_endpoint=address))
        before = time.monotonic()
        assert "version 1 of m is being brought from the object store" in str(hung.lacking("m", "1"))
        assert "version 1 of m is being brought from the object store" in str(hung.lacking("m", "1"))
        assert "version 2 of m waits: another is being brought" in str(hung.lacking("m", "2"))
        assert hung.lacking("m", "0") is None
        assert time.monotonic() - before < 10
        assert not (there.bundles_dir / "m" / "1").exists()
    other = Bringing(there)
    assert settled(lambda: other.lacking("m", "1")) is None
    assert (there.bundles_dir / "m" / "1" / "serving.json").is_file()


def test_a_fault_that_nobody_foresaw_is_said_and_tried_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, now, tries = judging(settings, tmp_path / "judging"), [0.0], []

    def broken(*arguments: object) -> Path:
        tries.append(arguments)
        raise ValueError("odd")

    monkeypatch.setattr(bundles, "bring", broken)
    brought = Bringing(there, clock=lambda: now[0])
    for _ in range(2):
        assert "ValueError('odd')" in str(settled(lambda: brought.lacking("m", "1")))
    assert len(tries) == 1
    now[0] = AGAIN_S
    assert "ValueError('odd')" in str(settled(lambda: brought.lacking("m", "1")))
    assert len(tries) == 2
